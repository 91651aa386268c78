"""PNG pictures of a run and its predictions: curves, confusion matrix, scatter, calibration; of methods side by side.

Colours are `figures.COLOURS`, and every line has its own dash too.
"""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from bihf_jax.figures import COLOURS, new_figure, save_figure
from bihf_jax.tasks import metrics
from bihf_jax.tasks.comparison import Comparison
from bihf_jax.tasks.labelled import Labelled

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY = COLOURS
_LINES = ((_BLUE, "-"), (_ORANGE, "--"), (_GREEN, "-."), (_PURPLE, ":"), (_SKY, (0, (5, 1, 1, 1, 1, 1))))
_GREY = "#666666"
_CONFUSION_CLASSES = 25  # rows of a confusion matrix that can be read
_SMOOTHING_POINTS = 25  # at most this many logged steps go into one point of the smoothed training loss


def plot_loss_curves(
    rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str], title: str = "", metric: str = "auc_pr"
) -> None:
    """Training and validation loss above, a validation metric below, over the steps; writes a PNG.

    Args:
      rows: of ``metrics.jsonl``: "step", "kind" ("train" or "eval"), "loss", and for "eval" also `metric` where it was
        computed. Rows of other kinds are not drawn. Losses that are not finite are counted in the legend.
      path: of the PNG.
      title: above the picture.
      metric: drawn below; larger is better.

    Raises:
      ValueError: no row of kind "train" or "eval" has a loss.
    """
    rows = list(rows)
    train, evaluation = _series(rows, "train", "loss"), _series(rows, "eval", "loss")
    values = _series(rows, "eval", metric)
    if not train[0].size and not evaluation[0].size:
        kinds = sorted({str(row.get("kind")) for row in rows})
        raise ValueError(
            f"no loss to draw: {len(rows)} rows of kinds {kinds}; a row needs kind 'train' or 'eval' and 'loss'"
        )
    figure = new_figure(7.0, 6.0 if values[0].size else 4.0)
    panels = figure.subplots(2 if values[0].size else 1, 1, sharex=True, squeeze=False)[:, 0]
    _draw_losses(panels[0], train, evaluation)
    if values[0].size:
        _draw_metric(panels[1], *values, metrics.title(metric))
    panels[-1].set_xlabel("training step")
    save_figure(figure, path, title)


def plot_precision_recall(contestants: Mapping[str, Labelled], path: str | os.PathLike[str], title: str = "") -> None:
    """Precision-recall curves of contestants on one split, with the positive rate as a line; writes a PNG.

    A contestant whose scores are all equal (the positive rate) has no curve: the line at the positive rate is it.
    The legend gives each AUC-PR. The curve is drawn as the steps whose area average precision is.

    Raises:
      ValueError: no contestants, more than there are line styles, no labelled residues, or one class only.
    """
    figure = new_figure(6.4, 6.0)
    axes = figure.subplots()
    rate = None
    for label, values, labelled, line in _curves(contestants, "auc_pr"):
        rate = values["positive_rate"]
        if line is None:
            continue
        precision, recall = metrics.precision_recall_curve(labelled.labels, labelled.scores, labelled.weights)
        start = np.append(0.0, recall), np.append(precision[0], precision)
        axes.step(*start, where="pre", linewidth=1.6, label=label, **line)
    axes.axhline(rate, color=_GREY, linestyle=(0, (2, 2)), linewidth=1.3, label=f"positive rate {rate:.3f}")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)  # a good curve fills every corner
    save_figure(figure, path, title)


def plot_roc(contestants: Mapping[str, Labelled], path: str | os.PathLike[str], title: str = "") -> None:
    """ROC curves of contestants on one split, with chance as the diagonal; writes a PNG. As `plot_precision_recall`."""
    figure = new_figure(6.4, 6.0)
    axes = figure.subplots()
    for label, _, labelled, line in _curves(contestants, "roc_auc"):
        if line is not None:
            axes.plot(
                *metrics.roc_curve(labelled.labels, labelled.scores, labelled.weights),
                **(line | {"linewidth": 1.6, "label": label}),
            )
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=(0, (2, 2)), linewidth=1.3, label="chance 0.500")
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="false positive rate", ylabel="true positive rate")
    figure.legend(loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path, title)


