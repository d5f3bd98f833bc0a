"""The stride-2 3x3 convolution, its transpose and its weight gradient with 25/36 of the products.

Two neighbouring outputs in one dimension, of the five pixels that they see::

    y0 = k0 x0 + k1 x1 + k2 x2          y1 = k0 x2 + k1 x3 + k2 x4

The outer taps are a filter of two taps on every other pixel. Winograd's minimal filtering F(2, 2)
takes three products for two of its outputs, so that five are enough for the six above::

    p0 = k0 (x0 - x2) + k1 x1           y0 = p0 + p1
    p1 = (k0 + k2) x2                   y1 = p1 + p2
    p2 = k2 (x4 - x2) + k1 x3

Done to rows and columns, this makes nine matrix products over pixels and channels, one for each
cell of a 3x3 grid: ``p = piece @ taps``. Pieces, taps and the sums of p are linear in images,
kernel and outputs, so the transpose of each is all that the other two functions need. What is
multiplied is at most a sum of four, so the result is good to float32 rounding.

Images are NHWC. All functions compute in float32, whatever type they are given.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
from jax import lax

Grid = list[list[jax.Array]]


def downsample(x: jax.Array, kernel: jax.Array, above: jax.Array | None = None) -> jax.Array:
    """Computes `convolution.downsample`: ``(N, 2 h, 2 w, I)`` to ``(N, h, w, O)``.

    Args:
      x: Images, or a band of the rows of larger ones.
      kernel: Weights ``(3, 3, I, O)``.
      above: The row above the band, ``(N, 1, 2 w, I)``; zeros if it is None.
    """
    _, height, width, _ = x.shape
    pieces, taps = _pieces(x, above), _taps(kernel)
    p = [[_matmul(pieces[i][j], taps[i][j]) for j in range(3)] for i in range(3)]
    rows = [[a + b for a, b in zip(*pair, strict=True)] for pair in itertools.pairwise(p)]
    y = _interleaved([[a + b for a, b in itertools.pairwise(row)] for row in rows])
    return y[:, : height // 2, : width // 2].astype(x.dtype)


def upsample(
    y: jax.Array, kernel: jax.Array, below: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Computes `convolution.upsample`: ``(N, h, w, O)`` to ``(N, 2 h, 2 w, I)``.

    Args:
      y: Images, or a band of the rows of larger ones; then h is even.
      kernel: Weights ``(3, 3, I, O)``.
      below: What the band below adds to the last row, ``(N, 1, 2 w, I)``; zeros if it is None.

    Returns:
      The images, and what they add to the row above, ``(N, 1, 2 w, I)``.
    """
    n, height, width, _ = y.shape
    sums, taps = _sums(y), _taps(kernel)
    inputs = kernel.shape[2]

    def parts(i: int, j: int) -> list[list[jax.Array]]:
        """The transposed piece: rows and columns of the one or two pixels in each direction."""
        joined = _matmul(sums[i][j], taps[i][j].T)
        split = iter(jnp.split(joined, joined.shape[-1] // inputs, axis=-1))
        return [[next(split) for _ in range(_PIXELS[j])] for _ in range(_PIXELS[i])]

    grid = [[parts(i, j) for j in range(3)] for i in range(3)]
    lines = [
        [_line([grid[i][j][row] for j in range(3)], axis=2) for row in range(_PIXELS[i])]
        for i in range(3)
    ]
    edges = [None] * 4 if below is None else _columns(below)
    columns = [
        _line([[row[c] for row in rows] for rows in lines], axis=1, edge=edges[c]) for c in range(4)
    ]
    x = _interleaved([list(row) for row in zip(*columns, strict=True)])
    above = jnp.stack([column[:, :1] for column in lines[0][0]], axis=3).reshape(n, 1, -1, inputs)
    x = x[:, : 2 * height, : 2 * width]
    return x.astype(y.dtype), above[:, :, : 2 * width].astype(y.dtype)


def weight_gradient(x: jax.Array, y: jax.Array) -> jax.Array:
    """The gradient of ``<downsample(x, kernel), y>`` with respect to the kernel."""
    pieces, sums = _pieces(x), _sums(y)
    gradients = [[_rows(pieces[i][j]).T @ _rows(sums[i][j]) for j in range(3)] for i in range(3)]
    kernel = jax.ShapeDtypeStruct((3, 3, x.shape[-1], y.shape[-1]), jnp.float32)
    return jax.linear_transpose(_taps, kernel)(gradients)[0]


_PIXELS = (2, 1, 2)
"""How many pixels p0, p1 and p2 are made of."""


def _pieces(x: jax.Array, above: jax.Array | None = None) -> Grid:
    """What the taps are multiplied with, ``(N, h / 2, w / 2, pixels I)``."""
    tiles = _tiles(x, 4)
    edge = None if above is None else jnp.stack(_columns(above), axis=3)

    def line(
        pixels: list[jax.Array], axis: int, edge: jax.Array | None = None
    ) -> list[list[jax.Array]]:
        x1, x2, x3, x4 = pixels
        x0 = _shifted(x4, axis, 1, edge)
        return [[x0 - x2, x1], [x2], [x4 - x2, x3]]

    rows = line([tiles[:, :, i] for i in range(4)], axis=1, edge=edge)
    grid = [[line([pixel[:, :, :, j] for j in range(4)], axis=2) for pixel in row] for row in rows]
    return [
        [_joined([pixel for columns in row for pixel in columns[j]]) for j in range(3)]
        for row in grid
    ]


def _line(
    parts: list[list[jax.Array]], axis: int, edge: jax.Array | None = None
) -> list[jax.Array]:
    """The transpose of the line in `_pieces`: the four pixels of every tile."""
    (from_x0, x1), (x2,), (from_x4, x3) = parts
    return [x1, x2 - from_x0 - from_x4, x3, from_x4 + _shifted(from_x0, axis, -1, edge)]


def _taps(kernel: jax.Array) -> Grid:
    """What the pieces are multiplied with, ``(pixels I, O)``."""

    def line(k: jax.Array) -> list[list[jax.Array]]:
        return [[k[0], k[1]], [k[0] + k[2]], [k[2], k[1]]]

    grid = [[line(k) for k in row] for row in line(kernel.astype(jnp.float32))]
    return [
        [jnp.concatenate([k for columns in row for k in columns[j]]) for j in range(3)]
        for row in grid
    ]


def _sums(y: jax.Array) -> Grid:
    """The transpose of the sums of p, ``(N, h / 2, w / 2, O)``."""
    tiles = _tiles(y, 2)

    def line(y0: jax.Array, y1: jax.Array) -> list[jax.Array]:
        return [y0, y0 + y1, y1]

    rows = line(tiles[:, :, 0], tiles[:, :, 1])
    return [line(row[:, :, :, 0], row[:, :, :, 1]) for row in rows]


def _tiles(x: jax.Array, size: int) -> jax.Array:
    """Cuts images into squares, ``(N, rows, size, columns, size, C)``, with zeros at the end."""
    n, height, width, channels = x.shape
    x = jnp.pad(x.astype(jnp.float32), ((0, 0), (0, -height % size), (0, -width % size), (0, 0)))
    return x.reshape(n, -(-height // size), size, -(-width // size), size, channels)


def _columns(row: jax.Array) -> list[jax.Array]:
    """The four columns of every tile of a row of pixels, ``(N, 1, columns, C)`` each."""
    padded = jnp.pad(row, ((0, 0), (0, 0), (0, -row.shape[2] % 4), (0, 0)))
    return [padded[:, :, c::4] for c in range(4)]


def _interleaved(grid: Grid) -> jax.Array:
    """Joins images of every other (third ...) pixel into one."""
    tiles = jnp.stack([jnp.stack(row, axis=3) for row in grid], axis=2)
    n, rows, size, columns, _, channels = tiles.shape
    return tiles.reshape(n, size * rows, size * columns, channels)


def _joined(pixels: list[jax.Array]) -> jax.Array:
    """Puts the channels of several images side by side (XLA stacks faster than it concatenates)."""
    stacked = jnp.stack(pixels, axis=3)
    return stacked.reshape(*stacked.shape[:3], -1)


def _shifted(x: jax.Array, axis: int, by: int, edge: jax.Array | None = None) -> jax.Array:
    """Moves images by ±1 along an axis; the edge moves in, or zeros."""
    if edge is not None:
        rest = lax.slice_in_dim(x, max(-by, 0), x.shape[axis] - max(by, 0), axis=axis)
        return jnp.concatenate([edge, rest] if by > 0 else [rest, edge], axis)
    padding = [(0, 0, 0)] * x.ndim
    padding[axis] = (by, -by, 0)
    return lax.pad(x, jnp.zeros((), x.dtype), padding)


def _matmul(images: jax.Array, weights: jax.Array) -> jax.Array:
    return (_rows(images) @ weights).reshape(*images.shape[:3], -1)


def _rows(images: jax.Array) -> jax.Array:
    return images.reshape(-1, images.shape[-1])
