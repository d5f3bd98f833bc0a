"""What a deblurred plane is compared with: estimates of the sharp plane that need no network.

A `Baseline` is a function ``(planes, level) -> sharp``: from the planes ``(B, L, S, S, 1)`` float32
in [0, 1] and the blur level of its input it estimates level 0, ``(B, S, S, 1)`` in [0, 1]. Of the
other planes it may see the blurriest, which the network sees, too.

Classical restorations have settings. `tuned` chooses them for every blur level on slides that are
not those of the evaluation, with a gain and an offset, since planes may be normalised one by one.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from linlatent import latent, metrics, optics
from linlatent.data import Triplet
from linlatent.evaluation import deconvolution

Baseline = Callable[[np.ndarray, int], np.ndarray]
Settings = Mapping[str, float]

_WIDTHS = tuple(2.0 ** (half / 2) for half in range(9))
"""Standard deviations and radii of Gaussians, in pixels: 1 to 16."""
_WIDEST = 1 / 8
"""The largest of them that is tried, as a share of the side of an image."""
_AMOUNTS = (0.5, 1, 2, 4, 8)
_FEW_BALANCES = (0.1, 10.0)
_BALANCES = tuple(10.0 ** (half / 2) for half in range(-6, 6))
_FEW_ITERATIONS = (10,)
_ITERATIONS = (5, 10, 20, 40)
_LEAST_ERROR = 1e-12
"""Mean squared errors below count as this, lest one image that is met exactly decide."""


def untouched(planes: np.ndarray, level: int) -> np.ndarray:
    """Leaves the plane as it is: whoever deblurs should do better than this."""
    return planes[:, level]


def pixel_extrapolation(planes: np.ndarray, level: int) -> np.ndarray:
    """Eq. 2 on the planes themselves, clipped to [0, 1]: what does the latent space add?"""
    blurriest = planes.shape[1] - 1
    alpha = Triplet(0, level, blurriest).alpha
    return np.clip(np.asarray(latent.extrapolate(planes[:, level], planes[:, -1], alpha)), 0, 1)


UNTUNED: Mapping[str, Baseline] = {
    "untouched input": untouched,
    "pixel extrapolation": pixel_extrapolation,
}
"""The baselines that have no settings."""


class Choice(NamedTuple):
    """What was chosen for one baseline and one blur level.

    Attributes:
      baseline: Name of the baseline.
      level: Blur level of its input.
      settings: Its settings by name.
      gain: What its result is multiplied by,
      offset: and what is added then, before it is clipped to [0, 1].
      psnr: Mean over the images it was chosen on, in dB, range 1.
    """

    baseline: str
    level: int
    settings: Settings
    gain: float
    offset: float
    psnr: float


class _Method(NamedTuple):
    """A restoration and how its settings are searched.

    Attributes:
      restore: From an image ``(S, S)``, its blur level and settings to an image.
      search: Candidates by name of the setting. All their combinations are tried; each further step
        tries its own with what else was best before.
    """

    restore: Callable[..., np.ndarray]
    search: Sequence[Mapping[str, Sequence[float]]]


def tuned(
    planes: np.ndarray, psfs: Sequence[np.ndarray] | None
) -> tuple[dict[str, Baseline], list[Choice]]:
    """Chooses settings for every blur level between the end points, by PSNR.

    Args:
      planes: Stacks to choose them on, ``(B, L, S, S, 1)`` float32 in [0, 1].
      psfs: Point-spread function of every blur level, each ``(size, size)`` of sum 1 and centred at
        ``size // 2``; None where they are not known.

    Returns:
      All baselines by name: those of `UNTUNED`, unsharp masking, and deconvolution with a Gaussian
      and, where it is known, with the true PSF; and what was chosen for each of them and of the
      levels.
    """
    methods = _methods(planes.shape[2], psfs)
    with ThreadPoolExecutor() as pool:
        futures = [
            pool.submit(_choose, name, method, level, planes)
            for name, method in methods.items()
            for level in range(1, planes.shape[1] - 1)
        ]
        choices = [future.result() for future in futures]
    baselines = dict(UNTUNED)
    for name, method in methods.items():
        of_level = {choice.level: choice for choice in choices if choice.baseline == name}
        baselines[name] = functools.partial(_restored, method.restore, of_level)
    return baselines, choices


def _methods(size: int, psfs: Sequence[np.ndarray] | None) -> dict[str, _Method]:
    """The restorations that have settings, for images of ``size`` pixels."""
    widths = [width for width in _WIDTHS if width <= max(1, size * _WIDEST)]
    wiener, richardson_lucy = deconvolution.wiener, deconvolution.richardson_lucy
    methods = {
        "unsharp mask": _Method(_sharpened, [{"radius_pixels": widths, "amount": _AMOUNTS}]),
        "Wiener, Gaussian PSF": _Method(
            functools.partial(_deconvolved_gaussian, wiener),
            [{"sigma_pixels": widths, "balance": _FEW_BALANCES}, {"balance": _BALANCES}],
        ),
        "Richardson-Lucy, Gaussian PSF": _Method(
            functools.partial(_deconvolved_gaussian, richardson_lucy),
            [{"sigma_pixels": widths, "iterations": _FEW_ITERATIONS}, {"iterations": _ITERATIONS}],
        ),
    }
    if psfs is not None:
        methods["Wiener, true PSF"] = _Method(
            functools.partial(_deconvolved_true, wiener, psfs), [{"balance": _BALANCES}]
        )
        methods["Richardson-Lucy, true PSF"] = _Method(
            functools.partial(_deconvolved_true, richardson_lucy, psfs),
            [{"iterations": _ITERATIONS}],
        )
    return methods


def _sharpened(image: np.ndarray, level: int, **settings: float) -> np.ndarray:
    del level
    return deconvolution.unsharp_mask(image, **settings)


def _deconvolved_gaussian(
    deconvolve: Callable[..., np.ndarray],
    image: np.ndarray,
    level: int,
    *,
    sigma_pixels: float,
    **settings: float,
) -> np.ndarray:
    """Takes what lies between the sharp and the blurred plane for a Gaussian."""
    del level
    return deconvolve(image, deconvolution.gaussian_psf(sigma_pixels), **settings)


def _deconvolved_true(
    deconvolve: Callable[..., np.ndarray],
    psfs: Sequence[np.ndarray],
    image: np.ndarray,
    level: int,
    **settings: float,
) -> np.ndarray:
    """Estimates the sample itself, and then blurs it as it is in focus."""
    return optics.blur(deconvolve(image, psfs[level], **settings), psfs[0])


def _choose(name: str, method: _Method, level: int, planes: np.ndarray) -> Choice:
    """Goes through the steps of the search."""
    best = Choice(name, level, {}, 1.0, 0.0, -np.inf)
    for candidates in method.search:
        choices = []
        for values in itertools.product(*candidates.values()):
            settings = {**best.settings, **dict(zip(candidates, values, strict=True))}
            estimate = _restore(method.restore, planes, level, settings)
            choices.append(Choice(name, level, settings, *_fit(estimate, planes[:, 0])))
        best = max(choices, key=lambda choice: choice.psnr)
    return best


def _fit(estimate: np.ndarray, sharp: np.ndarray) -> tuple[float, float, float]:
    """Gain and offset that suit all images ``(B, S, S, 1)`` together best, and their mean PSNR."""
    size = sharp.shape[1]
    gain, offset = metrics.affine_fit(estimate.reshape(-1, size, 1), sharp.reshape(-1, size, 1))
    corrected = _corrected(estimate, float(gain), float(offset))
    errors = np.maximum(metrics.mean_squared_error(corrected, sharp), _LEAST_ERROR)
    return float(gain), float(offset), float(metrics.psnr_from_mse(errors, 1.0).mean())


def _restored(
    restore: Callable[..., np.ndarray],
    choices: Mapping[int, Choice],
    planes: np.ndarray,
    level: int,
) -> np.ndarray:
    """The `Baseline` of a restoration with what was chosen for its levels."""
    choice = choices[level]
    estimate = _restore(restore, planes, level, choice.settings)
    return _corrected(estimate, choice.gain, choice.offset)


def _restore(
    restore: Callable[..., np.ndarray], planes: np.ndarray, level: int, settings: Settings
) -> np.ndarray:
    images = [restore(image, level, **settings) for image in planes[:, level, ..., 0]]
    return np.stack(images)[..., None]


def _corrected(estimate: np.ndarray, gain: float, offset: float) -> np.ndarray:
    return np.clip(gain * estimate + offset, 0, 1)
