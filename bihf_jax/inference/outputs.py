"""The files that a prediction is written to."""

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bihf_jax.data.ligand import Ligand
from bihf_jax.inference.prediction import Prediction
from bihf_jax.inference.residues import has_structure
from bihf_jax.protein import StructureError

ABOUT_ENDING = ".json"  # of the file that is written last: where it is, the others are whole
STRUCTURE_ENDINGS = {"PDB": ".pdb", "mmCIF": ".cif"}
ENDINGS = (".csv", ".parquet", *STRUCTURE_ENDINGS.values(), ".cxc", ".pml", ".html", ABOUT_ENDING)


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to, with the same ending; it becomes `path` when all went well, or goes away."""
    part = path.with_name(f".part-{path.name}")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_prediction(
    prediction: Prediction,
    folder: Path,
    name: str,
    run: Mapping[str, Any],
    *,
    html: bool = True,
    parquet: bool = False,
) -> dict[str, Any]:
    """Writes the files of a prediction: no file is ever half there, and NAME.json comes last.

    * NAME.csv: the table, `Prediction.write_csv`; NAME.parquet: the same, where asked for.
    * NAME.pdb and NAME.cif: the structure as it was read, the score in the B-factor column; in full in mmCIF, with two
      decimals in PDB. A format that cannot hold the structure is left out, and NAME.json says why.
    * NAME.cxc and NAME.pml: scripts for ChimeraX and PyMOL that open the mmCIF file (else the PDB file) and colour it.
    * NAME.html: the page, `Prediction.page`; left out with the reason where there is no structure file.
    * NAME.json: what was read and left out, the scores in brief, and `run`.

    Args:
      prediction: what to write.
      folder: where; folders in `name` are made.
      name: of the files, from `inputs.find_targets`.
      run: how the prediction was made, values that JSON holds.
      html: also write the page.
      parquet: also write the table as Parquet; needs pyarrow.

    Returns:
      What NAME.json holds.
    """
    base = folder / name
    base.parent.mkdir(parents=True, exist_ok=True)
    not_written = {}
    with whole_file(_with_ending(base, ".csv")) as path:
        prediction.write_csv(path)
    if parquet:
        with whole_file(_with_ending(base, ".parquet")) as path:
            prediction.write_parquet(path)
    else:
        _with_ending(base, ".parquet").unlink(missing_ok=True)  # of an earlier run
    for file_format, ending in STRUCTURE_ENDINGS.items():
        written = prediction.structures[file_format]
        if isinstance(written, StructureError):
            not_written[ending] = str(written)
            _with_ending(base, ending).unlink(missing_ok=True)  # of an earlier run
            continue
        with whole_file(_with_ending(base, ending)) as path:
            path.write_bytes(written.text.encode("ascii"))
    structure = next((ending for ending in (".cif", ".pdb") if ending not in not_written), None)
    for ending, script in ((".cxc", _chimerax_script), (".pml", _pymol_script)):
        if structure is None:
            not_written[ending] = "there is no structure file for it to open"
            _with_ending(base, ending).unlink(missing_ok=True)
            continue
        with whole_file(_with_ending(base, ending)) as path:
            path.write_text(script(prediction, base.name + structure), encoding="utf-8")
    if html:
        try:
            with whole_file(_with_ending(base, ".html")) as path:
                path.write_bytes(prediction.page().encode("utf-8"))
        except ValueError as error:
            not_written[".html"] = str(error)
    if not html or ".html" in not_written:
        _with_ending(base, ".html").unlink(missing_ok=True)  # of an earlier run
    about = {**_about(prediction), "not_written": not_written, "run": dict(run)}
    with whole_file(_with_ending(base, ABOUT_ENDING)) as path:
        path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return about


def read_about(folder: Path, name: str) -> dict[str, Any] | None:
    """What NAME.json holds; None where there is none, or none that `write_prediction` wrote."""
    try:
        about = json.loads(_with_ending(folder / name, ABOUT_ENDING).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return about if isinstance(about, dict) and "run" in about else None


def remove_results(folder: Path, name: str) -> None:
    """Removes what `write_prediction` wrote under this name, if it did."""
    if read_about(folder, name) is not None:
        for ending in reversed(ENDINGS):
            _with_ending(folder / name, ending).unlink(missing_ok=True)


def result_paths(folder: Path, name: str) -> list[Path]:
    """Every file that `write_prediction` may write under this name."""
    return [_with_ending(folder / name, ending) for ending in ENDINGS]


def _with_ending(base: Path, ending: str) -> Path:
    return base.with_name(base.name + ending)  # names have dots of their own


def _about(prediction: Prediction) -> dict[str, Any]:
    protein, highest = prediction.protein, prediction.highest()
    usual = dataclasses.asdict(type(protein.report)())
    report = {key: value for key, value in dataclasses.asdict(protein.report).items() if value != usual[key]}
    return {
        "source": protein.source,
        "task": prediction.task,
        "label_names": list(prediction.label_names),
        "value": dict(prediction.value),
        "value_low": dict(prediction.value_low),
        "value_high": dict(prediction.value_high),
        "residues": len(prediction),
        "without_structure": int((~has_structure(protein)).sum()),
        "chains": list(protein.chain_ids),
        "mean_score": float(prediction.score.mean()),
        "highest_score": highest.score,
        "highest_residue": [highest.chain, highest.residue_number, highest.insertion_code],
        "highest_value": next(iter(prediction.highest_values(1)), None),
        "threshold": prediction.threshold,  # chosen on the validation split
        "interval": prediction.interval,  # what ends in _low and _high
        "columns": list(prediction.residue_values()),
        "ligand": None if prediction.ligand is None else _about_ligand(prediction.ligand),  # that the model saw
        "report": report,  # of reading the file: what is not as usual
    }


def _about_ligand(ligand: Ligand) -> dict[str, Any]:
    return {"source": ligand.source, "atoms": ligand.num_atoms, "remarks": list(getattr(ligand, "remarks", ()))}


def _script_heading(prediction: Prediction, structure: str) -> str:
    low, high = prediction.colour_range
    return f"# {prediction.score_name}, in the B-factor column of {structure}: white {low:.4g} to red {high:.4g}."


def _chimerax_script(prediction: Prediction, structure: str) -> str:
    low, high = prediction.colour_range
    return f"""{_script_heading(prediction, structure)}
# For a new session of ChimeraX, in which the structure becomes model #1.
open {structure}
hide atoms
show cartoons
color #1 gray
color byattribute bfactor #1 & protein palette white:orange:red range {low:.6g},{high:.6g} target abcs
"""


def _pymol_script(prediction: Prediction, structure: str) -> str:
    low, high = prediction.colour_range
    return f"""{_script_heading(prediction, structure)}
# Run it in the folder of this file.
load {structure}, scored
hide everything, scored
show cartoon, scored
color gray, scored
spectrum b, white orange red, scored and polymer, minimum={low:.6g}, maximum={high:.6g}
"""
