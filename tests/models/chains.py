"""Chains as tokens, placed into rows, and the pLM's features of them layer by layer."""

import jax.numpy as jnp
import numpy as np

from bihf_jax.data import alphabet


def random_chains(seed, lengths):
    """Token arrays <cls> ... <eos> whose residues run over every other token, <mask> and <unk> among them."""
    rng = np.random.default_rng(seed)
    inner = [t for t in range(33) if t not in (alphabet.CLS, alphabet.PAD, alphabet.EOS)]
    return [np.asarray([alphabet.CLS, *rng.choice(inner, n), alphabet.EOS], np.int32) for n in lengths]


def in_one_row(chains, length, offset=0):
    """tokens, chain_segment, sequence_mask, each [1, length]."""
    tokens = np.full((1, length), alphabet.PAD, np.int32)
    segment = np.zeros((1, length), np.int32)
    for number, chain in enumerate(chains, 1):
        tokens[0, offset : offset + len(chain)] = chain
        segment[0, offset : offset + len(chain)] = number
        offset += len(chain)
    return jnp.asarray(tokens), jnp.asarray(segment), jnp.asarray(segment > 0)


def hidden_states(plm, tokens, segment, mask):
    """Features after the embedding and after every block (the last one finished), as transformers lists them."""
    states = [plm.embed(tokens, segment, mask)]
    for layer in range(plm.config.layers):
        states.append(plm.blocks(range(layer, layer + 1), states[-1], segment, mask, None))
    return [*states[:-1], plm.finish(states[-1])]
