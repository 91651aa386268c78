"""Does reading survive damaged files? Mutates real structure files and reads each one.

    python -m benchmarks.fuzz [FILES ...] [--count 10000] [--seed 0] [--seconds 20] [--megabytes 4096] [--keep DIR]

Each mutation must end as a `Protein` that is valid, or as a `StructureError`; every tenth protein is also written as
PDB and as mmCIF, which must read back the same or be a `StructureError`. Anything else is an offender: another
exception, a warning, a crash of the process, more seconds of CPU or megabytes than allowed. Offenders are printed with
the command that repeats them, and make the exit code 1. Reading happens in a process of its own, whose address space is
limited (Linux). Without FILES the embedded sample is mutated.

The mutation of a file depends on its content and the seed only; the i-th one has the seed `--seed` + i.
"""

import argparse
import collections
import dataclasses
import functools
import gzip
import multiprocessing
import multiprocessing.connection
import random
import re
import resource
import shlex
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from bihf_jax.protein import Protein, StructureError

SAMPLE = Path(__file__).parents[1] / "data_prep" / "sample"
# Share of the mutations after which the protein is written in both formats.
WRITTEN = 0.1

_NASTY = (
    *("", "?", ".", "nan", "inf", "-1e400", "1e38", "4e38", "0", "-1", "-999", "9999", "A000", "2147483648"),
    *("99999999999999999999", "ZZZZZ", "\u00e9", "'", '"', ";", "loop_", "data_", "#", "*****"),
)


# --------------------------------------------------------------------------------------------------------------------
# Mutations: text in, text out
# --------------------------------------------------------------------------------------------------------------------


def flip_bits(data: bytes, rng: random.Random) -> bytes:
    """One to 20 bits anywhere."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 20)):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def overwrite(data: bytes, rng: random.Random) -> bytes:
    """A stretch of up to 500 random bytes."""
    start, length = rng.randrange(len(data)), rng.choice((1, 8, 80, 500))
    return data[:start] + rng.randbytes(length) + data[start + length :]


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end is missing, or a stretch in the middle, or the beginning."""
    start, stop = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return rng.choice((data[:start], data[:start] + data[stop:], data[stop:]))


def repeat(data: bytes, rng: random.Random) -> bytes:
    """A stretch of lines comes up to 50 times, or the whole file twice."""
    if rng.random() < 0.2:
        return data + data
    lines, (start, stop) = _lines_and_stretch(data, rng, 200)
    return b"".join([*lines[:start], *lines[start:stop] * rng.randint(2, 50), *lines[stop:]])


def delete_lines(data: bytes, rng: random.Random) -> bytes:
    """A stretch of lines, or single ones here and there, are missing."""
    lines, (start, stop) = _lines_and_stretch(data, rng, len(data))
    if rng.random() < 0.5:
        return b"".join(lines[:start] + lines[stop:])
    share = rng.choice((0.001, 0.01, 0.2))
    return b"".join(line for line in lines if rng.random() > share)


def move_lines(data: bytes, rng: random.Random) -> bytes:
    """Lines are shuffled, reversed, or put elsewhere."""
    lines, (start, stop) = _lines_and_stretch(data, rng, 2000)
    stretch, rest = lines[start:stop], lines[:start] + lines[stop:]
    kind = rng.randrange(3)
    if kind == 0:
        rng.shuffle(stretch)
    elif kind == 1:
        stretch.reverse()
    else:
        start = rng.randrange(len(rest) + 1)
    return b"".join(rest[:start] + stretch + rest[start:])


def shift_columns(data: bytes, rng: random.Random) -> bytes:
    """From one column on, the text of a stretch of lines moves right or left."""
    lines, (start, stop) = _lines_and_stretch(data, rng, 2000)
    column, shift = rng.randrange(81), rng.choice((-3, -1, 1, 2))
    for i in range(start, stop):
        line = lines[i]
        lines[i] = line[:column] + b" " * shift + line[column + max(-shift, 0) :]
    return b"".join(lines)


