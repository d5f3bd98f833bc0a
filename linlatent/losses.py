"""The objectives of the paper (Section 3.2) and three beyond it, as named terms on arrays.

A term maps what the network made of a batch to one number per example; an objective is a row of
terms with their weights. A new objective is a new row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import flax
import jax
import jax.numpy as jnp

Criterion = Callable[[jax.Array, jax.Array], jax.Array]


def absolute_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean absolute difference per example: ``(K, B, ...)`` twice to ``(K, B)``."""
    return jnp.mean(jnp.abs(x - y), axis=tuple(range(2, x.ndim)))


def root_of_squared_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """Root of the mean squared difference per example: ``(K, B, ...)`` twice to ``(K, B)``.

    Its gradient is that of PSNR but for a factor, the error itself, so that planes close to focus,
    whose errors are small, count nearly as much as those far from it.
    """
    return jnp.sqrt(squared_error(x, y) + 1e-6) - 1e-3  # no slope is infinite


def log_of_squared_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """A hundredth of ``ln(1 + MSE / 1e-5)`` per example: ``(K, B, ...)`` twice to ``(K, B)``.

    It is PSNR at range 1, turned round, 0.0023 a dB: a tenth of an error counts the same in every
    plane. Above 50 dB, where only noise is left, little more is to be gained.
    """
    return jnp.log1p(squared_error(x, y) / 1e-5) / 100


