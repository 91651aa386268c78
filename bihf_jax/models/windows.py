"""Chains that are longer than what a pLM was trained with: overlapping windows, whose outputs are averaged.

A chain of more than `PLMConfig.trained_length` residues is cut into pieces of half a window. A window is two pieces in
a row, so that windows overlap by half. Windows 0, 2, 4, .. do not overlap, and neither do 1, 3, 5, ..: each of these
two sets divides the chain, and is nothing but another numbering of the row's segments. The pLM runs once for each set,
in the same grid and with the same attention limited to segments, and the mean of the two is taken:

    piece                0          1          2          3
    even windows    [        0         ] [        2         ]
    odd windows     [   -   ] [        1         ] [   -    ]      "-": of weight 0
    weight of even       1       1 -> 0     0 -> 1     1           of odd: what is missing to 1

A window counts fully in its middle, and less and less towards an edge that is a cut; an end of the chain is none, as
the pLM knows it. So the mean has no jump along the chain, and in the window that counts more a slot has at least a
quarter of a window, or the end of the chain, on either side. The windows get no <cls> and <eos> at a cut: these tokens
mark the real ends.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

Array = jax.Array


class Windows(NamedTuple):
    """What of a row is one segment to the pLM, once or twice.

    Attributes:
      segments: One or two arrays [R, L] int32, numbered from 1 in the order of the row, 0 is padding. The second is
        there where rows have more slots than a window.
      weight: [R, L] float32 in [0, 1]: of the first in the mean, 1 in all chains that fit into a window. None: no
        second.
      needed: [] bool: some chain does not fit into a window. None: no second.
    """

    segments: tuple[Array, ...]
    weight: Array | None = None
    needed: Array | None = None

    def mean(self, values: tuple[Array, ...]) -> Array:
        """The weighted mean of values [R, L, C], one for each of `segments`: the first itself where its weight is 1."""
        if len(values) == 1:
            return values[0]
        weight = self.weight[..., None]
        first, second = (x.astype(jnp.float32) for x in values)
        mean = weight * first + (1 - weight) * second
        return jnp.where(weight == 1, values[0], mean.astype(values[0].dtype))


def make_windows(chain_segment: Array, trained_length: int) -> Windows:
    """The windows of a grid.

    Args:
      chain_segment: [R, L] int32, 0 is padding; the slots of a chain are neighbours in the row.
      trained_length: Residues of a chain that is not divided; a window has room for them, <cls> and <eos>.
    """
    window = trained_length + 2
    if chain_segment.shape[1] <= window:
        return Windows((chain_segment,))
    half = window // 2
    positions, slots = chain_positions(chain_segment), chain_slots(chain_segment)
    long = slots > window
    piece = jnp.where(long, positions // half, 0)
    share = (positions % half + 0.5) / half  # of the piece that lies behind
    next_window = jnp.where(
        piece == 0, 1.0, jnp.where(piece == (slots - 1) // half, 0.0, share)
    )  # against the one before
    weight = jnp.where(piece % 2 == 0, next_window, 1 - next_window)
    segments = tuple(_number(chain_segment, (piece + odd) // 2) for odd in (0, 1))
    return Windows(segments, jnp.where(long, weight, 1.0), long.any())


def chain_positions(chain_segment: Array) -> Array:
    """Position of each slot in its chain.

    Args:
      chain_segment: [R, L] int32; the slots of a chain are neighbours in the row.

    Returns:
      [R, L] int32: 0 at the chain's first slot (<cls>), restarting at every chain.
    """
    slots = jnp.broadcast_to(jnp.arange(chain_segment.shape[1]), chain_segment.shape)
    return slots - jax.lax.cummax(jnp.where(_starts(chain_segment), slots, 0), axis=1)


def chain_slots(chain_segment: Array) -> Array:
    """[R, L] int32 -> slots of the chain of each slot [R, L] int32; 0 at padding."""
    length = chain_segment.shape[1]
    count = jax.vmap(lambda segment: jax.ops.segment_sum(jnp.ones_like(segment), segment, length + 1))
    return jnp.where(chain_segment > 0, jnp.take_along_axis(count(chain_segment), chain_segment, axis=1), 0)


def _number(chain_segment: Array, window: Array) -> Array:
    """A number for each window of each chain, from 1 in the order of the row; 0 at padding. All [R, L] int32."""
    numbers = jnp.cumsum(_starts(chain_segment) | _starts(window), axis=1)
    return jnp.where(chain_segment > 0, numbers, 0).astype(jnp.int32)


def _starts(values: Array) -> Array:
    """[R, L] -> bool: the slot has another value than the one before it, or is the first."""
    return jnp.pad(values[:, 1:] != values[:, :-1], ((0, 0), (1, 0)), constant_values=True)
