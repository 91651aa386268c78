"""A model as a pure function of plain arrays: what is exported as a program, and the description of its arrays.

A program takes one row of L slots, so one protein or several of them; L is one of a few lengths, as everything has to
have a fixed shape. `program.json` beside the programs names every input, output and parameter.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from bihf_jax.data import alphabet
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.featurise import make_example
from bihf_jax.data.grid import empty_grid, make_grid
from bihf_jax.data.ligand import EDGE_TYPES, ELEMENTS, HYBRIDISATIONS, Ligand
from bihf_jax.models.heads import POOLING_WEIGHT
from bihf_jax.protein import Protein
from bihf_jax.training.config import ExperimentConfig, read_json

PROGRAM_FILE = "program.json"

# Input -> what it holds; in the order of `ProteinBatch`, of which they are the fields that a model reads.
_PROTEIN_INPUTS = {
    "tokens": f"number of the token in {' '.join(alphabet.TOKENS)}; each chain is <cls> residues <eos>",
    "chain_segment": "1, 1, .., 2, 2, ..: chain of the slot; 0 is padding",
    "protein_segment": "1 at the slots of the protein (2, .. where further proteins follow); 0 is padding",
    "sequence_mask": "the slot holds a token",
    "structure_mask": "the slot holds a residue with N, CA and C coordinates",
    "backbone": "coordinates of N, CA, C, O, CB in Angstrom; 0 where masked",
    "backbone_mask": "the atom has coordinates",
    "torsions": "phi, psi, omega, chi1 to chi4 in radians; 0 where masked",
    "torsion_mask": "the angle is defined",
    "neighbours": "slots of the residues whose CA is nearest, nearest first; any slot where masked",
    "neighbour_mask": "there is such a neighbour",
}
_LIGAND_INPUTS = {
    "edge_type": f"number of what joins slot and neighbour in: {', '.join(EDGE_TYPES)}; 0 where masked",
    "ligand_atom": f"of an atom of a ligand: number of the element in {' '.join(ELEMENTS)}; formal charge + 2; number "
    f"of the hybridisation in {' '.join(HYBRIDISATIONS)}; aromatic; in a ring. All 0 where the slot is no such atom",
}
# Names of outputs; which of them a model has, and what they mean, says `_outputs`.
SCORE, SCORES, REPRESENTATION, VALUE = "score", "scores", "representation", "value"
SLOTS, PROTEINS = "slots", "proteins"  # first axis of inputs and outputs


def _inputs(config: ExperimentConfig) -> dict[str, str]:
    """Input -> what it holds, of a model of this config."""
    return _PROTEIN_INPUTS | (_LIGAND_INPUTS if config.encoder.structure.ligands else {})


def _outputs(config: ExperimentConfig) -> dict[str, tuple[list[str | int], str]]:
    """Output -> (its shape, its meaning), of a model of this config."""
    task = config.make_task()
    names, number = ", ".join(task.score_names), len(task.score_names)
    outputs: dict[str, tuple[list[str | int], str]] = {}
    if task.unit == "protein":
        outputs[VALUE] = [PROTEINS, number], f"of each protein: {names}"
        outputs[SCORE] = [SLOTS], "weight by which the slot is pooled; those of a protein add up to 1"
    else:
        last = f"score of each slot: {task.score_names[-1]}; it means something at residues only"
        outputs[SCORE] = [SLOTS], last
        if number > 1:
            outputs[SCORES] = [SLOTS, number], f"scores of each slot: {names}"
    outputs[REPRESENTATION] = [SLOTS, config.encoder.representation_width], "features of each slot, both sides fused"
    return outputs


def model_inputs(folder: str | Path, protein: Protein, ligand: Ligand | None = None) -> dict[str, np.ndarray]:
    """What a program takes of one protein.

    Args:
      folder: of the export, with its `program.json`.
      protein: of n slots: its residues, two a chain, and the atoms of the ligand.
      ligand: of a model that reads ligands, see `inference.ligands.bind`.

    Returns:
      Input name -> [n, ...], see `program.json`; `featurise.residue_slots` says which slots are residues.
    """
    described = read_json(Path(folder) / PROGRAM_FILE, "an export has it: export the model again")["inputs"]
    example = make_example(protein, id=protein.source, group=protein.source, ligand=ligand)
    neighbours = described["neighbours"]["shape"][1]
    grid = make_grid([[(0, example)]], length=example.num_slots, neighbours=neighbours, graphs=1)
    return {name: getattr(grid, name)[0] for name in described}


def scoring_function(config: ExperimentConfig, params: Any) -> Callable[[Mapping, Mapping], dict[str, jax.Array]]:
    """`score(params, inputs) -> outputs`: dicts of arrays by the names of `program.json`; inputs have a row axis.

    Args:
      config: of the model.
      params: its parameters; only their types are read. The function takes them as float32, and rounds those that
        are of another type, which is then exact.
    """
    model, task, outputs = config.make_model(), config.make_task(), _outputs(config)
    dtypes = {name: leaf.dtype for name, leaf in _flat(params).items()}

    def score(params: Mapping[str, jax.Array], inputs: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        tree = unflatten_dict({tuple(name.split("/")): leaf.astype(dtypes[name]) for name, leaf in params.items()})
        rows, length, neighbours = inputs["neighbours"].shape
        batch = empty_grid(rows, length, neighbours, config.data.graphs_per_row)._replace(**inputs)
        logits, encoded = model.apply({"params": tree}, batch, None, method="logits_and_features")
        scores = task.scores(logits)
        of_proteins = {VALUE: scores, SCORE: encoded.intermediates.get(POOLING_WEIGHT)}
        of_residues = {SCORE: scores[..., -1], SCORES: scores}
        found = of_proteins if task.unit == "protein" else of_residues
        found[REPRESENTATION] = encoded.representation.astype(jnp.float32)
        return {name: found[name] for name in outputs}

    return score


def plain_params(params: Any) -> dict[str, np.ndarray]:
    """The parameters as a program takes them: name ("encoder/plm/...") -> float32."""
    return {name: np.asarray(leaf, np.float32) for name, leaf in _flat(params).items()}


def _flat(params: Any) -> dict[str, Any]:
    return {"/".join(path): leaf for path, leaf in flatten_dict(params).items()}


def example_inputs(config: ExperimentConfig, length: int) -> dict[str, np.ndarray]:
    """One row of padding, in the shapes and types of a program's inputs."""
    grid: ProteinBatch = empty_grid(1, length, config.data.neighbours, 1)
    return {name: getattr(grid, name) for name in _inputs(config)}


