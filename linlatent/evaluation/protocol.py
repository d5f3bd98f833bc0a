"""What is compared with what: the paper's protocol on arrays, without data sets or files.

Planes are ``(B, L, S, S, 1)`` with the blur level as second axis; a = level 0 is the sharpest,
c = level L - 1 the blurriest, and b runs over the L - 2 *interior* levels between them with
``alpha = (c - b) / (c - a)``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from linlatent import latent, metrics
from linlatent.data import Triplet
from linlatent.evaluation.baselines import BASELINES
from linlatent.evaluation.rows import EQ_7, POOLED, RANGE_1, Row, make_row, span

Images = Any
"""A JAX array inside `predict`, a NumPy array once it has been fetched."""
Encoder = Callable[[jax.Array], latent.Latent]
Decoder = Callable[[latent.Latent], jax.Array]


class Predictions(NamedTuple):
    """All that a model says about a batch of stacks.

    Attributes:
      latents: E(x_b) of every level, a pytree of ``(B, L, ...)``.
      reconstructions: D(E(x_b)) of every level, ``(B, L, S, S, 1)``.
      synthesised: D of the straight line between the latents of levels 0 and L - 1, at every level,
        ``(B, L, S, S, 1)``. At the end points these are the reconstructions.
      deblurred: Estimates of level 0 from each interior level and level L - 1 (Eq. 2),
        ``(B, L - 2, S, S, 1)``.
    """

    latents: latent.Latent
    reconstructions: Images
    synthesised: Images
    deblurred: Images


class Pairing(NamedTuple):
    """A kind of estimate and the images it is measured against, from a blur level on."""

    section: str
    estimate: str
    reference: str
    first_level: int


class Errors(NamedTuple):
    """How far estimates are from their references, per image: three arrays ``(slides, levels)``.

    Attributes:
      mse: Mean squared error.
      peak: Maximum of the reference.
      ssim: Structural similarity.
    """

    mse: np.ndarray
    peak: np.ndarray
    ssim: np.ndarray


def interior_alphas(num_levels: int) -> list[float]:
    """Weights of level 0 in the interior levels 1 ... L - 2, between levels 0 and L - 1."""
    blurriest = num_levels - 1
    return [Triplet(0, b, blurriest).alpha for b in range(1, blurriest)]


def predict(encode: Encoder, decode: Decoder, planes: jax.Array) -> Predictions:
    """Encodes, reconstructs, synthesises and deblurs all levels at once; pure and jittable.

    Args:
      encode: From images ``(N, S, S, 1)`` to a latent, a pytree of ``(N, ...)``.
      decode: Its counterpart.
      planes: ``(B, L, S, S, 1)`` float32 in [0, 1], L >= 3.

    Returns:
      The `Predictions`.
    """
    alphas = jnp.asarray(interior_alphas(planes.shape[1]))
    encode_levels = jax.vmap(encode, in_axes=1, out_axes=1)
    decode_levels = jax.vmap(decode, in_axes=1, out_axes=1)

    latents = encode_levels(planes)
    sharpest, interior, blurriest = (
        jax.tree.map(lambda leaf, level=level: leaf[:, level], latents)
        for level in (0, slice(1, -1), -1)
    )
    between = jax.vmap(latent.interpolate, in_axes=(None, None, 0), out_axes=1)
    beyond = jax.vmap(latent.extrapolate, in_axes=(1, None, 0), out_axes=1)

    reconstructions = decode_levels(latents)
    synthesised = decode_levels(between(sharpest, blurriest, alphas))
    return Predictions(
        latents,
        reconstructions,
        jnp.concatenate([reconstructions[:, :1], synthesised, reconstructions[:, -1:]], axis=1),
        decode_levels(beyond(interior, blurriest, alphas)),
    )


def baseline_estimates(planes: np.ndarray) -> dict[str, np.ndarray]:
    """Every row of `BASELINES` on every interior level, each ``(B, L - 2, S, S, 1)``."""
    alphas = interior_alphas(planes.shape[1])
    # A loop, because a baseline may use a library that knows no vmap.
    return {
        name: np.stack(
            [
                baseline(planes[:, level], planes[:, -1], alpha)
                for level, alpha in enumerate(alphas, start=1)
            ],
            axis=1,
        )
        for name, baseline in BASELINES.items()
    }


def compare(
    planes: np.ndarray, predictions: Predictions, baselines: Mapping[str, np.ndarray]
) -> dict[Pairing, Errors]:
    """Measures every estimate of the protocol against its references.

    Args:
      planes: The true planes, ``(B, L, S, S, 1)``.
      predictions: What the model makes of them.
      baselines: What the baselines make of them, from `baseline_estimates`.

    Returns:
      For each pairing the errors, ``(B, L)`` or, for deblurring, ``(B, L - 2)``.
    """
    made = predictions
    sharp = np.broadcast_to(planes[:, :1], made.deblurred.shape)
    sharp_reconstruction = np.broadcast_to(made.reconstructions[:, :1], made.deblurred.shape)
    pairs = {
        Pairing("reconstruction", "reconstruction", "ground truth", 0): (
            made.reconstructions,
            planes,
        ),
        Pairing("blur synthesis", "synthesised", "reconstruction", 0): (
            made.synthesised,
            made.reconstructions,
        ),
        Pairing("blur synthesis", "synthesised", "ground truth", 0): (made.synthesised, planes),
        Pairing("deblurring", "deblurred", "reconstruction", 1): (
            made.deblurred,
            sharp_reconstruction,
        ),
        Pairing("deblurring", "deblurred", "ground truth", 1): (made.deblurred, sharp),
    }
    for name, estimate in baselines.items():
        pairs[Pairing("deblurring", name, "ground truth", 1)] = (estimate, sharp)
    return {
        pairing: Errors(
            metrics.mean_squared_error(estimate, reference),
            metrics.peak(reference),
            metrics.ssim(estimate, reference),
        )
        for pairing, (estimate, reference) in pairs.items()
    }


LINEARITY: Mapping[tuple[str, str], Callable[[np.ndarray], np.ndarray]] = {
    ("LDS", "paper, Eq. 5"): metrics.lds_paper,
    ("LDS", "published code"): metrics.lds_published,
    ("APD", "paper, Eq. 6"): metrics.apd_paper,
    ("APD", "published code"): metrics.apd_published,
}
"""Measures of how straight the path of a slide's latents is, by quantity and definition."""