def change_field(data: bytes, rng: random.Random) -> bytes:
    """One word of some lines becomes something that a parser may not expect."""
    lines, (start, stop) = _lines_and_stretch(data, rng, rng.choice((1, 1, 50, 5000)))
    place, new = rng.randrange(20), rng.choice(_NASTY).encode()
    keeps_width = rng.random() < 0.7
    for i in range(start, stop):
        words = list(re.finditer(rb"\S+", lines[i]))
        if words:
            first, last = words[place % len(words)].span()
            value = new[: last - first].rjust(last - first) if keeps_width else new
            lines[i] = lines[i][:first] + value + lines[i][last:]
    return b"".join(lines)


def change_columns(data: bytes, rng: random.Random) -> bytes:
    """The same columns of a stretch of lines hold the same text: one chain id, one number, one place in space."""
    lines, (start, stop) = _lines_and_stretch(data, rng, len(data))
    column = rng.choice(((0, 6), (12, 16), (16, 17), (17, 20), (21, 22), (22, 27), (30, 54), (54, 60), (76, 80)))
    source = rng.choice(lines)[column[0] : column[1]]
    new = source if rng.random() < 0.5 else rng.choice(_NASTY).encode()
    for i in range(start, stop):
        if len(lines[i]) > column[1]:
            width = column[1] - column[0]
            lines[i] = lines[i][: column[0]] + new[:width].ljust(width) + lines[i][column[1] :]
    return b"".join(lines)


def change_records(data: bytes, rng: random.Random) -> bytes:
    """Some records get another name: ATOM and HETATM, TER, MODEL, END, SEQRES."""
    names = (b"ATOM  ", b"HETATM", b"TER   ", b"ENDMDL", b"MODEL ", b"SEQRES", b"REMARK", b"END   ", b"MODRES")
    old, new = rng.choice(names), rng.choice(names)
    share = rng.choice((1.0, 0.5, 0.01))
    lines = data.splitlines(keepends=True)
    return b"".join(
        new + line[6:] if line[:6].ljust(6) == old and len(line) > 6 and rng.random() < share else line
        for line in lines
    )


def reorder_blocks(data: bytes, rng: random.Random) -> bytes:
    """The categories of an mmCIF file in another order, some missing or twice; header, chains and models of PDB."""
    blocks = re.split(rb"(?m)^(?=loop_|#|TER|MODEL|SEQRES   1)", data)
    head, rest = blocks[:1], blocks[1:]
    kind = rng.randrange(3)
    if kind == 0:
        rng.shuffle(rest)
    elif rest:
        index = rng.randrange(len(rest))
        rest[index : index + 1] = [] if kind == 1 else [rest[index]] * 2
    return b"".join(head + rest)


def reorder_tags(data: bytes, rng: random.Random) -> bytes:
    """The columns of one mmCIF loop are renamed: two exchanged, one missing, one twice; of PDB, nothing."""
    loops = list(re.finditer(rb"(?m)(?<=^loop_\n)(?:_\S+ *\n)+", data))
    if not loops:
        return data
    loop = rng.choice(loops)
    tags = loop.group().splitlines(keepends=True)
    i, j = rng.randrange(len(tags)), rng.randrange(len(tags))
    kind = rng.randrange(3)
    if kind == 0:
        tags[i], tags[j] = tags[j], tags[i]
    elif kind == 1:
        del tags[i]
    else:
        tags[i] = tags[j]
    return data[: loop.start()] + b"".join(tags) + data[loop.end() :]


def _lines_and_stretch(data: bytes, rng: random.Random, longest: int) -> tuple[list[bytes], tuple[int, int]]:
    """The lines of a text, and a random stretch of at most `longest` of them."""
    lines = data.splitlines(keepends=True) or [b"\n"]
    start = rng.randrange(len(lines))
    return lines, (start, min(len(lines), start + rng.randint(1, longest)))


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(flip_bits, overwrite, cut, repeat, delete_lines, move_lines, shift_columns, change_field, change_columns),
    *(change_records, reorder_blocks, reorder_tags),
)


