"""A config small enough to train in seconds, and the commands around it, for tests."""

import json
import os
import subprocess
import sys
from pathlib import Path

from ml_collections import ConfigDict

from configs import quickstart

REPOSITORY = Path(__file__).parents[2]
TIMINGS = ("seconds", "compiles")  # of a line in metrics.jsonl: what may differ between two equal runs


def small_config(records: Path, **training: int) -> ConfigDict:
    """The quickstart's config with a tiny model and few steps."""
    config = quickstart.get_config(f"records={records}")
    config.data.rows = 4
    config.data.lengths = (512,)
    config.data.neighbours = 6
    config.encoder.stages = 1
    config.encoder.plm = {"layers": 1, "width": 16, "heads": 2, "dropout": 0.1}
    config.encoder.structure = {"scalar_width": 16, "vector_width": 4, "neighbours": 6, "message_gvps": 1}
    config.encoder.fusion = {"kind": "local", "width": 16, "heads": 2}
    config.encoder.representation_width = 16
    config.head = {"hidden_width": 16}
    config.training.steps = 12
    config.training.log_every = 3
    config.training.evaluate_every = 6
    config.training.checkpoint_every = 4
    config.training.optimizer = {"learning_rate": 3e-3, "warmup_steps": 2}
    config.training.update(training)
    return config


def environment(devices: int = 1, **variables: str) -> dict[str, str]:
    """The environment of a process with so many simulated CPU devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    return {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY), **variables}


def run_python(code: str, *arguments: object, devices: int = 1) -> str:
    """Runs code in a fresh process and returns what it printed; fails with its errors."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, env=environment(devices), capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def write_config(config: ConfigDict, path: Path) -> Path:
    """A config document that `--config` reads, with the same values."""
    values = json.dumps(config.to_dict())
    path.write_text(
        f"import json\nfrom ml_collections import ConfigDict\n\n\ndef get_config():\n"
        f"    return ConfigDict(json.loads({values!r}))\n",
        encoding="utf-8",
    )
    return path


def logged(workdir: Path) -> list[dict]:
    """Lines of metrics.jsonl without the timings."""
    lines = (workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMINGS} for line in lines]


class StopAfter:
    """Says stop once it was asked so often."""

    def __init__(self, steps: int):
        self.left = steps

    def __call__(self) -> bool:
        self.left -= 1
        return self.left <= 0
