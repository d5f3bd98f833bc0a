"""Figures of merit of images and of latent paths: plain NumPy in float64, one value per example.

No function guesses an intensity range, and none averages over examples except `psnr_pooled`, whose
definition is an average; `summarise` turns values per example into a mean that knows its error.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Summary(NamedTuple):
    """A mean over independent examples.

    Attributes:
      mean: Arithmetic mean.
      standard_error: Sample standard deviation / sqrt(n); NaN for n = 1, which says nothing about
        the spread.
      n: Number of examples.
    """

    mean: float
    standard_error: float
    n: int


def summarise(values: npt.ArrayLike) -> Summary:
    """Mean, standard error and number of the values ``(n,)``.

    A mean over infinite values (PSNR of identical images) is infinite, and its error NaN.

    Raises:
      ValueError: If values is not one-dimensional or is empty.
    """
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"a summary needs a non-empty list of values, got shape {values.shape}")
    n = values.size
    with np.errstate(invalid="ignore"):
        error = values.std(ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return Summary(float(values.mean()), float(error), n)


def mean_squared_error(image: npt.ArrayLike, reference: npt.ArrayLike) -> np.ndarray:
    """Mean squared error of each image.

    Args:
      image: Estimates, ``(..., H, W, 1)``.
      reference: What they should be, of the same shape.

    Returns:
      ``(...)`` float64.

    Raises:
      ValueError: If the shapes differ or are not those of one-channel images.
    """
    image, reference = _checked(image, reference)
    return np.mean((image - reference) ** 2, axis=(-3, -2, -1))


def peak(image: npt.ArrayLike) -> np.ndarray:
    """Maximum of each image of ``(..., H, W, 1)``: the intensity range of the paper's Eq. 7."""
    return np.max(np.asarray(image, np.float64), axis=(-3, -2, -1))


