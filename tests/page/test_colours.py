"""The colour scale: equal steps of value are equal steps of lightness, and no value looks like "no value"."""

import matplotlib
import numpy as np
from matplotlib import colors

from bihf_jax.page import colours

COLOUR_MAP, DARKEST = "viridis", 0.1


def _linear(colour_codes) -> np.ndarray:
    """[n, 3] linear sRGB of "#rrggbb"."""
    parts = np.array([[int(code[start : start + 2], 16) / 255 for start in (1, 3, 5)] for code in colour_codes])
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def _lightness(colour_codes) -> np.ndarray:
    """[n] L* of CIE 1976."""
    luminance = _linear(colour_codes) @ np.array([0.2126, 0.7152, 0.0722])
    return np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)


def test_the_scale_is_matplotlibs():
    """Which the pages do not import."""
    colour_map = matplotlib.colormaps[COLOUR_MAP]
    expected = [colors.to_hex(colour_map(place)) for place in np.linspace(DARKEST, 1, 256)]
    assert list(colours.scale()) == expected


def test_lightness_rises_in_equal_steps():
    """Which every reader sees, whatever the colours look like to them."""
    steps = np.diff(_lightness(colours.scale()[::15]))
    assert steps.min() > 0.75 * steps.mean()
    assert steps.max() < 1.25 * steps.mean()


def test_no_colour_of_the_scale_is_grey():
    """Grey says that there is no value."""
    parts = np.array([[int(code[start : start + 2], 16) for start in (1, 3, 5)] for code in colours.scale()])
    assert np.ptp(parts, axis=1).min() > 50


def test_categories_repeat_only_beyond_their_number():
    many = colours.of_categories(10, first_is_absence=True)
    assert many[0] == colours.ABSENT
    assert len(many) == 10
    assert len(set(many)) == 1 + len(colours.CATEGORIES)
    assert colours.of_categories(2, first_is_absence=False) == list(colours.CATEGORIES[:2])
    assert colours.of_categories(0, first_is_absence=True) == []
