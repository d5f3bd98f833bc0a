"""The separated network that sees a plane b beside a blurrier one, c, of the same field.

What b has lost to the zeros of its transfer function, c may still show (docs/ablation.md). So the
layers that see the content of an image are there once more, in the part ``pair`` of the parameters,
and see both planes, each weighed by its blur. All else stays as it was: the decoder, the reading of
blur, what the network makes of single images, and the latent space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from linlatent import model, separated, windows


class Content(nn.Module):
    """The content of images b ``(N, H, W, 1)`` that are seen beside c, which are blurrier.

    The blurs of both are maps ``(N, H / 2, W / 2, 1)``.
    """

    widths: Sequence[int]
    dtype: str = "float32"

    @nn.compact
    def __call__(
        self, xb: jax.Array, blur: jax.Array, xc: jax.Array, blur_of_c: jax.Array
    ) -> jax.Array:
        stride = 2 ** len(self.widths)
        image, mean = separated.to_phases(xb), windows.local_mean(xb, stride=stride)
        contrast = separated.to_phases(xc) - windows.local_mean(xc, stride=stride)
        of_b = separated.at_blur(image - mean, blur)
        of_c = [separated.at_blur(contrast, blur_of_c), *separated.weighted(contrast, blur)]
        seen = jnp.concatenate([of_b, *of_c], axis=-1)
        return separated.content(image, mean, seen.astype(self.dtype), self.widths)


def init(key: jax.Array, widths: Sequence[int]) -> model.Variables:
    """Draws the weights of a separated network (`separated.init`), and adds ``pair`` to them."""
    return added(separated.init(key, widths))


def added(variables: model.Variables) -> model.Variables:
    """Adds ``pair`` to the parameters of a separated network: its encoder, blind to c as yet."""
    layers = {
        name: layer for name, layer in variables["params"]["encoder"].items() if name != "blur"
    }
    widths = separated.widths_of(variables)
    side = 2 ** len(widths)
    image, blur = jnp.zeros((1, side, side, 1)), jnp.zeros((1, side // 2, side // 2, 1))
    shapes = jax.eval_shape(Content(widths).init, jax.random.key(0), image, blur, image, blur)
    kernel = layers["phases"]["kernel"]
    of_c = shapes["params"]["phases"]["kernel"].shape[2] - kernel.shape[2]
    blind = jnp.pad(kernel, [(0, 0), (0, 0), (0, of_c), (0, 0)])
    return {"params": {**variables["params"], "pair": {**layers, "phases": {"kernel": blind}}}}


def sees(variables: model.Variables) -> bool:
    """Tells whether a network sees c beside b."""
    return "pair" in variables["params"]


def encode(
    variables: model.Variables, xb: jax.Array, blur: jax.Array, xc: jax.Array, blur_of_c: jax.Array
) -> separated.Latent:
    """Encodes images b beside c.

    Args:
      variables: A network that `sees` both.
      xb: The images, ``(N, H, W, 1)``.
      blur: How far out of focus they are, a map ``(N, H / 2, W / 2, 1)`` as in a latent.
      xc: Blurrier images of the same fields, in the same unit of intensity and of the same shape.
      blur_of_c: Likewise, of c.

    Returns:
      The latents of b, at the blur that was told.

    Raises:
      ValueError: If the images do not fit the network or each other.
    """
    model.check_images(xb, stride=2 ** len(separated.widths_of(variables)))
    if xb.shape != xc.shape:
        raise ValueError(f"images c must have the shape of b, {xb.shape}; got {xc.shape}")
    return _encode(variables, (xb, blur, xc, blur_of_c), "float32")


def encode_in_training(
    variables: model.Variables, *planes: jax.Array, dtype: str = "float32"
) -> separated.Latent:
    """Encodes planes as `encode` does; all arrays have another axis in front, ``(P, B, ...)``."""
    batches = [each.reshape(-1, *each.shape[2:]) for each in planes]
    z = _encode(variables, batches, dtype)
    return jax.tree.map(lambda leaf: leaf.reshape(*planes[0].shape[:2], *leaf.shape[1:]), z)


def _encode(
    variables: model.Variables, planes: Sequence[jax.Array], dtype: str
) -> separated.Latent:
    xb, blur, xc, blur_of_c = (each.astype(jnp.float32) for each in planes)
    network = Content(separated.widths_of(variables), dtype)
    content: Any = network.apply(model.half(variables, "pair"), xb, blur, xc, blur_of_c)
    return separated.Latent(content, blur)
