"""`export_model`: from a run to a folder that is checked, described, and complete or not there at all."""

import dataclasses
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

import jax
import numpy as np

from bihf_jax.data.featurise import residue_slots
from bihf_jax.export import programs
from bihf_jax.export.card import model_card
from bihf_jax.export.reload import outputs_of
from bihf_jax.export.saved_model import write_saved_model
from bihf_jax.export.stablehlo import PLATFORMS, write_stablehlo
from bihf_jax.inference.ligands import Bound, bind
from bihf_jax.inference.predictor import Predictor
from bihf_jax.inference.threshold import SCORES_FILE
from bihf_jax.models.lora import merge_lora
from bihf_jax.pretrained import ESM2, save_hugging_face
from bihf_jax.protein import Protein
from bihf_jax.training.config import read_json
from bihf_jax.training.model_folder import FORMS, UNKNOWN, describe, write_about, write_params
from bihf_jax.training.provenance import training_data, training_pocket
from bihf_jax.training.restore import RestoredModel, load_model

_LOGGER = logging.getLogger(__name__)

FORMATS = (*FORMS, "stablehlo", "saved_model")
TOLERANCE = 1e-5  # of scores; of features relative to the largest one
ESM2_FOLDER = "esm2"
_CHECK_SECONDS = 1800


class ExportError(RuntimeError):
    """An export that was not made; the message says why. What was begun of it is removed."""


@dataclasses.dataclass(frozen=True)
class _Reference:
    """A structure, and what the original model makes of it."""

    structure: Path
    ligand: str  # as given, "" where there is none
    bound: Bound  # as the model sees it
    outputs: Mapping[str, np.ndarray]  # `reload.outputs_of`