def _curves(
    contestants: Mapping[str, Labelled], metric: str
) -> Iterator[tuple[str, Mapping[str, float], Labelled, dict[str, Any] | None]]:
    """Of each contestant the label with its `metric`, all metrics, its items and its line; None if scores are equal.

    Raises:
      ValueError: no contestants, more than there are line styles, no labelled residues, or one class only.
    """
    if not 1 <= len(contestants) <= len(_LINES) + 1:
        raise ValueError(f"{len(contestants)} contestants; one picture holds 1 to {len(_LINES) + 1}, split it")
    lines = iter(_LINES)
    for name, labelled in contestants.items():
        labels, scores, weights, _ = labelled
        if reason := metrics.undefined_reason(labels, weights):
            raise ValueError(f"no curve for {name!r}: {reason}")
        values = metrics.residue_metrics(labels, scores, weights, threshold=0.5)
        label = f"{name.replace('_', ' ')}, {metrics.title(metric)} {values[metric]:.3f}"
        line = None
        if np.ptp(scores) > 0:
            colour, dash = next(lines)
            line = {"color": colour, "linestyle": dash}
        yield label, values, labelled, line


def plot_comparison(
    comparison: Comparison, references: Mapping[str, float], path: str | os.PathLike[str], title: str = ""
) -> None:
    """Methods side by side: each seed a dot, the mean with its interval a bar; writes a PNG.

    Args:
      comparison: of `comparison.compare`.
      references: name -> the metric, drawn as vertical lines (the trivial baselines).
      path: of the PNG.
      title: above the picture.
    """
    rows = comparison.rows[::-1]  # the first on top
    figure = new_figure(7.0, 1.6 + 0.42 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        colour = _ORANGE if row.method == comparison.best_baseline else _BLUE
        interval = row.interval
        if interval.low is not None:
            axes.plot([interval.low, interval.high], [place, place], color=colour, linewidth=5, alpha=0.3)
        axes.plot(row.values, [place] * len(row.values), color=colour, marker="o", linestyle="none", markersize=5)
        axes.plot(interval.value, place, color=colour, marker="|", markersize=18, markeredgewidth=2.2)
    for (name, value), (_, dash) in zip(references.items(), _LINES, strict=False):
        axes.axvline(value, color=_GREY, linestyle=dash, linewidth=1.3, label=f"{name.replace('_', ' ')} {value:.3f}")
    axes.set_yticks(range(len(rows)), [row.method.replace("_", " ") for row in rows])
    name = metrics.title(comparison.metric)
    axes.set(xlabel=f"{name}: seeds (dots), mean (bar) and its 95 % interval over groups")
    if min(min(row.values) for row in rows) >= 0:
        axes.set_xlim(0, None)
    if references:
        figure.legend(loc="outside lower center", ncols=2, frameon=False)
    save_figure(figure, path, title)


def plot_confusion(
    labels: np.ndarray, scores: np.ndarray, names: Sequence[str], path: str | os.PathLike[str], title: str = ""
) -> None:
    """Share of each labelled class (rows) that is called each class (columns); writes a PNG.

    Args:
      labels: [n] class indices.
      scores: [n, classes].
      names: of the classes. The most frequent `_CONFUSION_CLASSES` - 1 are drawn, the others together.
      path: of the PNG.
      title: above the picture.
    """
    labels, called = labels.astype(int), scores.argmax(axis=1)
    order = np.argsort(-np.bincount(labels, minlength=len(names)), kind="stable")
    shown = order if len(names) <= _CONFUSION_CLASSES else order[: _CONFUSION_CLASSES - 1]
    place = np.full(len(names), len(shown))
    place[shown] = np.arange(len(shown))
    size = len(shown) + (len(shown) < len(names))
    counts = np.zeros((size, size))
    np.add.at(counts, (place[labels], place[called]), 1)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    ticks = [str(names[index]) for index in shown] + ["all others"] * (size - len(shown))
    figure = new_figure(3.2 + 0.32 * size, 2.6 + 0.32 * size)
    axes = figure.subplots()
    image = axes.imshow(share, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, ax=axes, label="share of the labelled class")
    axes.set_xticks(range(size), ticks, rotation=90)
    axes.set_yticks(range(size), [f"{name} ({count:.0f})" for name, count in zip(ticks, counts.sum(1), strict=True)])
    axes.set(xlabel="called", ylabel="labelled (number)")
    save_figure(figure, path, title)


def plot_scatter(
    labels: np.ndarray, scores: np.ndarray, groups: np.ndarray, name: str, path: str | os.PathLike[str], title: str = ""
) -> None:
    """Predicted over labelled values [n], groups told apart by colour where they are few; writes a PNG."""
    figure = new_figure(6.0, 5.6)
    axes = figure.subplots()
    numbers, group = np.unique(groups, return_inverse=True)
    colours = [_LINES[number % len(_LINES)][0] for number in group] if len(numbers) <= len(_LINES) else _BLUE
    axes.scatter(labels, scores, s=14, c=colours, alpha=0.6, linewidths=0)
    ends = [min(labels.min(), scores.min()), max(labels.max(), scores.max())]
    axes.plot(ends, ends, color=_GREY, linestyle="--", linewidth=1.2)
    axes.set(xlabel=f"{name}, labelled", ylabel=f"{name}, predicted")
    save_figure(figure, path, title)


def plot_calibration(
    confidence: np.ndarray,
    correct: np.ndarray,
    path: str | os.PathLike[str],
    title: str = "",
    names: tuple[str, str] = ("confidence", "share that is right"),
) -> None:
    """Share that is right over the confidence, in ten bins, and how many are in each; writes a PNG.

    Args:
      confidence: [n] probability of what was called, or of the positive class.
      correct: [n] bool, whether it was right, or positive.
      path: of the PNG.
      title: above the picture.
      names: of the axes.
    """
    bins = np.minimum((confidence * 10).astype(int), 9)
    number = np.bincount(bins, minlength=10)
    filled = number > 0
    centre = (np.bincount(bins, confidence, minlength=10) / np.maximum(number, 1))[filled]
    share = (np.bincount(bins, correct.astype(float), minlength=10) / np.maximum(number, 1))[filled]
    figure = new_figure(6.0, 6.0)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1.2, label="calibrated")
    upper.plot(centre, share, color=_BLUE, marker="o", linewidth=1.6, label="model")
    upper.set(ylabel=names[1], ylim=(0, 1.02), xlim=(0, 1))
    upper.legend(loc="upper left")
    lower.bar(np.arange(10) / 10 + 0.05, number, width=0.09, color=_SKY)
    lower.set(xlabel=names[0], ylabel="number")
    save_figure(figure, path, title)


