"""Protein-protein binding sites from your own complexes: a small fused model, trained from scratch.

Data: records of `data_prep.build ppbs`; the figures of the README are from the 271 bound complexes of Docking
Benchmark 5.5 (542 partners, 145,000 residues), split by sequence cluster.
Cost: under 30 minutes on 2 CPU cores.

    python -m data_prep.build ppbs --structures STRUCTURES --layout db5 --out RECORDS
    python -m experiments.train --config=configs/ppbs.py:fusion=local,records=RECORDS --workdir=WORKDIR
    python -m experiments.evaluate --workdir=WORKDIR

Arguments: fusion=local|global or another of `bihf_jax.models.FUSION_METHODS`; records=DIR; plm=a published ESM-2, which
stays frozen (facebook/esm2_t12_35M_UR50D, or a folder); gnn=gvp|pronet|mpnn; steps=N; rows=N of a batch;
learning_rate=X; seed=N; task.positive_weight=X; runlocal=True shrinks all to a minute on a laptop.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str | None = None) -> ConfigDict:
    """The config document, for `--config=configs/ppbs.py:ARG`."""
    defaults = {"fusion": "local", "records": "runs/ppbs/records", "plm": "", "gnn": "gvp"}
    arg = common.parse_arg(arg, **defaults, steps=700, rows=2, learning_rate=1e-3, seed=0, runlocal=False, task={})
    config = ConfigDict()
    config.seed = arg.seed
    config.task = {"name": "ppbs", **arg.task}

    config.data = ConfigDict()
    config.data.records = arg.records
    config.data.rows = arg.rows
    config.data.lengths = (1024,)  # 10 of the 271 complexes are longer and are cropped in training, never in scoring
    config.data.graphs_per_row = 24
    config.data.neighbours = 24

    # 430 training proteins are few and the pLM starts from nothing: it learns the training sequences by heart unless
    # residues are hidden from it and most of its dropout stays on.
    config.encoder = ConfigDict()
    config.encoder.stages = 4
    config.encoder.plm = common.sequence_side(arg, layers=4, width=64, heads=4, dropout=0.3)
    config.encoder.structure = common.structure_side(arg)
    config.encoder.fusion = {"name": arg.fusion, "width": 64, "heads": 4}
    config.encoder.representation_width = 64
    config.encoder.residue_masking = 0.15
    config.head = {"hidden_width": 64}

    config.training = common.training(arg, evaluate_every=100)
    if arg.runlocal:
        common.shrink(config)
    return config
