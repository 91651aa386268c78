"""Masked-language modelling (`mlm`): the objective that ESM-2 is pretrained with, and what its scores are made of.

Of the residues, 15 % are chosen at random. Of those, 80 % are shown as `<mask>`, 10 % as a random amino acid and 10 %
as they are, and the model has to say which residue each really is (Devlin et al. 2018, BERT; Lin et al. 2023, ESM-2).
Only the 20 amino acids are chosen: there is nothing to learn in an X. The loss is the cross-entropy over all 33 tokens.

**What is drawn** depends on the key, the number of the record in its split and the place of the residue in the protein,
and on nothing else: neither the number of devices nor what a protein is packed with changes it. In training the key is
of the step; at evaluation it is always the same, so that numbers of two steps or models are comparable.
"""

import dataclasses
from collections.abc import Iterable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bihf_jax.configuration import ConfigError
from bihf_jax.data import alphabet
from bihf_jax.data.batch import ProteinBatch
from bihf_jax.data.example import Example
from bihf_jax.models.windows import chain_positions
from bihf_jax.tasks.objective import LossSums, Objective

# Columns of the sums of a protein: nats, residues that were recovered, then chosen residues by amino acid.
NATS, RECOVERED, COUNTS = 0, 1, slice(2, 2 + len(alphabet.AMINO_ACID_TOKENS))
NUM_SUMS = COUNTS.stop

_AMINO_ACIDS = np.array(alphabet.AMINO_ACID_TOKENS, np.int32)


@dataclasses.dataclass(frozen=True)
class MaskedLanguageModelling(Objective):
    """The masked-language-model objective; see the module docstring.

    Attributes:
      chosen: share of the residues that are chosen.
      masked: share of the chosen ones that are shown as `<mask>`.
      replaced: share of the chosen ones that are shown as a random amino acid; the rest is shown as it is.
    """

    chosen: float = 0.15
    masked: float = 0.8
    replaced: float = 0.1

    name: ClassVar[str] = "mlm"
    model: ClassVar[str] = "masked_language"
    num_outputs: ClassVar[int] = len(alphabet.TOKENS)
    unit: ClassVar[str] = "residue"
    selection_metric: ClassVar[str] = "log_likelihood"
    label_names: ClassVar[tuple[str, ...]] = alphabet.TOKENS

    def __post_init__(self) -> None:
        if not 0 < self.chosen < 1:
            raise ValueError(f"chosen must lie between 0 and 1, got {self.chosen}; ESM-2 has 0.15")
        if min(self.masked, self.replaced) < 0 or self.masked + self.replaced > 1:
            raise ValueError(
                f"masked and replaced are shares of the chosen residues, 0 or more, together at most 1; got "
                f"{self.masked} and {self.replaced}; ESM-2 has 0.8 and 0.1"
            )

    def prepare(self, batch: ProteinBatch, key: jax.Array) -> ProteinBatch:
        """`tokens` with the chosen ones changed; `label` the tokens as they were, `label_mask` the chosen slots."""
        tokens = batch.tokens
        draws = jax.random.uniform  # of each slot's own key, see the module docstring
        keys = _slot_keys(batch, key)
        choice, change = jnp.moveaxis(jax.vmap(jax.vmap(lambda k: draws(k, (2,))))(keys), -1, 0)  # [R, L] each
        other = jax.vmap(jax.vmap(lambda k: jax.random.randint(jax.random.fold_in(k, 1), (), 0, len(_AMINO_ACIDS))))
        chosen = batch.sequence_mask & jnp.isin(tokens, _AMINO_ACIDS) & (choice < self.chosen)
        shown = jnp.where(change < self.masked + self.replaced, jnp.asarray(_AMINO_ACIDS)[other(keys)], tokens)
        shown = jnp.where(change < self.masked, alphabet.MASK, shown)
        return batch._replace(
            tokens=jnp.where(chosen, shown, tokens), label=tokens.astype(jnp.float32), label_mask=chosen
        )

    def loss(self, logits: jax.Array, batch: ProteinBatch) -> LossSums:
        """Cross-entropy in nats, summed over the chosen residues with the weights of their examples."""
        weight = jnp.where(batch.label_mask, batch.weight, 0.0)
        return LossSums(jnp.sum(_nats(logits, batch) * weight), jnp.sum(weight))

    def scores(self, logits: jax.Array) -> jax.Array:
        """There are none: a model of this task gives features (`embed`), and probabilities only of masked residues."""
        raise ConfigError(
            f"a model of task {self.name!r} has no scores of residues; embed with it, or start the model of another "
            "task from it (experiments.export_plm, config.encoder.plm.pretrained)"
        )

    def sums(self, logits: jax.Array, batch: ProteinBatch) -> jax.Array:
        """What the scores are made of: [R, G, NUM_SUMS] float32 for each protein, weighted as the loss is.

        Nothing of a slot has to leave the device. A residue is recovered if no amino acid has a larger logit.
        """
        label = batch.label.astype(jnp.int32)
        best = jnp.asarray(_AMINO_ACIDS)[jnp.argmax(logits[..., _AMINO_ACIDS], axis=-1)]
        of_slot = [_nats(logits, batch)[..., None], (best == label)[..., None], label[..., None] == _AMINO_ACIDS]
        weight = jnp.where(batch.label_mask, batch.weight, 0.0)[..., None]
        values = jnp.concatenate([part.astype(jnp.float32) for part in of_slot], axis=-1) * weight
        graphs = batch.record.shape[-1]
        add_up = jax.vmap(lambda row, segment: jax.ops.segment_sum(row, segment, graphs + 1))
        return add_up(values, batch.protein_segment)[:, 1:]  # segment 0 is padding


