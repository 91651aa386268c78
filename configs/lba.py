"""Binding affinity of a protein and its ligand, -log10 K: from the protein, or its pocket, ALONE so far.

The atoms of the ligand are not in a record yet, so this learns what a pocket says of the affinities measured on it: a
lower bound to compare with, not a docking score.
Data: PDBbind (refined and core set) or ATOM3D LBA, by 30 % or 60 % identity splits.
Metrics: RMSE, Pearson, Spearman; the checkpoint is picked by R².
Cost: not measured at full size. runlocal=True takes a minute on a laptop.

    python -m data_prep.build lba ... --out RECORDS
    python -m experiments.train --config=configs/lba.py:fusion=local,records=RECORDS --workdir=WORKDIR
    python -m experiments.evaluate --workdir=WORKDIR

Arguments: as configs/ec.py. Outputs are in units of the mean and deviation of the training labels.
"""

from ml_collections import ConfigDict

from configs import proteins


def get_config(arg: str | None = None) -> ConfigDict:
    """The config document, for `--config=configs/lba.py:ARG`."""
    return proteins.protein_config(arg, {"name": "lba"}, records="runs/lba/records")
