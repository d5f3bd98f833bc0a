"""The separated network that sees a plane b beside a blurrier one, c, of the same field.

What b has lost to the zeros of its transfer function, c may still show (docs/ablation.md). So the
layers that see the content of an image are there once more, in the part ``pair`` of the parameters,
and see both planes, weighed by the blur of b. All else stays as it was: the decoder, the reading of
blur, what the network makes of single images, and the latent space.

Beside b it learns to see the blurriest plane. The nearer to focus another plane c is, the less of
what is seen beside it counts (`mixed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from linlatent import model, separated, windows

_TOO_NEAR = 6.0
"""Blur of c up to which b is seen better by itself: in training all c are at the blurriest."""


class Content(nn.Module):
    """The content of images b ``(N, H, W, 1)`` that are seen beside blurry ones, xc.

    The blur of b is a map, ``(N, H / 2, W / 2, 1)``, or of one pixel for all.
    """

    widths: Sequence[int]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, xb: jax.Array, blur: jax.Array, xc: jax.Array) -> jax.Array:
        stride = 2 ** len(self.widths)
        image, mean = separated.to_phases(xb), windows.local_mean(xb, stride=stride)
        blurry = separated.to_phases(xc) - windows.local_mean(xc, stride=stride)
        seen = separated.at_blur(jnp.concatenate([image - mean, blurry], axis=-1), blur)
        return separated.content(image, mean, seen.astype(self.dtype), self.widths)


def init(key: jax.Array, widths: Sequence[int]) -> model.Variables:
    """Draws the weights of a separated network (`separated.init`), and adds ``pair`` to them."""
    return added(separated.init(key, widths))


def added(variables: model.Variables) -> model.Variables:
    """Adds ``pair`` to the parameters of a separated network: its encoder, blind to c as yet."""
    encoder = variables["params"]["encoder"]
    layers = {name: layer for name, layer in encoder.items() if name != "blur"}
    # What the first layer sees is five weights of b's four phases; now c's phases follow b's.
    kernel = layers["phases"]["kernel"]
    weights = kernel.reshape(*kernel.shape[:2], 5, 4, -1)
    blind = jnp.concatenate([weights, jnp.zeros_like(weights)], axis=3)
    blind = blind.reshape(*kernel.shape[:2], -1, kernel.shape[-1])
    return {"params": {**variables["params"], "pair": {**layers, "phases": {"kernel": blind}}}}


def sees(variables: model.Variables) -> bool:
    """Tells whether a network sees c beside b."""
    return "pair" in variables["params"]


def encode(
    variables: model.Variables, xb: jax.Array, blur: jax.Array, xc: jax.Array
) -> separated.Latent:
    """Encodes images b beside the blurriest ones of the same fields.

    Args:
      variables: A network that `sees` both.
      xb: The images, ``(N, H, W, 1)``.
      blur: How far out of focus they are: ``(N,)``, or a map ``(N, H / 2, W / 2, 1)``.
      xc: Images of the same shape and unit of intensity, at a blur of `separated.BLURRIEST`.

    Returns:
      The latents of b, at the blur that was told.

    Raises:
      ValueError: If the images do not fit the network or each other.
    """
    model.check_images(xb, stride=2 ** len(separated.widths_of(variables)))
    if xb.shape != xc.shape:
        raise ValueError(f"images c must have the shape of b, {xb.shape}; got {xc.shape}")
    n, height, width, _ = xb.shape
    blur = separated.as_map(blur, (n, height // 2, width // 2, 1))
    xb, xc = xb.astype(jnp.float32), xc.astype(jnp.float32)
    network = Content(separated.widths_of(variables))
    content: Any = network.apply(model.half(variables, "pair"), xb, blur, xc)
    return separated.Latent(content, blur)


def encode_in_training(
    variables: model.Variables,
    xb: jax.Array,
    blur: jax.Array,
    xc: jax.Array,
    *,
    dtype: str = "float32",
) -> tuple[separated.Latent, dict[str, Any]]:
    """Encodes planes ``(P, B, H, W, 1)`` of blur ``(P, B)`` likewise, in one of `model.DTYPES`.

    Returns:
      The latents, leaves ``(P, B, ...)`` float32, and no moments.
    """
    blur = blur[..., None, None, None]
    xb, xc = xb.astype(jnp.float32), xc.astype(jnp.float32)
    network = Content(separated.widths_of(variables), dtype)
    content = separated.over_planes(network, variables, "pair", xb, blur, xc)
    return separated.Latent(content, jnp.broadcast_to(blur, (*content.shape[:-1], 1))), {}


def mixed(
    alone: separated.Latent, beside: separated.Latent, zc: separated.Latent
) -> separated.Latent:
    """Takes the content of b from where it is seen best: beside c where c is blurry enough.

    Args:
      alone: z_b as the encoder sees it by itself.
      beside: z_b as it is seen beside c.
      zc: z_c. At the blurriest all is taken from beside it, at `_TOO_NEAR` or less nothing.
    """
    share = jnp.clip((zc.blur - _TOO_NEAR) / (separated.BLURRIEST - _TOO_NEAR), 0, 1)
    return alone._replace(content=alone.content + share * (beside.content - alone.content))
