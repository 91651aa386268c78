"""The plan: complete, deterministic, the same for every host, and full."""

import numpy as np
import pytest

from bihf_jax.data.plan import GridShape, Schedule, draw_records, fill, make_plan


def lengths(seed: int, records: int) -> np.ndarray:
    """Slots of protein chains: log-normal around 215 residues, as in the sets that the library is used on."""
    rng = np.random.default_rng(seed)
    return np.clip(rng.lognormal(np.log(215), 0.6, records), 22, 3000).astype(int)


SHAPES = {
    "one bucket": GridShape({1024: 4}, graphs_per_row=32, neighbours=16),
    "three buckets": GridShape({256: 16, 512: 8, 1024: 4}, graphs_per_row=32, neighbours=16),
    "few graph slots": GridShape({1024: 4}, graphs_per_row=2, neighbours=16),
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
@pytest.mark.parametrize("seed", [None, 0, 1])
def test_every_record_once_and_no_row_overfull(shape, seed):
    """An epoch holds each record exactly once, in rows of its bucket that it fits into."""
    slots = lengths(0, 500)
    steps = make_plan(slots, shape, seed=seed)
    placed = [record for step in steps for row in step.rows for record in row]
    assert sorted(placed) == list(range(500))
    for step in steps:
        assert len(step.rows) == shape.rows[step.length]
        for row in step.rows:
            assert len(row) <= shape.graphs_per_row
            assert sum(min(slots[record], shape.max_length) for record in row) <= step.length


def test_records_go_to_a_bucket_that_needs_them():
    """A record of 300 slots goes to the bucket of 512, and only fills gaps in longer rows."""
    steps = make_plan([300, 300, 900, 100], GridShape({512: 1, 1024: 1}, 8, 4), seed=None)
    assert [(step.length, step.rows) for step in steps] == [(1024, ((2, 3),)), (512, ((0,),)), (512, ((1,),))]


@pytest.mark.parametrize("seed", [0, 7])
def test_plan_is_a_pure_function(seed):
    """The same arguments give the same plan; another seed or epoch gives another order."""
    slots = lengths(1, 300)
    shape = SHAPES["one bucket"]
    assert make_plan(slots, shape, seed=seed, epoch=3) == make_plan(slots.copy(), shape, seed=seed, epoch=3)
    assert make_plan(slots, shape, seed=seed, epoch=3) != make_plan(slots, shape, seed=seed, epoch=4)
    assert make_plan(slots, shape, seed=seed, epoch=3) != make_plan(slots, shape, seed=seed + 1, epoch=3)


@pytest.mark.parametrize("seed", range(3))
def test_fill_of_protein_lengths(seed):
    """Rows of 1,024 slots are at least 95 % full on a realistic length mix, empty rows of the last step included."""
    slots = np.minimum(lengths(seed, 1000), 1024)
    steps = make_plan(slots, SHAPES["one bucket"], seed=seed)
    assert fill(steps, slots) >= 0.95


def test_fill_counts_empty_rows():
    """One record of half a row in steps of four rows fills an eighth."""
    steps = make_plan([512], SHAPES["one bucket"], seed=0)
    assert fill(steps, [512]) == pytest.approx(1 / 8)


def test_schedule_is_random_access_over_epochs():
    """Reading steps out of order gives what reading them in order gives, across epoch borders."""
    slots = lengths(2, 60)
    in_order, out_of_order = (Schedule(slots, SHAPES["one bucket"], seed=5) for _ in range(2))
    forward = [in_order[step] for step in range(40)]
    backward = [out_of_order[step] for step in reversed(range(40))]
    assert forward == backward[::-1]
    assert forward[-1][0] > 1
    first_epoch = [step for epoch, step in forward if epoch == 0]
    assert first_epoch == make_plan(slots, SHAPES["one bucket"], seed=5, epoch=0)


def test_evaluation_grid_takes_the_longest():
    """Buckets are doubled until the longest record fits; rows are dealt evenly to the devices."""
    shape = GridShape({1024: 4}, 32, 16).for_evaluation(longest=2664, num_devices=4)
    assert shape.buckets == (1024, 2048, 4096)
    shape.validate_devices(4)
    assert shape.rows == {1024: 4, 2048: 4, 4096: 4}


def test_errors_name_the_value_and_the_fix():
    """Rows that cannot be dealt evenly, and grids without rows, are refused."""
    with pytest.raises(ValueError, match="4 rows of 1024 slots cannot be dealt evenly to 3 devices"):
        SHAPES["one bucket"].validate_devices(3)
    with pytest.raises(ValueError, match="length buckets"):
        GridShape({}, 1, 1)
    with pytest.raises(ValueError, match="split without records"):
        Schedule(np.zeros(0, int), SHAPES["one bucket"], seed=0)


def test_records_are_drawn_as_often_as_their_weights_say():
    """Every epoch rounds each weight up or down; over many epochs the mean is the weight; it is a pure function."""
    weights = np.random.default_rng(0).gamma(1.0, size=50)
    weights[7] = 0
    weights /= weights.mean()
    epochs = [draw_records(weights, seed=3, epoch=epoch) for epoch in range(400)]
    counts = np.array([np.bincount(drawn, minlength=50) for drawn in epochs])
    assert (counts.sum(axis=1) == 50).all()
    assert (np.abs(counts - weights) < 1).all()
    np.testing.assert_allclose(counts.mean(axis=0), weights, atol=0.12)
    np.testing.assert_array_equal(draw_records(weights, seed=3, epoch=5), epochs[5])
    assert (draw_records(weights, seed=4, epoch=5) != epochs[5]).any()


def test_a_weighted_schedule_holds_what_is_drawn():
    """Each epoch of the schedule has the drawn records in rows that they fit into; equal weights are every record."""
    slots, shape = lengths(2, 60), SHAPES["one bucket"]
    weights = np.where(np.arange(60) < 10, 3.0, 0.6)
    schedule = Schedule(slots, shape, seed=5, weights=weights)
    by_epoch = {}
    for number in range(40):
        epoch, step = schedule[number]
        for row in step.rows:
            assert sum(min(slots[record], shape.max_length) for record in row) <= step.length
            by_epoch.setdefault(epoch, []).extend(row)
    for epoch in list(by_epoch)[:-1]:
        assert sorted(by_epoch[epoch]) == sorted(draw_records(weights, seed=5, epoch=epoch))
    every = Schedule(slots, shape, seed=5, weights=np.ones(60))
    first = [record for number in range(3) for row in every[number][1].rows for record in row]
    assert len(set(first)) == len(first)
