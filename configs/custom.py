"""Your own labels: of residues or of proteins; binary, multiclass, multilabel (proteins only) or regression.

Data: a folder of structures and a CSV of labels. What the labels are, and what their classes or values are called, is
read from the records and kept in the run's config.
Metrics: binary AUC-PR and ROC-AUC; multiclass accuracy, balanced accuracy, macro F1; multilabel Fmax and AUC-PR;
regression RMSE, MAE, correlations and R². The first of larger is better picks the checkpoint.
Cost: 2,000 steps of 4 rows; runlocal=True takes a minute on a laptop.

    python -m data_prep.build custom --structures STRUCTURES --labels labels.csv --kind protein --type regression \
        --out RECORDS
    python -m experiments.train --config=configs/custom.py:fusion=local,records=RECORDS --workdir=WORKDIR
    python -m experiments.evaluate --workdir=WORKDIR

Arguments: as configs/ec.py; pooling=attention learns which residues matter, and `bihf_jax.load(WORKDIR).predict(FILE)`
gives their weights.
"""

from ml_collections import ConfigDict

from configs import proteins


def get_config(arg: str | None = None) -> ConfigDict:
    """The config document, for `--config=configs/custom.py:ARG`."""
    return proteins.protein_config(arg, {"name": "custom"}, records="runs/custom/records")
