"""The model card: the README.md of an export."""

from collections.abc import Mapping, Sequence
from typing import Any

from bihf_jax.tasks.reports import report_of
from bihf_jax.training.model_folder import FORMS, UNKNOWN
from bihf_jax.training.provenance import training_pocket

_TASKS = {
    "ppbs": "Protein-protein binding sites: for each residue, whether a heavy atom of another partner is near.",
    "bce": "B-cell epitopes: for each residue, whether an antibody binds there.",
    "ec": "Enzyme reaction classes of a protein.",
    "mqa": "Quality of a model of a protein's structure, as the GDT-TS that it would have.",
    "lba": "Affinity of a protein and its ligand, -log10 of Kd or Ki in mol/l.",
}
# What is true of every model of this library, by its design.
_LIMITS = (
    "The model sees what it is given: all chains of a structure are one protein to it. A model of binding sites was "
    "trained on one partner without the others; give it one partner.",
    "The metrics are of the splits of its own data. On proteins unlike those it was trained on it may do worse, and "
    "predicted structures are such.",
)


def model_card(
    about: Mapping[str, Any],
    scores: Mapping[str, Any] | None,
    *,
    parameters: int,
    lengths: Sequence[int],
    platforms: Sequence[str],
    esm2: bool,
    checked: str,
) -> str:
    """The card in Markdown, with the heading that model hubs read.

    Args:
      about: `model_folder.describe`.
      scores: of `experiments.evaluate`; None where it was not evaluated.
      parameters: their number.
      lengths: slots of the programs' rows.
      platforms: of the programs.
      esm2: the pLM is there for transformers, too.
      checked: on what the export was compared with the original, and how far they differ.
    """
    encoder, task, of_proteins = about["config"]["encoder"], about["task"], _is_of_proteins(about)
    sections = [
        "---\nlibrary_name: bihf_jax\ntags:\n- protein\n- protein-structure\n- jax\n---",
        f"# {task}: {encoder['fusion']['kind']} fusion, step {about['step']}",
        f"{_TASKS.get(task, task)}\nA protein's sequence and structure together, fused by Bidirectional Hierarchical "
        "Fusion ([arXiv 2504.04770](https://arxiv.org/abs/2504.04770)), with `bihf_jax`.",
        _table(
            [
                ("task", task),
                ("labels", ", ".join(about["label_names"]) + ("" if of_proteins else "; a score is of the last one")),
                ("parameters", f"{parameters:,}"),
                ("sequence side", _plm(encoder["plm"])),
                ("structure side", encoder["structure"].get("name", "gvp")),
                ("fusion", f"{encoder['fusion']['kind']}, {encoder['stages']} stages"),
                ("checkpoint", f"{about['which']} of its run, step {about['step']}{_selection(about)}"),
                ("trained with", f"bihf_jax {about['bihf_jax']}"),
                ("exported with", ", ".join(f"{name} {value}" for name, value in about["exported_with"].items())),
                ("compared with the original", checked),
            ]
        ),
        "## Data\n\n" + _data(about["training_data"], about["config"]["data"]),
        "## Metrics\n\n" + _metrics(scores),
        "## Limits\n\n" + "\n".join(f"* {limit}" for limit in _limits(about, lengths)),
        "## Use\n\n" + _use(about, esm2, platforms),
    ]
    return "\n\n".join(sections) + "\n"


