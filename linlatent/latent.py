"""The two equations of the paper, on latents, planes or anything else that is linear in blur.

One convention holds everywhere: blur grows from a (sharp) over b to c (blurry), and alpha is the
weight of the sharper endpoint a, ``alpha = (c - b) / (c - a)``, in (0, 1].
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Latent = Any
"""A pytree of arrays; the paper's network has a single one, ``(..., h, w, channels)``."""

RESIDUAL_SCALE = 2.0
"""Standard deviation of the Gaussian that takes the noise out of an anchor, in pixels."""


def interpolate(za: Latent, zc: Latent, alpha: jax.typing.ArrayLike) -> Latent:
    """Synthesises the latent of an intermediate blur level (paper, Eq. 1).

    Args:
      za: Latent of the sharper endpoint.
      zc: Latent of the blurrier endpoint, of the same structure and shapes.
      alpha: Weight of the sharper endpoint in (0, 1]; a scalar, or an array whose axes are the
        leading axes of every leaf (such as one value per example of a batch).

    Returns:
      ``alpha * za + (1 - alpha) * zc``.

    Raises:
      ValueError: If alpha is a concrete number outside (0, 1].
    """
    check_alpha(alpha)

    def combine(a: jax.Array, c: jax.Array) -> jax.Array:
        weight = _align(alpha, a)
        return weight * a + (1 - weight) * c

    return jax.tree.map(combine, za, zc)


def extrapolate(zb: Latent, zc: Latent, alpha: jax.typing.ArrayLike) -> Latent:
    """Estimates the latent of the sharper endpoint (paper, the argument of D in Eq. 2).

    The inverse of `interpolate`: ``extrapolate(interpolate(za, zc, alpha), zc, alpha) == za``.

    Args:
      zb: Latent of the intermediate blur level.
      zc: Latent of the blurrier endpoint, of the same structure and shapes.
      alpha: Weight that a has in b, in (0, 1]: ``(c - b) / (c - a)`` in blur levels. 1 leaves
        ``zb`` as it is; the smaller, the further the step. Shapes as in `interpolate`.

    Returns:
      ``zb / alpha - (1 - alpha) / alpha * zc``.

    Raises:
      ValueError: If alpha is a concrete number outside (0, 1].
    """
    check_alpha(alpha)

    def combine(b: jax.Array, c: jax.Array) -> jax.Array:
        weight = _align(alpha, b)
        return b / weight - (1 - weight) / weight * c

    return jax.tree.map(combine, zb, zc)


def anchor(xb: jax.Array, sharper: jax.Array, own: jax.Array) -> jax.Array:
    """Changes an image as a network changes its own picture of it.

    Args:
      xb: The image itself.
      sharper: What the network makes of it, of the same shape.
      own: Its picture of xb as it is, likewise.

    Returns:
      ``xb + (sharper - own)``; xb to the bit where the two pictures are one.
    """
    return xb + (sharper - own)


def smooth_residual(xb: jax.Array, own: jax.Array, share: jax.typing.ArrayLike) -> jax.Array:
    """Smooths what an image has beside a network's picture of it: of that, fine things are noise.

    Args:
      xb: Images ``(N, H, W, 1)``.
      own: The network's picture of them, of the same shape.
      share: How much of the residual ``xb - own`` is smoothed, in [0, 1], broadcast to the images.

    Returns:
      xb with that share of its residual under a Gaussian of `RESIDUAL_SCALE`; xb to the bit where
      the share is 0.
    """
    residual = xb - own
    return xb - share * (residual - _under_gaussian(residual))


def _under_gaussian(x: jax.Array) -> jax.Array:
    """Images ``(N, H, W, 1)`` under a Gaussian of `RESIDUAL_SCALE`, which ends at three of it."""
    reach = round(3 * RESIDUAL_SCALE)
    taps = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / RESIDUAL_SCALE))
    taps = (taps / taps.sum()).tolist()
    for axis in (1, 2):
        margins = [(reach, reach) if each == axis else (0, 0) for each in range(x.ndim)]
        padded = jnp.pad(x, margins, mode="edge")
        x = sum(
            tap * jax.lax.slice_in_dim(padded, i, i + x.shape[axis], axis=axis)
            for i, tap in enumerate(taps)
        )
    return x


def check_alpha(alpha: jax.typing.ArrayLike) -> None:
    """Raises `ValueError` unless alpha lies in (0, 1]; a traced alpha cannot be looked at."""
    if isinstance(alpha, jax.core.Tracer):
        return
    values = np.asarray(alpha)
    if not np.all((values > 0) & (values <= 1)):
        raise ValueError(
            "alpha, the weight of the sharper endpoint, (c - b) / (c - a) in blur levels, must lie"
            f" in (0, 1]; got {alpha}"
        )


def _align(alpha: jax.typing.ArrayLike, leaf: jax.Array) -> jax.Array:
    """Gives alpha trailing unit axes, so that its axes meet the leading axes of a leaf."""
    weight = jnp.asarray(alpha, jnp.result_type(leaf, float))
    return weight.reshape(weight.shape + (1,) * (leaf.ndim - weight.ndim))
