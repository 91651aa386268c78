"""Pretraining by the same loop: it learns what a unigram cannot know, and devices and scoring change nothing."""

import json
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

import experiments.export_plm as command
from bihf_jax.configuration import ConfigError
from bihf_jax.data import alphabet
from bihf_jax.data.example import sequence_example
from bihf_jax.data.grid import example_batch, make_grid, split_over_devices
from bihf_jax.data.records import RecordSet
from bihf_jax.pretrained import PretrainedError, load_esm2, with_pretrained_plm
from bihf_jax.tasks.mlm import COUNTS, NUM_SUMS
from bihf_jax.training import step as step_lib
from bihf_jax.training.config import experiment_config
from bihf_jax.training.evaluation import TrainedModel
from bihf_jax.training.loop import train
from bihf_jax.training.optimizer import make_optimizer
from bihf_jax.training.restore import RestoredModel
from configs import mlm
from experiments.evaluate import evaluate
from experiments.export_plm import export_plm
from tests.training.small_run import run_python, small_config

STEPS = 3


def small_mlm(records="unused", **training) -> ConfigDict:
    """configs/mlm.py with a tiny pLM and short rows."""
    config = mlm.get_config(f"records={records}")
    config.encoder.plm = {"layers": 2, "width": 32, "heads": 2, "dropout": 0.1}
    config.data.lengths = (256,)
    config.data.graphs_per_row = 8
    config.training.update(training)
    return config


def sequence(number, tokens):
    tokens = np.array([alphabet.CLS, *tokens, alphabet.EOS], np.int8)
    name = f"s{number}"
    return sequence_example(
        id=name, source="made.fasta", group=f"group{number // 2}", chain_ids=("A",), tokens=tokens, weight=1.0
    )


def repeats(number):
    """A sequence that repeats a word of four letters of its own: unigram frequencies say nothing of it."""
    rng = np.random.default_rng(number)
    word = rng.choice(alphabet.AMINO_ACID_TOKENS, 4)
    return sequence(number, np.tile(word, 20)[: rng.integers(60, 80)])


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """Repetitive sequences: 400 to train on, and held out 30 and 30, whose words were never seen."""
    pytest.importorskip("tensorflow_datasets", reason="writing records needs the prep extra")
    from data_prep import tfds_builder

    folder = tmp_path_factory.mktemp("repeats") / "records"
    numbers = {"train": range(400), "validation": range(400, 430), "test": range(430, 460)}
    examples = {split: [repeats(number) for number in of_split] for split, of_split in numbers.items()}
    tfds_builder.write_record_set(folder, examples, {"task": "mlm"}, sequences_only=True)
    return folder


@pytest.fixture(scope="module")
def workdir(records, tmp_path_factory):
    """A short run; what it learns is of no matter."""
    config = small_mlm(records, steps=6, evaluate_every=3, checkpoint_every=3, log_every=2)
    config.training.optimizer.warmup_steps = 2
    return train(config, tmp_path_factory.mktemp("mlm") / "run")


@pytest.mark.slow
def test_learns_what_a_unigram_cannot_know(records, tmp_path):
    """On sequences never seen, perplexity falls below that of the unigram baseline with the whole interval."""
    config = small_mlm(records, steps=700, evaluate_every=700, checkpoint_every=700)
    config.encoder.plm = {"layers": 2, "width": 64, "heads": 2}
    config.training.optimizer.learning_rate = 3e-3
    scores = evaluate(train(config, tmp_path / "run"))
    for split in ("validation", "test"):
        entry = scores["splits"][split]
        assert entry["scores"]["unigram"]["perplexity"]["value"] > 17
        assert entry["differences"][0]["perplexity"]["high"] < -1, entry
        assert entry["differences"][0]["recovery"]["low"] > 0, entry


def test_scores_are_those_of_each_record_alone(workdir, records):
    """The sums of a packed record are those that it has in a row of its own, with the same residues chosen."""
    split = RecordSet(records, "test")
    model = TrainedModel.load(workdir)
    packed = model.sums(split)
    assert packed.shape == (len(split), NUM_SUMS)
    network, task = model.config.make_model(), model.config.make_task()
    params = jax.tree.map(lambda leaf: np.asarray(leaf)[0], model.params)
    sum_step = jax.jit(step_lib.make_sum_step(network, task))
    for number in (0, 7, 29):
        batch = make_grid([[(number, split[number])]], length=256, neighbours=1, graphs=8)
        alone = np.asarray(sum_step(params, batch))[0, 0]
        np.testing.assert_allclose(packed[number], alone, rtol=2e-5, atol=1e-5)
        np.testing.assert_array_equal(packed[number][COUNTS], alone[COUNTS])