def default_lengths(config: ExperimentConfig) -> tuple[int, ...]:
    """Slots of the programs' rows: the longest of training, its half and quarter, and its double."""
    longest = max(config.data.lengths)
    return tuple(sorted({max(longest // 4, 1), max(longest // 2, 1), longest, 2 * longest}))


def write_description(
    folder: Path,
    config: ExperimentConfig,
    params: Any,
    *,
    programs: Sequence[Mapping[str, Any]],
    parameters: str,
) -> None:
    """Writes `program.json`.

    Args:
      folder: of the export.
      config: of the model.
      params: its parameters.
      programs: each with its "length", and where it is.
      parameters: the file that holds them, or where else they are.
    """
    rows = example_inputs(config, 1)
    inputs = {
        name: {
            "shape": [SLOTS, *rows[name].shape[2:]],
            "dtype": str(rows[name].dtype),
            "padding": alphabet.PAD if name == "tokens" else 0,
            "meaning": meaning,
        }
        for name, meaning in _inputs(config).items()
    }
    outputs = {
        name: {"shape": shape, "dtype": "float32", "meaning": meaning}
        for name, (shape, meaning) in _outputs(config).items()
    }
    description = {
        "call": "outputs = program(parameters, inputs): dicts by these names; inputs and outputs have an axis of 1 row "
        "before that of the slots, whose number is the program's length, or of the proteins, of which a row holds up "
        f"to {config.data.graphs_per_row}",
        "programs": list(programs),
        "inputs": inputs,
        "outputs": outputs,
        "parameters": {
            "stored": parameters,
            "arrays": {
                name: {"shape": list(leaf.shape), "dtype": "float32"} for name, leaf in plain_params(params).items()
            },
        },
    }
    (folder / PROGRAM_FILE).write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
