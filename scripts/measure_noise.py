"""Deblurs test slides that were exposed to less and less light, beside classical restorations.

    python scripts/measure_noise.py w1-sharp docs/images/noise.png

Prints a table in Markdown: PSNR in dB at range 1 against the plane in focus in full light, mean
over the test slides of the embedded data and over blur levels 1 to 7. Less light is drawn from full
light: of the photons of every pixel a share is kept. The restorations are tuned for every light and
level on validation slides; the network is never told the light, and the level only by alpha, with
c, and where the table says so.
"""

from __future__ import annotations

import io
import pathlib
import sys

import jax
import numpy as np
from matplotlib import pyplot as plt
from tqdm import tqdm

import linlatent
from linlatent import data, images, metrics, optics
from linlatent.data import StackSource
from linlatent.evaluation import baselines, protocol
from linlatent.evaluation.evaluate import predict
from linlatent.metrics import summarise

SHARES = (1.0, 0.3, 0.1, 0.03, 0.01)
"""Of the light of the embedded data."""

PHOTONS = 1700
"""In a pixel of a common nucleus in focus, in full light."""

_SHOWN = ("untouched input", "Wiener, Gaussian PSF", "Richardson-Lucy, Gaussian PSF")
_CROP = 128


def main(name: str, picture: str) -> None:
    """Measures, prints and draws."""
    params, config, _ = linlatent.load(name)
    source = data.open_source("synthetic", config=config.data.synthetic.config.split("_")[0])
    rows: dict[str, list[metrics.Summary]] = {}
    for share in tqdm(SHARES, unit="light"):
        planes = {split: exposed(source, split, share) for split in ("validation", "test")}
        tuned, _ = baselines.tuned(planes["validation"], None)
        made = jax.device_get(predict(params, planes["test"]))
        estimates = {
            **protocol.baseline_estimates(planes["test"], {key: tuned[key] for key in _SHOWN}),
            **{"deblurred": made.deblurred, **made.further},
        }
        for key, images_of_levels in estimates.items():
            rows.setdefault(key, []).append(psnr(images_of_levels, planes["test"]))
    print("| photons |", " | ".join(f"{share * PHOTONS:.0f}" for share in SHARES), "|")
    print("|---" * (len(SHARES) + 1) + "|")
    for key, values in rows.items():
        cells = (f"{value.mean:.2f} ± {value.standard_error:.2f}" for value in values)
        print(f"| {key} |", " | ".join(cells), "|")
    pathlib.Path(picture).write_bytes(draw(rows))


def exposed(source: StackSource, split: str, share: float) -> np.ndarray:
    """Centre crops of stacks whose blurred planes have seen a share of the light.

    Returns:
      ``(B, L, S, S, 1)`` float32 in the unit of the stacks in full light, as is level 0.
    """
    camera = optics.Camera()
    crops = []
    for number, slide in enumerate(source.slide_ids[split]):
        stack = source.read_stack(slide)
        low, high = images.intensity_range(stack, "stack")
        top, left = ((n - _CROP) // 2 for n in stack.shape[1:])
        crop = stack[:, top : top + _CROP, left : left + _CROP].astype(np.float64)
        if share < 1:
            crop[1:] = _dimmed(crop[1:], share, camera, np.random.default_rng(number))
        crops.append(images.normalise(crop, low, high, "stack"))
    return np.stack(crops)[..., None]


def _dimmed(
    counts: np.ndarray, share: float, camera: optics.Camera, rng: np.random.Generator
) -> np.ndarray:
    """What the camera would have counted of a share of the light, scaled back to all of it."""
    photons = np.maximum(counts - camera.offset_counts, 0) / camera.counts_per_photon
    kept = rng.binomial(np.rint(photons).astype(np.int64), share) * camera.counts_per_photon
    return (
        camera.offset_counts + (kept + rng.normal(0, camera.read_noise_counts, kept.shape)) / share
    )


def psnr(estimates: np.ndarray, planes: np.ndarray) -> metrics.Summary:
    """Mean over slides of the mean over levels."""
    errors = metrics.mean_squared_error(estimates, np.broadcast_to(planes[:, :1], estimates.shape))
    return summarise(metrics.psnr_from_mse(errors, 1.0).mean(axis=1))


def draw(rows: dict[str, list[metrics.Summary]]) -> bytes:
    """The table as a PNG."""
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for key, values in rows.items():
        photons = [share * PHOTONS for share in SHARES]
        style = "-" if key.startswith("deblurred") else "--"
        means, errors = [v.mean for v in values], [v.standard_error for v in values]
        axes.errorbar(photons, means, errors, label=key, fmt=f"o{style}", capsize=3)
    axes.set(
        xscale="log",
        xlabel="photons in a pixel of a common nucleus in focus",
        ylabel="PSNR (dB), mean of blur levels 1 to 7",
    )
    axes.grid(alpha=0.3)
    axes.legend()
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=120)
    return file.getvalue()


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python scripts/measure_noise.py NAME PICTURE")
    main(*sys.argv[1:])
