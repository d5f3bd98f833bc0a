"""Phalloidin-stained cell bodies (channel w2): cytoplasm, stress fibres and a bright rim."""

from __future__ import annotations

import numpy as np
import scipy.special
from scipy import ndimage

from linlatent.data.synthetic.canvas import Canvas, Window
from linlatent.data.synthetic.cells import Cell, Kind, wobbly_outline

BRIGHTNESS_COUNTS = 260.0
"""Cytoplasm of a common cell, above the background."""


def draw_cell_bodies(canvas: Canvas, cells: list[Cell], rng: np.random.Generator) -> None:
    """Draws the bodies of all cells of a slide.

    Args:
      canvas: What is drawn on.
      cells: The cells of the slide.
      rng: Source of the randomness.
    """
    stain = BRIGHTNESS_COUNTS * np.exp(rng.normal(0, 0.15))
    for cell in cells:
        brightness = stain * np.exp(rng.normal(0, 0.3))
        if cell.kind in (Kind.MITOTIC, Kind.CONDENSED):
            _draw_round(canvas, cell, brightness, rng)
        else:
            _draw_spread(canvas, cell, brightness, rng)


def _draw_round(canvas: Canvas, cell: Cell, brightness: float, rng: np.random.Generator) -> None:
    """A rounded-up cell: a bright ball with a brighter, uneven cortex."""
    size = cell.semi_axes[1] * rng.uniform(1.2, 1.6)
    window = canvas.window(cell.centre, (1.15 * size, size), cell.angle, reach=1.5)
    if window is None:
        return
    r = window.r / wobbly_outline(rng, window.theta, 0.06)
    ball = np.clip(1 - r**2, 0, 1) ** 0.5
    patches = np.cos(2 * window.theta + rng.uniform(0, 6)) + np.cos(3 * window.theta)
    cortex = np.exp(-(((r - 0.85) / 0.15) ** 2)) * (0.4 + 0.2 * patches)
    canvas.add(window, 1.4 * brightness * (ball + np.clip(cortex, 0, None)), cell.height)


def _draw_spread(canvas: Canvas, cell: Cell, brightness: float, rng: np.random.Generator) -> None:
    """A spread cell: thick around the nucleus, thin lobes outside, crossed by fibres."""
    long, short = cell.semi_axes
    reach = min(rng.uniform(2.0, 3.2), max(1.5, cell.room / short))
    semi_axes = (reach * long, reach * (0.5 * short + 0.3 * long))
    window = canvas.window(cell.centre, semi_axes, cell.angle, reach=1.7)
    if window is None:
        return
    r = window.r / wobbly_outline(rng, window.theta, 0.14)
    # The edge rises over some 2 pixels, and is ruffled along only a part of it.
    inside = scipy.special.expit((1 - r) * 0.5 * semi_axes[1])
    ruffled = np.clip(np.cos(window.theta + rng.uniform(0, 2 * np.pi)), 0, 1)
    ruffle = ruffled * np.exp(-(((r - 0.93) / 0.07) ** 2)) * rng.uniform(0.1, 0.7)
    thickness = 0.3 + 0.7 * np.exp(-3 * r**2)
    fibres = _fibres(window, semi_axes, rng)
    image = inside * (thickness * (0.6 + 0.4 * fibres) + 0.5 * fibres + ruffle)
    canvas.add(window, brightness * image, cell.height)


def _fibres(window: Window, semi_axes: tuple[float, float], rng: np.random.Generator) -> np.ndarray:
    """Bundles of actin that run along the cell, slightly curved, in two directions; in [0, 1]."""
    fibres = np.zeros_like(window.u)
    u, v = window.u * semi_axes[0], window.v * semi_axes[1]
    for strength in (1.0, 0.5):
        tilt, bend = rng.normal(0, 0.25), rng.normal(0, 0.15)
        across = v * np.cos(tilt) - u * np.sin(tilt) + bend * u**2 / semi_axes[0]
        along = u * np.cos(tilt) + v * np.sin(tilt)
        # A random profile across the fibres, 1-2 pixels wide, that changes slowly along them.
        profile = ndimage.gaussian_filter(rng.standard_normal((16, 512)), (1.0, 0.9), mode="wrap")
        profile = np.clip(profile / profile.std() - 0.3, 0, None)
        position = [(along / 14) % 16, across % 512]
        fibres += strength * ndimage.map_coordinates(profile, position, order=1, mode="grid-wrap")
    return np.clip(fibres / 2.5, 0, 1)