@functools.lru_cache(maxsize=1)
def _read_text(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.name.lower().endswith(".gz") else data


def mutate(path: Path, rng: random.Random) -> tuple[str, bytes, list[str]]:
    """A damaged copy of a structure file: its name, its content, and what was done.

    One to three mutations of the text; at times of the compressed bytes, or a wrong ending.
    """
    done = []
    text = _read_text(path)
    for mutation in rng.choices(MUTATIONS, k=rng.choice((1, 1, 2, 3))):
        text = mutation(text, rng) or b"\n"
        done.append(mutation.__name__)
    # Most are stored plain, which is faster; what damages the text does the same in a compressed file.
    if rng.random() < 0.9:
        name, data = path.name.removesuffix(".gz"), text
    else:
        name, data = path.name.removesuffix(".gz") + ".gz", gzip.compress(text, compresslevel=1)
        if rng.random() < 0.7:
            mutation = rng.choice((flip_bits, overwrite, cut))
            data = mutation(data, rng)
            done.append(f"{mutation.__name__} (compressed)")
    if rng.random() < 0.02:
        name = rng.choice(("x.pdb", "x.cif", "x.ent.gz", "x.txt", "x"))
        done.append("wrong ending")
    return name, data, done


# --------------------------------------------------------------------------------------------------------------------
# One trial
# --------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How reading one mutated file ended."""

    path: Path  # of the file that was mutated
    seed: int
    kind: str  # "protein", "protein, written", "refused", or what an offender did
    detail: str = ""  # of an offender
    is_offender: bool = False

    def command(self) -> str:
        """The command that repeats it."""
        return f"python -m benchmarks.fuzz {shlex.quote(str(self.path))} --seed {self.seed} --count 1"


def trial(path: Path, seed: int, folder: Path) -> Outcome:
    """Read the mutation of a file that the seed gives; `folder` holds it meanwhile."""
    rng = random.Random(seed)
    name, data, done = mutate(path, rng)
    asked = rng.choice(({}, {}, {}, {"model": 1}, {"model": 2}, {"assembly": "1"}))
    is_written = rng.random() < WRITTEN
    mutated = folder / name
    mutated.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            protein = Protein.from_file(mutated, **asked)
            protein.validate()
            return Outcome(path, seed, _write(protein) if is_written else "protein")
    except StructureError:
        return Outcome(path, seed, "refused")
    except Exception as error:  # anything else is what this command looks for
        where = traceback.extract_tb(error.__traceback__)[-1]
        message = str(error).split("\n")[0]
        place = f"{Path(where.filename).name}:{where.lineno}"
        detail = f"{message!r} at {place}, after {', '.join(done)} with {asked}"
        return Outcome(path, seed, type(error).__name__, detail, is_offender=True)
    finally:
        mutated.unlink()


def _write(protein: Protein) -> str:
    written = []
    for write in (protein.to_pdb, protein.to_mmcif):
        try:
            write()
            written.append(write.__name__.removeprefix("to_"))
        except StructureError:
            continue
    return f"protein, written as {' and '.join(written) or 'neither: refused'}"


# --------------------------------------------------------------------------------------------------------------------
# Many trials, in a process that may die
# --------------------------------------------------------------------------------------------------------------------


class Worker:
    """A process that runs trials one by one; it is replaced when it hangs or dies."""

    def __init__(self, seconds: float, megabytes: int, run_trial: Callable[[Path, int, Path], Outcome] = trial):
        self._seconds, self._megabytes, self._run_trial = seconds, megabytes, run_trial
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: multiprocessing.connection.Connection | None = None
        self.peak_megabytes = 0.0  # the most that reading took, beyond what the process needs by itself

    def run(self, path: Path, seed: int) -> Outcome:
        """The outcome of one trial, also where it kills the process or never ends."""
        if self._process is None:
            self._start()
        self._pipe.send((path, seed))
        try:
            # Its own timer ends a busy process; this one, a process that waits for something.
            if not self._pipe.poll(20 * self._seconds + 60):
                self._process.kill()
            outcome, megabytes = self._pipe.recv()
        except EOFError:
            self._process.join()
            code = self._process.exitcode
            self.stop()
            if code in (-signal.SIGPROF, -signal.SIGKILL):
                return Outcome(path, seed, "hang", f"not done after {self._seconds:g} s", is_offender=True)
            return Outcome(path, seed, "crash", f"the process ended with exit code {code}", is_offender=True)
        self.peak_megabytes = max(self.peak_megabytes, megabytes)
        return outcome

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        self._process = None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self._seconds, self._megabytes, self._run_trial), daemon=True
        )
        self._process.start()
        theirs.close()


