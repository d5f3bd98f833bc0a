"""The network that keeps content and blur apart: its latent is z = (content, blur).

The encoder reads from one image what is there, `Latent.content`, and how far out of focus it is,
`Latent.blur`; the decoder shows the content at a blur. Planes of one slide share their content, so
on them Eq. 1 and 2 of the paper move blur alone: nothing is amplified, neither noise nor what the
latent got wrong (the paper's Section 5 proposes to separate the two).

It is a pair of U-Nets (Ronneberger et al., MICCAI 2015) of residual blocks behind the functions
that `model` has for the paper's network, with no normalisation that depends on a batch. The
encoder's is deep, since it has to undo the blur; the decoder's is small. Both work on the four
phases of the image's pixels, in half the resolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from linlatent import convolution, model

CONTENT_CHANNELS = 8
"""Channels of the content, at half the image's resolution: two numbers a pixel."""

BLURRIEST = 8.0
"""Blur of the blurriest plane of a stack; 0 is in focus. Of nine planes it is the blur level."""

NEGATIVE_SLOPE = 0.1
_WINDOW = 7
"""Side of the neighbourhood that one blur is taken of, in pixels of the coarsest layer."""


class Latent(NamedTuple):
    """What an image is made of.

    Attributes:
      content: What is there, ``(N, H / 2, W / 2, CONTENT_CHANNELS)``.
      blur: How far out of focus, from 0 to `BLURRIEST`, ``(N, H / 2, W / 2, 1)``.
    """

    content: jax.Array
    blur: jax.Array


class Convolution(nn.Module):
    """3x3 convolution with bias that keeps the size."""

    width: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = _parameters(self, (3, 3, x.shape[-1], self.width), self.width, self.gain)
        return convolution.filter_channels(x, kernel) + _per_channel(bias, x)


class Downsample(nn.Module):
    """3x3 convolution with bias and stride 2."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = _parameters(self, (3, 3, x.shape[-1], self.width), self.width)
        return convolution.downsample(x, kernel) + _per_channel(bias, x)


class Upsample(nn.Module):
    """Transposed 3x3 convolution with bias and stride 2."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # 9 / 4 taps meet in a pixel, and the kernel is that of the convolution being transposed.
        gain = 2 * math.sqrt(self.width / x.shape[-1])
        kernel, bias = _parameters(self, (3, 3, self.width, x.shape[-1]), self.width, gain)
        return convolution.upsample(x, kernel) + _per_channel(bias, x)


class Mix(nn.Module):
    """Linear combinations of the channels of each pixel."""

    width: int
    gain: float = 1.0

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel, bias = _parameters(self, (x.shape[-1], self.width), self.width, self.gain)
        return x @ kernel.astype(x.dtype) + _per_channel(bias, x)


class Residual(nn.Module):
    """Adds what two convolutions make of x (He et al., ECCV 2016)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y = Convolution(x.shape[-1], name="first")(_activate(x))
        return x + Convolution(x.shape[-1], gain=0.25, name="second")(_activate(y))


class Encoder(nn.Module):
    """Images ``(N, H, W, 1)`` to a `Latent`, through half, quarter, ... of the resolution."""

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array) -> Latent:
        x = Convolution(self.widths[0], name="phases")(_to_phases(x))
        fine = []
        for i, width in enumerate(self.widths[1:], start=1):
            fine.append(x)
            x = Residual(name=f"in_{i}")(Downsample(width, name=f"down_{i}")(_activate(x)))
        blur = Blur(name="blur")(_activate(x))
        for i, width in reversed([*enumerate(self.widths[:-1])]):
            x = Upsample(width, name=f"up_{i}")(_activate(x)) + fine.pop()
            x = Residual(name=f"out_{i}")(x)
        content = Mix(CONTENT_CHANNELS, name="content")(_activate(x))
        shape = (*content.shape[:3], 1)
        return Latent(content, jax.image.resize(blur, shape, "bilinear").astype(content.dtype))


class Blur(nn.Module):
    """Blur of each neighbourhood: a mean of estimates, weighted by how sure each of them is."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        hidden = _activate(Mix(x.shape[-1], name="hidden")(x))
        estimate, confidence = jnp.split(
            Mix(2, gain=0.25, name="estimates")(hidden).astype(jnp.float32), 2, axis=-1
        )
        weight = nn.sigmoid(confidence) + 1e-3
        blur = (estimate + 1) * (BLURRIEST / 2)
        return _sum_of_neighbourhood(weight * blur) / _sum_of_neighbourhood(weight)


