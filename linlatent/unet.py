"""The layers of the separated network, and the two ways of a U-Net that are made of them.

Layers have no biases (Mohan et al., ICLR 2020): an image that is twice as bright has activations
twice as strong. What each of them maps images to stands at its class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
from flax import linen as nn

from linlatent import convolution

NEGATIVE_SLOPE = 0.1


class Convolution(nn.Module):
    """3x3 convolution that keeps the size."""

    width: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return convolution.filter_channels(
            x, _kernel(self, (3, 3, x.shape[-1], self.width), self.gain)
        )


class Downsample(nn.Module):
    """3x3 convolution with stride 2."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return convolution.downsample(x, _kernel(self, (3, 3, x.shape[-1], self.width)))


class Upsample(nn.Module):
    """Transposed 3x3 convolution with stride 2."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # 9 / 4 taps meet in a pixel, and the kernel is that of the convolution being transposed.
        gain = 2 * math.sqrt(self.width / x.shape[-1])
        return convolution.upsample(x, _kernel(self, (3, 3, self.width, x.shape[-1]), gain))


class Mix(nn.Module):
    """Linear combinations of the channels of each pixel."""

    width: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return x @ _kernel(self, (x.shape[-1], self.width), self.gain).astype(x.dtype)


class Residual(nn.Module):
    """Adds what two convolutions make of x (He et al., ECCV 2016)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = Convolution(x.shape[-1], name="first")(activate(x))
        return x + Convolution(x.shape[-1], gain=0.25, name="second")(activate(y))


def descend(x: jax.Array, widths: Sequence[int]) -> list[jax.Array]:
    """Layers, of the module that calls it, from phases to features at all scales, finest first."""
    scales = [Convolution(widths[0], name="phases")(x)]
    for i, width in enumerate(widths[1:], start=1):
        x = Downsample(width, name=f"down_{i}")(activate(scales[-1]))
        scales.append(Residual(name=f"in_{i}")(x))
    return scales


def ascend(scales: Sequence[jax.Array], widths: Sequence[int]) -> jax.Array:
    """Layers, of the module that calls it, from there back to activations at the finest scale."""
    *fine, x = scales
    for i, width in reversed([*enumerate(widths[:-1])]):
        x = Upsample(width, name=f"up_{i}")(activate(x)) + fine.pop()
        x = Residual(name=f"out_{i}")(x)
    return activate(x)


def _kernel(module: nn.Module, shape: Sequence[int], gain: float = 1.0) -> jax.Array:
    """A kernel that keeps the variance of activations, or multiplies their size."""
    deviation = gain * math.sqrt(2 / ((1 + NEGATIVE_SLOPE**2) * math.prod(shape[:-1])))
    return module.param("kernel", nn.initializers.normal(deviation), tuple(shape))


def activate(x: jax.Array) -> jax.Array:
    """Leaky ReLU."""
    return nn.leaky_relu(x, NEGATIVE_SLOPE)
