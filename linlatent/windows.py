"""Smooth means over neighbourhoods: those over windows, means of those over others, and so on.

A mean over a single window has kinks where something bright enters it, and a kink in an image that
is even there looks like something to sharpen.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

_OF_LOCAL_MEAN = (7, 3, 3)
"""Sides of the windows of `local_mean`, in coarsest pixels."""


def local_mean(x: jax.Array, *, stride: int) -> jax.Array:
    """Smooth means of the neighbourhoods of images ``(N, H, W, 1)``, in half their resolution.

    Args:
      x: The images.
      stride: Side of a coarsest pixel, a divisor of H and W.
    """
    n, height, width, _ = x.shape
    mean = x.reshape(n, height // stride, stride, width // stride, stride, 1).mean(axis=(2, 4))
    mean = means(mean, _OF_LOCAL_MEAN)
    return jax.image.resize(mean, (n, height // 2, width // 2, 1), "cubic")


def means(x: jax.Array, sides: Sequence[int]) -> jax.Array:
    """Means over square windows around the pixels of ``(N, h, w, C)``, means of those, and so on.

    Args:
      x: The pixels.
      sides: Odd sides of the windows, in their order; at the edges windows are cut off.
    """
    rows, columns = (jnp.asarray(_matrix(n, sides), x.dtype) for n in x.shape[1:3])
    return jnp.einsum("ij,njkc,lk->nilc", rows, x, columns, precision="highest")


def _matrix(n: int, sides: Sequence[int]) -> np.ndarray:
    """The matrix that takes the means of n pixels in a row."""
    distances = abs(np.subtract.outer(range(n), range(n)))
    inside = [distances <= side // 2 for side in sides[::-1]]
    return np.linalg.multi_dot([each / each.sum(axis=1, keepdims=True) for each in inside])
