"""How slides may differ from those of BBBC006: in size, sharpness, contrast, light, background."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import ndimage

from linlatent.data.synthetic.canvas import Canvas
from linlatent.data.synthetic.cells import Cell

_LEAST_COUNTS = 1e-3
"""Below, the sample counts as empty."""


@dataclasses.dataclass(frozen=True)
class Variety:
    """One slide's differences; the defaults are none.

    Attributes:
      magnification: Of the cells.
      softness_pixels: Standard deviation of a Gaussian that the sample itself is blurred with.
      gamma: Exponent of the sample's brightness: above 1, bright nuclei stand out from dim ones.
      light: Of sample and background; with less of it, noise weighs more.
      background: Of the light where there is nothing, and of stray light.
    """

    magnification: float = 1.0
    softness_pixels: float = 0.0
    gamma: float = 1.0
    light: float = 1.0
    background: float = 1.0


def draw_variety(rng: np.random.Generator) -> Variety:
    """Draws how a slide differs."""
    return Variety(
        magnification=float(np.exp(rng.uniform(np.log(0.8), np.log(1.25)))),
        softness_pixels=float(rng.uniform(0.0, 0.8)),
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


def vary(canvas: Canvas, variety: Variety, *, brightness_counts: float) -> None:
    """Changes what was drawn on a canvas.

    Args:
      canvas: What is changed.
      variety: How.
      brightness_counts: The brightness that gamma leaves as it is.
    """
    if variety.gamma != 1:
        total = np.maximum(canvas.layers.sum(axis=0), np.float32(_LEAST_COUNTS))
        canvas.layers *= (total / np.float32(brightness_counts)) ** np.float32(variety.gamma - 1)
    if variety.softness_pixels:
        sigma = (0, variety.softness_pixels, variety.softness_pixels)
        canvas.layers = ndimage.gaussian_filter(canvas.layers, sigma)
    canvas.layers *= np.float32(variety.light)
