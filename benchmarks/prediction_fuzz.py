"""Does prediction survive damaged files? Mutates real structure files and predicts each one with a small model.

    python -m benchmarks.prediction_fuzz [FILES ...] [--count 3000] [--first 0] [--seed 0] [--checkpoint RUN]

Each mutation must end as a `Prediction` whose page and files can be written, or as a clear error: a ValueError (which
`StructureError` and `ProteinTooLongError` are) that names the file. Anything else is an offender, as in
`benchmarks.fuzz`, whose mutations these are. Without FILES the embedded sample is mutated, without --checkpoint the
model is a tiny one with random parameters. Chains of more than 1,022 residues in all are refused as too long.

Stopped with Ctrl-C or SIGTERM it reports what it has done, and with which --first to go on.
"""

import argparse
import collections
import functools
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Sequence
from pathlib import Path

from benchmarks import fuzz
from bihf_jax.inference import Prediction, Predictor
from bihf_jax.inference.outputs import write_prediction

MAX_SLOTS = 1024  # so that few programs are compiled
# Share of the predictions whose files are written.
WRITTEN = 0.2


@functools.lru_cache(maxsize=1)
def _predictor(run: Path) -> Predictor:
    return Predictor.load(run, max_slots=MAX_SLOTS)


def trial(run: Path, path: Path, seed: int, folder: Path) -> fuzz.Outcome:
    """Predicts the mutation of a file that the seed gives; `folder` holds it meanwhile."""
    rng = random.Random(seed)
    name, data, done = fuzz.mutate(path, rng)
    is_written = rng.random() < WRITTEN
    mutated = folder / name
    mutated.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            (result,) = _predictor(run).predict_many([mutated], on_error="return", fusion_values=True)
            if isinstance(result, Prediction):
                return fuzz.Outcome(path, seed, _write(result, folder) if is_written else "prediction")
            if isinstance(result, ValueError) and name in str(result):
                return fuzz.Outcome(path, seed, f"refused: {type(result).__name__}")
            raise result
    except Exception as error:  # anything else is what this command looks for
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = str(error).split("\n")[0]
        place = f"{Path(where.filename).name}:{where.lineno}"
        detail = f"{message!r} at {place}, after {', '.join(done)}"
        return fuzz.Outcome(path, seed, type(error).__name__, detail, is_offender=True)
    finally:
        mutated.unlink()


def _write(prediction: Prediction, folder: Path) -> str:
    with tempfile.TemporaryDirectory(dir=folder) as output:
        about = write_prediction(prediction, Path(output), "fuzzed", {})
    return (
        f"prediction, written but {' '.join(about['not_written'])}" if about["not_written"] else "prediction, written"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the counts by outcome and the offenders; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", help="structure files; the embedded sample if none")
    parser.add_argument("--count", type=int, default=3000, help="number of mutations")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them to do, from 0")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first one")
    parser.add_argument("--seconds", type=float, default=30.0, help="limit of CPU time for one file")
    parser.add_argument("--megabytes", type=int, default=8192, help="limit of memory, beyond the libraries' own")
    parser.add_argument("--checkpoint", type=Path, help="folder of a run; a tiny one if not given")
    args = parser.parse_args(arguments)
    files = args.files or sorted(fuzz.SAMPLE.rglob("*.gz"))
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stopped from outside it reports, too
    counts: collections.Counter[str] = collections.Counter()
    offenders, start = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        run = args.checkpoint or _tiny_run(Path(name) / "run")
        worker = fuzz.Worker(args.seconds, args.megabytes, run_trial=functools.partial(trial, run))
        try:
            for outcome in fuzz.run(files, args.count, args.seed, worker, first=args.first):
                counts[outcome.kind] += 1
                if outcome.is_offender:
                    offenders += 1
                    print(f"{outcome.kind}: {outcome.detail}")
                    print(f"  {outcome.path} --seed {outcome.seed} --count 1", flush=True)
        except KeyboardInterrupt:
            print(f"stopped; go on with --first {args.first + counts.total()}")
    print(f"{counts.total()} mutations of {len(files)} files in {time.monotonic() - start:.0f} s:")
    fuzz.print_counts(counts, worker)
    print(f"{offenders} offenders")
    return 1 if offenders else 0


def _tiny_run(workdir: Path) -> Path:
    from tests.inference.runs import make_run  # the tests' own, which need nothing else of them

    return make_run(workdir)


if __name__ == "__main__":
    sys.exit(main())
