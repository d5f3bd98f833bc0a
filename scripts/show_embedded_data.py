"""Draws the figures of docs/embedded_data.md: synthetic slides beside real frames of BBBC006.

    python scripts/show_embedded_data.py ../shared/data/bbbc006 docs/images

The first argument is a folder with `in_focus/*.png` (sharp frames, among them a01_s1_w1) and
`BBBC006_v1_images_z_00/*.tif` (frames 32 µm from focus).
"""

from __future__ import annotations

import argparse
import io
import pathlib
import re

import imageio.v3 as iio
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import tifffile

from linlatent import optics
from linlatent.data.synthetic.slides import NUM_LEVELS, render_slide

matplotlib.use("Agg")

REAL_SHARP = ("a01_s1_w1", "a05_s1_w1", "a04_s1_w1")
REAL_BLURRED = ("a01_s1_w1", "e24_s2_w1", "b14_s2_w1")
SYNTHETIC = ("s001_w1", "s003_w1", "s018_w1")
SHARP_RANGE, BLURRED_RANGE = (105, 900), (105, 750)


def main() -> None:
    """Reads the arguments and writes the four figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("real", type=pathlib.Path, help="folder of real frames")
    parser.add_argument("output", type=pathlib.Path, help="folder for the figures")
    arguments = parser.parse_args()

    sharp = {p.stem: iio.imread(p) for p in sorted((arguments.real / "in_focus").glob("*.png"))}
    blurred = {
        re.findall(r"[a-p]\d\d_s\d_w\d", path.name)[0]: tifffile.imread(path)
        for path in sorted((arguments.real / "BBBC006_v1_images_z_00").glob("*.tif"))
    }
    if not sharp or not blurred:
        parser.error(f"{arguments.real} holds no in_focus/*.png or BBBC006_v1_images_z_00/*.tif")
    stacks = {
        f"s{number:03d}_w1": render_slide(f"s{number:03d}_w1", channel="w1", height=520, width=696)
        for number in range(24)
    }

    arguments.output.mkdir(parents=True, exist_ok=True)
    draw_likeness(sharp, blurred, stacks, arguments.output / "embedded_likeness.png")
    draw_levels(stacks[SYNTHETIC[2]], arguments.output / "embedded_levels.png")
    draw_optics(sharp["a01_s1_w1"], blurred["a01_s1_w1"], arguments.output / "embedded_optics.png")
    draw_statistics(sharp, blurred, stacks, arguments.output / "embedded_statistics.png")


def draw_likeness(sharp: dict, blurred: dict, stacks: dict, path: pathlib.Path) -> None:
    """Three real and three synthetic slides, in focus and 32 µm from it, on the same scale."""
    rows = [
        [(sharp[name], f"real {name}, in focus", SHARP_RANGE) for name in REAL_SHARP],
        [(stacks[name][0], f"synthetic {name}, level 0", SHARP_RANGE) for name in SYNTHETIC],
        [(blurred[name], f"real {name}, -32 µm", BLURRED_RANGE) for name in REAL_BLURRED],
        [(stacks[name][-1], f"synthetic {name}, level 8", BLURRED_RANGE) for name in SYNTHETIC],
    ]
    _save_panels(rows, path, panel_inches=(3.0, 2.35))


def draw_levels(w1: np.ndarray, path: pathlib.Path) -> None:
    """The nine blur levels of a slide of each channel, cut out."""
    w2 = render_slide("s005_w2", channel="w2", height=520, width=696)
    rows = [
        [
            (stack[level, 180:400, 240:460], f"{channel} level {level}", (105, top))
            for level in range(NUM_LEVELS)
        ]
        for channel, stack, top in (("w1", w1, 900), ("w2", w2, 700))
    ]
    _save_panels(rows, path, panel_inches=(1.3, 1.45))


def draw_optics(sharp: np.ndarray, blurred: np.ndarray, path: pathlib.Path) -> None:
    """The real pair: the sharp frame blurred by the fitted PSF beside the real blurred frame."""
    model = optics.blur(sharp, optics.defocus_psf(optics.BBBC006, 32.0))
    residual = blurred - np.polyval(np.polyfit(model.ravel(), blurred.ravel(), 1), model)
    rows = [
        [
            (blurred, "real a01_s1_w1, -32 µm", (105, 400)),
            (model, "sharp frame through the fitted PSF", (105, 400)),
            (residual, "difference after the affine fit (±60 counts)", (-60, 60)),
        ]
    ]
    _save_panels(rows, path, panel_inches=(3.0, 2.35), gamma=1.0)


def draw_statistics(sharp: dict, blurred: dict, stacks: dict, path: pathlib.Path) -> None:
    """Power spectra and histograms of all real and 24 synthetic frames."""
    groups = {
        "in focus": (list(sharp.values()), [stack[0] for stack in stacks.values()]),
        "32 µm from focus": (list(blurred.values()), [stack[-1] for stack in stacks.values()]),
    }
    figure, axes = plt.subplots(2, 2, figsize=(8, 5.6), layout="constrained")
    for row, (title, (real, synthetic)) in zip(axes, groups.items(), strict=True):
        for frames, colour, label in ((real, "C1", "real"), (synthetic, "C0", "synthetic")):
            spectra = np.array([power_spectrum(frame) for frame in frames])
            low, middle, high = np.percentile(spectra, [10, 50, 90], axis=0)
            frequency = np.linspace(0, 0.5, len(middle))
            label = f"{label} (n = {len(frames)}; median, 10-90 %)"
            row[0].fill_between(frequency, low, high, color=colour, alpha=0.2)
            row[0].semilogy(frequency, middle, color=colour, label=label)
            bins = np.linspace(100, 1500, 141)
            counts = np.mean([np.histogram(f, bins, density=True)[0] for f in frames], axis=0)
            row[1].semilogy(bins[:-1], counts, color=colour)
        row[0].set(title=title, xlabel="cycles per pixel", ylabel="power")
        row[1].set(title=title, xlabel="camera counts", ylabel="density", ylim=(1e-7, 1e-1))
        row[0].legend(fontsize=7)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def power_spectrum(frame: np.ndarray) -> np.ndarray:
    """Power of a windowed frame per ring of spatial frequency, 0 to 0.5 cycles per pixel."""
    window = np.hanning(frame.shape[0])[:, None] * np.hanning(frame.shape[1])
    power = np.abs(np.fft.fft2((frame - frame.mean()) * window)) ** 2 / np.sum(window**2)
    radius = np.hypot(*np.meshgrid(*map(np.fft.fftfreq, frame.shape), indexing="ij"))
    ring = np.minimum((radius * 160).astype(int), 80).ravel()
    return (np.bincount(ring, power.ravel(), 81) / np.bincount(ring, minlength=81))[:80]


def _save_panels(
    rows: list, path: pathlib.Path, *, panel_inches: tuple[float, float], gamma: float = 0.7
) -> None:
    """Writes titled grey panels; a row holds (image, title, (low, high)) for each."""
    size = (panel_inches[0] * len(rows[0]), panel_inches[1] * len(rows))
    figure, axes = plt.subplots(
        len(rows), len(rows[0]), figsize=size, layout="constrained", squeeze=False
    )
    for row_axes, row in zip(axes, rows, strict=True):
        for axis, (image, title, (low, high)) in zip(row_axes, row, strict=True):
            scaled = np.clip((image - float(low)) / (high - low), 0, 1) ** gamma
            axis.imshow(scaled, cmap="gray", vmin=0, vmax=1, interpolation="antialiased")
            axis.set_title(title, fontsize=7)
            axis.set_axis_off()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    iio.imwrite(path, iio.imread(buffer)[..., 0])  # of grey one channel is enough
    plt.close(figure)


if __name__ == "__main__":
    main()
