"""What is compared with what: the paper's protocol on arrays, without data sets or files.

Planes are ``(B, L, S, S, 1)`` with the blur level as second axis; a = level 0 is the sharpest,
c = level L - 1 the blurriest, and b runs over the L - 2 *interior* levels between them with
``alpha = (c - b) / (c - a)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from linlatent import latent, metrics
from linlatent.data import TRIPLETS
from linlatent.evaluation import nuclei
from linlatent.evaluation.baselines import Baseline
from linlatent.evaluation.rows import (
    AFFINE,
    EQ_7,
    MATCHED,
    OF_LARGER,
    POOLED,
    RANGE_1,
    Row,
    make_row,
    span,
)

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
      further: Estimates of the same beyond the paper, by name, shaped likewise.
    """

    latents: latent.Latent
    reconstructions: Images
    synthesised: Images
    deblurred: Images
    further: Mapping[str, Images]


class Pairing(NamedTuple):
    """A kind of estimate and the images it is measured against, from a blur level on."""

    section: str
    estimate: str
    reference: str
    first_level: int


class Errors(NamedTuple):
    """How far estimates are from their references, per image: arrays ``(slides, levels)``.

    Attributes:
      mse: Mean squared error.
      peak: Maximum of the reference.
      values: Figures of merit by quantity and definition.
    """

    mse: np.ndarray
    peak: np.ndarray
    values: Mapping[tuple[str, str], np.ndarray]


def interior_alphas(num_levels: int) -> list[float]:
    """Weights of level 0 in the interior levels 1 ... L - 2, between levels 0 and L - 1."""
    return [triplet.alpha for triplet in TRIPLETS["spanning"](num_levels)]


def predict(encode: Encoder, decode: Decoder, planes: jax.Array) -> Predictions:
    """Encodes, reconstructs, synthesises and deblurs all levels at once; pure and jittable.

    Args:
      encode: From images ``(N, S, S, 1)`` to a latent, a pytree of ``(N, ...)``.
      decode: Its counterpart.
      planes: ``(B, L, S, S, 1)`` float32 in [0, 1], L >= 3.

    Returns:
      The `Predictions` of the paper, and nothing further.
    """
    alphas = jnp.asarray(interior_alphas(planes.shape[1]))
    encode_levels = jax.vmap(encode, in_axes=1, out_axes=1)
    decode_levels = jax.vmap(decode, in_axes=1, out_axes=1)

    latents = encode_levels(planes)
    sharpest, interior, blurriest = (at_levels(latents, each) for each in (0, slice(1, -1), -1))
    between = jax.vmap(latent.interpolate, in_axes=(None, None, 0), out_axes=1)
    beyond = jax.vmap(latent.extrapolate, in_axes=(1, None, 0), out_axes=1)

    reconstructions = decode_levels(latents)
    synthesised = decode_levels(between(sharpest, blurriest, alphas))
    return Predictions(
        latents,
        reconstructions,
        jnp.concatenate([reconstructions[:, :1], synthesised, reconstructions[:, -1:]], axis=1),
        decode_levels(beyond(interior, blurriest, alphas)),
        further={},
    )


def at_levels(latents: latent.Latent, levels: int | slice) -> latent.Latent:
    """The latents of some of the levels, ``(B, ...)`` of one and ``(B, L', ...)`` of several."""
    return jax.tree.map(lambda leaf: leaf[:, levels], latents)


def baseline_estimates(
    planes: np.ndarray, baselines: Mapping[str, Baseline]
) -> dict[str, np.ndarray]:
    """What every baseline makes of every interior level, each ``(B, L - 2, S, S, 1)``."""
    levels = range(1, planes.shape[1] - 1)
    with ThreadPoolExecutor() as pool:
        futures = {
            name: [pool.submit(baseline, planes, level) for level in levels]
            for name, baseline in baselines.items()
        }
        return {
            name: np.stack([future.result() for future in of_levels], axis=1)
            for name, of_levels in futures.items()
        }


