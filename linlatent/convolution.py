"""The network's 3x3 convolutions, with weight gradients that are fast on every platform.

`downsample` (stride 2) halves an image, `upsample` with the same kernel is its transpose (adjoint)
and doubles it: ``<downsample(x, k), y> == <x, upsample(y, k)>``. So each one's input gradient is
the other, and they share one weight gradient with the roles of input and output swapped: they are
`jax.custom_vjp`, because XLA differentiates the transpose by a dilated convolution, which its CPU
backend runs many times slower. `convolve` and `filter_channels` keep the size.

Each computes in the type of its images, float32 or bfloat16, and takes the kernel in float32; sums,
and with them the kernel's gradient, are float32 as well.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from linlatent import products, winograd

Way = Callable[[jax.Array, jax.Array], jax.Array]
"""A way to convolve images with a kernel."""

_LAYOUT = ("NHWC", "HWIO", "NHWC")


@jax.custom_vjp
def downsample(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 2 and one pixel of zero padding on every side.

    Args:
      x: Images ``(N, H, W, I)`` with even H and W.
      kernel: Weights ``(3, 3, I, O)``.

    Returns:
      ``(N, H / 2, W / 2, O)``, as PyTorch's ``Conv2d(I, O, 3, stride=2, padding=1)`` without bias.
    """
    fast = _fastest(
        _pixels(x) // 4, kernel, winograd.downsample, products.downsample, _downsample_natively
    )
    return lax.platform_dependent(x, kernel, cpu=fast, default=_downsample_natively)


@jax.custom_vjp
def upsample(y: jax.Array, kernel: jax.Array) -> jax.Array:
    """Applies the transpose of `downsample` with the same kernel.

    Args:
      y: Images ``(N, h, w, O)``.
      kernel: Weights ``(3, 3, I, O)`` *of the convolution it transposes*.

    Returns:
      ``(N, 2 h, 2 w, I)``, as PyTorch's ``ConvTranspose2d(O, I, 3, stride=2, padding=1,
      output_padding=1)`` without bias.
    """
    fast = _fastest(
        _pixels(y), kernel, _upsample_by_filtering, products.upsample, _upsample_by_phases
    )
    return lax.platform_dependent(y, kernel, cpu=fast, default=_upsample_natively)


def downsample_band(x: jax.Array, kernel: jax.Array, above: jax.Array) -> jax.Array:
    """Computes `downsample` of a band of the rows of larger images, on a CPU.

    Args:
      x: The band ``(N, 2 r, W, I)``, which begins with an even row.
      kernel: Weights ``(3, 3, I, O)``.
      above: The row above it, ``(N, 1, W, I)``; zeros at the top of the images.

    Returns:
      Those r rows of the result, ``(N, r, W / 2, O)``.
    """
    if not _is_narrow(kernel):
        return winograd.downsample(x, kernel, above)
    x = jnp.concatenate([above, x], axis=1)
    return _convolution(x, kernel, stride=2, padding=((0, 0), (1, 1)))


