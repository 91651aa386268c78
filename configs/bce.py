"""B-cell epitopes: residues that an antibody binds, from the antigen alone.

Data: the five folds of ScanNet's BCE set, one as test and clusters of the others as validation; or contacts in your own
complexes.
Metrics: AUC-PR, ROC-AUC and MCC over residues, intervals over complexes. `experiments.sweep --folds=RECORDS` trains on
all folds and gives their mean.
Cost: about that of configs/ppbs.py for as many residues.

    python -m data_prep.build bce ... --out RECORDS
    python -m experiments.train --config=configs/bce.py:fusion=local,records=RECORDS --workdir=WORKDIR
    python -m experiments.evaluate --workdir=WORKDIR
    python -m experiments.sweep --config=configs/bce.py --folds=RECORDS --methods=local,serial --workdir=SWEEP

Arguments: as configs/ec.py, without pooling. `task.positive_weight=4` counters rare epitopes.
"""

from ml_collections import ConfigDict

from configs import proteins


def get_config(arg: str | None = None) -> ConfigDict:
    """The config document, for `--config=configs/bce.py:ARG`."""
    return proteins.protein_config(arg, {"name": "bce"}, records="runs/bce/records", steps=700, rows=2)
