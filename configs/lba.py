"""Binding affinity of a protein and its ligand, -log10 K, from both: ligand atoms are nodes of the structure side.

With ligands=False the model has the protein alone and learns what a pocket says of the affinities measured on it: what
the ligand has to improve on. The pose is that of the records; this is no docking score.
Data: PDBbind (refined and core set) or ATOM3D LBA, by 30 % or 60 % identity splits.
Metrics: RMSE, Pearson, Spearman; the checkpoint is picked by R².
Cost: not measured at full size. runlocal=True takes a minute on a laptop.

    python -m data_prep.build lba ... --out RECORDS
    python -m experiments.train --config=configs/lba.py:fusion=local,records=RECORDS --workdir=WORKDIR
    python -m experiments.evaluate --workdir=WORKDIR

Arguments: as configs/ec.py, and ligands=False. Outputs are in units of the mean and deviation of the training labels.
"""

from ml_collections import ConfigDict

from configs import common, proteins


def get_config(arg: str | None = None) -> ConfigDict:
    """The config document, for `--config=configs/lba.py:ARG`."""
    arg = common.parse_arg(arg, **{**proteins.ARGUMENTS, "records": "runs/lba/records"}, ligands=True)
    config = proteins.make_config(arg, {"name": "lba"})
    config.encoder.structure.ligands = arg.ligands
    return config
