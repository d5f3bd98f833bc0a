"""Synthetic slides: a procedural sample, seen by a microscope at nine blur levels."""

from __future__ import annotations

import functools
import math
import zlib

import numpy as np
import scipy.fft

from linlatent import optics
from linlatent.data.synthetic import cell_bodies, nuclei
from linlatent.data.synthetic.canvas import Canvas
from linlatent.data.synthetic.cells import HEIGHTS_UM, place_cells
from linlatent.data.synthetic.variety import Variety, draw_variety, magnified, vary

NUM_LEVELS = 9
LEVEL_SPACING_UM = 4.0

CHANNELS = {
    "w1": (nuclei.draw_nuclei, nuclei.BRIGHTNESS_COUNTS),
    "w2": (cell_bodies.draw_cell_bodies, cell_bodies.BRIGHTNESS_COUNTS),
}
"""What draws each channel, Hoechst-stained nuclei or phalloidin-stained cell bodies, and how bright
these commonly are."""

_MARGIN = 64
"""Pixels of sample drawn around the frame, whose light blurs into it; more than a PSF's radius."""

_BACKGROUND_COUNTS = 8.0
"""Light where there is nothing."""

_STRAY_SHARE = 0.08
"""Share of all light that ends up spread evenly over the frame, scattered in sample and optics."""


def render_slide(
    slide_id: str,
    *,
    channel: str,
    height: int,
    width: int,
    seed: int = 0,
    varied: bool = False,
) -> np.ndarray:
    """Makes the stack of one slide; the same arguments always give the same stack.

    Args:
      slide_id: Name of the slide; another name is another slide.
      channel: ``"w1"`` (nuclei) or ``"w2"`` (cell bodies).
      height: Of the planes, in pixels.
      width: Of the planes, in pixels.
      seed: Makes another collection of slides of the same names.
      varied: Whether the slide differs from those of BBBC006, as `draw_variety` draws it.

    Returns:
      ``(9, height, width)`` uint16, blur levels 4 µm apart, the first one in focus.

    Raises:
      ValueError: If the channel is unknown.
    """
    if channel not in CHANNELS:
        raise ValueError(f"unknown channel {channel!r}; known are {', '.join(CHANNELS)}")
    draw, brightness_counts = CHANNELS[channel]
    streams = np.random.default_rng([seed, zlib.crc32(slide_id.encode())]).spawn(3)
    scene, camera_noise, differences = streams
    variety = draw_variety(differences) if varied else Variety()
    shape = tuple(scipy.fft.next_fast_len(n + 2 * _MARGIN, real=True) for n in (height, width))
    area = tuple(math.ceil(n / variety.magnification) for n in shape)
    canvas = Canvas(shape)
    draw(canvas, magnified(place_cells(scene, area), variety.magnification), scene)
    if varied:
        vary(canvas, variety, differences, brightness_counts=brightness_counts)
    return _take_stack(canvas, height, width, variety, camera_noise)


def _take_stack(
    canvas: Canvas, height: int, width: int, variety: Variety, rng: np.random.Generator
) -> np.ndarray:
    camera = optics.Camera()
    background = variety.background * (
        variety.light * _BACKGROUND_COUNTS + _STRAY_SHARE * canvas.layers.sum(axis=0).mean()
    )
    spectra = [scipy.fft.rfft2(layer) for layer in canvas.layers]
    stack = np.empty((NUM_LEVELS, height, width), np.uint16)
    for level in range(NUM_LEVELS):
        spectrum = np.zeros_like(spectra[0])
        for layer, height_um in zip(spectra, HEIGHTS_UM, strict=True):
            spectrum += layer * _transfer(LEVEL_SPACING_UM * level - height_um, canvas.shape)
        counts = scipy.fft.irfft2(spectrum, s=canvas.shape)
        frame = counts[_MARGIN : _MARGIN + height, _MARGIN : _MARGIN + width]
        photons = np.maximum(frame + background, 0) / camera.counts_per_photon
        stack[level] = camera.expose(photons, rng)
    return stack


@functools.lru_cache(maxsize=64)
def _transfer(defocus_um: float, shape: tuple[int, int]) -> np.ndarray:
    return optics.transfer_function(optics.defocus_psf(optics.BBBC006, defocus_um), shape)