def test_what_a_run_leaves_behind(workdir):
    """The validation metrics are in the log, and scoring writes numbers and tables of the held-out splits."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    logged = [line for line in lines if line["kind"] == "eval"]
    assert [line["step"] for line in logged] == [3, 6]
    assert all(np.exp(line["loss"]) == pytest.approx(line["perplexity"]) for line in logged)
    scores = evaluate(workdir)
    assert scores == json.loads((workdir / "scores.json").read_text())
    assert list(scores["splits"]) == ["validation", "test"]
    assert scores["splits"]["test"]["clusters"] == 15
    best = max(logged, key=lambda line: line["log_likelihood"])
    assert scores["run"]["step"] == best["step"]
    assert scores["splits"]["validation"]["scores"]["model"]["perplexity"]["value"] == pytest.approx(
        best["perplexity"], rel=1e-5
    )
    assert "| unigram |" in (workdir / "scores.md").read_text()
    assert (workdir / "loss_curves.png").is_file()


def test_exported_plm_starts_another_run(workdir, tmp_path):
    """The folder holds the best checkpoint's pLM; a run of mlm starts from all of it, a fused one without the head."""
    export_plm(workdir, tmp_path / "plm")
    of_run = jax.tree.map(lambda leaf: np.asarray(leaf)[0], TrainedModel.load(workdir).params["plm"])
    jax.tree.map(np.testing.assert_array_equal, load_esm2(tmp_path / "plm").params, of_run)
    alone, fused = small_mlm(), small_config("unused")
    for config in (alone, fused):
        config.encoder.plm = {"pretrained": str(tmp_path / "plm")}
        made = experiment_config(config)
        model, batch = made.make_model(), example_batch(made.data.grid_shape())
        shapes = jax.eval_shape(lambda model=model, batch=batch: model.init(jax.random.key(0), batch, None)["params"])
        random = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
        started = with_pretrained_plm(random, made.encoder.plm)
        assert jax.tree.structure(started) == jax.tree.structure(random)
        found = dict(started["plm"] if config is alone else started["encoder"]["plm"])
        assert ("lm_head" in found) is (config is alone)
        jax.tree.map(np.testing.assert_array_equal, found, {name: of_run[name] for name in found})


def test_only_mlm_runs_are_exported(tmp_path, monkeypatch):
    """The pLM of another task has no head for masked tokens: refused, and nothing is written."""
    restored = RestoredModel(experiment_config(small_config("unused")), 1, {"encoder": {}, "head": {}}, {})
    monkeypatch.setattr(command, "restore_model", lambda workdir, which: restored)
    with pytest.raises(PretrainedError, match="task 'ppbs', whose pLM has no head"):
        export_plm("RUN", tmp_path / "plm")
    assert not (tmp_path / "plm").exists()


def test_the_plm_alone_is_trained():
    """Settings that this task does not read are refused with the fix: a structure side, shuffled labels."""
    config = small_mlm()
    config.data.shuffle_labels = True
    with pytest.raises(ConfigError, match=r"leave config\.data\.shuffle_labels out"):
        experiment_config(config)
    config = small_mlm()
    config.encoder.fusion = {"name": "local"}
    with pytest.raises(ConfigError, match="sequence_only"):
        experiment_config(config)


def test_controls_are_refused(workdir):
    with pytest.raises(ConfigError, match="no labels to shuffle"):
        evaluate(workdir, controls=[workdir])


def steps_on_devices(devices: int) -> Iterator[dict]:
    """Loss sum, weight and gradient norm of a few steps, of four rows with one empty."""
    config = experiment_config(small_mlm())
    model, task, plm = config.make_model(), config.make_task(), config.encoder.plm
    optimizer = make_optimizer(config.training.optimizer, config.training.steps, plm)
    state = step_lib.init_state(model, optimizer, plm, example_batch(config.data.grid_shape()), seed=0)
    train_step = step_lib.pmap_train_step(model, task, optimizer, plm, seed=0)
    state = step_lib.replicate(state)
    rows = [[(0, repeats(0)), (1, repeats(1))], [(2, repeats(2))], [(3, repeats(3))], []]
    grid = make_grid(rows, length=256, neighbours=1, graphs=8)
    for _ in range(STEPS):
        state, metrics = train_step(state, split_over_devices(grid, devices))
        yield {
            "loss": float(metrics.loss.loss[0]),
            "weight": float(metrics.loss.weight[0]),
            "gradient_norm": float(metrics.gradient_norm[0]),
        }


@pytest.mark.slow
def test_four_devices_equal_one():
    """The same residues are chosen on any number of devices, others in each step; so the steps are the same."""
    code = (
        "import json, sys\n"
        "from tests.training.test_mlm import steps_on_devices\n"
        "print(json.dumps(list(steps_on_devices(int(sys.argv[1])))))\n"
    )
    one, four = (json.loads(run_python(code, n, devices=n).splitlines()[-1]) for n in (1, 4))
    for a, b in zip(one, four, strict=True):
        assert a["weight"] == b["weight"]
        assert [a["loss"], a["gradient_norm"]] == pytest.approx([b["loss"], b["gradient_norm"]], rel=2e-5)
    assert len({a["weight"] for a in one}) > 1


def test_residue_tasks_are_as_they_were():
    """A task that draws nothing sees the batch as it is."""
    config = experiment_config(small_config("unused"))
    batch = example_batch(config.data.grid_shape())
    assert config.make_task().prepare(batch, jax.random.key(0)) is batch
