"""Classical restorations of single images by scikit-image, without rings at the borders.

Images are ``(height, width)`` float32, not negative, and stay what they are in size and type. What
is restored may leave [0, 1], and its scale means little.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.signal
from skimage import filters, restoration


def gaussian_psf(sigma_pixels: float) -> np.ndarray:
    """A Gaussian, cut off at three standard deviations, as a point-spread function.

    Returns:
      ``(size, size)`` float32 of sum 1; the size is odd.
    """
    size = 2 * math.ceil(3 * sigma_pixels) + 1
    profile = scipy.signal.windows.gaussian(size, sigma_pixels)
    psf = np.outer(profile, profile)
    return (psf / psf.sum()).astype(np.float32)


def unsharp_mask(image: np.ndarray, *, radius_pixels: float, amount: float) -> np.ndarray:
    """Adds ``amount`` times what a Gaussian of that radius takes away."""
    return filters.unsharp_mask(image, radius_pixels, amount, preserve_range=True)


def wiener(image: np.ndarray, psf: np.ndarray, *, balance: float) -> np.ndarray:
    """Wiener-Hunt deconvolution; the larger the balance, the smoother its result.

    Args:
      image: The image.
      psf: ``(size, size)`` of sum 1, centred at ``size // 2``.
      balance: Weight of the roughness of the result against its distance from the data.
    """
    return _within_margin(
        image, psf, lambda padded: restoration.wiener(padded, psf, balance, clip=False)
    )


def richardson_lucy(image: np.ndarray, psf: np.ndarray, *, iterations: int) -> np.ndarray:
    """Richardson-Lucy deconvolution; the more iterations, the sharper and noisier its result.

    Args:
      image: The image.
      psf: ``(size, size)`` of sum 1, centred at ``size // 2``.
      iterations: How many.
    """
    return _within_margin(
        image,
        psf,
        lambda padded: restoration.richardson_lucy(
            # Where nothing is left, rounding errors of the FFT would be divided by.
            *(padded, psf, iterations),
            clip=False,
            filter_epsilon=1e-6,
        ),
    )


def _within_margin(
    image: np.ndarray, psf: np.ndarray, restore: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Lets the outermost pixels go on for the size of the PSF, restores, and cuts them off."""
    margin = psf.shape[0]
    restored = restore(np.pad(image, margin, mode="edge"))
    height, width = image.shape
    return restored[margin : margin + height, margin : margin + width]