def _series(rows: list[Mapping[str, Any]], kind: str, key: str) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values, sorted by step, of the rows of a kind that have the key (a value may be null)."""
    chosen = [row for row in rows if row.get("kind") == kind and row.get(key) is not None]
    steps = np.array([row["step"] for row in chosen], dtype=np.float64)
    values = np.array([row[key] for row in chosen], dtype=np.float64)
    order = np.argsort(steps, kind="stable")
    return steps[order], values[order]


def _draw_losses(axes: "Axes", train: tuple[np.ndarray, np.ndarray], evaluation: tuple[np.ndarray, np.ndarray]) -> None:
    if train[0].size:
        window = min(_SMOOTHING_POINTS, max(1, train[0].size // 10))
        steps, values = train
        axes.plot(
            steps, values, color=_SKY, linewidth=0.7, alpha=0.7, label=_loss_label("training, each logged step", values)
        )
        if window > 1:
            smooth_steps, smooth = _moving_mean(*train, window)
            axes.plot(
                smooth_steps, smooth, color=_BLUE, linewidth=1.7, label=f"training, mean of {window} logged steps"
            )
    if evaluation[0].size:
        label = _loss_label("validation", evaluation[1])
        axes.plot(*evaluation, color=_ORANGE, linestyle="--", marker="o", markersize=4, linewidth=1.5, label=label)
    axes.set_ylabel("loss per label")
    axes.legend(loc="upper right")


def _draw_metric(axes: "Axes", steps: np.ndarray, values: np.ndarray, name: str) -> None:
    axes.plot(steps, values, color=_GREEN, marker="s", markersize=4, linewidth=1.5, label="validation")
    if np.isfinite(values).any():
        best = int(np.nanargmax(np.where(np.isfinite(values), values, np.nan)))
        label = f"best {values[best]:.3f} at step {int(steps[best]):,}"
        axes.plot(steps[best], values[best], color=_PURPLE, marker="*", markersize=13, linestyle="none", label=label)
    axes.set_ylabel(name)
    axes.legend(loc="lower right")


def _moving_mean(steps: np.ndarray, values: np.ndarray, window: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean over `window` consecutive points, at their mean step; both [n - window + 1]."""
    kernel = np.full(window, 1 / window)
    return np.convolve(steps, kernel, mode="valid"), np.convolve(values, kernel, mode="valid")


def _loss_label(text: str, values: np.ndarray) -> str:
    unusable = np.count_nonzero(~np.isfinite(values))
    return f"{text} ({unusable} not finite)" if unusable else text
