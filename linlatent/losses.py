"""The objectives of the paper (Section 3.2), as named terms on arrays.

A term maps what the network made of a batch to one number per example; an objective is a row of
terms. A new objective is a new row.
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


def squared_error(x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared difference per example: ``(K, B, ...)`` twice to ``(K, B)``."""
    return jnp.mean(jnp.square(x - y), axis=tuple(range(2, x.ndim)))


CRITERIA: Mapping[str, Criterion] = {"l1": absolute_error, "mse": squared_error}
"""What compares images, and latents: the paper states ``l1``, its published code runs ``mse``."""


@flax.struct.dataclass
class Outputs:
    """What the network made of a batch of B examples, with E endpoint planes and T triplets.

    Attributes:
      endpoints: Planes a and c, ``(E, B, H, W, 1)``.
      reconstructions: D(E(x)) of them, same shape.
      endpoint_weights: ``(E,)``, the share of the triplets' endpoints that each is; sums to 1.
      targets: The plane b of each triplet, ``(T, B, H, W, 1)``.
      interpolated: z_b' of Eq. 1, ``(T, B, h, w, C)``.
      syntheses: D(z_b'), shaped as the targets; empty (T = 0) where no term needs it.
      latents: z_b, shaped as z_b'; empty where no term needs it.
    """

    endpoints: jax.Array
    reconstructions: jax.Array
    endpoint_weights: jax.Array
    targets: jax.Array
    interpolated: jax.Array
    syntheses: jax.Array
    latents: jax.Array


def reconstruction(outputs: Outputs, criterion: Criterion) -> jax.Array:
    """``1/2 [rec(a) + rec(c)]``, the baseline objective; ``(B,)``."""
    return outputs.endpoint_weights @ criterion(outputs.endpoints, outputs.reconstructions)


def interpolation(outputs: Outputs, criterion: Criterion) -> jax.Array:
    """``rec(b, D(z_b'))``, the indirect regulariser; ``(B,)``."""
    return jnp.mean(criterion(outputs.targets, outputs.syntheses), axis=0)


def latent(outputs: Outputs, criterion: Criterion) -> jax.Array:
    """Distance of z_b from z_b', averaged over elements, the direct regulariser; ``(B,)``."""
    return jnp.mean(criterion(outputs.latents, outputs.interpolated), axis=0)


TERMS: Mapping[str, Callable[[Outputs, Criterion], jax.Array]] = {
    "reconstruction": reconstruction,
    "interpolation": interpolation,
    "latent": latent,
}

OBJECTIVES: Mapping[str, tuple[str, ...]] = {
    "baseline": ("reconstruction",),
    "indirect": ("reconstruction", "interpolation"),
    "direct": ("reconstruction", "interpolation", "latent"),
}


def objective_terms(
    outputs: Outputs, *, objective: str, criterion: str, latent_weight: float
) -> dict[str, jax.Array]:
    """Evaluates an objective.

    Args:
      outputs: What the network made of a batch of B examples.
      objective: A key of `OBJECTIVES`.
      criterion: A key of `CRITERIA`.
      latent_weight: Weight of the latent term in the sum.

    Returns:
      Each term of the objective, unweighted, under its name, and their weighted sum as ``loss``;
      all ``(B,)`` float32.
    """
    weights = {"latent": latent_weight}
    terms = {name: TERMS[name](outputs, CRITERIA[criterion]) for name in OBJECTIVES[objective]}
    loss = sum(weights.get(name, 1.0) * value for name, value in terms.items())
    return {"loss": jnp.asarray(loss), **terms}
