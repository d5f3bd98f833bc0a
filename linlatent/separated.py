"""The network that keeps content and blur apart: its latent is z = (content, blur).

The encoder reads from one image how far out of focus it is, `Latent.blur`, and, seeing it at that
blur or at one that it is told, what is there, `Latent.content`; the decoder shows the content at a
blur. Planes of one slide share their content, so on them Eq. 1 and 2 of the paper move blur alone:
nothing is amplified, neither noise nor what the latent got wrong (the paper's Section 5 proposes to
separate the two).

The content holds the image as it would be in focus, and features that the decoder needs to blur it
again: at a blur of 0 the decoder shows the former as it is. Content and decoder are a pair of
U-Nets (Ronneberger et al., MICCAI 2015) of residual blocks behind the functions that `model` has
for the paper's network, with no normalisation that depends on a batch. The first is deep, since it
has to undo the blur; the decoder's is small. Blur is read by the way down of a third one, half as
wide. All work on the four phases of the image's pixels, in half the resolution.

An image has no unit of intensity that blur would leave alone: its brightest pixel grows dim, its
background bright. So the network has none either. Its layers have no biases (Mohan et al., ICLR
2020) and see an image without its local mean, which blur moves but little: the content of
``gain * x + offset`` is ``gain`` times that of x with the offset added, and the blur is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import linen as nn

from linlatent import latent, model, unet, windows

CONTENT_CHANNELS = 9
"""The four phases of the image in focus, four features, and the local mean."""

FEATURE_SCALE = 0.1
"""What the features are multiplied by in a latent: they have the image's unit, and its size."""

BLURRIEST = 8.0
"""Blur of the blurriest plane of a stack; 0 is in focus. Of nine planes it is the blur level."""

_WINDOWS_OF_BLUR = (9, 5, 3)
"""Windows in coarsest pixels (`windows.means`): so much of an image counts as blurred alike."""


class Latent(NamedTuple):
    """What an image is made of.

    Attributes:
      content: What is there, in the image's own unit of intensity, ``(N, H / 2, W / 2, 9)``: the
        phases of the image in focus, four features, and the local mean of the image.
      blur: How far out of focus, from 0 to `BLURRIEST`, ``(N, H / 2, W / 2, 1)``.
    """

    content: jax.Array
    blur: jax.Array


class Encoder(nn.Module):
    """Images ``(N, H, W, 1)`` to a `Latent`, through half, quarter, ... of the resolution.

    The content is seen at the blur that is read, or at what is known of it, ``(N, H / 2, W / 2,
    1)`` or of one pixel for all, except where that is NaN.
    """

    widths: Sequence[int]
    blur_widths: Sequence[int]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, x: jax.Array, known: jax.Array | None = None) -> Latent:
        mean = windows.local_mean(x, stride=2 ** len(self.widths))
        image = to_phases(x)
        contrast = image - mean
        blur = Blur(self.blur_widths, self.dtype, name="blur")(contrast)
        blur = jax.image.resize(blur, mean.shape, "bilinear")
        seen_at = blur if known is None else jnp.where(jnp.isnan(known), blur, known)
        seen = at_blur(contrast, jax.lax.stop_gradient(seen_at))
        return Latent(content(image, mean, seen.astype(self.dtype), self.widths), blur)


def content(image: jax.Array, mean: jax.Array, seen: jax.Array, widths: Sequence[int]) -> jax.Array:
    """Layers, of the module that calls it, from what is seen of an image to its content.

    Args:
      image: Phases of the image, ``(N, h, w, 4)``.
      mean: Its local mean, ``(N, h, w, 1)``.
      seen: What the layers see of it, ``(N, h, w, C)``.
      widths: Their channels.

    Returns:
      The content of a `Latent`, ``(N, h, w, 9)`` float32.
    """
    x = unet.ascend(unet.descend(seen, widths), widths)
    x = unet.Mix(8, name="content")(x).astype(jnp.float32)
    sharpening, features = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([image + 0.25 * sharpening, FEATURE_SCALE * features, mean], axis=-1)


