"""The form that all pictures share: matplotlib figures without global state, saved as PNG."""

import os
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito (2008), told apart by colour-blind readers: blue, orange, green, purple, sky.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9")
_DPI = 120


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, sizes in inches."""
    # Figure and canvas without pyplot: no global state, no display, safe in any thread.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: "Figure", file: str | os.PathLike[str] | IO[bytes], title: str = "") -> None:
    """Writes a PNG; axes get a light grid and no frame above and at the right."""
    for axes in figure.axes:
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=11)
    figure.savefig(file, format="png")
