"""Model quality: the GDT-TS of a structure model in 0 to 1, and the order of the models of each target.

Data: decoys with their targets as groups (CASP, ATOM3D PSR, or generated ones, which are synthetic). If records have
more than one number (GDT-TS, lDDT, ..), all are learned and the first one is judged.
Metrics: Pearson, Spearman and Kendall of each target (mean) and over all (global), top-1 loss, RMSE; the checkpoint is
picked by R², which a constant output has too.
Cost: not measured at full size. runlocal=True takes a minute on a laptop.

    python -m data_prep.build mqa ... --out RECORDS
    python -m experiments.train --config=configs/mqa.py:fusion=local,records=RECORDS --workdir=WORKDIR
    python -m experiments.evaluate --workdir=WORKDIR

Arguments: as configs/ec.py. The loss is Huber's on a sigmoid; `task.selection_metric=global_spearman` picks
the checkpoint by rank.
"""

from ml_collections import ConfigDict

from configs import proteins


def get_config(arg: str | None = None) -> ConfigDict:
    """The config document, for `--config=configs/mqa.py:ARG`."""
    return proteins.protein_config(arg, {"name": "mqa"}, records="runs/mqa/records")
