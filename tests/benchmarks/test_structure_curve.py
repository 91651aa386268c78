"""`benchmarks.structure_curve`: the cut grids, the exponents and the picture."""

import numpy as np
import pytest

from benchmarks import structure_curve
from benchmarks.structure_curve import Point
from bihf_jax.data.grid import empty_grid


@pytest.mark.parametrize(("slots", "rows", "length"), [(128, 1, 128), (1024, 1, 1024), (2048, 2, 1024)])
def test_cut_grids_have_the_slots_and_safe_neighbours(slots, rows, length):
    """Every field is cut, the fields of a row as well, and no neighbour lies beyond the cut."""
    grid = empty_grid(4, 1024, 6, 3)
    cut = structure_curve.cut(grid, slots)
    assert cut.tokens.shape == (rows, length)
    assert cut.backbone.shape == (rows, length, 5, 3)
    assert cut.record.shape == (rows, 3)
    assert cut.row_id.shape == (rows,)
    assert int(np.max(cut.neighbours)) < length


def points(power):
    return [Point(slots, 1e-6 * slots**power, 3e-6 * slots**power, 0.5 * slots) for slots in structure_curve.SLOTS]


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_exponent_of_known_growth(power):
    assert structure_curve.exponent(points(power), "gradient") == pytest.approx(power)
    assert structure_curve.exponent(points(power), "mebibytes") == pytest.approx(1.0)


def test_picture_is_a_png(tmp_path):
    structure_curve.draw({"gvp": points(1.0), "mpnn": points(1.1)}, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
