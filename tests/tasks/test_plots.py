"""The pictures: they exist, decode, and show what they were given."""

import dataclasses

import numpy as np
import pytest
from matplotlib import colors, image

from bihf_jax.tasks import plots
from tests.tasks.synthetic import make_predictions


def loss_rows(steps=400, evaluations=True):
    generator = np.random.default_rng(0)
    rows = [{"kind": "start", "step": 0, "devices": 1}]
    for step in range(10, steps + 1, 10):
        rows.append({"kind": "train", "step": step, "loss": 0.3 + 0.3 * np.exp(-step / 90) + generator.normal(0, 0.02)})
        if evaluations and step % 50 == 0:
            rows.append({"kind": "eval", "step": step, "loss": 0.35 + 0.2 * np.exp(-step / 90), "auc_pr": step / 1000})
    return rows


def share_of_colour(path, colour):
    """Share of the pixels that are close to a colour."""
    pixels = image.imread(path)[..., :3]
    return np.mean(np.abs(pixels - colors.to_rgb(colour)).max(axis=-1) < 0.08)


def test_loss_picture_shows_every_series(tmp_path):
    """Training loss, validation loss and validation AUC-PR each leave pixels of their colour."""
    plots.plot_loss_curves(loss_rows(), tmp_path / "loss.png", "title")
    height, width, _ = image.imread(tmp_path / "loss.png").shape
    assert height > 600
    assert width > 700
    for colour in (plots._BLUE, plots._ORANGE, plots._GREEN):
        assert share_of_colour(tmp_path / "loss.png", colour) > 5e-4


def test_loss_picture_without_evaluation_has_one_panel(tmp_path):
    """Without eval rows the picture is lower and has no validation colour."""
    plots.plot_loss_curves(loss_rows(evaluations=False), tmp_path / "loss.png")
    assert image.imread(tmp_path / "loss.png").shape[0] < 600
    assert share_of_colour(tmp_path / "loss.png", plots._ORANGE) == 0


def test_loss_rows_in_any_order_give_the_same_picture(tmp_path):
    """Rows are drawn by step, not in the order in which they come."""
    rows = loss_rows()
    plots.plot_loss_curves(rows, tmp_path / "a.png")
    plots.plot_loss_curves(rows[::-1], tmp_path / "b.png")
    assert np.array_equal(image.imread(tmp_path / "a.png"), image.imread(tmp_path / "b.png"))


def test_losses_that_are_not_finite_do_not_stop_the_picture(tmp_path):
    """A diverged run can be drawn, and the legend counts the losses that could not."""
    rows = loss_rows()
    rows[-2]["loss"] = float("nan")
    plots.plot_loss_curves(rows, tmp_path / "loss.png")
    assert share_of_colour(tmp_path / "loss.png", plots._BLUE) > 5e-4
    assert plots._loss_label("training", np.array([1, np.nan, np.inf])) == "training (2 not finite)"


def test_nothing_to_draw_is_refused(tmp_path):
    """Rows without any loss give an error that names the kinds found."""
    with pytest.raises(ValueError, match=r"1 rows of kinds \['start'\]"):
        plots.plot_loss_curves([{"kind": "start", "step": 0}], tmp_path / "loss.png")


@pytest.mark.parametrize("plot", [plots.plot_precision_recall, plots.plot_roc])
def test_a_picture_of_curves_shows_every_contestant(plot, tmp_path):
    """Model, baseline and the line of a guess each leave pixels; the constant contestant adds no curve."""
    model, weak = make_predictions(0), make_predictions(0, signal=0.5, score_seed=1)
    constant = dataclasses.replace(model, score=np.full_like(model.score, 0.2))
    with_constant = {"model": model, "positive_rate": constant, "logistic_regression": weak}
    with_constant = {name: predictions.labelled() for name, predictions in with_constant.items()}
    plot(with_constant, tmp_path / "a.png", "test")
    without = {"model": model.labelled(), "logistic_regression": weak.labelled()}
    plot(without, tmp_path / "b.png", "test")
    for colour in (plots._BLUE, plots._ORANGE, plots._GREY):
        assert share_of_colour(tmp_path / "a.png", colour) > 5e-4
    assert np.array_equal(image.imread(tmp_path / "a.png"), image.imread(tmp_path / "b.png"))


def test_precision_recall_needs_both_classes(tmp_path):
    """A split without positives, and no contestants at all, are refused."""
    model = make_predictions(0)
    negative = dataclasses.replace(model, label=model.label * 0)
    with pytest.raises(ValueError, match="for 'model': no positive among"):
        plots.plot_precision_recall({"model": negative.labelled()}, tmp_path / "a.png")
    with pytest.raises(ValueError, match="0 contestants"):
        plots.plot_precision_recall({}, tmp_path / "a.png")
