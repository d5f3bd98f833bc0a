"""Batch normalisation of several passes at once, with a gradient that is lean in memory.

Images are ``(B, passes, H, W, C)``, float32 or bfloat16, and stay so; moments, and all that is
computed of them, are float32.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

EPSILON = 1e-5
_PIXELS_OF_A_PASS = (0, 2, 3)


def by_moments(
    x: jax.Array, mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array
) -> jax.Array:
    """Normalises by given moments, then scales and shifts.

    Args:
      x: Images ``(B, passes, H, W, C)``.
      mean: ``(passes, C)``.
      var: ``(passes, C)``.
      scale: ``(C,)``.
      bias: ``(C,)``.

    Returns:
      Images like x.
    """
    factor = jax.lax.rsqrt(var + EPSILON) * scale[None]
    y = (x.astype(jnp.float32) - _per_pass(mean)) * _per_pass(factor) + _per_pass(bias[None])
    return y.astype(x.dtype)


def affine(
    mean: jax.Array, var: jax.Array, scale: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """The factor and the summand, ``(C,)`` each, that normalise by given moments ``(C,)``."""
    factor = jax.lax.rsqrt(var + EPSILON) * scale
    return factor, bias - factor * mean


@jax.custom_vjp
def by_batch(
    x: jax.Array, scale: jax.Array, bias: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Normalises every pass by its own moments, then scales and shifts.

    The gradient is written out, since the one that JAX derives keeps a centred copy beside x: 12 %
    of all memory of a training step in the paper's widths.

    Args:
      x: Images ``(B, passes, H, W, C)``.
      scale: ``(C,)``.
      bias: ``(C,)``.

    Returns:
      Images like x, and the moments: the mean and the biased variance, ``(passes, C)`` each. No
      gradient goes back through these two.
    """
    return _forward(x, scale, bias)[0]


def _forward(x, scale, bias):
    x = _written_once(x, scale)
    parts = x.astype(jnp.float32)
    mean = jnp.mean(parts, axis=_PIXELS_OF_A_PASS)
    var = jnp.mean(jnp.square(parts - _per_pass(mean)), axis=_PIXELS_OF_A_PASS)
    return (by_moments(x, mean, var, scale, bias), mean, var), (x, mean, var, scale)


def _backward(residuals, gradients):
    x, mean, var, scale = residuals
    x, gradient = x.astype(jnp.float32), gradients[0].astype(jnp.float32)
    deviation = jax.lax.rsqrt(var + EPSILON)
    of_bias = jnp.sum(gradient, axis=_PIXELS_OF_A_PASS)
    # Of x rather than of x normalised, which would be another image in memory.
    of_scale = deviation * (jnp.sum(gradient * x, axis=_PIXELS_OF_A_PASS) - mean * of_bias)
    count = x[:, 0].size // x.shape[-1]
    normalised = (x - _per_pass(mean)) * _per_pass(deviation)
    centred = gradient - _per_pass(of_bias / count) - normalised * _per_pass(of_scale / count)
    of_x = _written_once(centred * _per_pass(deviation * scale[None]), scale)
    # Not `.sum(0)`, which XLA would make one sum with those above, that reads the images again.
    return of_x.astype(gradients[0].dtype), sum(of_scale), sum(of_bias)


by_batch.defvjp(_forward, _backward)


def _written_once(x: jax.Array, scale: jax.Array) -> jax.Array:
    """The images x, which on a CPU are in memory before anything is computed of them.

    XLA's CPU backend would otherwise put the parts of an upsampled image together twice, for two of
    those who read it, and compute the gradient anew, from two images, in each of the nine pieces
    that the next convolution multiplies, and hold the two until all pieces are there: 15 % of all
    memory of a training step in the paper's widths. It ignores `lax.optimization_barrier`, but the
    input of a loop is in memory, and that this one takes no turn it cannot know.

    Args:
      x: Images of any shape.
      scale: ``(C,)``; the loop takes a turn, and changes nothing, if the first of them is NaN.
    """

    def write(x: jax.Array, scale: jax.Array) -> jax.Array:
        turns = jnp.isnan(scale[0]).astype(jnp.int32)
        return jax.lax.fori_loop(0, turns, lambda _, x: turns.astype(x.dtype) * x, x)

    return jax.lax.platform_dependent(x, scale, cpu=write, default=lambda x, _: x)


def _per_pass(values: jax.Array) -> jax.Array:
    """Shapes ``(passes, C)`` or ``(1, C)`` for images ``(B, passes, H, W, C)``."""
    return values[None, :, None, None]
