"""The network's 3x3 convolutions, with weight gradients that are fast on every platform.

`downsample` (stride 2) halves an image, `upsample` with the same kernel is its transpose (adjoint)
and doubles it: ``<downsample(x, k), y> == <x, upsample(y, k)>``. So each one's input gradient is
the other, and they share one weight gradient with the roles of input and output swapped. `convolve`
keeps the size. Each is a `jax.custom_vjp`: left to itself, XLA differentiates a dilated
convolution, which its CPU backend runs many times slower than a matrix product.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax

_LAYOUT = ("NHWC", "HWIO", "NHWC")
_PADDING = ((1, 1), (1, 1))


@jax.custom_vjp
def downsample(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 2 and one pixel of zero padding on every side.

    Args:
      x: Images ``(N, H, W, I)`` with even H and W.
      kernel: Weights ``(3, 3, I, O)``.

    Returns:
      ``(N, H / 2, W / 2, O)``, as PyTorch's ``Conv2d(I, O, 3, stride=2, padding=1)`` without bias.
    """
    return lax.conv_general_dilated(x, kernel, (2, 2), _PADDING, dimension_numbers=_LAYOUT)


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
    return lax.platform_dependent(y, kernel, cpu=_upsample_by_phases, default=_upsample_natively)


def _upsample_natively(y: jax.Array, kernel: jax.Array) -> jax.Array:
    return lax.conv_general_dilated(
        y, _turned(kernel), (1, 1), ((1, 2), (1, 2)), (2, 2), dimension_numbers=_LAYOUT
    )


def _upsample_by_phases(y: jax.Array, kernel: jax.Array) -> jax.Array:
    """Computes even and odd rows and columns apart, with the 1, 2, 2 and 4 taps that meet them.

    The native operation multiplies the zeros between the pixels of y, too.
    """
    n, height, width, _ = y.shape
    turned = _turned(kernel)

    def phase(odd_row: int, odd_column: int) -> jax.Array:
        # An even row meets the middle row of taps, an odd one the two outer rows.
        rows, columns = (slice(0, 3, 2) if odd else slice(1, 2) for odd in (odd_row, odd_column))
        padding = ((0, odd_row), (0, odd_column))
        taps = turned[rows, columns]
        return lax.conv_general_dilated(y, taps, (1, 1), padding, dimension_numbers=_LAYOUT)

    even, odd = (jnp.stack([phase(row, 0), phase(row, 1)], axis=3) for row in (0, 1))
    return jnp.stack([even, odd], axis=2).reshape(n, 2 * height, 2 * width, -1)


@jax.custom_vjp
def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolves with stride 1 and one pixel of zero padding: the size stays.

    Args:
      x: Images ``(N, H, W, I)``.
      kernel: Weights ``(3, 3, I, O)``. The weight gradient is written for O much smaller than I.

    Returns:
      ``(N, H, W, O)``, as PyTorch's ``Conv2d(I, O, 3, padding=1)`` without bias.
    """
    return lax.conv_general_dilated(x, kernel, (1, 1), _PADDING, dimension_numbers=_LAYOUT)


def _turned(kernel: jax.Array) -> jax.Array:
    """The kernel of the transposed convolution: turned by 180°, inputs and outputs swapped."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def _neighbourhoods(x: jax.Array, stride: int) -> jax.Array:
    """The 3x3 neighbourhood of every stride-th pixel: ``(N, H, W, C)`` to ``(pixels, 9 C)``."""
    _, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [
        padded[:, i : i + height : stride, j : j + width : stride]
        for i in range(3)
        for j in range(3)
    ]
    return jnp.concatenate(taps, axis=-1).reshape(-1, 9 * channels)


def _downsample_weight_gradient(x: jax.Array, y: jax.Array) -> jax.Array:
    """Gradient of ``<downsample(x, k), y>`` with respect to the kernel ``(3, 3, I, O)``."""
    return lax.platform_dependent(
        x, y, cpu=_weight_gradient_as_product, default=_weight_gradient_as_convolution
    )


def _weight_gradient_as_product(x: jax.Array, y: jax.Array) -> jax.Array:
    gradient = _neighbourhoods(x, stride=2).T @ y.reshape(-1, y.shape[-1])
    return gradient.reshape(3, 3, x.shape[-1], y.shape[-1])


def _weight_gradient_as_convolution(x: jax.Array, y: jax.Array) -> jax.Array:
    kernel = jax.ShapeDtypeStruct((3, 3, x.shape[-1], y.shape[-1]), x.dtype)

    def convolution_of(k: jax.Array) -> jax.Array:
        return lax.conv_general_dilated(x, k, (2, 2), _PADDING, dimension_numbers=_LAYOUT)

    return jax.linear_transpose(convolution_of, kernel)(y)[0]


def _downsample_forward(x, kernel):
    return downsample(x, kernel), (x, kernel)


def _downsample_backward(residuals, gradient):
    x, kernel = residuals
    return upsample(gradient, kernel), _downsample_weight_gradient(x, gradient)


def _upsample_forward(y, kernel):
    return upsample(y, kernel), (y, kernel)


def _upsample_backward(residuals, gradient):
    y, kernel = residuals
    return downsample(gradient, kernel), _downsample_weight_gradient(gradient, y)


def _convolve_forward(x, kernel):
    return convolve(x, kernel), (x, kernel)


def _convolve_backward(residuals, gradient):
    x, kernel = residuals
    # Neighbourhoods of the gradient, not of x: its channels are few. Seen from a pixel of x the
    # taps lie the other way round, hence the turn.
    product = _neighbourhoods(gradient, stride=1).T @ x.reshape(-1, x.shape[-1])
    turned = product.reshape(3, 3, gradient.shape[-1], x.shape[-1])
    return convolve(gradient, _turned(kernel)), _turned(turned)


downsample.defvjp(_downsample_forward, _downsample_backward)
upsample.defvjp(_upsample_forward, _upsample_backward)
convolve.defvjp(_convolve_forward, _convolve_backward)