class Decoder(nn.Module):
    """A `Latent` back to images ``(N, H, W, 1)``, not limited to [0, 1]."""

    widths: Sequence[int]

    @nn.compact
    def __call__(self, z: Latent) -> jax.Array:
        x = jnp.concatenate([z.content, _features(z.blur)], axis=-1)
        x = Convolution(self.widths[0], name="latent")(x)
        fine = []
        for i, width in enumerate(self.widths[1:], start=1):
            fine.append(x)
            x = Downsample(width, name=f"down_{i}")(_activate(x))
        x = Residual(name="coarsest")(x)
        for i, width in reversed([*enumerate(self.widths[:-1])]):
            x = Upsample(width, name=f"up_{i}")(_activate(x)) + fine.pop()
        return _from_phases(Mix(4, gain=0.25, name="phases")(_activate(x))).astype(jnp.float32)


def init(key: jax.Array, widths: Sequence[int]) -> model.Variables:
    """Draws the weights of a network (He et al., ICCV 2015), all float32.

    Args:
      key: A `jax.random.key`.
      widths: Channels of the encoder at half, quarter, ... of the resolution, four at least; the
        decoder has the first three. Image sides must be divisible by ``2 ** len(widths)``.

    Returns:
      The variables, ``{"params": {"encoder": ..., "decoder": ...}}``.
    """
    encoder_key, decoder_key = jax.random.split(key)
    side = 2 ** len(widths)
    z, encoder = Encoder(widths).init_with_output(encoder_key, jnp.zeros((1, side, side, 1)))
    decoder = Decoder(widths[:3]).init(decoder_key, z)
    return {"params": {"encoder": encoder["params"], "decoder": decoder["params"]}}


def widths_of(variables: model.Variables) -> tuple[int, ...]:
    """Reads the encoder widths off the shapes of the variables."""
    layers = variables["params"]["encoder"]
    downsampled = [layers[f"down_{i}"] for i in range(1, len(layers)) if f"down_{i}" in layers]
    return tuple(layer["bias"].shape[0] for layer in (layers["phases"], *downsampled))


def encode(variables: model.Variables, x: jax.Array) -> Latent:
    """Encodes images ``(N, H, W, 1)`` in [0, 1] to a `Latent`.

    Raises:
      ValueError: If the images are not ``(N, H, W, 1)`` with sides divisible by
        ``2 ** len(widths)``.
    """
    widths = widths_of(variables)
    model.check_images(x, stride=2 ** len(widths))
    network = Encoder(widths)
    return cast(Latent, network.apply(model.half(variables, "encoder"), x.astype(jnp.float32)))


def decode(variables: model.Variables, z: Latent) -> jax.Array:
    """Shows the content of latents at their blur: images ``(N, H, W, 1)`` float32 in [0, 1].

    Raises:
      ValueError: If z is not a `Latent` of this network.
    """
    _check_latent(z)
    network = Decoder(widths_of(variables)[:3])
    return jnp.clip(cast(jax.Array, network.apply(model.half(variables, "decoder"), z)), 0, 1)


def encode_in_training(
    variables: model.Variables, x: jax.Array, *, joint: bool = False, dtype: str = "float32"
) -> tuple[Latent, dict[str, Any]]:
    """Encodes planes as `encode` does.

    Args:
      variables: The network.
      x: Planes ``(P, B, H, W, 1)`` in [0, 1].
      joint: Of no effect: this network takes no moments of a batch.
      dtype: Of `model.DTYPES`, what convolutions and activations are computed in.

    Returns:
      The latents, leaves ``(P, B, ...)`` float32, and no moments.
    """
    del joint
    network = Encoder(widths_of(variables))
    return _over_planes(network, model.half(variables, "encoder"), x.astype(dtype)), {}