def squared_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared difference per example: ``(K, B, ...)`` twice to ``(K, B)``."""
    return jnp.mean(jnp.square(x - y), axis=tuple(range(2, x.ndim)))


CRITERIA: Mapping[str, Criterion] = {
    "l1": absolute_error,
    "mse": squared_error,
    "rmse": root_of_squared_error,
    "log": log_of_squared_error,
}
"""What compares images, and latents: the paper states ``l1``, its published code runs ``mse``."""


@flax.struct.dataclass
class Outputs:
    """What the network made of a batch of B examples, with E endpoint planes and T triplets.

    Attributes:
      endpoints: Planes a and c, ``(E, B, H, W, 1)``; beyond the paper's objectives also b.
      reconstructions: D(E(x)) of them, same shape.
      endpoint_weights: ``(E,)``, the share of the triplets' endpoints that each is; sums to 1.
      targets: The plane b of each triplet, ``(T, B, H, W, 1)``.
      interpolated: z_b' of Eq. 1, ``(T, B, h, w, C)``.
      syntheses: D(z_b'), shaped as the targets; empty (T = 0) where no term needs it.
      latents: z_b, shaped as z_b'; empty where no term needs it.
      sharper: The plane a of each triplet, shaped as the targets; empty where no term needs it.
      extrapolations: The anchored x_a' of each triplet (`latent.anchor`), likewise.
      in_focus: Of a network that keeps content and blur apart, planes in focus, ``(F, B, H, W,
        1)``; otherwise empty, as all that follows.
      focused: What it made of blurry ones, by themselves (`inference.deblur_single`) or beside c,
        same shape.
      contents: The contents of the planes a, b and c of each triplet, ``(3, T, B, h, w, C)``.
      blur_errors: Blurs of planes less what they should be, ``(K, B)``, means over the image in
        shares of the blurriest.
      step_errors: Likewise how much blurrier each plane of a slide is than the one before,
        ``(P - 1, B)``.
    """

    endpoints: jax.Array
    reconstructions: jax.Array
    endpoint_weights: jax.Array
    targets: jax.Array
    interpolated: jax.Array
    syntheses: jax.Array
    latents: jax.Array
    sharper: jax.Array = flax.struct.field(default_factory=lambda: jnp.zeros(0))
    extrapolations: jax.Array = flax.struct.field(default_factory=lambda: jnp.zeros(0))
    in_focus: jax.Array = flax.struct.field(default_factory=lambda: jnp.zeros(0))
    focused: jax.Array = flax.struct.field(default_factory=lambda: jnp.zeros(0))
    contents: jax.Array = flax.struct.field(default_factory=lambda: jnp.zeros(0))
    blur_errors: jax.Array = flax.struct.field(default_factory=lambda: jnp.zeros(0))
    step_errors: jax.Array = flax.struct.field(default_factory=lambda: jnp.zeros(0))


def reconstruction(outputs: Outputs, criterion: Criterion) -> jax.Array:
    """``1/2 [rec(a) + rec(c)]``, the baseline objective; ``(B,)``."""
    return outputs.endpoint_weights @ criterion(outputs.endpoints, outputs.reconstructions)


def interpolation(outputs: Outputs, criterion: Criterion) -> jax.Array:
    """``rec(b, D(z_b'))``, the indirect regulariser; ``(B,)``."""
    return jnp.mean(criterion(outputs.targets, outputs.syntheses), axis=0)


def latent(outputs: Outputs, criterion: Criterion) -> jax.Array:
    """Distance of z_b from z_b', averaged over elements, the direct regulariser; ``(B,)``."""
    return jnp.mean(criterion(outputs.latents, outputs.interpolated), axis=0)


def extrapolation(outputs: Outputs, criterion: Criterion) -> jax.Array:
    """``rec(a, x_a')``, what deblurring is for; ``(B,)``."""
    return jnp.mean(criterion(outputs.sharper, outputs.extrapolations), axis=0)


def focus(outputs: Outputs, criterion: Criterion) -> jax.Array:
    """``rec(a, b in focus)``: deblurring without c, or with c in sight; ``(B,)``."""
    return jnp.mean(criterion(outputs.in_focus, outputs.focused), axis=0)


def content(outputs: Outputs, criterion: Criterion) -> jax.Array:
    """How far the contents of b and c are from that of a, relative to its size; ``(B,)``.

    The content of a is what the others should come to, so no gradient goes through it.
    """
    del criterion
    sharp, *others = outputs.contents
    sharp = jax.lax.stop_gradient(sharp)
    distance = sum(absolute_error(other, sharp) for other in others) / len(others)
    return jnp.mean(distance / (absolute_error(sharp, jnp.zeros_like(sharp)) + 1e-3), axis=0)


def blur(outputs: Outputs, criterion: Criterion) -> jax.Array:
    """Distance of the blurs of planes from what they should be; ``(B,)``."""
    del criterion
    return jnp.mean(jnp.abs(outputs.blur_errors), axis=0)


def steps(outputs: Outputs, criterion: Criterion) -> jax.Array:
    """Distance of the steps of blur within a slide from what they should be; ``(B,)``.

    Where one cannot tell a soft slide from a blurry one, the blur that is off by least is drawn to
    the middle, and the first and the last step come out short. Steps know no such offset.
    """
    del criterion
    return jnp.mean(jnp.abs(outputs.step_errors), axis=0)


TERMS: Mapping[str, Callable[[Outputs, Criterion], jax.Array]] = {
    "reconstruction": reconstruction,
    "interpolation": interpolation,
    "latent": latent,
    "extrapolation": extrapolation,
    "focus": focus,
    "content": content,
    "blur": blur,
    "steps": steps,
}

OBJECTIVES: Mapping[str, Mapping[str, float]] = {
    "baseline": {"reconstruction": 1.0},
    "indirect": {"reconstruction": 1.0, "interpolation": 1.0},
    "direct": {"reconstruction": 1.0, "interpolation": 1.0, "latent": 1.0},
    "extrapolated": {"reconstruction": 1.0, "interpolation": 1.0, "extrapolation": 1.0},
    "separated": {
        **{"reconstruction": 0.05, "interpolation": 0.05, "extrapolation": 0.5, "focus": 1.0},
        **{"content": 0.001, "blur": 0.03, "steps": 0.03},
    },
    "separated_blur": {"blur": 0.2, "steps": 1.0},
    "separated_pair": {"reconstruction": 0.05, "focus": 1.0},
}
"""The terms of each objective and their weights in the loss. The first three are the paper's."""

_BEYOND_THE_PAPER: Mapping[str, tuple[str, ...]] = {
    "separated": ("separated", "separated_blur"),
    "paired": ("separated_pair",),
}
"""Objectives of the networks that keep content and blur apart; all others are of the paper's."""

TRAINED_PART: Mapping[str, tuple[str, ...]] = {
    "separated_blur": ("encoder", "blur"),
    "separated_pair": ("pair",),
}
"""The part of the network, a path of names, that an objective trains; not listed, all of it."""


def objectives_of(network: str) -> tuple[str, ...]:
    """The objectives that a network of `networks.NETWORKS` can be trained with."""
    others = {name for names in _BEYOND_THE_PAPER.values() for name in names}
    papers = tuple(name for name in OBJECTIVES if name not in others)
    return _BEYOND_THE_PAPER.get(network, papers)


def objective_terms(
    outputs: Outputs, *, objective: str, criterion: str, latent_weight: float
) -> dict[str, jax.Array]:
    """Evaluates an objective.

    Args:
      outputs: What the network made of a batch of B examples.
      objective: A key of `OBJECTIVES`.
      criterion: A key of `CRITERIA`.
      latent_weight: A further weight of the latent term.

    Returns:
      Each term of the objective, unweighted, under its name, and their weighted sum as ``loss``;
      all ``(B,)`` float32.
    """
    further = {"latent": latent_weight}
    weights = {
        name: weight * further.get(name, 1.0) for name, weight in OBJECTIVES[objective].items()
    }
    terms = {name: TERMS[name](outputs, CRITERIA[criterion]) for name in weights}
    loss = sum(weights[name] * value for name, value in terms.items())
    return {"loss": jnp.asarray(loss), **terms}