class Blur(nn.Module):
    """Blur of each neighbourhood, from how strong features of all scales are in it."""

    widths: Sequence[int]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, contrast: jax.Array) -> jax.Array:
        scales = unet.descend(contrast.astype(self.dtype), self.widths)
        n, height, width, _ = scales[-1].shape
        energies = [
            jnp.square(x.astype(jnp.float32))
            .reshape(n, height, x.shape[1] // height, width, x.shape[2] // width, -1)
            .mean(axis=(2, 4))
            for x in scales
        ]
        x = jnp.log(windows.means(jnp.concatenate(energies, axis=-1), _WINDOWS_OF_BLUR) + 1e-12)
        x -= x.mean(axis=-1, keepdims=True)  # Ratios have no unit.
        for name in ("first", "second", "third"):
            x = unet.activate(nn.Dense(128, name=name)(x))
        return (nn.Dense(1, name="estimates")(x) + 1) * (BLURRIEST / 2)


class Decoder(nn.Module):
    """A `Latent` back to images ``(N, H, W, 1)``, not limited to [0, 1]."""

    widths: Sequence[int]
    dtype: str = "float32"

    @nn.compact
    def __call__(self, z: Latent) -> jax.Array:
        sharp, features, mean = jnp.split(z.content, [4, 8], axis=-1)
        x = jnp.concatenate([sharp - mean, features / FEATURE_SCALE], axis=-1)
        x = jnp.concatenate(_weighted(x, z.blur), axis=-1)
        x = unet.Convolution(self.widths[0], name="latent")(x.astype(self.dtype))
        fine = []
        for i, width in enumerate(self.widths[1:], start=1):
            fine.append(x)
            x = unet.Downsample(width, name=f"down_{i}")(unet.activate(x))
        x = unet.Residual(name="coarsest")(x)
        for i, width in reversed([*enumerate(self.widths[:-1])]):
            x = unet.Upsample(width, name=f"up_{i}")(unet.activate(x)) + fine.pop()
        blurring = unet.Mix(4, gain=0.25, name="phases")(unet.activate(x))
        return from_phases(sharp + blurring.astype(jnp.float32))


def init(key: jax.Array, widths: Sequence[int]) -> model.Variables:
    """Draws the weights of a network (He et al., ICCV 2015), all float32.

    Args:
      key: A `jax.random.key`.
      widths: Channels of the encoder at half, quarter, ... of the resolution, four at least; the
        decoder has the first three, and where blur is read there are half as many. Image sides must
        be divisible by ``2 ** len(widths)``.

    Returns:
      The variables, ``{"params": {"encoder": ..., "decoder": ...}}``.
    """
    encoder_key, decoder_key = jax.random.split(key)
    side = 2 ** len(widths)
    network = Encoder(widths, tuple((width + 1) // 2 for width in widths))
    z, encoder = network.init_with_output(encoder_key, jnp.zeros((1, side, side, 1)))
    decoder = Decoder(widths[:3]).init(decoder_key, z)
    return {"params": {"encoder": encoder["params"], "decoder": decoder["params"]}}


def widths_of(variables: model.Variables) -> tuple[int, ...]:
    """Reads the encoder widths off the shapes of the variables."""
    return _widths_of(variables["params"]["encoder"])


def _widths_of(layers: Mapping[str, Any]) -> tuple[int, ...]:
    downsampled = [layers[f"down_{i}"] for i in range(1, len(layers)) if f"down_{i}" in layers]
    return tuple(layer["kernel"].shape[-1] for layer in (layers["phases"], *downsampled))


def encode(
    variables: model.Variables, x: jax.Array, blur: jax.typing.ArrayLike | None = None
) -> Latent:
    """Encodes images ``(N, H, W, 1)``, in any unit of intensity, to a `Latent`.

    Args:
      variables: The network.
      x: The images.
      blur: How far out of focus they are, from 0 to `BLURRIEST`, as far as it is known: a scalar,
        ``(N,)`` or a map ``(N, H / 2, W / 2, 1)``, NaN where it is not. The content comes out
        sharper for it; the blur of the latent is what is read off the images all the same.

    Raises:
      ValueError: If the images are not ``(N, H, W, 1)`` with sides divisible by
        ``2 ** len(widths)``, or the blur has another shape.
    """
    model.check_images(x, stride=2 ** len(widths_of(variables)))
    n, height, width, _ = x.shape
    known = None if blur is None else as_map(blur, (n, height // 2, width // 2, 1))
    network = _encoder(variables)
    z = network.apply(model.half(variables, "encoder"), x.astype(jnp.float32), known)
    return cast(Latent, z)


def decode(variables: model.Variables, z: Latent) -> jax.Array:
    """Shows the content of latents at their blur: images ``(N, H, W, 1)`` float32.

    They are not limited to [0, 1]: in the unit of a blurry image, a sharp one is brighter than 1.

    Raises:
      ValueError: If z is not a `Latent` of this network.
    """
    _check_latent(z)
    network = Decoder(widths_of(variables)[:3])
    return cast(jax.Array, network.apply(model.half(variables, "decoder"), z))


def encode_in_training(
    variables: model.Variables,
    x: jax.Array,
    blur: jax.Array | None = None,
    *,
    joint: bool = False,
    dtype: str = "float32",
) -> tuple[Latent, dict[str, Any]]:
    """Encodes planes as `encode` does.

    Args:
      variables: The network.
      x: Planes ``(P, B, H, W, 1)``.
      blur: What is known of their blur, ``(P, B)``.
      joint: Of no effect: this network takes no moments of a batch.
      dtype: Of `model.DTYPES`, what convolutions and activations are computed in.

    Returns:
      The latents, leaves ``(P, B, ...)`` float32, and no moments.
    """
    del joint
    network = _encoder(variables, dtype)
    known = () if blur is None else (blur[..., None, None, None],)
    return over_planes(network, variables, "encoder", x.astype(jnp.float32), *known), {}


def decode_in_training(
    variables: model.Variables, z: Latent, *, joint: bool = False, dtype: str = "float32"
) -> tuple[jax.Array, dict[str, Any]]:
    """Decodes latents with leaves ``(P, B, ...)`` to planes ``(P, B, H, W, 1)``, likewise."""
    del joint
    network = Decoder(widths_of(variables)[:3], dtype)
    return over_planes(network, variables, "decoder", z), {}


def in_focus(z: Latent) -> jax.Array:
    """The image in focus, ``(..., H, W, 1)``: what `decode` makes of the content at a blur of 0."""
    return from_phases(z.content[..., :4])


def with_known(z: Latent, blur: jax.typing.ArrayLike) -> Latent:
    """The latent with what is known of its blur, as `encode` takes it, for what was read."""
    known = as_map(blur, z.blur.shape)
    return z._replace(blur=jnp.where(jnp.isnan(known), z.blur, known))


def anchored(z: Latent, zb: Latent) -> Latent:
    """Takes the content of z_b, and the blur of a latent z that was extrapolated from it."""
    return Latent(zb.content, z.blur)


def without_noise(xb: jax.Array, own: jax.Array, z: Latent, zb: Latent) -> jax.Array:
    """Takes out of x_b what is neither in D(z_b) nor as coarse as what a blur lets through.

    All of it where z is less blurred than z_b by a level or more, where by less that share of it.
    """
    removed = jnp.clip(zb.blur - z.blur, 0, 1)
    return latent.smooth_residual(xb, own, removed.repeat(2, axis=1).repeat(2, axis=2))


def limited(x: jax.Array) -> jax.Array:
    """Gives images as they are: those of this network have no unit, hence no limits."""
    return x


def _encoder(variables: model.Variables, dtype: str = "float32") -> Encoder:
    blur_widths = _widths_of(variables["params"]["encoder"]["blur"])
    return Encoder(widths_of(variables), blur_widths, dtype)


def as_map(blur: jax.typing.ArrayLike, size: tuple[int, ...]) -> jax.Array:
    """A scalar, one blur per image or a map as a map of a size."""
    blur = jnp.asarray(blur, jnp.float32)
    if blur.shape not in ((), size[:1], size):
        raise ValueError(
            f"blur must be a number, one for each image, {size[:1]}, or a map, {size}; got an array"
            f" of shape {blur.shape}"
        )
    return blur if blur.shape == size else jnp.broadcast_to(blur.reshape(-1, 1, 1, 1), size)


def over_planes(network: nn.Module, variables: model.Variables, half: str, *planes: Any) -> Any:
    """Applies a part of the network to arrays ``(P, B, ...)`` as to one batch."""
    count = len(jax.tree.leaves(planes)[0])
    batches = jax.tree.map(model.as_batch, planes)
    made = network.apply(model.half(variables, half), *batches)
    return jax.tree.map(lambda leaf: model.as_planes(leaf, count), made)


def at_blur(x: jax.Array, blur: jax.Array) -> jax.Array:
    """Channels ``(N, h, w, C)``, and what a blur ``(N, h, w, 1)`` weighs them by, 5 C in all."""
    return jnp.concatenate([x, *_weighted(x, blur)], axis=-1)


def _weighted(x: jax.Array, blur: jax.Array) -> list[jax.Array]:
    """Four weights of x by its blur: nothing at 0, changing finely near it, coarsely far off.

    No plane is sharper than one in focus, so that a negative blur, extrapolated from errors, is 0.
    """
    blur = jnp.maximum(blur, 0)
    relative = blur / BLURRIEST
    weights = [relative, jnp.square(relative), 1 - jnp.exp(-blur), 1 - jnp.exp(-blur / 2)]
    return [x * weight for weight in weights]


def to_phases(x: jax.Array) -> jax.Array:
    """Images ``(N, H, W, C)`` to the four phases of their pixels, ``(N, H / 2, W / 2, 4 C)``."""
    n, height, width, channels = x.shape
    phases = x.reshape(n, height // 2, 2, width // 2, 2, channels).transpose(0, 1, 3, 2, 4, 5)
    return phases.reshape(n, height // 2, width // 2, 4 * channels)


def from_phases(x: jax.Array) -> jax.Array:
    """The inverse of `to_phases`, of any leading axes: from ``(..., h, w, 4 C)``."""
    *leading, height, width, channels = x.shape
    pixels = x.reshape(*leading, height, width, 2, 2, channels // 4).swapaxes(-4, -3)
    return pixels.reshape(*leading, 2 * height, 2 * width, channels // 4)


def _check_latent(z: Any) -> None:
    if not isinstance(z, Latent) or z.content.shape[-1] != CONTENT_CHANNELS:
        raise ValueError(
            "latents must be separated.Latent(content, blur) with content of shape"
            f" (N, h, w, {CONTENT_CHANNELS}), got {jax.tree.map(jnp.shape, z)}"
        )
