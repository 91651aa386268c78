"""Official CASP13 scores of submitted models, in the table that GraphQA distributes (Baldassarre et al. 2021).

``data-all.tsv`` has no heading and three columns, separated by white space: ``T0953s1TS004_1-D1 28.36 0.47`` is model 1
of group 004 for domain 1 of target T0953s1, its GDT_TS in %, and a second score that the table does not name. Official
targets are held out whole; the table has no split of its own.
"""

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from data_prep.formats.text import FormatError, numbered_lines

# Names of the files of models in CASP's archives; they have no ending.
FILE_NAME = r"T\d{4}(s\d+)?TS\d{3}_\d+"
_MODEL = re.compile(r"(?P<target>T\d{4}(s\d+)?)TS(?P<group>\d{3})_(?P<model>\d+)(-D(?P<domain>\d+))?")


@dataclasses.dataclass(frozen=True)
class ModelScore:
    """The score of one submitted model, for a whole target or one domain of it."""

    id: str  # "T0953s1TS004_1-D1"
    target: str  # "T0953s1"
    group: str  # "004"
    model: int  # 1 is the one that the group thinks best
    domain: int | None  # None: the whole target
    gdt_ts: float  # in [0, 1]
    second_score: float | None  # in [0, 1], as the table has it, without a name; None where it says N/A

    @property
    def file_name(self) -> str:
        """Name of the model's file in CASP's archives, which hold whole targets: "T0953s1TS004_1"."""
        return f"{self.target}TS{self.group}_{self.model}"


def read_scores(path: Path) -> list[ModelScore]:
    """Every line of the table.

    Raises:
      FormatError: a line that is not in the format, a GDT_TS outside [0, 100], or a model with two lines; the message
        names file and line.
    """
    scores: dict[str, ModelScore] = {}
    for line, text in numbered_lines(path):
        where = f"{path}, line {line}"
        score = _read_line(where, text)
        if score.id in scores:
            raise FormatError(f"{where}: a second line for {score.id}")
        scores[score.id] = score
    return list(scores.values())


def _read_line(where: str, text: str) -> ModelScore:
    columns = text.split()
    match = _MODEL.fullmatch(columns[0]) if len(columns) == 3 else None
    if match is None:
        raise FormatError(
            f"{where}: expected 'MODEL GDT_TS SCORE' such as 'T0953s1TS004_1-D1 28.36 0.47', got {text!r}"
        )
    gdt_ts = _number(where, "GDT_TS", columns[1], 100)
    second = None if columns[2] == "N/A" else _number(where, "the second score", columns[2], 1)
    domain = int(match["domain"]) if match["domain"] else None
    return ModelScore(columns[0], match["target"], match["group"], int(match["model"]), domain, gdt_ts / 100, second)


def _number(where: str, name: str, text: str, greatest: float) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise FormatError(f"{where}: {name} {text!r} is not a number") from error
    if not 0 <= value <= greatest:
        raise FormatError(f"{where}: {name} {value}; it must lie in [0, {greatest}]")
    return value


def of_whole_targets(scores: Iterable[ModelScore]) -> tuple[list[ModelScore], tuple[str, ...]]:
    """(one score a model file, targets that have none), as files of models hold whole targets.

    That is the score of the whole target, or that of domain 1 where the target has no other domain. A target of several
    domains without a score of the whole has none.
    """
    of_target: dict[str, list[ModelScore]] = defaultdict(list)
    for score in scores:
        of_target[score.target].append(score)
    whole, without = [], []
    for target, mine in of_target.items():
        domains = {score.domain for score in mine} - {None}
        if None in {score.domain for score in mine}:
            whole += [score for score in mine if score.domain is None]
        elif domains == {1}:
            whole += mine
        else:
            without.append(target)
    return whole, tuple(without)
