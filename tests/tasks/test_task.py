"""Losses, scores and metrics of each type of task, against PyTorch-free formulas written out, and scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.metrics import log_loss

from bihf_jax.configuration import ConfigError
from bihf_jax.data.grid import empty_grid
from bihf_jax.data.labels import Labels
from bihf_jax.tasks import TASKS, RankingTask, make_task, ranking
from bihf_jax.tasks.labelled import Labelled
from tests.data.record_sets import LABELS

ROWS, GRAPHS = 3, 4


def batch_of(kind, seed=0):
    """Random labels at half of the graph slots, with weights; noise at the others."""
    rng = np.random.default_rng(seed)
    labels = LABELS[kind]
    values = {
        "binary": rng.integers(0, 2, (ROWS, GRAPHS, 1)),
        "multiclass": rng.integers(0, 3, (ROWS, GRAPHS, 1)),
        "multilabel": rng.integers(0, 2, (ROWS, GRAPHS, 3)),
        "regression": rng.normal(6, 2, (ROWS, GRAPHS, 1)),
        "quality": rng.random((ROWS, GRAPHS, 2)),
    }[kind]
    return empty_grid(ROWS, 8, 2, GRAPHS, labels.num_values)._replace(
        protein_label=values.astype(np.float32),
        protein_label_mask=rng.random((ROWS, GRAPHS)) < 0.6,
        protein_weight=rng.uniform(0.5, 2, (ROWS, GRAPHS)).astype(np.float32),
    )


def task_of(kind, **settings):
    name = {"binary": "custom", "multiclass": "ec", "multilabel": "ec", "regression": "lba", "quality": "mqa"}[kind]
    return make_task(name, {"labels": LABELS[kind].to_metadata(), **settings})


def logits_of(task, seed=1):
    return np.random.default_rng(seed).normal(size=(ROWS, GRAPHS, task.num_outputs)).astype(np.float32)


def mean_loss(task, batch, logits):
    sums = task.loss(logits, batch)
    return float(sums.loss / sums.weight)


def test_binary_and_multiclass_losses_are_log_losses():
    """Weighted cross-entropies of scikit-learn; class weights multiply the sample weights, smoothing spreads labels."""
    for kind, settings in (
        ("binary", {}),
        ("binary", {"positive_weight": 3.0}),
        ("multiclass", {}),
        ("multiclass", {"class_weights": [1.0, 2.0, 0.5]}),
    ):
        task, batch = task_of(kind, **settings), batch_of(kind)
        logits, mask = logits_of(task), batch.protein_label_mask
        label, weight = batch.protein_label[mask][:, 0], batch.protein_weight[mask]
        scores = np.asarray(task.scores(logits))[mask]
        if kind == "binary":
            weight = weight * np.where(label > 0.5, settings.get("positive_weight", 1.0), 1)
            scores = np.concatenate([1 - scores, scores], axis=1)
        else:
            weight = weight * np.array(settings.get("class_weights", [1, 1, 1]))[label.astype(int)]
        expected = log_loss(label, scores.astype(np.float64), sample_weight=weight, labels=range(scores.shape[1]))
        assert mean_loss(task, batch, logits) == pytest.approx(expected, rel=1e-5)
    smooth = task_of("multiclass", label_smoothing=0.3)
    probability = np.asarray(jax.nn.log_softmax(logits_of(smooth)))[batch_of("multiclass").protein_label_mask]
    batch = batch_of("multiclass")
    target = np.eye(3)[batch.protein_label[batch.protein_label_mask][:, 0].astype(int)] * 0.7 + 0.1
    expected = np.average(-(target * probability).sum(1), weights=batch.protein_weight[batch.protein_label_mask])
    assert mean_loss(smooth, batch, logits_of(smooth)) == pytest.approx(expected, rel=1e-5)


def test_multilabel_loss_is_the_mean_over_classes():
    task, batch = task_of("multilabel", positive_weight=2.0), batch_of("multilabel")
    logits, mask = logits_of(task), batch.protein_label_mask
    p, y = np.asarray(task.scores(logits))[mask].astype(np.float64), batch.protein_label[mask]
    each = -(2.0 * y * np.log(p) + (1 - y) * np.log(1 - p)).mean(axis=1)
    expected = np.average(each, weights=batch.protein_weight[mask])
    assert mean_loss(task, batch, logits) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss_name", ["mse", "huber"])
def test_regression_loss_is_in_units_of_the_scale(loss_name):
    """(prediction - label) / scale, squared or Huber's; predictions are in the units of the label."""
    settings = {"mean": [6.0], "scale": [2.0], "loss_name": loss_name, "huber_delta": 0.5}
    task, batch = task_of("regression", **settings), batch_of("regression")
    logits, mask = logits_of(task), batch.protein_label_mask
    np.testing.assert_allclose(task.scores(logits), 6 + 2 * logits, rtol=1e-6)
    error = (6 + 2 * logits[mask] - batch.protein_label[mask])[:, 0] / 2
    huber = np.where(np.abs(error) < 0.5, 0.5 * error**2, 0.5 * (np.abs(error) - 0.25))
    each = error**2 if loss_name == "mse" else huber
    assert mean_loss(task, batch, logits) == pytest.approx(
        np.average(each, weights=batch.protein_weight[mask]), rel=1e-5
    )


