"""PNG pictures of predictions and embeddings."""

import os
from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING

import numpy as np

from bihf_jax.figures import new_figure, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#bbbbbb"
_MOST_CHAINS = 12  # in one picture
_MOST_NAMES = 40  # beside the points of a map
FEWEST_ON_MAP = 3


def plot_scores(columns: Mapping[str, np.ndarray], file: str | os.PathLike[str] | IO[bytes], title: str = "") -> None:
    """Scores along each chain, one panel a chain; residues without a structure have a grey background.

    Args:
      columns: `Prediction.columns()`.
      file: of the PNG.
      title: above the picture; of more than 12 chains the first are drawn and the others counted in it.
    """
    chains = list(dict.fromkeys(columns["chain"].tolist()))
    drawn = chains[:_MOST_CHAINS]
    if len(chains) > len(drawn):
        title = f"{title} ({len(drawn)} of {len(chains)} chains)"
    figure = new_figure(9.0, 0.9 + 1.5 * len(drawn))
    panels = figure.subplots(len(drawn), 1, sharey=True, squeeze=False)[:, 0]
    for axes, chain in zip(panels, drawn, strict=True):
        mine = columns["chain"] == chain
        _draw_chain(axes, {name: column[mine] for name, column in columns.items()})
        axes.set_ylabel(f"chain {chain}".strip())
    panels[0].set_ylim(0, max(float(columns["score"].max()) * 1.05, 1e-6))
    panels[-1].set_xlabel("residue number")
    save_figure(figure, file, title)


def _draw_chain(axes: "Axes", columns: Mapping[str, np.ndarray]) -> None:
    """One chain; the places are its residues in order, their labels the author's numbers."""
    places = np.arange(len(columns["score"]))
    axes.bar(places, columns["score"], width=1.0, color=_BLUE)
    for start, stop in _runs(~columns["has_structure"]):
        axes.axvspan(start - 0.5, stop - 0.5, color=_GREY, alpha=0.5, linewidth=0)
    ticks = places[:: max(1, -(-len(places) // 12))]
    labels = [f"{columns['residue_number'][i]}{columns['insertion_code'][i].strip(' ')}" for i in ticks]
    axes.set_xticks(ticks, labels)
    axes.set_xlim(-0.5, len(places) - 0.5)


def _runs(mask: np.ndarray) -> list[tuple[int, int]]:
    """[start, stop) of each run of True."""
    edges = np.flatnonzero(np.diff(mask.astype(np.int8), prepend=0, append=0))
    return list(zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True))


def plot_map(names: Sequence[str], pooled: np.ndarray, file: str | os.PathLike[str], title: str = "") -> None:
    """A map of proteins: the first two principal components of their pooled embeddings, each a point.

    Args:
      names: of the proteins, P of them; drawn beside the points of up to 40.
      pooled: [P, C] float.
      file: of the PNG.
      title: above the picture.

    Raises:
      ValueError: fewer than three proteins, which have no map.
    """
    if len(names) < FEWEST_ON_MAP:
        raise ValueError(f"a map takes at least {FEWEST_ON_MAP} proteins, there are {len(names)}")
    from sklearn.decomposition import PCA

    with np.errstate(invalid="ignore"):  # no variance at all is a share of not-a-number
        components = PCA(n_components=2, svd_solver="full").fit(pooled)
    places, share = components.transform(pooled), np.nan_to_num(components.explained_variance_ratio_)
    figure = new_figure(7.0, 6.0)
    axes = figure.subplots()
    axes.plot(places[:, 0], places[:, 1], marker="o", linestyle="none", markersize=5, alpha=0.7, color=_ORANGE)
    if len(names) <= _MOST_NAMES:
        for name, place in zip(names, places, strict=True):
            axes.annotate(name, place, xytext=(4, 3), textcoords="offset points", fontsize=7, color="#444444")
    axes.set_xlabel(f"first principal component, {share[0]:.0%} of the variance")
    axes.set_ylabel(f"second, {share[1]:.0%}")
    save_figure(figure, file, title)
