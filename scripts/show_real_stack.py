"""Deblurs every plane of a real focal stack by itself and shows how sharp they are, and became.

    python scripts/show_real_stack.py w1-sharp FOLDER docs/images/real_stack.png

FOLDER has one image per plane, in the order of their names. There is no truth to compare with but
the sharpest plane, so two figures are drawn over the planes: how sharp each is
(`linlatent.alpha.focus_measure`), and how far out of focus the network takes it to be.
"""

from __future__ import annotations

import pathlib
import sys

import jax
import numpy as np
from matplotlib import pyplot as plt
from scipy import ndimage

import linlatent
from linlatent import images
from linlatent.alpha import focus_measure

_SHOWN = 5
"""Planes of which pictures are drawn, from the first to the last."""
_SIZE = 160
"""Side of the crop that the pictures show, in pixels: around the brightest spot in focus."""
_GAMMA = 0.7


def main(name: str, folder: str, picture: str) -> None:
    """Deblurs, measures and draws."""
    paths = sorted(pathlib.Path(folder).iterdir())
    stack = np.stack([images.read_image(path) for path in paths])
    model = linlatent.load(name)
    restored = np.stack([linlatent.deblur_frame(model, plane) for plane in stack])
    before, after = _focus_measures(stack), _focus_measures(restored)
    blur = _blur(model, stack)
    print("plane", "sharpness", "deblurred", "blur read", sep="\t")
    for path, *values in zip(paths, before, after, blur, strict=True):
        print(path.name, *(f"{value:.3g}" for value in values), sep="\t")

    sharpest = int(np.argmax(before))
    crop = _around_brightest(stack[sharpest])
    shown = np.linspace(0, len(stack) - 1, _SHOWN).round().astype(int)
    figure = plt.figure(figsize=(13, 3.9), layout="constrained")
    pictures, curves = figure.subfigures(1, 2, squeeze=False, width_ratios=(2.2, 1))[0]
    axes = pictures.subplots(2, _SHOWN)
    for column, plane in enumerate(shown):
        for axis, planes in zip(axes[:, column], (stack, restored), strict=True):
            lowest, highest = np.percentile(planes[plane][crop], (0.5, 99.9))
            grey = np.clip((planes[plane][crop] - lowest) / (highest - lowest), 0, 1) ** _GAMMA
            axis.imshow(grey, cmap="gray")
            axis.set(xticks=[], yticks=[])
        place = " (the sharpest)" if plane == sharpest else ""
        axes[0, column].set_title(f"{paths[plane].stem}{place}", fontsize=9)
    axes[0, 0].set_ylabel("as recorded")
    axes[1, 0].set_ylabel("deblurred,\neach by itself")
    upper, lower = curves.subplots(2, 1, sharex=True)
    numbers = np.arange(1, len(stack) + 1)
    upper.semilogy(numbers, before, "o-", color="C7", label="as recorded")
    upper.semilogy(numbers, after, "o-", color="C0", label="deblurred")
    upper.axvline(sharpest + 1, color="0.8", zorder=0)
    upper.set_ylabel("focus measure")
    upper.legend(fontsize=8, frameon=False)
    lower.plot(numbers, blur, "o-", color="C3")
    lower.axvline(sharpest + 1, color="0.8", zorder=0)
    lower.set(ylabel="blur read, levels", xlabel="plane")
    figure.savefig(picture, dpi=90)


def _blur(model: linlatent.Model, stack: np.ndarray) -> np.ndarray:
    """The blur that the network reads off each plane, the mean over it."""
    low, high = images.intensity_range(stack, model.config.data.normalisation)
    x = images.normalise(stack, low, high, model.config.data.normalisation)[..., None]
    return np.asarray(jax.jit(linlatent.encode)(model.params, x).blur.mean(axis=(1, 2, 3)))


def _focus_measures(stack: np.ndarray) -> list[float]:
    """Of the planes smoothed by a pixel, lest they measure the noise."""
    return [focus_measure(ndimage.gaussian_filter(x.astype(np.float64), 1.0)) for x in stack]


def _around_brightest(plane: np.ndarray) -> tuple[slice, slice]:
    smooth = ndimage.gaussian_filter(plane.astype(np.float64), 8.0)
    centre = np.unravel_index(np.argmax(smooth), smooth.shape)
    row, column = np.clip(np.array(centre) - _SIZE // 2, 0, np.array(plane.shape) - _SIZE)
    return slice(row, row + _SIZE), slice(column, column + _SIZE)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python scripts/show_real_stack.py NAME FOLDER PICTURE")
    main(*sys.argv[1:])
