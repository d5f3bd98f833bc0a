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
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from linlatent import winograd

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
    native = functools.partial(_convolution, stride=2)
    fast = winograd.downsample if _is_large(_pixels(x) // 4, kernel.shape) else native
    return lax.platform_dependent(x, kernel, cpu=fast, default=native)


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
    fast = winograd.upsample if _is_large(_pixels(y), kernel.shape) else _upsample_by_phases
    return lax.platform_dependent(y, kernel, cpu=fast, default=_upsample_natively)


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
    n, height, width, channels = x.shape
    # What every pixel gives to each of its neighbours is one product that reads x once; then the
    # few channels are shifted instead of the many.
    taps = jnp.moveaxis(kernel.astype(x.dtype), 2, -1).reshape(-1, channels)
    products = _product(taps, x.reshape(-1, channels).T).reshape(3, 3, -1, n, height, width)
    padded = jnp.pad(products, ((0, 0), (0, 0), (0, 0), (0, 0), (1, 1), (1, 1)))
    y = sum(padded[i, j, :, :, i : i + height, j : j + width] for i in range(3) for j in range(3))
    return jnp.moveaxis(y, 0, -1)


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


def _convolution(x: jax.Array, kernel: jax.Array, *, stride: int) -> jax.Array:
    kernel = kernel.astype(x.dtype)
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), _PADDING, dimension_numbers=_LAYOUT
    )


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    """The matrix product, in float32 from either type."""
    return jnp.matmul(a, b, preferred_element_type=jnp.float32)


def _turned(kernel: jax.Array) -> jax.Array:
    """The kernel of the transposed convolution: turned by 180°, inputs and outputs swapped."""
    return jnp.flip(kernel, (0, 1)).swapaxes(2, 3)


def _is_large(pixels: int, kernel: Sequence[int]) -> bool:
    """Whether a layer has so many channels, and pixels, that products are what takes its time.

    Args:
      pixels: Number of pixels of all its smaller images, which count against those of the kernel.
      kernel: Shape of the kernel.
    """
    return min(kernel[2:]) >= 32 and 4 * pixels >= max(kernel[2:])


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


def _neighbourhoods(x: jax.Array) -> jax.Array:
    """The 3x3 neighbourhoods of every other pixel as rows: ``(M, 9 C)``."""
    _, height, width, channels = x.shape
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    taps = [padded[:, i : i + height : 2, j : j + width : 2] for i in range(3) for j in range(3)]
    return jnp.concatenate(taps, axis=-1).reshape(-1, 9 * channels)


def _weight_gradient(x: jax.Array, y: jax.Array, *, stride: int) -> jax.Array:
    """Gradient of ``<_convolution(x, k, stride), y>`` with respect to the kernel (3, 3, I, O)."""
    inputs, outputs = x.shape[-1], y.shape[-1]
    if stride == 1:
        fast = _weight_gradient_by_lines
    elif min(inputs, outputs) >= 32 and _pixels(y) >= outputs:
        fast = winograd.weight_gradient
    elif inputs >= outputs:
        fast = _weight_gradient_by_rows
    else:
        fast = _weight_gradient_as_product
    native = functools.partial(_weight_gradient_as_convolution, stride=stride)
    return lax.platform_dependent(x, y, cpu=fast, default=native)


def _weight_gradient_by_lines(x: jax.Array, y: jax.Array) -> jax.Array:
    """One product of columns of taps, taken of x, and rows of taps, taken of y.

    It copies three of each, where neighbourhoods are nine of x.
    """
    _, height, width, _ = x.shape
    wide = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    tall = jnp.pad(y, ((0, 0), (2, 2), (0, 0), (0, 0)))
    columns = jnp.concatenate([wide[:, :, j : j + width] for j in range(3)], axis=-1)
    rows = jnp.concatenate([tall[:, 2 - i : 4 - i + height] for i in range(3)], axis=-1)
    gradient = _product(columns.reshape(-1, columns.shape[-1]).T, rows.reshape(-1, rows.shape[-1]))
    return gradient.reshape(3, x.shape[-1], 3, y.shape[-1]).transpose(2, 0, 1, 3)


def _weight_gradient_as_product(x: jax.Array, y: jax.Array) -> jax.Array:
    gradient = _product(_neighbourhoods(x).T, y.reshape(-1, y.shape[-1]))
    return gradient.reshape(3, 3, x.shape[-1], y.shape[-1])


def _weight_gradient_by_rows(x: jax.Array, y: jax.Array) -> jax.Array:
    """One product for even rows of x and one for odd ones: copies less where x has many channels.

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
