"""Colours of the pages, as "#rrggbb"."""

import functools

import matplotlib
import numpy as np
from matplotlib import colors

# Perceptually uniform, and read by colour-blind readers too (van der Walt and Smith 2015; matplotlib's default). None
# of its colours is grey, which means "no value". Its darkest part is left out: it is lost on a dark ground.
COLOUR_MAP = "viridis"
DARKEST = 0.1
# Told apart by colour-blind readers (Okabe and Ito 2008).
CATEGORIES: tuple[str, ...] = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
# Of the first category of labels, which is the absence of what is looked for.
ABSENT = "#b4bac3"


@functools.cache
def scale() -> tuple[str, ...]:
    """256 colours from the lowest to the highest value."""
    colour_map = matplotlib.colormaps[COLOUR_MAP]
    return tuple(colors.to_hex(colour_map(place)) for place in np.linspace(DARKEST, 1, 256))


def of_categories(number: int, *, first_is_absence: bool) -> list[str]:
    """A colour for each category; they repeat where there are more than colours."""
    start = (ABSENT,) if first_is_absence else ()
    return [*start, *(CATEGORIES[i % len(CATEGORIES)] for i in range(number - len(start)))][:number]
