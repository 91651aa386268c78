"""How long `experiments.predict` takes: to the first result, cold and warm, and for a folder against the model alone.

    python -m benchmarks.prediction [--checkpoint RUN] [--structures FOLDER] [--rounds 3]

Without --checkpoint a run is made with random parameters: ESM-2 8M and GVP, local fusion after each of 3 stages, rows
of 1,024 slots. The first result is that of one chain of about 300 residues, in a fresh process each time: once with an
empty compilation cache, then with a warm one. The folder (the embedded sample) is predicted in this process with all
files written, in turns with the model alone on the same batches, which are ready; all is compiled before. Rounds in
which another process was busy are discarded (`benchmarks.timing`). Prints Markdown.
"""

import argparse
import contextlib
import functools
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import bihf_jax
from benchmarks import timing
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.grid import example_batch
from bihf_jax.inference import Predictor
from bihf_jax.inference.folder import predict_files
from bihf_jax.inference.inputs import Target, find_targets
from bihf_jax.inference.programs import Wanted
from bihf_jax.protein import Protein
from bihf_jax.training.checkpoints import Checkpoints, Progress
from bihf_jax.training.config import experiment_config, keep_config
from bihf_jax.training.step import TrainState
from configs import ppbs

REPOSITORY = Path(__file__).parents[1]
SAMPLE = REPOSITORY / "data_prep" / "sample" / "structures"
RESIDUES = 300  # of the chain that is waited for
STEP = 1  # of the run that is made


def make_run(workdir: Path) -> Path:
    """A run as training leaves it, with the parameters of initialisation."""
    document = ppbs.get_config()
    with document.unlocked():
        document.encoder.stages = 3
        document.encoder.plm = {"name": "esm2_t6_8M_UR50D"}
    config = experiment_config(document)
    values = keep_config(config, workdir, first_host=True)
    model, batch = config.make_model(), example_batch(config.data.grid_shape())
    params = jax.tree.map(np.asarray, jax.jit(lambda key: model.init(key, batch, None)["params"])(jax.random.key(0)))
    with contextlib.closing(Checkpoints(workdir, values)) as checkpoints:
        state = TrainState(np.int32(STEP), params, {"moment": np.zeros(1, np.float32)})
        checkpoints.save(state, Progress(best_score=0.5, best_step=STEP))
    return workdir


def chain_of_about(residues: int, structures: Sequence[Path]) -> Protein:
    """The chain whose length is nearest to that."""
    proteins = (Protein.from_file(path) for path in structures)
    chains = (protein.select_chains([chain]) for protein in proteins for chain in protein.chain_ids)
    return min(chains, key=lambda chain: abs(chain.num_residues - residues))


def first_result(run: Path, structure: Path, folder: Path, flags: Sequence[str] = ()) -> float:
    """Seconds of the command in a fresh process, which keeps compiled programs in `folder`."""
    output = folder / "out"
    shutil.rmtree(output, ignore_errors=True)
    command = [sys.executable, "-m", "experiments.predict", f"--checkpoint={run}", f"--input={structure}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION_CACHE")}
    environment |= {"XDG_CACHE_HOME": str(folder / "cache"), "PYTHONPATH": str(REPOSITORY)}
    start = time.perf_counter()
    done = subprocess.run(
        [*command, f"--output={output}", *flags],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(done.args)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds


def fresh_import() -> float:
    """Seconds of a fresh process that imports what prediction needs, and ends."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import bihf_jax.inference"], check=True, cwd=REPOSITORY)
    return time.perf_counter() - start


def batches_of(predictor: Predictor, targets: Sequence[Target]) -> list[ProteinBatch]:
    """The batches that the predictor makes of structures."""
    windows = predictor._windows((target.read for target in targets), "raise")
    return [batch for window in windows for batch in predictor._batches(window.ready, False)]


def folder_against_model(predictor: Predictor, structures: Path, rounds: int) -> dict[str, np.ndarray]:
    """Seconds [rounds] of "folder", files and all, and of "model", the same batches; "discarded" [1]."""
    targets = find_targets(structures).targets
    batches = batches_of(predictor, targets)
    (member,) = predictor.members
    program = member.programs.scores(Wanted())

    def model() -> None:
        for batch in batches:
            jax.block_until_ready(program(member.params, batch))

    def folder() -> None:
        with tempfile.TemporaryDirectory() as output:
            failed = [done for done in predict_files(predictor, targets, Path(output)) if done.status == "failed"]
        if failed:
            raise RuntimeError(f"{failed[0].target.path}: {failed[0].message}")

    return timing.alternate({"folder": folder, "model": model}, rounds, 4 * rounds)


def environment() -> str:
    """One line on the machine and the versions."""
    cpu = "unknown CPU"
    with contextlib.suppress(OSError):  # not Linux
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    versions = f"Python {platform.python_version()}, JAX {jax.__version__}, bihf_jax {bihf_jax.__version__}"
    return f"{cpu}, {cores} cores, {jax.default_backend()}; {versions}; {time.strftime('%Y-%m-%d')}"


def _row(name: str, seconds: Any) -> str:
    low, middle, high = np.percentile(np.atleast_1d(seconds), [0, 50, 100])
    return f"| {name} | {middle:.2f} | {low:.2f} to {high:.2f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", type=Path, help="folder of a run; one with random parameters if not given")
    parser.add_argument("--structures", type=Path, default=SAMPLE, help="folder that is predicted")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each")
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run = args.checkpoint or make_run(folder / "run")
        files = [target.path for target in find_targets(args.structures).targets]
        chain = chain_of_about(RESIDUES, files)
        structure = folder / "chain.cif"
        chain.to_file(structure)
        print(environment())
        what = f"seconds, a fresh process each; {chain.num_residues} residues"
        print(f"\n| {what} | median | of {args.rounds} |\n|---|---|---|")
        print(_row("imports alone", [fresh_import() for _ in range(args.rounds)]), flush=True)
        cold = []
        for _ in range(args.rounds):
            shutil.rmtree(folder / "cache", ignore_errors=True)
            cold.append(first_result(run, structure, folder))
        print(_row("first result, nothing compiled before", cold), flush=True)
        measure = functools.partial(first_result, run, structure, folder)
        print(_row("first result, compiled before", [measure() for _ in range(args.rounds)]), flush=True)
        without = [measure(["--no-html"]) for _ in range(args.rounds)]
        print(_row("the same without pages", without), flush=True)

        seconds = folder_against_model(bihf_jax.load(run), args.structures, args.rounds)
        share = np.median(seconds["model"] / seconds["folder"])
        print(f"\n| seconds; {len(files)} structures | median | of {len(seconds['folder'])} |\n|---|---|---|")
        print(_row("folder, all files written", seconds["folder"]))
        print(_row("the model alone, the same batches", seconds["model"]))
        print(
            f"\nThe folder has {share:.0%} of the model's throughput; {seconds['discarded'][0]} rounds were disturbed."
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