def export_model(
    path: str | Path,
    output: str | Path,
    form: str,
    *,
    structure: Path,
    ligand: str = "",
    which: str = "best",
    platforms: Sequence[str] = PLATFORMS,
    lengths: Sequence[int] | None = None,
    esm2: bool = True,
) -> Path:
    """Exports a trained model.

    The export is loaded in a fresh process and compared with the original on a structure; it gets its name only when
    its outputs are within `TOLERANCE`. Run it on a CPU: accelerators round products, and may be taken by one process.

    Args:
      path: folder of a run, or of an export in one of `model_folder.FORMS`.
      output: folder to write; must not exist.
      form: one of `FORMATS`.
      structure: file of the structure to compare on.
      ligand: of a model that was trained with ligands: a file, or the name of one in the structure.
      which: checkpoint of the run, "best" or "last".
      platforms: of `stablehlo`: some of `stablehlo.PLATFORMS`, "cpu" among them, as it is what can be checked.
      lengths: slots of the rows of the programs of `stablehlo` and `saved_model`; None: `programs.default_lengths`.
      esm2: of `safetensors`: write the pLM a second time, in the form that `transformers` loads.

    Returns:
      `output`.

    Raises:
      ConfigError, CheckpointError: the model cannot be loaded.
      StructureError, MoleculeError: nor the structure or its ligand.
      LigandError: a ligand is missing, or is not for this model or structure.
      ExportError: the arguments cannot work, something that is needed is not installed, or the outputs differ.
    """
    output = Path(output).absolute()
    if form not in FORMATS:
        raise ExportError(f"format is {form!r}; allowed: {', '.join(FORMATS)}")
    if os.path.lexists(output):
        raise ExportError(f"{output} exists; give another --output, or remove it")
    if not output.parent.is_dir():
        raise ExportError(f"{output.parent} is no folder; make it first, or give another --output")
    model = load_model(path, which=which)
    data = training_data(path, model.about)
    predictor = Predictor([model], pockets=[training_pocket(data)])
    reference = _reference(predictor, structure, ligand)
    lengths = tuple(sorted(set(lengths or programs.default_lengths(model.config))))
    slots = _slots(reference.bound)
    if form not in FORMS and slots > max(lengths):
        raise ExportError(
            f"{structure} has {slots} slots, the longest program {max(lengths)}: the export cannot be compared on it; "
            "give a smaller --structure, or longer --lengths"
        )
    scores = read_scores(path, model, which)
    about = describe(
        about=model.about,
        step=model.step,
        which=model.about.get("which", which),
        task=predictor.task,
        training_data=data,
        form=form,
    )
    with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as scratch:
        folder = Path(scratch) / "export"
        folder.mkdir()
        _write(folder, model, form, platforms, lengths, esm2)
        write_about(folder, about)
        if scores is not None:
            (folder / SCORES_FILE).write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
        differences = _compare(folder, form, reference)
        parameters = sum(leaf.size for leaf in jax.tree.leaves(model.params))
        card = model_card(
            about,
            scores,
            parameters=parameters,
            lengths=lengths,
            platforms=platforms,
            esm2=(folder / ESM2_FOLDER).exists(),
            checked=f"{_named(reference)}: " + _told(differences),
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
        os.rename(folder, output)
    _LOGGER.info("%s: %s; in a fresh process, on %s: %s", output, form, structure, _told(differences))
    return output


def read_scores(path: str | Path, model: RestoredModel, which: str) -> dict[str, Any] | None:
    """What `experiments.evaluate` found of this checkpoint; None where it has not been run on it.

    Paths in it are reduced to their last part.

    Raises:
      ConfigError: `scores.json` is damaged.
    """
    file = Path(path) / SCORES_FILE
    if not file.exists():
        return None
    scores = read_json(file, "run experiments.evaluate again")
    run = scores.get("run", {})
    if run.get("step") != model.step or run.get("checkpoint") != model.about.get("which", which):
        _LOGGER.warning(
            "%s is of the %s checkpoint of step %s, not of this one (step %d): the model card says not evaluated",
            *(file, run.get("checkpoint", UNKNOWN), run.get("step", UNKNOWN), model.step),
        )
        return None
    names = {name: PurePath(run[name]).name for name in ("workdir", "records") if name in run}
    return {**scores, "run": {**run, **names}}


def _write(
    folder: Path, model: RestoredModel, form: str, platforms: Sequence[str], lengths: Sequence[int], esm2: bool
) -> None:
    """The files that hold the model."""
    try:
        if form == "stablehlo":
            write_stablehlo(folder, model.config, model.params, platforms=platforms, lengths=lengths)
        elif form == "saved_model":
            write_saved_model(folder, model.config, model.params, lengths=lengths)
        else:
            write_params(folder, model.params, form)
    except (ValueError, ImportError) as error:
        raise ExportError(f"{form}: {error}") from error
    if form == "safetensors" and esm2 and "plm" in model.params["encoder"]:
        plm = model.config.encoder.plm
        params = merge_lora(model.params, plm).params if plm.learning.mode == "lora" else model.params
        save_hugging_face(ESM2(plm, params["encoder"]["plm"]), folder / ESM2_FOLDER)


# ---- the comparison --------------------------------------------------------------------------------------------------


def _reference(predictor: Predictor, structure: Path, ligand: str) -> _Reference:
    bound = bind(Protein.from_file(structure), ligand or None, predictor.ligand_needs)
    return _Reference(Path(structure), ligand, bound, outputs_of(predictor, structure, ligand))


def _named(reference: _Reference) -> str:
    ligand = reference.bound.ligand
    return f"`{reference.bound.protein.source}`" + ("" if ligand is None else f" with `{ligand.source}`")


def _slots(bound: Bound) -> int:
    atoms = 0 if bound.ligand is None else bound.ligand.num_atoms
    return bound.protein.num_residues + 2 * len(bound.protein.chain_ids) + atoms


def _compare(folder: Path, form: str, reference: _Reference) -> dict[str, float]:
    """Output -> its difference in a fresh process; `ExportError` where one is too large."""
    with tempfile.TemporaryDirectory() as scratch:
        found = Path(scratch) / "outputs.npz"
        if form in FORMS:
            arguments = [folder, reference.structure.absolute(), reference.ligand, found]
            _run([sys.executable, "-m", "bihf_jax.export.reload", *arguments])
            with np.load(found, allow_pickle=False) as outputs:
                values = dict(outputs)
        else:
            inputs, bound = Path(scratch) / "inputs.npz", reference.bound
            np.savez(inputs, **programs.model_inputs(folder, bound.protein, bound.ligand))
            # The program has to do without this package, so it must not find it.
            hidden = "import runpy, sys; sys.modules['bihf_jax'] = None; sys.argv = sys.argv[1:]; "
            hidden += "runpy.run_path(sys.argv[0], run_name='__main__')"
            _run([sys.executable, "-c", hidden, folder / "run.py", inputs, found])
            rows = {name: residue_slots(bound.protein) for name in ("score", "representation")} | {"value": 0}
            with np.load(found, allow_pickle=False) as outputs:
                values = {name: outputs[name][rows[name]] for name in reference.outputs}
    return compare_outputs(reference.outputs, values)


def compare_outputs(expected: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Output -> largest difference: of scores as it is, of other outputs relative to the largest expected value.

    Raises:
      ExportError: one is above `TOLERANCE`, not a number, or of another shape.
    """
    differences = {}
    for name, values in expected.items():
        if found[name].shape != values.shape:
            raise ExportError(f"{name} of the export has shape {found[name].shape}, of the original {values.shape}")
        largest = 1.0 if name == "score" else max(float(np.abs(values).max()), 1e-30)
        differences[name] = float(np.abs(found[name] - values).max()) / largest
    if not all(difference <= TOLERANCE for difference in differences.values()):
        raise ExportError(
            f"the export gives other outputs than the original: {_told(differences)}; at most {TOLERANCE:g} is "
            "allowed. Nothing was written. A model that computes in bfloat16 can differ in another program: export it "
            "as safetensors or orbax"
        )
    return differences


def _run(command: Sequence[object]) -> None:
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}  # as the original: an accelerator rounds products
    try:
        done = subprocess.run(
            list(map(str, command)),
            capture_output=True,
            text=True,
            check=False,
            timeout=_CHECK_SECONDS,
            env=environment,
        )
    except subprocess.TimeoutExpired as error:
        raise ExportError(f"the export did not run within {_CHECK_SECONDS} s in a fresh process") from error
    if done.returncode:
        raise ExportError(f"the export fails in a fresh process:\n{done.stderr.strip()[-2000:]}")


def _told(differences: Mapping[str, float]) -> str:
    return ", ".join(f"{name} within {value:.1e}" for name, value in differences.items())
