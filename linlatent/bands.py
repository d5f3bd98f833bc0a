"""The paper's network in evaluation, where a CPU takes large images band by band.

Its outermost images have the most bytes, 98 MB before the last layer of a 544x704 frame, and what
is computed of them takes longer to go to memory and back than to compute. On a CPU the three
outermost layers therefore pass a few rows at a time, which stay in its caches: the encoder goes
down the image and keeps, for each layer, the row above the next band; the decoder goes up and keeps
what a band adds to the row above. The result is that of whole images to the last row: nothing is
computed twice, or left out. Accelerators take whole images.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from linlatent import convolution, products

NEGATIVE_SLOPE = 0.01
"""Of the leaky ReLU."""

_OUTERMOST = 3
"""How many layers pass band by band; in those further in, a band would have few pixels."""

_BAND_BYTES = 6 * 2**20
"""The size of a band where it is largest; half or twice as much takes 3 to 15 % longer."""

Edges = list[jax.Array]
"""What a band leaves to the next one, for each layer."""


class Layer(NamedTuple):
    """A stride-2 convolution or its transpose with all that follows it in evaluation.

    Attributes:
      kernel: Weights ``(3, 3, I, O)``, of the convolution that is transposed if one is.
      scale: What normalisation multiplies the channels with, ``(C,)``.
      shift: What it adds then, ``(C,)``.
    """

    kernel: jax.Array
    scale: jax.Array
    shift: jax.Array


def downsample(layers: Sequence[Layer], x: jax.Array) -> jax.Array:
    """Passes images ``(N, H, W, I)`` down through all layers, halving them in each."""
    outer, inner = layers[:_OUTERMOST], layers[_OUTERMOST:]
    x = lax.platform_dependent(
        x,
        cpu=functools.partial(_down_in_bands, outer),
        default=functools.partial(_down, outer),
    )
    return _down(inner, x)


def upsample(layers: Sequence[Layer], y: jax.Array, kernel: jax.Array) -> jax.Array:
    """Passes images ``(N, h, w, C)`` up through all layers, and `convolution.convolve` at last.

    Args:
      layers: The layers; each doubles the images.
      y: The images.
      kernel: Weights ``(3, 3, I, O)`` of the convolution at the end, with few O.
    """
    inner, outer = layers[:-_OUTERMOST], layers[-_OUTERMOST:]
    return lax.platform_dependent(
        _up(inner, y),
        cpu=lambda y: _up_in_bands(outer, y, kernel),
        default=lambda y: convolution.convolve(_up(outer, y), kernel),
    )


def _down(layers: Sequence[Layer], x: jax.Array) -> jax.Array:
    for layer in layers:
        x = _activated(convolution.downsample(x, layer.kernel), layer)
    return x


def _up(layers: Sequence[Layer], y: jax.Array) -> jax.Array:
    for layer in layers:
        y = _activated(convolution.upsample(y, layer.kernel), layer)
    return y


def _activated(x: jax.Array, layer: Layer) -> jax.Array:
    x = layer.scale[None, None, None] * x + layer.shift[None, None, None]
    # A leaky ReLU, which a CPU computes faster so than by choosing.
    return jnp.maximum(x, NEGATIVE_SLOPE * x)


def _down_in_bands(layers: Sequence[Layer], x: jax.Array) -> jax.Array:
    n, height, width, _ = x.shape
    factor = 2 ** len(layers)
    first = layers[0].kernel.shape[-1]
    rows = _rows(height // factor, bytes_a_row=4 * n * (factor // 2) * (width // 2) * first)
    if rows >= height // factor:
        return _down(layers, x)

    def step(edges: Edges, x: jax.Array) -> tuple[Edges, jax.Array]:
        left = []
        for above, layer in zip(edges, layers, strict=True):
            left.append(x[:, -1:])
            x = _activated(convolution.downsample_band(x, layer.kernel, above), layer)
        return left, x

    edges = [
        jnp.zeros((n, 1, width // 2**i, layer.kernel.shape[2])) for i, layer in enumerate(layers)
    ]
    return _scan(step, edges, x, rows=factor * rows, axis=1)[:, : height // factor]


def _up_in_bands(layers: Sequence[Layer], y: jax.Array, kernel: jax.Array) -> jax.Array:
    n, height, width, _ = y.shape
    factor = 2 ** len(layers)
    rows = _rows(height, bytes_a_row=4 * n * factor * (factor * width) * kernel.shape[2])
    if rows >= height:
        return convolution.convolve(_up(layers, y), kernel)

    def step(edges: Edges, y: jax.Array) -> tuple[Edges, jax.Array]:
        left = []
        for below, layer in zip(edges, layers, strict=True):
            y, above = convolution.upsample_band(y, layer.kernel, below)
            left.append(above)
            y = _activated(y, layer)
        return left, products.given(y, kernel)

    edges = [
        jnp.zeros((n, 1, 2**i * width, layer.kernel.shape[2])) for i, layer in enumerate(layers, 1)
    ]
    given = _scan(step, edges, y, rows=rows, axis=4, reverse=True)
    return products.gathered(given[..., -factor * height :, :])


def _rows(height: int, *, bytes_a_row: int) -> int:
    """The rows of the smallest image that make a band: an even number.

    Args:
      height: All its rows.
      bytes_a_row: Bytes of the largest image for one of these rows.

    Returns:
      The most that a band of that size holds, or down to half of them where they fill up less.
    """
    most = max(2 * round(_BAND_BYTES / bytes_a_row / 2), 2)
    return min(range(most, most // 2 - 1, -2), key=lambda rows: -height % rows)


def _scan(
    step: Callable[[Edges, jax.Array], tuple[Edges, jax.Array]],
    edges: Edges,
    x: jax.Array,
    *,
    rows: int,
    axis: int,
    reverse: bool = False,
) -> jax.Array:
    """Passes images ``(N, H, W, C)`` through a step, so many rows at a time.

    Args:
      step: From edges and a band to the next edges and a part of the result.
      edges: What the first band begins with.
      x: The images. Rows of zeros fill up the last band, beyond the end of the images.
      rows: Those of a band.
      axis: That of the rows in the result.
      reverse: Whether to go up, from the last rows to the first.

    Returns:
      The parts, joined.
    """
    n, height, width, channels = x.shape
    filling = (-height % rows, 0) if reverse else (0, -height % rows)
    bands = jnp.pad(x, ((0, 0), filling, (0, 0), (0, 0))).reshape(n, -1, rows, width, channels)
    _, parts = lax.scan(step, edges, jnp.moveaxis(bands, 1, 0), reverse=reverse)
    joined = jnp.moveaxis(parts, 0, axis)
    return joined.reshape(*joined.shape[:axis], -1, *joined.shape[axis + 2 :])