def _serve(
    pipe: multiprocessing.connection.Connection,
    seconds: float,
    megabytes: int,
    run_trial: Callable[[Path, int, Path], Outcome],
) -> None:
    own = _peak_megabytes()
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    with tempfile.TemporaryDirectory() as folder:
        while True:
            try:
                path, seed = pipe.recv()
            except EOFError:
                return
            signal.setitimer(signal.ITIMER_PROF, seconds)  # CPU time; ends the process, also inside of C++
            outcome = run_trial(path, seed, Path(folder))
            signal.setitimer(signal.ITIMER_PROF, 0)
            pipe.send((outcome, _peak_megabytes() - own))


def _peak_megabytes() -> float:
    """The most memory that this process has held so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def run(files: Sequence[Path], count: int, seed: int, worker: Worker, *, first: int = 0) -> Iterator[Outcome]:
    """The outcomes of `count` mutations, dealt over the files, from mutation `first` on."""
    try:
        for i in range(first, count):
            yield worker.run(files[i * len(files) // count], seed + i)
    finally:
        worker.stop()


def keep(outcome: Outcome, folder: Path) -> Path:
    """Write the mutated file of an outcome into a folder; returns where."""
    name, data, _ = mutate(outcome.path, random.Random(outcome.seed))
    path = folder / f"{outcome.seed}_{name}"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def print_counts(counts: collections.Counter[str], worker: Worker) -> None:
    """Prints how many mutations ended how, and the memory that they took."""
    for kind, number in counts.most_common():
        print(f"  {number:6d} {kind}")
    print(f"memory: up to {worker.peak_megabytes:.0f} MB more than the libraries' own")


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the counts by outcome and the offenders; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", type=Path, nargs="*", help="structure files; the embedded sample if none")
    parser.add_argument("--count", type=int, default=10_000, help="number of mutations")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first one")
    parser.add_argument("--seconds", type=float, default=20.0, help="limit of CPU time for one file")
    parser.add_argument("--megabytes", type=int, default=4096, help="limit of memory, beyond the libraries' own")
    parser.add_argument("--keep", type=Path, help="folder for the mutated files of offenders")
    args = parser.parse_args(arguments)
    files = args.files or sorted(SAMPLE.rglob("*.gz"))
    worker = Worker(args.seconds, args.megabytes)
    counts: collections.Counter[str] = collections.Counter()
    offenders, start = [], time.monotonic()
    for outcome in run(files, args.count, args.seed, worker):
        counts[outcome.kind] += 1
        if outcome.is_offender:
            offenders.append(outcome)
            print(f"{outcome.kind}: {outcome.detail}\n  {outcome.command()}", flush=True)
            if args.keep:
                print(f"  {keep(outcome, args.keep)}")
        if sum(counts.values()) % 500 == 0:
            print(f"{sum(counts.values())} mutations, {len(offenders)} offenders", flush=True)
    print(f"{args.count} mutations of {len(files)} files in {time.monotonic() - start:.0f} s:")
    print_counts(counts, worker)
    print(f"{len(offenders)} offenders")
    return 1 if offenders else 0


if __name__ == "__main__":
    sys.exit(main())
