"""How slides may differ from those of BBBC006: in size, texture, contrast, light, background."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage, special

from linlatent.data.synthetic.canvas import Canvas
from linlatent.data.synthetic.cells import Cell

_LEAST_COUNTS = 1e-3
"""Below, the sample counts as empty."""

_PATCH_PIXELS = 20.0
"""Size of the patches that are soft or grained alike, about a nucleus (standard deviation)."""


@dataclasses.dataclass(frozen=True)
class Variety:
    """One slide's differences; the defaults are none.

    Attributes:
      magnification: Of the cells.
      softness_pixels: Standard deviation of a Gaussian that the sample itself is blurred with; by
        place, none to all of the light is.
      grain: Of the sample: standard deviation of its logarithm where it is strongest. By place it
        is anything from none to this: mostly little, but more in what is bright, as in mitoses.
      grain_pixels: Size of the grain (standard deviation of a Gaussian).
      gamma: Exponent of the sample's brightness: above 1, bright nuclei stand out from dim ones.
      light: Of sample and background; with less of it, noise weighs more.
      background: Of the light where there is nothing, and of stray light.
    """

    magnification: float = 1.0
    softness_pixels: float = 0.0
    grain: float = 0.0
    grain_pixels: float = 1.0
    gamma: float = 1.0
    light: float = 1.0
    background: float = 1.0


def draw_variety(rng: np.random.Generator) -> Variety:
    """Draws how a slide differs."""
    return Variety(
        magnification=float(np.exp(rng.uniform(np.log(0.8), np.log(1.25)))),
        softness_pixels=float(rng.uniform(0.0, 2.5)),
        grain=float(rng.uniform(0.0, 0.8)),
        grain_pixels=float(rng.uniform(0.5, 1.5)),
        gamma=float(np.exp(rng.normal(0, 0.2))),
        light=float(np.exp(rng.uniform(np.log(0.01), np.log(2.0)))),
        background=float(np.exp(rng.normal(0, 0.7))),
    )


def magnified(cells: list[Cell], magnification: float) -> list[Cell]:
    """The cells, larger and as much further apart."""
    return [
        dataclasses.replace(
            cell,
            centre=(magnification * cell.centre[0], magnification * cell.centre[1]),
            semi_axes=(magnification * cell.semi_axes[0], magnification * cell.semi_axes[1]),
            room=magnification * cell.room,
        )
        for cell in cells
    ]


def vary(
    canvas: Canvas, variety: Variety, rng: np.random.Generator, *, brightness_counts: float
) -> None:
    """Changes what was drawn on a canvas.

    Args:
      canvas: What is changed.
      variety: How.
      rng: Source of the randomness.
      brightness_counts: The brightness that gamma leaves as it is.
    """
    total = np.maximum(canvas.layers.sum(axis=0), np.float32(_LEAST_COUNTS))
    brightness = total / np.float32(brightness_counts)
    if variety.gamma != 1:
        canvas.layers *= brightness ** np.float32(variety.gamma - 1)
    if variety.grain:
        place = special.ndtr(_smooth(rng, canvas, _PATCH_PIXELS))
        strength = np.float32(variety.grain) * place ** (2 / brightness)
        grain = strength * _smooth(rng, canvas, variety.grain_pixels)
        canvas.layers *= np.exp(grain - strength**2 / 2)
    if variety.softness_pixels:
        sigma = (0, variety.softness_pixels, variety.softness_pixels)
        spread = special.ndtr(_smooth(rng, canvas, _PATCH_PIXELS)) * canvas.layers
        canvas.layers += ndimage.gaussian_filter(spread, sigma) - spread
    canvas.layers *= np.float32(variety.light)


def _smooth(rng: np.random.Generator, canvas: Canvas, sigma: float) -> np.ndarray:
    """Noise of mean 0 and standard deviation 1, smooth over sigma pixels."""
    noise = ndimage.gaussian_filter(rng.standard_normal(canvas.shape, np.float32), sigma)
    return noise / noise.std()
