"""A trained model as a page in the browser, for one person on one machine. Needs the extra `serve`."""
