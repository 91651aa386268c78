"""The command, and what it wrote, for tests of every task."""

import json

import numpy as np

from bihf_jax.data.records import RecordSet
from data_prep import build
from tests.data_prep.structures import chain_lines, random_sequence, write_pdb


def run(task, out, *arguments, workers=1):
    """The exit code of the command, with the alignment tool that is always there."""
    fixed = [task, "--out", out, "--workers", workers, "--alignment", "biopython"]
    return build.main([str(argument) for argument in (*fixed, *arguments)])


def report(out):
    return json.loads((out / build.REPORT_FILE).read_text())


def metadata(out):
    return json.loads((out / "metadata.json").read_text())


def examples(out, split=None):
    """Id -> example of a split, or of all that are no part of another."""
    about = metadata(out)
    splits = [split] if split else set(about["splits"]) - set(about.get("subset_of", {}))
    return {example.id: example for name in splits for example in RecordSet(out, name)}


def write_chains(folder, names, length=30, seed=0):
    """A PDB file NAME.pdb of an unrelated chain A for each name; returns name -> sequence."""
    rng = np.random.default_rng(seed)
    sequences = {name: random_sequence(rng, length) for name in names}
    for name, sequence in sequences.items():
        write_pdb(folder / f"{name}.pdb", chain_lines(sequence))
    return sequences
