"""Hoechst-stained nuclei (channel w1): shapes, chromatin texture, mitoses and debris."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from linlatent.data.synthetic.canvas import Canvas, Window
from linlatent.data.synthetic.cells import HEIGHTS_UM, Cell, Kind, wobbly_outline

BRIGHTNESS_COUNTS = 600.0
"""Middle of a common nucleus, above the background."""


def draw_nuclei(canvas: Canvas, cells: list[Cell], rng: np.random.Generator) -> None:
    """Draws all nuclei of a slide, and the debris between them.

    Args:
      canvas: What is drawn on.
      cells: The cells of the slide.
      rng: Source of the randomness.
    """
    chromatin = _chromatin(rng, canvas.shape)
    stain = BRIGHTNESS_COUNTS * np.exp(rng.normal(0, 0.2))
    for cell in cells:
        # The DNA of a large nucleus is spread thinner.
        spread = (cell.semi_axes[0] * cell.semi_axes[1] / 210) ** -0.3
        brightness = stain * spread * np.exp(rng.normal(0, 0.17))
        if cell.kind is Kind.INTERPHASE:
            _draw_interphase(canvas, cell, brightness, chromatin, rng)
        elif cell.kind is Kind.LOBED:
            _draw_lobed(canvas, cell, brightness, chromatin, rng)
        elif cell.kind is Kind.MITOTIC:
            _draw_mitotic(canvas, cell, brightness, rng)
        else:
            _draw_condensed(canvas, cell, brightness, rng)
        _draw_cytoplasm(canvas, cell, brightness)
        if rng.uniform() < 0.2:
            _draw_spots(canvas, cell, brightness, rng)
    _draw_debris(canvas, stain, rng)


def _chromatin(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Relative density of chromatin, of mean 1: clumps of about 1 and 2 µm."""
    density = np.ones(shape, np.float32)
    for sigma, contrast in ((1.2, 0.10), (3.0, 0.05)):
        noise = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), sigma, truncate=3)
        density += contrast * noise / noise.std()
    return density


def _dome(window: Window, rng: np.random.Generator, irregularity: float) -> np.ndarray:
    """Thickness of a nucleus, 1 in the middle: close to an ellipsoid on a wobbly base."""
    # Slightly squarer than an ellipse: the ends of a nucleus are blunt.
    squarish = (np.abs(window.u) ** 2.3 + np.abs(window.v) ** 2.3) ** (1 / 2.3)
    r = squarish / wobbly_outline(rng, window.theta, irregularity)
    return np.clip(1 - r**2, 0, 1) ** 0.38


def _draw_interphase(
    canvas: Canvas, cell: Cell, brightness: float, chromatin: np.ndarray, rng: np.random.Generator
) -> None:
    window = canvas.window(cell.centre, cell.semi_axes, cell.angle, reach=1.5)
    if window is None:
        return
    image = _dome(window, rng, 0.05) * chromatin[window.slices]
    for _ in range(rng.poisson(1.6)):
        u, v = rng.uniform(-0.55, 0.55, 2)
        size = rng.uniform(0.1, 0.2)
        distance = np.hypot((window.u - u) * window.aspect, window.v - v) / size
        image *= 1 - rng.uniform(0.1, 0.35) * np.exp(-(distance**2))
    canvas.add(window, brightness * image, cell.height)


def _draw_lobed(
    canvas: Canvas, cell: Cell, brightness: float, chromatin: np.ndarray, rng: np.random.Generator
) -> None:
    """A nucleus of several lobes, or a clump of nuclei grown together."""
    long, short = cell.semi_axes
    for _ in range(rng.integers(2, 7)):
        shift = rng.uniform(-1, 1) * 0.8 * long
        across = rng.normal(0, 0.3) * short
        centre = (
            cell.centre[0] + shift * np.sin(cell.angle) + across * np.cos(cell.angle),
            cell.centre[1] + shift * np.cos(cell.angle) - across * np.sin(cell.angle),
        )
        size = rng.uniform(0.45, 0.9) * short
        window = canvas.window(centre, (size * rng.uniform(1, 1.6), size), cell.angle, reach=1.5)
        if window is not None:
            lobe = 0.75 * brightness * _dome(window, rng, 0.08) * chromatin[window.slices]
            canvas.merge(window, lobe, cell.height)


def _draw_mitotic(canvas: Canvas, cell: Cell, brightness: float, rng: np.random.Generator) -> None:
    """Condensed chromosomes: one plate (metaphase) or two (anaphase), seen from the side."""
    plates = (0.0,) if rng.uniform() < 0.6 else (-0.55, 0.55)
    length = cell.semi_axes[0] * rng.uniform(0.55, 0.8)
    for shift in plates:
        distance = shift * cell.semi_axes[0]
        centre = (
            cell.centre[0] + distance * np.cos(cell.angle),
            cell.centre[1] - distance * np.sin(cell.angle),
        )
        window = canvas.window(centre, (length, 0.4 * length), cell.angle, reach=1.8)
        if window is not None:
            image = 2.6 * brightness * _dome(window, rng, 0.12) / len(plates) ** 0.5
            canvas.add(window, image, cell.height)


def _draw_condensed(
    canvas: Canvas, cell: Cell, brightness: float, rng: np.random.Generator
) -> None:
    """A dying cell: its chromatin in a few small, very bright clumps."""
    spread = 0.3 * cell.semi_axes[1]
    for _ in range(rng.integers(2, 6)):
        centre = tuple(rng.normal(cell.centre, spread))
        size = rng.uniform(0.2, 0.45) * cell.semi_axes[1]
        window = canvas.window(centre, (size * 1.4, size), rng.uniform(0, np.pi), reach=1.8)
        if window is not None:
            image = rng.uniform(0.8, 4) * brightness * _dome(window, rng, 0.15)
            canvas.add(window, image, cell.height)


def _draw_cytoplasm(canvas: Canvas, cell: Cell, brightness: float) -> None:
    """The faint stain of the rest of the cell."""
    long, short = cell.semi_axes
    window = canvas.window(cell.centre, (long + 8, short + 8), cell.angle, reach=2.2)
    if window is not None:
        canvas.add(window, 0.03 * brightness * np.exp(-0.7 * window.r**2), cell.height)


def _draw_spots(canvas: Canvas, cell: Cell, brightness: float, rng: np.random.Generator) -> None:
    """Micronuclei and fragments beside a nucleus."""
    for _ in range(rng.integers(1, 4)):
        direction = rng.uniform(0, 2 * np.pi)
        distance = rng.uniform(1.05, 1.6) * cell.semi_axes[0]
        centre = (
            cell.centre[0] + distance * np.sin(direction),
            cell.centre[1] + distance * np.cos(direction),
        )
        size = rng.uniform(1.0, 2.6)
        window = canvas.window(centre, (size, size), 0.0, reach=2)
        if window is not None:
            image = rng.uniform(0.1, 0.5) * brightness * _dome(window, rng, 0.1)
            canvas.add(window, image, cell.height)


def _draw_debris(canvas: Canvas, stain: float, rng: np.random.Generator) -> None:
    """Faint shreds floating above the cells, blurred even where these are sharp."""
    for _ in range(rng.poisson(3)):
        centre = tuple(rng.uniform((0, 0), canvas.shape))
        size = rng.uniform(4, 14)
        window = canvas.window(centre, (1.6 * size, size), rng.uniform(0, np.pi), reach=2)
        if window is not None:
            image = rng.uniform(0.02, 0.25) * stain * _dome(window, rng, 0.35)
            canvas.add(window, image, len(HEIGHTS_UM) - 1)
