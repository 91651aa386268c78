"""Maps of embeddings."""

import numpy as np
import pytest
from matplotlib import image

from bihf_jax.inference.pictures import plot_map


@pytest.mark.parametrize("count", [3, 60])
def test_a_map_shows_its_points(tmp_path, count):
    """Points in the colour of the map, with names or, of many, without."""
    pooled = np.random.default_rng(0).normal(size=(count, 8))
    plot_map([f"p{i}" for i in range(count)], pooled, tmp_path / "map.png", "title")
    pixels = image.imread(tmp_path / "map.png")[..., :3]
    orange = np.array([0xD5, 0x5E, 0]) / 255 * 0.7 + 0.3
    assert np.mean(np.abs(pixels - orange).max(axis=-1) < 0.1) > 1e-5 * count


def test_equal_proteins_have_a_map(tmp_path):
    """No variance at all is drawn as one point."""
    plot_map(["a", "b", "c"], np.ones((3, 4)), tmp_path / "map.png")
    assert (tmp_path / "map.png").exists()


def test_too_few_for_a_map(tmp_path):
    with pytest.raises(ValueError, match="at least 3 proteins, there are 2"):
        plot_map(["a", "b"], np.ones((2, 4)), tmp_path / "map.png")
