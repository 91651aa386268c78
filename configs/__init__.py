"""One file an experiment: a document that runs."""