def flatten_latents(latents: latent.Latent) -> np.ndarray:
    """Joins the leaves of latents of stacks to vectors, ``(B, L, features)``."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(latents)]
    return np.concatenate([leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves], axis=-1)


def linearity(latents: latent.Latent) -> dict[tuple[str, str], np.ndarray]:
    """All rows of `LINEARITY`, each ``(B,)``."""
    vectors = flatten_latents(latents)
    return {key: measure(vectors) for key, measure in LINEARITY.items()}


def linearity_rows(values: Mapping[tuple[str, str], np.ndarray]) -> list[Row]:
    """The table rows of the values per slide that `linearity` returns."""
    return [
        make_row("latent space", "latent path", "", "", quantity, definition, slides)
        for (quantity, definition), slides in values.items()
    ]


def image_rows(pairing: Pairing, errors: Errors) -> list[Row]:
    """The table rows of one pairing: each of its blur levels, then their averages.

    Planes of one slide are not independent of each other, so a value over several levels is first
    averaged within each slide: n counts slides, and the standard error is that of slides.

    Args:
      pairing: What was compared.
      errors: Its errors over all slides.

    Returns:
      Rows of PSNR under three definitions and of SSIM for each level, for all levels together, and,
      where the end points take part, for the interior levels. Averages keep their values per slide.
    """
    first, count = pairing.first_level, errors.mse.shape[1]
    groups = {str(first + index): slice(index, index + 1) for index in range(count)}
    groups[span(first, first + count - 1)] = slice(None)
    if first == 0:
        groups[span(1, count - 2)] = slice(1, -1)
    rows = []
    for levels, chosen in groups.items():
        mse, peak, ssim = (array[:, chosen] for array in errors)
        pooled = metrics.psnr_from_mse(mse.mean(), peak.max())
        for quantity, definition, values in (
            ("PSNR", RANGE_1, metrics.psnr_from_mse(mse, 1.0).mean(axis=1)),
            ("PSNR", EQ_7, metrics.psnr_from_mse(mse, peak).mean(axis=1)),
            ("SSIM", RANGE_1, ssim.mean(axis=1)),
        ):
            row = make_row(*pairing[:3], levels, quantity, definition, values)
            rows.append(row._replace(per_slide=None) if levels.isdigit() else row)
        row = make_row(*pairing[:3], levels, "PSNR", POOLED, [pooled])
        rows.append(row._replace(n=len(mse), per_slide=None))
    return rows


def concatenate(batches: Iterable[Errors]) -> Errors:
    """Joins the errors of several batches of slides."""
    return Errors(*(np.concatenate(arrays) for arrays in zip(*batches, strict=True)))
