"""Deblurs a real frame by itself and shows it beside the same field in focus.

    python scripts/show_real_pair.py w1-sharp BLURRED SHARP docs/images/real_pair.png

Prints PSNR against the frame in focus, in dB after the best gain and offset, before and after.
"""

from __future__ import annotations

import sys

import numpy as np
from matplotlib import pyplot as plt

import linlatent
from linlatent import images, metrics

_GAMMA = 0.7
"""So that dim nuclei are to be seen beside bright ones."""


def main(name: str, blurred: str, sharp: str, picture: str) -> None:
    """Deblurs, measures and draws."""
    b, a = images.read_image(blurred), images.read_image(sharp)
    restored = linlatent.deblur_frame(linlatent.load(name), b)
    before, after = (_psnr(image, a) for image in (b, restored))
    print(f"PSNR after the best gain and offset: {before:.2f} dB, deblurred {after:.2f} dB")

    figure, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    shown = {"out of focus": b, "deblurred, from it alone": restored, "in focus": a}
    for axis, (title, image) in zip(axes, shown.items(), strict=True):
        lowest, highest = np.percentile(b if image is b else a, (0.1, 99.9))
        axis.imshow(np.clip((image - lowest) / (highest - lowest), 0, 1) ** _GAMMA, cmap="gray")
        axis.set(title=title, xticks=[], yticks=[])
    figure.savefig(picture, dpi=90)


def _psnr(image: np.ndarray, reference: np.ndarray) -> float:
    scale = np.float32(reference.max())
    pair = (each[None, ..., None].astype(np.float32) / scale for each in (image, reference))
    return float(metrics.psnr_affine(*pair, data_range=1.0)[0])


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit("usage: python scripts/show_real_pair.py NAME BLURRED SHARP PICTURE")
    main(*sys.argv[1:])