def decode_in_training(
    variables: model.Variables, z: Latent, *, joint: bool = False, dtype: str = "float32"
) -> tuple[jax.Array, dict[str, Any]]:
    """Decodes latents with leaves ``(P, B, ...)`` to planes ``(P, B, H, W, 1)``, likewise.

    Unlike those of `decode` they are not limited to [0, 1], where gradients would end.
    """
    del joint
    network = Decoder(widths_of(variables)[:3])
    z = jax.tree.map(lambda leaf: leaf.astype(dtype), z)
    return _over_planes(network, model.half(variables, "decoder"), z), {}


def in_focus(z: Latent) -> Latent:
    """The same content without blur."""
    return z._replace(blur=jnp.zeros_like(z.blur))


def anchored(z: Latent, zb: Latent) -> Latent:
    """Takes the content of z_b, and the blur of a latent z that was extrapolated from it."""
    return Latent(zb.content, z.blur)


def _over_planes(network: nn.Module, variables: model.Variables, planes: Any) -> Any:
    batch = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), planes)
    first = jax.tree.leaves(planes)[0].shape[:2]
    return jax.tree.map(
        lambda leaf: leaf.reshape(*first, *leaf.shape[1:]).astype(jnp.float32),
        network.apply(variables, batch),
    )


def _parameters(
    module: nn.Module, shape: Sequence[int], width: int, gain: float = 1.0
) -> tuple[jax.Array, jax.Array]:
    """A kernel that keeps the variance of activations, or multiplies their size, and a bias."""
    deviation = gain * math.sqrt(2 / ((1 + NEGATIVE_SLOPE**2) * math.prod(shape[:-1])))
    kernel = module.param("kernel", nn.initializers.normal(deviation), tuple(shape))
    return kernel, module.param("bias", nn.initializers.zeros, (width,))


def _per_channel(bias: jax.Array, x: jax.Array) -> jax.Array:
    return bias.astype(x.dtype).reshape(1, 1, 1, -1)


def _activate(x: jax.Array) -> jax.Array:
    return nn.leaky_relu(x, NEGATIVE_SLOPE)


def _features(blur: jax.Array) -> jax.Array:
    """What the decoder is told of blur ``(N, h, w, 1)``: finely near focus, coarsely far from it.

    No plane is sharper than one in focus, so that a negative blur, extrapolated from errors, is 0.
    """
    blur = jnp.maximum(blur, 0)
    relative = blur / BLURRIEST
    near = [jnp.exp(-blur), jnp.exp(-blur / 2)]
    return jnp.concatenate([relative, jnp.square(relative), *near], axis=-1)


def _sum_of_neighbourhood(x: jax.Array) -> jax.Array:
    window = (1, _WINDOW, _WINDOW, 1)
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, window, (1, 1, 1, 1), "SAME")


def _to_phases(x: jax.Array) -> jax.Array:
    """Images ``(N, H, W, C)`` to the four phases of their pixels, ``(N, H / 2, W / 2, 4 C)``."""
    n, height, width, channels = x.shape
    phases = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return phases.reshape(n, height // 2, width // 2, 4 * channels)


def _from_phases(x: jax.Array) -> jax.Array:
    """The inverse of `_to_phases`."""
    n, height, width, channels = x.shape
    pixels = x.reshape(n, height, width, 2, 2, channels // 4).transpose(0, 1, 3, 2, 4, 5)
    return pixels.reshape(n, 2 * height, 2 * width, channels // 4)


def _check_latent(z: Any) -> None:
    if not isinstance(z, Latent) or z.content.shape[-1] != CONTENT_CHANNELS:
        raise ValueError(
            "latents must be separated.Latent(content, blur) with content of shape"
            f" (N, h, w, {CONTENT_CHANNELS}), got {jax.tree.map(jnp.shape, z)}"
        )
