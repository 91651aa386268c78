"""What each task reads: `TASKS` says which module lists the items of a task and turns one into records."""

import argparse
import dataclasses
from collections.abc import Callable, Sequence

from data_prep.pipeline import Source
from data_prep.sources import complexes, custom, ec, lba, mqa, scannet


@dataclasses.dataclass(frozen=True)
class Task:
    """A subcommand of `data_prep.build`.

    Attributes:
      help: what it prepares, in a line.
      add_arguments: (parser, task) -> None, one for each module that can read for it.
      source: parsed command line -> what is read.
    """

    help: str
    add_arguments: Sequence[Callable[[argparse.ArgumentParser, str], None]]
    source: Callable[[argparse.Namespace], Source]


def _sites(args: argparse.Namespace) -> Source:
    """`ppbs` and `bce`: ScanNet's labels where they are given, else the user's own complexes."""
    if args.scannet:
        if given := [f"--{name}" for name in ("complexes", "labels") if getattr(args, name)]:
            raise ValueError(f"--scannet has labels of its own; leave {' and '.join(given)} out")
        return scannet.source(args)
    if given := [f"--{name}" for name in ("table", "fold") if getattr(args, name, None)]:
        raise ValueError(f"{' and '.join(given)} is of ScanNet's data sets; give --scannet FOLDER, too")
    if args.task == "bce" and not args.complexes:
        raise ValueError("bce needs --scannet FOLDER, or --complexes CSV that names the partner 'antibody'")
    return complexes.source(args)


TASKS = {
    "ppbs": Task("protein-protein binding sites", (complexes.add_arguments, scannet.add_arguments), _sites),
    "bce": Task("B-cell epitopes", (complexes.add_arguments, scannet.add_arguments), _sites),
    "ec": Task("enzyme classes", (ec.add_arguments,), ec.source),
    "mqa": Task("quality of structure models", (mqa.add_arguments,), mqa.source),
    "lba": Task("affinity of a ligand", (lba.add_arguments,), lba.source),
    "custom": Task("your own labels", (custom.add_arguments,), custom.source),
}