def _table(rows: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {_cell(text)} |" for name, text in rows)])


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _plm(plm: Mapping[str, Any]) -> str:
    start = plm.get("pretrained") or "random weights"
    return f"ESM-2 of {plm['layers']} layers, width {plm['width']}; started from {start}; {plm['learning']['mode']}"


def _selection(about: Mapping[str, Any]) -> str:
    score = about["best_score"]
    return "" if score is None else f" (best {about['selection_metric']} of the validation split: {score:.4g})"


def _data(data: Mapping[str, Any] | str, config: Mapping[str, Any]) -> str:
    note = "\n\nThe training labels were shuffled: this model is a control." if config["shuffle_labels"] else ""
    if not isinstance(data, Mapping):
        return f"Fingerprint of the training data: {UNKNOWN}; the run does not say it.{note}"
    rows = []
    for split, entry in data["splits"].items():
        counts = ", ".join(f"{value:,} {name}" for name, value in entry.items() if isinstance(value, int))
        rows.append((split, f"fingerprint `{entry['fingerprint']}`; {counts}"))
    return _table(rows) + note


def _metrics(scores: Mapping[str, Any] | None) -> str:
    if scores is None:
        return "Not evaluated."
    table = report_of(scores).markdown_table(dict(scores)).strip()
    return f"Of `experiments.evaluate`, with bootstrap intervals.\n\n{table}"


def _is_of_proteins(about: Mapping[str, Any]) -> bool:
    return about["config"]["head"]["unit"] == "protein"


def _reads_ligands(about: Mapping[str, Any]) -> bool:
    return bool(about["config"]["encoder"]["structure"].get("ligands"))


def _pocket(about: Mapping[str, Any]) -> float | None:
    data = about["training_data"]
    return training_pocket(data if isinstance(data, Mapping) else None)


def _limits(about: Mapping[str, Any], lengths: Sequence[int]) -> tuple[str, ...]:
    pocket = _pocket(about)
    read = "Of a structure only the protein is read: ligands, nucleic acids and waters are not."
    if _reads_ligands(about):
        read = "The model reads a protein with its ligand, in the pose that it is given; it finds none."
    certainty = "A score orders residues. It is no calibrated probability, and no certainty: see the metrics."
    if _is_of_proteins(about):
        certainty = "A predicted value is no certainty, and a probability not calibrated: see the metrics."
    pockets = () if pocket is None else (f"It was trained on the residues within {pocket:g} Å of the ligand alone.",)
    return (*_LIMITS, certainty, read, *pockets, _length_limit(about, lengths))


def _length_limit(about: Mapping[str, Any], lengths: Sequence[int]) -> str:
    trained = f"In training, proteins longer than {max(about['config']['data']['lengths']):,} slots were cropped."
    if about["format"] in FORMS:
        return trained
    return f"{trained} The longest program here takes {max(lengths):,} slots (residues, and two a chain)."


def _use(about: Mapping[str, Any], esm2: bool, platforms: Sequence[str]) -> str:
    return _use_here(about, esm2) if about["format"] in FORMS else _use_program(about, platforms)


def _use_here(about: Mapping[str, Any], esm2: bool) -> str:
    ligand = ', ligand="ligand.sdf"' if _reads_ligands(about) else ""
    load = 'model = bihf_jax.load("FOLDER")  # this folder'
    text = _python("import bihf_jax", "", load, f'model.predict("1abc.cif"{ligand})')
    text += "\n\nLoading executes nothing of this folder: it is JSON and plain arrays."
    if esm2:
        text += (
            '\n\nThe sequence side alone, as `transformers` loads it: `AutoModel.from_pretrained("FOLDER/esm2", '
            "add_pooling_layer=False)`. Its hidden states are those of the pLM without what fusion added between "
            "the blocks."
        )
    return text


def _use_program(about: Mapping[str, Any], platforms: Sequence[str]) -> str:
    needs = {
        "stablehlo": f"jax and numpy; programs for {', '.join(platforms)}. Later versions of jax read them for at "
        "least six months after the one that exported",
        "saved_model": "TensorFlow and numpy",
    }[about["format"]]
    run = _python("from run import Model", "", 'outputs = Model("FOLDER")(inputs)  # arrays by name, of n slots')
    lines = ["from bihf_jax.data.featurise import residue_slots", "from bihf_jax.export.programs import model_inputs"]
    read = ["from bihf_jax.protein import Protein", "", 'protein = Protein.from_file("1abc.cif")']
    if _reads_ligands(about):
        lines.append("from bihf_jax.inference.ligands import LigandNeeds, bind")
        read.append(f"needs = LigandNeeds(atoms=True, pocket={_pocket(about)})")
        read.append('protein, ligand = bind(protein, "ligand.sdf", needs)')
        read.append('inputs = model_inputs("FOLDER", protein, ligand)')
    else:
        read.append('inputs = model_inputs("FOLDER", protein)')
    if _is_of_proteins(about):
        read.append('values = outputs["value"][0]  # of the protein')
    read.append('scores = outputs["score"][residue_slots(protein)]  # one a residue')
    return (
        f"`run.py` needs {needs}. The arrays that it takes and gives are described in `program.json`.\n\n{run}\n\n"
        f"Inputs of a structure, made where `bihf_jax` is installed:\n\n{_python(*lines, *read)}"
    )


def _python(*lines: str) -> str:
    return "\n".join(["```python", *lines, "```"])
