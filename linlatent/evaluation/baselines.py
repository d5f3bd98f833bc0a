"""What a deblurred plane is compared with: estimates of the sharp plane that need no network.

A row of `BASELINES` is a function ``(xb, xc, alpha) -> xa``: from the planes ``(N, H, W, 1)`` of an
intermediate and of the blurriest level, in [0, 1], and the scalar weight alpha of the sharper
endpoint, it estimates the sharp plane, of the same shape and range. It may use any library.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from linlatent import latent

Baseline = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def untouched(xb: np.ndarray, xc: np.ndarray, alpha: float) -> np.ndarray:
    """Leaves the plane as it is: whoever deblurs should do better than this."""
    del xc, alpha
    return xb


def pixel_extrapolation(xb: np.ndarray, xc: np.ndarray, alpha: float) -> np.ndarray:
    """Eq. 2 on the planes themselves, clipped to [0, 1]: what does the latent space add?"""
    return np.clip(np.asarray(latent.extrapolate(xb, xc, alpha)), 0, 1)


BASELINES: Mapping[str, Baseline] = {
    "untouched input": untouched,
    "pixel extrapolation": pixel_extrapolation,
}
