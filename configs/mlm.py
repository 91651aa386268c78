"""Masked-language-model pretraining of the pLM alone, as ESM-2 was pretrained (Lin et al. 2023).

Data: records of `data_prep.sequences`: Swiss-Prot of the Debian package metastudent-data (486,000 proteins, 178 million
residues), or your own FASTA; whole sequence clusters are held out.
Cost: size=tiny (0.8 million parameters) an hour on 2 CPU cores; 8M and 35M need an accelerator: at 500,000 steps of 2
million tokens ESM-2's own runs saw a trillion tokens. Give dtype=bfloat16 on a TPU or GPU.
Expected: a perplexity on held-out clusters below that of the unigram baseline (about 18); docs/pretraining.md has what
was run.

    python -m data_prep.sequences --swissprot --out RECORDS
    python -m experiments.train --config=configs/mlm.py:size=tiny,records=RECORDS --workdir=WORKDIR
    python -m experiments.evaluate --workdir=WORKDIR
    python -m experiments.export_plm --workdir=WORKDIR --output=PLM   # for config.encoder.plm.pretrained

Arguments: size=tiny|8M|35M; records=DIR; steps=N; rows=N of 1,024 slots a step; learning_rate=X; seed=N;
dtype=float32|bfloat16; evaluate_every=N; pretrained=PLM goes on from given weights; runlocal=True shrinks all to a
minute.
"""

from ml_collections import ConfigDict

from configs import common

# The pLM and its peak learning rate; 4e-4 is that of all sizes of ESM-2, with batches of 2 million tokens. The tiny one
# has a thousandth of its tokens to learn from, in small batches.
SIZES = {
    "tiny": ({"layers": 4, "width": 128, "heads": 4}, 2e-3),
    "8M": ({"name": "esm2_t6_8M_UR50D"}, 4e-4),
    "35M": ({"name": "esm2_t12_35M_UR50D"}, 4e-4),
}


def get_config(arg: str | None = None) -> ConfigDict:
    """The config document, for `--config=configs/mlm.py:ARG`."""
    defaults = {"size": "tiny", "records": "runs/mlm/records", "steps": 4000, "rows": 4, "learning_rate": 0.0}
    more = {"dtype": "float32", "pretrained": "", "evaluate_every": 500, "seed": 0, "runlocal": False}
    arg = common.parse_arg(arg, **defaults, **more)
    if arg.size not in SIZES:
        raise ValueError(f"size={arg.size}; sizes: {', '.join(SIZES)}")
    plm, learning_rate = SIZES[arg.size]
    config = ConfigDict()
    config.seed = arg.seed
    config.task = {"name": "mlm"}

    config.data = ConfigDict()
    config.data.records = arg.records
    config.data.rows = arg.rows
    config.data.lengths = (1024,)  # what ESM-2 was trained at; data_prep.sequences cuts longer sequences into windows
    config.data.graphs_per_row = 32
    config.data.neighbours = 1  # there is no structure

    config.encoder = ConfigDict()
    config.encoder.plm = {"pretrained": arg.pretrained} if arg.pretrained else dict(plm)
    config.encoder.fusion = {"name": "sequence_only"}
    config.encoder.structure = {"neighbours": 1}
    config.encoder.stages = 1
    config.encoder.dtype = arg.dtype

    config.training = ConfigDict()
    config.training.steps = arg.steps
    config.training.log_every = 50
    config.training.evaluate_every = arg.evaluate_every
    config.training.checkpoint_every = min(250, arg.evaluate_every)
    peak = arg.learning_rate or learning_rate
    config.training.optimizer = {
        "learning_rate": peak,
        # ESM-2: 2,000 of 500,000 steps, then linearly to a tenth of the peak.
        "warmup_steps": min(2000, arg.steps // 20),
        "decay": "linear",
        "final_learning_rate": peak / 10,
        "b1": 0.9,
        "b2": 0.98,
        "weight_decay": 0.01,
    }

    if arg.runlocal:
        common.shrink(config)
        config.training.log_every = 5
    return config
