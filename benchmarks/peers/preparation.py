"""Structure files to what a model is trained on, by one of several libraries, in a process of its own.

    PYTHON benchmarks/peers/preparation.py NAME FILES.json FOLDER

is started by `benchmarks.preparation` with the Python that has the library. For each line on its input it prepares all
files into FOLDER and prints one line of JSON: CPU seconds by stage. It imports nothing of this project but for "ours".
"""

import contextlib
import functools
import json
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

# One core: before any library is loaded.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"

Stages = dict[str, float]


def ours(files: list[str], folder: Path) -> Callable[[], Stages]:
    """`data_prep.build custom`, whole: list, parse, features, neighbours, cache, TFRecord shards, index."""
    from data_prep import build, pipeline, tfds_builder

    structures, labels, out = folder / "structures", folder / "labels.csv", folder / "records"
    structures.mkdir()
    names = [f"{number}-{Path(file).name}" for number, file in enumerate(files)]
    for name, file in zip(names, files, strict=True):
        (structures / name).symlink_to(file)
    labels.write_text("file,label,group\n" + "".join(f"{name},1,{name}\n" for name in names), "utf-8")
    arguments = f"custom --structures {structures} --labels {labels} --kind protein --type regression --out {out}"
    arguments += " --workers 1 --split 1,0,0 --split-by group"
    clock = _Clock()
    for module, name in ((pipeline, "run"), (tfds_builder, "write_record_set")):
        setattr(module, name, clock.timed(name, getattr(module, name)))

    def prepare() -> Stages:
        shutil.rmtree(out, ignore_errors=True)
        clock.seconds.clear()
        start = time.process_time()
        if build.main(arguments.split()):
            raise RuntimeError(f"the build failed: {arguments}")
        total = time.process_time() - start
        written = json.loads((out / "metadata.json").read_text("utf-8"))["splits"]["train"]["records"]
        if written != len(files):
            raise RuntimeError(f"{written} of {len(files)} files gave a record; time those that all can read")
        return {
            "parse, features, neighbours, Example": clock.seconds["run"],
            "TFRecord shards and index": clock.seconds["write_record_set"],
            "all": total,
        }

    return prepare


class _Clock:
    """CPU seconds of functions; of a generator, those until it is exhausted that it takes itself."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def timed(self, name: str, function: Callable) -> Callable:
        @functools.wraps(function)
        def wrapped(*arguments, **options):
            start = time.process_time()
            result = function(*arguments, **options)
            self._add(name, start)
            return self._iterate(name, result) if hasattr(result, "__next__") else result

        return wrapped

    def _iterate(self, name: str, iterator: Iterator) -> Iterator:
        while True:
            start = time.process_time()
            try:
                value = next(iterator)
            except StopIteration:
                return
            finally:
                self._add(name, start)
            yield value

    def _add(self, name: str, start: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + time.process_time() - start


def graphein(files: list[str], folder: Path) -> Callable[[], Stages]:
    """graphein: residue graphs, pickled; as it makes them unless told otherwise, with the bonds of the chain alone, and
    with the 32 nearest neighbours that ours have."""
    from graphein.protein.config import ProteinGraphConfig
    from graphein.protein.edges.distance import add_k_nn_edges, add_peptide_bonds
    from graphein.protein.graphs import construct_graph

    with contextlib.suppress(ImportError):
        from loguru import logger

        logger.remove()
    neighbours = functools.partial(add_k_nn_edges, k=32, long_interaction_threshold=0)
    configs = {
        "bonds of the chain alone": ProteinGraphConfig(),
        "all": ProteinGraphConfig(edge_construction_functions=[add_peptide_bonds, neighbours]),
    }

    def write(config: ProteinGraphConfig) -> float:
        start = time.process_time()
        for number, file in enumerate(files):
            graph = construct_graph(config=config, path=file, verbose=False)
            graph.graph.pop("config", None)  # holds functions
            (folder / f"{number}.pickle").write_bytes(pickle.dumps(graph))
        return time.process_time() - start

    return lambda: {name: write(config) for name, config in configs.items()}


def atom3d(files: list[str], folder: Path) -> Callable[[], Stages]:
    """ATOM3D: its own conversion of PDB files into LMDB, atoms as a table; no features and no neighbours."""
    from atom3d.datasets import load_dataset, make_lmdb_dataset

    def prepare() -> Stages:
        shutil.rmtree(folder / "lmdb", ignore_errors=True)
        start = time.process_time()
        make_lmdb_dataset(load_dataset(files, "pdb"), str(folder / "lmdb"))
        return {"all": time.process_time() - start}

    return prepare


PREPARE = {"ours": ours, "graphein": graphein, "atom3d": atom3d}


def main() -> None:
    """Answers each line of the input with the times of one preparation."""
    name, list_file, folder = sys.argv[1:]
    files = json.loads(Path(list_file).read_text("utf-8"))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print is no answer
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        try:
            prepare = PREPARE[name](files, Path(scratch))
        except ModuleNotFoundError as error:
            print(json.dumps({"missing": str(error)}), file=answers, flush=True)
            return
        print(json.dumps({}), file=answers, flush=True)
        for _ in sys.stdin:
            print(json.dumps(prepare()), file=answers, flush=True)


if __name__ == "__main__":
    main()