def compare(planes: np.ndarray, predictions: Predictions) -> dict[Pairing, Errors]:
    """Measures every estimate of a model against its references.

    Args:
      planes: The true planes, ``(B, L, S, S, 1)``.
      predictions: What the model makes of them.

    Returns:
      For each pairing the errors, ``(B, L)`` or, for deblurring, ``(B, L - 2)``.
    """
    made = predictions
    sharp_reconstruction = np.broadcast_to(made.reconstructions[:, :1], made.deblurred.shape)
    pairs = {
        ("reconstruction", "reconstruction", "ground truth", 0): (made.reconstructions, planes),
        ("blur synthesis", "synthesised", "reconstruction", 0): (
            made.synthesised,
            made.reconstructions,
        ),
        ("blur synthesis", "synthesised", "ground truth", 0): (made.synthesised, planes),
        ("deblurring", "deblurred", "reconstruction", 1): (made.deblurred, sharp_reconstruction),
    }
    compared = {Pairing(*names): _errors(*images) for names, images in pairs.items()}
    return compared | compare_with_sharp(planes, {"deblurred": made.deblurred, **made.further})


def compare_with_sharp(
    planes: np.ndarray, estimates: Mapping[str, np.ndarray]
) -> dict[Pairing, Errors]:
    """Measures estimates of the sharp plane, those of a model or of baselines, against it.

    Args:
      planes: The true planes, ``(B, L, S, S, 1)``.
      estimates: From each interior level, ``(B, L - 2, S, S, 1)``, by name.

    Returns:
      For each of them the errors, ``(B, L - 2)``, with what only deblurring is measured by.
    """
    expected = [nuclei.find_nuclei(plane) for plane in planes[:, 0, ..., 0]]
    compared = {}
    for name, estimate in estimates.items():
        sharp = np.broadcast_to(planes[:, :1], estimate.shape)
        errors = _errors(estimate, sharp)
        values = {
            **errors.values,
            ("PSNR, affine", AFFINE): metrics.psnr_affine(estimate, sharp, data_range=1.0),
            **_nuclei_values(estimate, expected),
        }
        pairing = Pairing("deblurring", name, "ground truth", 1)
        compared[pairing] = errors._replace(values=values)
    return compared


def _errors(estimate: np.ndarray, reference: np.ndarray) -> Errors:
    mse, peak = metrics.mean_squared_error(estimate, reference), metrics.peak(reference)
    return Errors(
        mse,
        peak,
        {
            ("PSNR", RANGE_1): metrics.psnr_from_mse(mse, 1.0),
            ("PSNR", EQ_7): metrics.psnr_from_mse(mse, peak),
            ("SSIM", RANGE_1): metrics.ssim(estimate, reference),
        },
    )


def _nuclei_values(
    estimate: np.ndarray, expected: Sequence[np.ndarray]
) -> dict[tuple[str, str], np.ndarray]:
    """Compares the nuclei of ``(B, L - 2, S, S, 1)`` with those of the B sharp planes."""
    found = [[nuclei.find_nuclei(image) for image in levels[..., 0]] for levels in estimate]
    return {
        key: np.array(
            [
                [measure(labels, truth) for labels in levels]
                for levels, truth in zip(found, expected, strict=True)
            ]
        )
        for key, measure in (
            (("nuclei F1", MATCHED), nuclei.f1_score),
            (("nuclei area error", OF_LARGER), nuclei.area_error),
        )
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
      Rows of every quantity and definition, and of the pooled PSNR, for each level, for all levels
      together, and, where the end points take part, for the interior levels. Averages keep their
      values per slide.
    """
    first, count = pairing.first_level, errors.mse.shape[1]
    groups = {str(first + index): slice(index, index + 1) for index in range(count)}
    groups[span(first, first + count - 1)] = slice(None)
    if first == 0:
        groups[span(1, count - 2)] = slice(1, -1)
    rows = []
    for levels, chosen in groups.items():
        for (quantity, definition), values in errors.values.items():
            of_slides = values[:, chosen].mean(axis=1)
            row = make_row(*pairing[:3], levels, quantity, definition, of_slides)
            rows.append(row._replace(per_slide=None) if levels.isdigit() else row)
        pooled = metrics.psnr_from_mse(errors.mse[:, chosen].mean(), errors.peak[:, chosen].max())
        row = make_row(*pairing[:3], levels, "PSNR", POOLED, [pooled])
        rows.append(row._replace(n=len(errors.mse), per_slide=None))
    return rows


def concatenate(batches: Sequence[Errors]) -> Errors:
    """Joins the errors of several batches of slides."""
    return Errors(
        np.concatenate([batch.mse for batch in batches]),
        np.concatenate([batch.peak for batch in batches]),
        {
            key: np.concatenate([batch.values[key] for batch in batches])
            for key in batches[0].values
        },
    )