def upsample_band(y: jax.Array, kernel: jax.Array, below: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Computes `upsample` of a band of the rows of larger images, on a CPU.

    Args:
      y: The band ``(N, r, w, O)`` with an even number of rows.
      kernel: Weights ``(3, 3, I, O)``.
      below: What the band below it adds to the last row of the result, ``(N, 1, 2 w, I)``; zeros
        at the bottom of the images.

    Returns:
      Those 2 r rows of the result, ``(N, 2 r, 2 w, I)``, and what they add to the row above,
      ``(N, 1, 2 w, I)``.
    """
    if not _is_narrow(kernel):
        return winograd.upsample(y, kernel, below)
    x = _upsample_by_phases(jnp.pad(y, ((0, 0), (1, 0), (0, 0), (0, 0))), kernel)
    return x[:, 2:].at[:, -1:].add(below), x[:, 1:2]


def _downsample_natively(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return _convolution(x, kernel, stride=2)


def _upsample_by_filtering(y: jax.Array, kernel: jax.Array) -> jax.Array:
    return winograd.upsample(y, kernel)[0]


def _upsample_natively(y: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        y,
        _turned(kernel.astype(y.dtype)),
        *((1, 1), ((1, 2), (1, 2)), (2, 2)),
        dimension_numbers=_LAYOUT,
    )


def _upsample_by_phases(y: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes even and odd rows and columns apart, with the 1, 2, 2 and 4 taps that meet them.

    The native operation multiplies the zeros between the pixels of y, too.
    """
    n, height, width, _ = y.shape
    turned = _turned(kernel.astype(y.dtype))

    def phase(odd_row: int, odd_column: int) -> jax.Array:
        # An even row meets the middle row of taps, an odd one the two outer rows.
        rows, columns = (slice(0, 3, 2) if odd else slice(1, 2) for odd in (odd_row, odd_column))
        padding = ((0, odd_row), (0, odd_column))
        taps = turned[rows, columns]
        return lax.conv_general_dilated(y, taps, (1, 1), padding, dimension_numbers=_LAYOUT)

    even, odd = (jnp.stack([phase(row, 0), phase(row, 1)], axis=3) for row in (0, 1))
    return jnp.stack([even, odd], axis=2).reshape(n, 2 * height, 2 * width, -1)


def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 1 and one pixel of zero padding: the size stays.

    Args:
      x: Images ``(N, H, W, I)``.
      kernel: Weights ``(3, 3, I, O)``, with O so small that 9 O is of the order of I.

    Returns:
      ``(N, H, W, O)`` float32, as PyTorch's ``Conv2d(I, O, 3, padding=1)`` without bias.
    """
    return products.gathered(products.given(x, kernel))


@jax.custom_vjp
def filter_channels(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 1 and one pixel of zero padding, to any number of channels.

    Args:
      x: Images ``(N, H, W, I)``.
      kernel: Weights ``(3, 3, I, O)``.

    Returns:
      ``(N, H, W, O)`` like x, as PyTorch's ``Conv2d(I, O, 3, padding=1)`` without bias.
    """
    return _convolution(x, kernel, stride=1)


def _convolution(
    x: jax.Array,
    kernel: jax.Array,
    *,
    stride: int,
    padding: Sequence[tuple[int, int]] = ((1, 1), (1, 1)),
) -> jax.Array:
    kernel = kernel.astype(x.dtype)
    return lax.conv_general_dilated(x, kernel, (stride, stride), padding, dimension_numbers=_LAYOUT)


def _turned(kernel: jax.Array) -> jax.Array:
    """The kernel of the transposed convolution: turned by 180°, inputs and outputs swapped."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def _is_narrow(kernel: jax.Array) -> bool:
    """Whether a layer has so few channels that products are not what takes its time."""
    return min(kernel.shape[2:]) < 32


def _fastest(
    pixels: int, kernel: jax.Array, by_filtering: Way, as_product: Way, narrow: Way
) -> Way:
    """Chooses the way of a stride-2 layer on a CPU.

    Args:
      pixels: Number of pixels of all its smaller images. Minimal filtering writes about three
        times as many weights as there are, which must be worth it.
      kernel: Weights ``(3, 3, I, O)``.
      by_filtering: Minimal filtering.
      as_product: One matrix product.
      narrow: The way for few channels.
    """
    if _is_narrow(kernel):
        return narrow
    return by_filtering if pixels >= max(kernel.shape[2:]) else as_product


def _pixels(x: jax.Array) -> int:
    return x.size // x.shape[-1]


def _after(x: jax.Array, y: jax.Array) -> jax.Array:
    """The images x, which on a CPU cannot be touched before the images y are known.

    XLA's CPU backend would otherwise rearrange the inputs of all weight gradients as soon as they
    are there, in the forward pass, and hold these copies until the backward pass; it ignores
    `lax.optimization_barrier` when it orders the computations. That the sum is x it cannot know.
    """
    return lax.platform_dependent(
        x, y, cpu=lambda x, y: x + 0 * y[:, :1, :1, :1], default=lambda x, _: x
    )


def _weight_gradient(x: jax.Array, y: jax.Array, *, stride: int) -> jax.Array:
    """Gradient of ``<_convolution(x, k, stride), y>`` with respect to the kernel (3, 3, I, O)."""
    inputs, outputs = x.shape[-1], y.shape[-1]
    if stride == 1:
        fast = products.weight_gradient_by_lines
    elif min(inputs, outputs) >= 32 and _pixels(y) >= outputs:
        fast = winograd.weight_gradient
    elif inputs >= outputs:
        fast = products.weight_gradient_by_rows
    else:
        fast = products.weight_gradient
    native = functools.partial(_weight_gradient_as_convolution, stride=stride)
    return lax.platform_dependent(x, y, cpu=fast, default=native)


def _weight_gradient_as_convolution(x: jax.Array, y: jax.Array, *, stride: int) -> jax.Array:
    kernel = jax.ShapeDtypeStruct((3, 3, x.shape[-1], y.shape[-1]), x.dtype)

    of_kernel = functools.partial(_convolution, x, stride=stride)
    return jax.linear_transpose(of_kernel, kernel)(y)[0].astype(jnp.float32)


def _downsample_forward(x, kernel):
    return downsample(x, kernel), (x, kernel)


def _downsample_backward(residuals, gradient):
    x, kernel = residuals
    return upsample(gradient, kernel), _weight_gradient(_after(x, gradient), gradient, stride=2)


def _upsample_forward(y, kernel):
    return upsample(y, kernel), (y, kernel)


def _upsample_backward(residuals, gradient):
    y, kernel = residuals
    return downsample(gradient, kernel), _weight_gradient(gradient, _after(y, gradient), stride=2)


def _filter_forward(x, kernel):
    return filter_channels(x, kernel), (x, kernel)


def _filter_backward(residuals, gradient):
    x, kernel = residuals
    return filter_channels(gradient, _turned(kernel)), _weight_gradient(
        _after(x, gradient), gradient, stride=1
    )


filter_channels.defvjp(_filter_forward, _filter_backward)
downsample.defvjp(_downsample_forward, _downsample_backward)
upsample.defvjp(_upsample_forward, _upsample_backward)
