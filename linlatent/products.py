"""The network's 3x3 convolutions and their weight gradients as one or two matrix products.

Each has the shapes, and the types, of its namesake in `convolution`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax


def downsample(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Multiplies the 3x3 neighbourhoods with the kernel."""
    n, height, width, _ = x.shape
    product = _product(_neighbourhoods(x), kernel.astype(x.dtype).reshape(-1, kernel.shape[-1]))
    return product.reshape(n, height // 2, width // 2, -1).astype(x.dtype)


def upsample(y: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes what every pixel gives to its 3x3 pixels, then sums where they meet."""
    n, height, width, outputs = y.shape
    product = _product(y.reshape(-1, outputs), kernel.astype(y.dtype).reshape(-1, outputs).T)
    pixels = product.reshape(n, height, width, 3, 3, -1)
    return _overlapped(_overlapped(jnp.moveaxis(pixels, 3, 2), axis=1), axis=2).astype(y.dtype)


def given(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """What every pixel of the images gives to each of its neighbours in `convolve`.

    Returns:
      ``(3, 3, O, N, H, W)`` float32, for `gathered`; of a band of rows, those rows of it.
    """
    *pixels, channels = x.shape
    # One product that reads x once; then the few channels are shifted instead of the many.
    taps = jnp.moveaxis(kernel.astype(x.dtype), 2, -1).reshape(-1, channels)
    return _product(taps, x.reshape(-1, channels).T).reshape(3, 3, -1, *pixels)


def gathered(given: jax.Array) -> jax.Array:
    """Sums what every pixel is given: the result of `convolve`, ``(N, H, W, O)``."""
    height, width = given.shape[-2:]
    padded = jnp.pad(given, ((0, 0), (0, 0), (0, 0), (0, 0), (1, 1), (1, 1)))
    y = sum(padded[i, j, :, :, i : i + height, j : j + width] for i in range(3) for j in range(3))
    return jnp.moveaxis(y, 0, -1)


def weight_gradient(x: jax.Array, y: jax.Array) -> jax.Array:
    """The gradient of ``<downsample(x, kernel), y>`` with respect to the kernel."""
    gradient = _product(_neighbourhoods(x).T, y.reshape(-1, y.shape[-1]))
    return gradient.reshape(3, 3, x.shape[-1], y.shape[-1])


def weight_gradient_by_rows(x: jax.Array, y: jax.Array) -> jax.Array:
    """The same by a product for even rows of x and one for odd ones: less is copied of wide x.

    In both, a quarter of the blocks of channels is for nothing.
    """
    n, height, width, outputs = y.shape
    padded = jnp.pad(y, ((0, 0), (0, 1), (0, 1), (0, 0)))
    shifts = [padded[:, i : i + height, j : j + width] for i in (0, 1) for j in (0, 1)]
    pairs = x.reshape(n, height, 2, width, -1)  # of pixels side by side

    def product(parity: int, shifts: list[jax.Array]) -> jax.Array:
        joined = jnp.concatenate(shifts, axis=-1).reshape(-1, len(shifts) * outputs)
        gradient = _product(pairs[:, :, parity].reshape(-1, pairs.shape[-1]).T, joined)
        return gradient.reshape(2, x.shape[-1], -1, 2, outputs)

    def taps(gradient: jax.Array) -> jax.Array:
        """Of the columns: which pixel of a pair meets which shift."""
        return jnp.stack([gradient[1, :, 1], gradient[0, :, 0], gradient[1, :, 0]])

    even, odd = product(0, shifts[:2]), product(1, shifts)
    return jnp.stack([taps(odd[:, :, 1]), taps(even[:, :, 0]), taps(odd[:, :, 0])])


def weight_gradient_by_lines(x: jax.Array, y: jax.Array) -> jax.Array:
    """The gradient of ``<filter_channels(x, kernel), y>`` with respect to the kernel.

    One product of columns of taps, taken of x, and rows of taps, taken of y: it copies three of
    each, where neighbourhoods are nine of x.
    """
    _, height, width, _ = x.shape
    wide = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    tall = jnp.pad(y, ((0, 0), (2, 2), (0, 0), (0, 0)))
    columns = jnp.concatenate([wide[:, :, j : j + width] for j in range(3)], axis=-1)
    rows = jnp.concatenate([tall[:, 2 - i : 4 - i + height] for i in range(3)], axis=-1)
    gradient = _product(columns.reshape(-1, columns.shape[-1]).T, rows.reshape(-1, rows.shape[-1]))
    return gradient.reshape(3, x.shape[-1], 3, y.shape[-1]).transpose(2, 0, 1, 3)


def _neighbourhoods(x: jax.Array) -> jax.Array:
    """The 3x3 neighbourhoods of every other pixel as rows: ``(M, 9 C)``."""
    _, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, i : i + height : 2, j : j + width : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(taps, axis=-1).reshape(-1, 9 * channels)


def _overlapped(x: jax.Array, axis: int) -> jax.Array:
    """Joins a line of h times three pixels, on this axis and the next, to one of 2 h."""
    before, even, after = (lax.index_in_dim(x, i, axis + 1, keepdims=False) for i in range(3))
    padding = [(0, 0)] * before.ndim
    padding[axis] = (0, 1)
    following = lax.slice_in_dim(jnp.pad(before, padding), 1, None, axis=axis)
    shape = (*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 2 :])
    return jnp.stack([even, after + following], axis=axis + 1).reshape(shape)


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """The matrix product, in float32 from either type."""
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)
