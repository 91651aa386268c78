"""Enzyme reaction classes of chains, from sequence and structure: one of 384, or any of several (DeepFRI).

Data: React (Hermosilla et al. 2021), 29,215 / 2,562 / 5,651 chains; or the EC lists of DeepFRI. Which of the two, and
the names of the classes, is what the records say. Metrics: accuracy; for several labels Fmax and AUC-PR.
Cost: not measured at full size; meant for an accelerator. runlocal=True takes a minute on a laptop.
Expected: published ProNet and ESM-GearNet accuracies need a large pretrained pLM; this small model from scratch is a
start, not a reproduction.

    python -m data_prep.build ec ... --out RECORDS
    python -m experiments.train --config=configs/ec.py:fusion=local,records=RECORDS --workdir=WORKDIR
    python -m experiments.evaluate --workdir=WORKDIR

Arguments: fusion=local|global or another of `bihf_jax.models.FUSION_METHODS`; records=DIR; plm=a published ESM-2, which
stays frozen; gnn=gvp|pronet|mpnn; pooling=mean|attention; steps=N; rows=N of a batch; learning_rate=X; seed=N;
runlocal=True; task.SETTING=VALUE of docs/tasks.md. Rare classes count more with task.class_balance=0.5 (their weight in
the loss; multiclass), or are drawn more often with `--config.data.balanced_sampling=0.5`; of several classes, those
that a protein has count more with task.positive_weight=5.
"""

from ml_collections import ConfigDict

from configs import proteins


def get_config(arg: str | None = None) -> ConfigDict:
    """The config document, for `--config=configs/ec.py:ARG`."""
    return proteins.protein_config(arg, {"name": "ec"}, records="runs/ec/records", steps=20_000, rows=8)