def _nats(logits: jax.Array, batch: ProteinBatch) -> jax.Array:
    """-log p of the true token [R, L]; 0 where it is not asked for (logits there can be anything)."""
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label.astype(jnp.int32))
    return jnp.where(batch.label_mask, nats, 0.0)


def _slot_keys(batch: ProteinBatch, key: jax.Array) -> jax.Array:
    """A key for each slot [R, L], by the record and the place in the protein."""
    graph = jnp.maximum(batch.protein_segment - 1, 0)
    record = jnp.take_along_axis(batch.record, graph, axis=1)
    place = chain_positions(batch.protein_segment)
    of_slot = lambda record, place: jax.random.fold_in(jax.random.fold_in(key, record), place)  # noqa: E731
    return jax.vmap(jax.vmap(of_slot))(record, place)


def mlm_metrics(sums: np.ndarray) -> dict[str, float]:
    """Scores of proteins together.

    Args:
      sums: [.., proteins, NUM_SUMS], see `MaskedLanguageModelling.sums`.

    Returns:
      * log_likelihood: mean log p of the chosen residues, in nats;
      * perplexity: exp(-log_likelihood): as unsure as a draw from so many equally likely tokens;
      * recovery: share of the chosen residues whose amino acid was the most likely one.

    Raises:
      ValueError: no residue was chosen.
    """
    total = np.asarray(sums, np.float64).sum(axis=0)
    chosen = total[COUNTS].sum()
    if not chosen > 0:
        raise ValueError("no residue was chosen: the split has too few amino acids; build a larger one")
    nats = float(total[NATS] / chosen)
    return {
        "log_likelihood": -nats,
        "perplexity": float(np.exp(nats)),
        "recovery": float(total[RECOVERED] / chosen),
    }


def count_amino_acids(examples: Iterable[Example]) -> np.ndarray:
    """[20] int64: residues by amino acid, in the order of `alphabet.AMINO_ACIDS`."""
    counts = np.zeros(len(alphabet.TOKENS), np.int64)
    for example in examples:
        counts += np.bincount(example.tokens, minlength=len(counts))
    return counts[_AMINO_ACIDS]


def token_frequencies(counts: np.ndarray) -> np.ndarray:
    """Share of each amino acid [20] among residues counted by amino acid [20], each counted once more than seen."""
    counts = np.asarray(counts, np.float64) + 1
    return counts / counts.sum()


def unigram_sums(sums: np.ndarray, frequencies: np.ndarray) -> np.ndarray:
    """The sums that the unigram baseline has on the same chosen residues: [proteins, NUM_SUMS].

    It knows how frequent each amino acid is, [20], and says the same of every residue.
    """
    counts = np.asarray(sums, np.float64)[:, COUNTS]
    nats = counts @ -np.log(frequencies)
    return np.column_stack([nats, counts[:, np.argmax(frequencies)], counts])