def test_quality_is_a_sigmoid_and_ranks_the_first_value():
    """`mqa` predicts in 0 to 1; its metrics are those of `ranking` for the first number, per target."""
    task = task_of("quality")
    assert isinstance(task, RankingTask)
    assert 0 < float(jnp.min(task.scores(logits_of(task)))) < float(jnp.max(task.scores(logits_of(task)))) < 1
    rng = np.random.default_rng(0)
    labels, scores = rng.random((30, 2)), rng.random((30, 2))
    labelled = Labelled(labels, scores, np.ones(30), rng.integers(0, 5, 30))
    values = task.metrics(labelled)
    assert set(values) == set(task.metric_names)
    expected = ranking.ranking_metrics(labels[:, 0], scores[:, 0], labelled.groups)
    assert {name: values[name] for name in expected} == expected
    resampled = task.bootstrap(labelled, num_resamples=3, seed=0)
    assert set(resampled) == set(task.metric_names)


def test_enzymes_are_judged_by_the_first_number_too():
    """A call of another class with the same first EC number is right at level 1; "10.1" is not of "1"."""
    names = ["1.1.1.1", "1.2.1.3", "10.1.1.1", "3.4.21.4"]
    task = make_task("ec", {"labels": {"unit": "protein", "type": "multiclass", "names": names}})
    labels, called = np.array([0, 0, 0, 3, 2]), np.array([0, 1, 2, 3, 0])
    labelled = Labelled(labels, np.eye(4)[called], np.array([1.0, 2, 1, 1, 1]), np.arange(5))
    values = task.metrics(labelled)
    assert set(values) == set(task.metric_names)
    assert values["accuracy"] == pytest.approx(2 / 6)
    assert values["level_1_accuracy"] == pytest.approx(4 / 6)
    assert set(task.bootstrap(labelled, num_resamples=3, seed=0)) == set(task.metric_names)


@pytest.mark.parametrize("kind", LABELS)
def test_proteins_without_a_label_do_not_count(kind):
    """Noise in labels and weights of unlabelled graph slots changes neither loss nor gradient."""
    task, batch = task_of(kind), batch_of(kind)
    mask = batch.protein_label_mask
    noisy = batch._replace(
        protein_label=np.where(mask[..., None], batch.protein_label, 1e9).astype(np.float32),
        label=np.full_like(batch.label, 3),
        label_mask=np.ones_like(batch.label_mask),
        weight=np.ones_like(batch.weight),
    )
    both = [jax.value_and_grad(lambda x, b=b: task.loss(x, b).loss)(logits_of(task)) for b in (batch, noisy)]
    for one, other in zip(*both, strict=True):
        np.testing.assert_array_equal(one, other)
    assert np.isfinite(both[0][1]).all()
    assert not np.asarray(both[0][1])[~mask].any()


def test_residues_and_proteins_share_the_loss():
    """The same labels at residues and at proteins give the same sums."""
    labels = Labels("residue", "regression", ("x",))
    batch = batch_of("regression")
    at_residues = empty_grid(ROWS, GRAPHS, 2, 1)._replace(
        label=batch.protein_label[..., 0], label_mask=batch.protein_label_mask, weight=batch.protein_weight
    )
    task = task_of("regression")
    residues = make_task("custom", {"labels": labels.to_metadata()})
    assert residues.loss(logits_of(task), at_residues) == task.loss(logits_of(task), batch)


def test_label_names_are_for_people():
    assert make_task("ppbs").label_names == ("no binding site", "binding site")
    assert make_task("bce").label_names[-1] == "epitope"
    assert make_task("ppbs").selection_metric == "auc_pr"
    assert task_of("multiclass").label_names == LABELS["multiclass"].names


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("multiclass", {"label_smoothing": 1}, "label_smoothing must be 0 to below 1"),
        ("multiclass", {"class_balance": 2}, "class_balance must be 0 to 1"),
        ("multiclass", {"class_weights": [1]}, "1 class_weights for 3 classes"),
        ("multiclass", {"selection_metric": "rmse"}, "selection_metric is 'rmse'; allowed: accuracy"),
        ("regression", {"loss_name": "mae"}, "loss_name is 'mae'; allowed: mse, huber"),
        ("regression", {"scale": [0]}, "scale is .*above 0"),
        ("quality", {"selection_metric": "mean_top1_loss"}, "allowed: r2, global_pearson"),
        ("multilabel", {"positive_weight": 0}, "positive_weight must be > 0"),
        ("binary", {"huber_delta": 1}, "settings of task 'custom'.*huber_delta"),
    ],
)
def test_settings_that_cannot_be_are_named(kind, settings, message):
    with pytest.raises(ConfigError, match=message):
        task_of(kind, **settings)


def test_tasks_without_labels_say_where_they_come_from():
    for name, kind in TASKS.items():
        if kind.labels is None:
            with pytest.raises(ConfigError, match=f"task '{name}' needs labels; they come from the record set"):
                make_task(name)
    with pytest.raises(ConfigError, match=r"task 'lba' takes protein regression labels; .* protein binary"):
        make_task("lba", {"labels": LABELS["binary"].to_metadata()})