def psnr_from_mse(mse: npt.ArrayLike, data_range: npt.ArrayLike) -> np.ndarray:
    """``10 log10(data_range² / mse)`` in dB, element by element.

    It is infinite where the error is zero, and NaN where the range is zero (a black target has no
    range of its own).
    """
    mse, data_range = np.broadcast_arrays(
        np.asarray(mse, np.float64), np.asarray(data_range, np.float64)
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(data_range > 0, 10 * np.log10(data_range**2 / mse), np.nan)


def psnr(image: npt.ArrayLike, reference: npt.ArrayLike, *, data_range: float) -> np.ndarray:
    """Peak signal-to-noise ratio of each image in dB.

    Args:
      image: Estimates, ``(..., H, W, 1)``.
      reference: What they should be, of the same shape.
      data_range: Span of possible intensities: 1 for normalised images.

    Returns:
      ``(...)`` float64; infinite for identical images.

    Raises:
      ValueError: If the shapes do not fit or data_range is not positive.
    """
    if not data_range > 0:
        raise ValueError(f"data_range must be positive, got {data_range}")
    return psnr_from_mse(mean_squared_error(image, reference), data_range)


def affine_fit(image: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """The unit of intensity in which each image is closest to its reference (least squares).

    Args:
      image: Estimates, ``(..., H, W, 1)``.
      reference: What they should be, of the same shape.

    Returns:
      Gain and offset, each ``(...)`` float64, of ``gain * image + offset``. The gain is not
      negative: of a flat or an inverted image it is 0, and the offset the mean of the reference.

    Raises:
      ValueError: If the shapes do not fit.
    """
    image, reference = _checked(image, reference)
    axes = (-3, -2, -1)
    mean, expected = image.mean(axes, keepdims=True), reference.mean(axes, keepdims=True)
    variance = np.sum((image - mean) ** 2, axis=axes)
    covariance = np.sum((image - mean) * (reference - expected), axis=axes)
    # Rounding of the mean gives a flat image a trace of variance.
    flat = image.max(axes) == image.min(axes)
    gain = np.where(flat, 0, np.maximum(covariance, 0) / np.where(flat, 1, variance))
    return gain, expected[..., 0, 0, 0] - gain * mean[..., 0, 0, 0]


def psnr_affine(image: npt.ArrayLike, reference: npt.ArrayLike, *, data_range: float) -> np.ndarray:
    """PSNR of each image in dB after `affine_fit`: it does not see the unit of intensity.

    Arguments and errors are those of `psnr`, which it never lies below but for rounding.
    """
    gain, offset = (np.asarray(fit)[..., None, None, None] for fit in affine_fit(image, reference))
    return psnr(gain * np.asarray(image, np.float64) + offset, reference, data_range=data_range)


def psnr_paper(image: npt.ArrayLike, reference: npt.ArrayLike) -> np.ndarray:
    """PSNR of each image in dB, its range the maximum of that reference (paper, Eq. 7).

    Shapes as in `psnr`; NaN where the reference is black.
    """
    return psnr_from_mse(mean_squared_error(image, reference), peak(reference))


def psnr_pooled(image: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """One PSNR in dB for all images together, as the paper's published code computes it.

    The squared errors of all images are averaged *before* the logarithm, and the range is the
    maximum of all references (torchmetrics' default for images that are not negative).

    Note:
      Eq. 7 of the paper is per image (`psnr_paper`); its code is not.
    """
    mse = mean_squared_error(image, reference)
    return float(psnr_from_mse(mse.mean(), peak(reference).max()))


def ssim(image: npt.ArrayLike, reference: npt.ArrayLike) -> np.ndarray:
    """Structural similarity of each image, for intensities in [0, 1].

    With the settings of Wang et al. (2004): Gaussian window of sigma 1.5 and 11 pixels, population
    covariances, K1 = 0.01, K2 = 0.03.

    Args:
      image: Estimates, ``(..., H, W, 1)`` with H, W >= 11.
      reference: What they should be, of the same shape.

    Returns:
      ``(...)`` float64, at most 1.
    """
    from skimage.metrics import structural_similarity

    image, reference = np.asarray(image, np.float64), np.asarray(reference, np.float64)
    values = [
        structural_similarity(
            x, y, data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        )
        for x, y in zip(_planes(image), _planes(reference), strict=True)
    ]
    return np.reshape(values, image.shape[:-3])


def lds_paper(latents: npt.ArrayLike) -> np.ndarray:
    """Linear direction similarity of each slide (paper, Eq. 5).

    The mean, over neighbouring pairs, of the cosine between one step of the latent path and the
    next: ``mean_i cos(z_{i+1} - z_i, z_{i+2} - z_{i+1})``. 1 on a straight path.

    Args:
      latents: ``(slides, levels, ...)``, levels >= 3 in the order of blur; the rest is one vector.

    Returns:
      ``(slides,)`` float64 in [-1, 1]; NaN where two neighbouring latents coincide.
    """
    return _mean_cosine(_steps(latents))


def lds_published(latents: npt.ArrayLike) -> np.ndarray:
    """Linear direction similarity as the paper's published code computes it; see `lds_paper`.

    Note:
      It takes the cosine of the *element-wise squared* steps, which has lost their sign: it lies in
      [0, 1] and cannot see a path that turns back.
    """
    return _mean_cosine(_steps(latents) ** 2)


def apd_paper(latents: npt.ArrayLike) -> np.ndarray:
    """Average pairwise distance of each slide (paper, Eq. 6).

    How far the steps of a latent path of n levels are from equal steps of the straight line between
    its end points, relative to that line:
    ``mean_i | |z_{i+1} - z_i| - |z_n - z_1| / (n - 1) | / |z_n - z_1|``, with Euclidean distances.
    0 for equal steps along a straight line.

    Args:
      latents: ``(slides, levels, ...)``, levels >= 3 in the order of blur; the rest is one vector.

    Returns:
      ``(slides,)`` float64 >= 0; NaN where the end points coincide.
    """
    steps = _steps(latents)
    distances = np.linalg.norm(steps, axis=-1)
    length = np.linalg.norm(steps.sum(axis=1), axis=-1)
    return _relative_deviation(distances, length / steps.shape[1], length)


def apd_published(latents: npt.ArrayLike) -> np.ndarray:
    """Average pairwise distance as the paper's published code computes it; see `apd_paper`.

    Note:
      Its distances are *mean squared differences*, for which the equal steps of a straight line of
      n levels measure 1 / (n - 1)² of the whole.
    """
    steps = _steps(latents)
    distances = np.mean(steps**2, axis=-1)
    length = np.mean(steps.sum(axis=1) ** 2, axis=-1)
    return _relative_deviation(distances, length / steps.shape[1] ** 2, length)


def _steps(latents: npt.ArrayLike) -> np.ndarray:
    """Differences of neighbouring latents, ``(slides, levels - 1, features)``."""
    latents = np.asarray(latents, np.float64)
    if latents.ndim < 3 or latents.shape[1] < 3:
        raise ValueError(
            "latents must have the shape (slides, levels, ...) with at least 3 levels, got"
            f" {latents.shape}"
        )
    return np.diff(latents.reshape(*latents.shape[:2], -1), axis=1)


def _mean_cosine(vectors: np.ndarray) -> np.ndarray:
    norms = np.linalg.norm(vectors, axis=-1)
    products = np.sum(vectors[:, :-1] * vectors[:, 1:], axis=-1)
    with np.errstate(invalid="ignore"):
        return np.mean(products / (norms[:, :-1] * norms[:, 1:]), axis=1)


def _relative_deviation(
    distances: np.ndarray, expected: np.ndarray, length: np.ndarray
) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = np.mean(np.abs(distances - expected[:, None]), axis=1) / length
    return np.where(length > 0, deviation, np.nan)


def _checked(image: npt.ArrayLike, reference: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    image, reference = np.asarray(image, np.float64), np.asarray(reference, np.float64)
    if image.shape != reference.shape or image.ndim < 3 or image.shape[-1] != 1:
        raise ValueError(
            "image and reference must have the same shape (..., H, W, 1), got"
            f" {image.shape} and {reference.shape}"
        )
    return image, reference


def _planes(images: np.ndarray) -> np.ndarray:
    return images.reshape(-1, *images.shape[-3:-1])
