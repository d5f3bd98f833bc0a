"""The autoencoder of the paper: five stride-2 convolutions down, five transposed ones up.

The network is a pair of Flax modules behind pure functions of one pytree of *variables*::

    {"params": {"encoder": ..., "decoder": ...}, "batch_stats": {"encoder": ..., "decoder": ...}}

Widths are read off its shapes, so the pytree is all that `encode` and `decode` need. The modules
draw the variables and compute in training, in the type of their input, float32 or bfloat16; the
variables are float32 in either, and so are the moments of BatchNorm. In evaluation `bands` does the
same with the running averages.

Note:
  The paper's text counts six transposed convolutions, its published code has five (four blocks and
  a final layer); this module follows the code.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from linlatent import bands, convolution, normalisation

PAPER_WIDTHS = (64, 128, 256, 512, 1024)
"""Channels after each encoder layer, as published."""

DTYPES = ("float32", "bfloat16")
"""What the network is computed in when it is trained; in evaluation it is always float32."""

MOMENTUM = 0.9
"""Share of the old running average kept at each pass (PyTorch calls 1 - 0.9 the momentum)."""

Variables = Mapping[str, Any]
Statistics = Mapping[str, Any]


class BatchNorm(nn.Module):
    """Batch normalisation over all axes but the last, whose passes are folded by the caller.

    In training the batch consists of `passes` parts, of which every example has one image, and each
    is normalised with moments of its own, as if it had been a pass through the network by itself.
    The moments are *returned as they are* in the collection ``batch_stats``, ``(passes, C)`` (the
    variance unbiased, as PyTorch keeps it); `fold_statistics` folds them into the running averages.

    The bias of the convolution before is an argument of its own. Normalisation with the batch's own
    mean takes it away again, so in training it only enters the moments: its gradient is exactly
    zero, where rounding would give it one that Adam blows up.
    """

    @nn.compact
    def __call__(self, x: jax.Array, bias_before: jax.Array, *, passes: int) -> jax.Array:
        channels = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        bias = self.param("bias", nn.initializers.zeros, (channels,))
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,))
        running_var = self.variable("batch_stats", "var", jnp.ones, (channels,))
        # Joining more axes than the passes would be the same, but XLA reduces it far more slowly.
        parts = x.reshape(-1, passes, *x.shape[1:])
        parts, mean, var = normalisation.by_batch(parts, scale, bias)
        count = parts[:, 0].size // channels
        if not self.is_initializing():
            running_mean.value = mean + bias_before[None]
            running_var.value = var * (count / max(count - 1, 1))
        return parts.reshape(x.shape)


class Downsample(nn.Module):
    """Stride-2 3x3 convolution, batch normalisation, leaky ReLU."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, *, passes: int) -> jax.Array:
        shape = (3, 3, x.shape[-1], self.width)
        kernel = self.param("kernel", _initialiser(shape), shape)
        bias = self.param("bias", _initialiser(shape), (self.width,))
        x = BatchNorm(name="norm")(convolution.downsample(x, kernel), bias, passes=passes)
        return nn.leaky_relu(x, bands.NEGATIVE_SLOPE)


class Upsample(nn.Module):
    """Stride-2 3x3 transposed convolution, batch normalisation, leaky ReLU."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array, *, passes: int) -> jax.Array:
        # The kernel is that of the convolution being transposed: input channels come last.
        shape = (3, 3, self.width, x.shape[-1])
        kernel = self.param("kernel", _initialiser(shape), shape)
        bias = self.param("bias", _initialiser(shape), (self.width,))
        x = BatchNorm(name="norm")(convolution.upsample(x, kernel), bias, passes=passes)
        return nn.leaky_relu(x, bands.NEGATIVE_SLOPE)


class ToImage(nn.Module):
    """3x3 convolution to one channel, which is float32."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (3, 3, x.shape[-1], 1)
        kernel = self.param("kernel", _initialiser(shape), shape)
        bias = self.param("bias", _initialiser(shape), (1,))
        return convolution.convolve(x, kernel) + _per_channel(bias)


class Encoder(nn.Module):
    """Images ``(N, H, W, 1)`` to latents ``(N, H / 32, W / 32, widths[-1])`` for five widths."""

    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: jax.Array, *, passes: int) -> jax.Array:
        for i, width in enumerate(self.widths):
            x = Downsample(width, name=f"block_{i}")(x, passes=passes)
        return x


class Decoder(nn.Module):
    """Latents back to images ``(N, H, W, 1)`` in (0, 1): the encoder's widths, mirrored."""

    widths: Sequence[int]

    @nn.compact
    def __call__(self, z: jax.Array, *, passes: int) -> jax.Array:
        for i, width in enumerate(decoder_widths(self.widths)):
            z = Upsample(width, name=f"block_{i}")(z, passes=passes)
        return nn.sigmoid(ToImage(name="to_image")(z))


def decoder_widths(widths: Sequence[int]) -> tuple[int, ...]:
    """Channels after each transposed convolution: 512, 256, 128, 64, 64 for the paper's widths."""
    return (*reversed(widths[:-1]), widths[0])


def init(key: jax.Array, widths: Sequence[int] = PAPER_WIDTHS) -> Variables:
    """Draws the weights of a network as PyTorch does by default, all float32.

    BatchNorm begins with scale 1, bias 0, mean 0 and variance 1.

    Args:
      key: A `jax.random.key`.
      widths: Channels after each encoder layer; the image sides must be divisible by
        ``2 ** len(widths)``.

    Returns:
      The variables, ``{"params": ..., "batch_stats": ...}``.
    """
    encoder_key, decoder_key = jax.random.split(key)
    side = 2 ** len(widths)
    encoder = Encoder(widths).init(encoder_key, jnp.zeros((1, side, side, 1)), passes=1)
    decoder = Decoder(widths).init(decoder_key, jnp.zeros((1, 1, 1, widths[-1])), passes=1)
    return {
        collection: {"encoder": encoder[collection], "decoder": decoder[collection]}
        for collection in ("params", "batch_stats")
    }


def widths_of(variables: Variables) -> tuple[int, ...]:
    """Reads the encoder widths off the shapes of the variables."""
    blocks = variables["params"]["encoder"]
    return tuple(blocks[f"block_{i}"]["kernel"].shape[-1] for i in range(len(blocks)))


def encode(variables: Variables, x: jax.Array) -> jax.Array:
    """Encodes images ``(N, H, W, 1)`` in [0, 1] with the running statistics.

    Returns:
      Latents ``(N, H / s, W / s, widths[-1])`` float32 with s = ``2 ** len(widths)``, 32 in the
      paper.

    Raises:
      ValueError: If the images are not ``(N, H, W, 1)`` with sides divisible by s.
    """
    check_images(x, stride=2 ** len(widths_of(variables)))
    return bands.downsample(_layers(half(variables, "encoder")), x.astype(jnp.float32))


def decode(variables: Variables, z: jax.Array) -> jax.Array:
    """Decodes latents ``(N, h, w, C)`` to images ``(N, s h, s w, 1)`` in (0, 1).

    Raises:
      ValueError: If the latents do not have the network's number of channels.
    """
    _check_latents(z, channels=widths_of(variables)[-1])
    decoder = half(variables, "decoder")
    last = decoder["params"]["to_image"]
    x = bands.upsample(_layers(decoder), z.astype(jnp.float32), last["kernel"])
    return nn.sigmoid(x + _per_channel(last["bias"]))


def encode_in_training(
    variables: Variables, x: jax.Array, *, joint: bool = False, dtype: str = "float32"
) -> tuple[jax.Array, Statistics]:
    """Encodes planes with the statistics of the batch itself.

    Args:
      variables: The network.
      x: Planes ``(P, B, H, W, 1)`` in [0, 1].
      joint: Whether the planes share their BatchNorm moments, or have moments of their own each.
      dtype: Of `DTYPES`, what convolutions and activations are computed in.

    Returns:
      The latents ``(P, B, h, w, C)``, and the moments with a leading axis over 1 or P passes, all
      float32.
    """
    return _in_training(Encoder(widths_of(variables)), half(variables, "encoder"), x, joint, dtype)


def decode_in_training(
    variables: Variables, z: jax.Array, *, joint: bool = False, dtype: str = "float32"
) -> tuple[jax.Array, Statistics]:
    """Decodes latents ``(P, B, h, w, C)`` to planes ``(P, B, H, W, 1)``, likewise."""
    return _in_training(Decoder(widths_of(variables)), half(variables, "decoder"), z, joint, dtype)


def _layers(variables: Variables) -> list[bands.Layer]:
    """The blocks of a half with the running averages, from the first to the last."""

    def layer(name: str) -> bands.Layer:
        block, averages = variables["params"][name], variables["batch_stats"][name]["norm"]
        scale, shift = normalisation.affine(**averages, **block["norm"])
        return bands.Layer(block["kernel"], scale, shift + scale * block["bias"])

    return [layer(f"block_{i}") for i in range(len(variables["batch_stats"]))]


def _in_training(
    network: nn.Module, variables: Variables, planes: jax.Array, joint: bool, dtype: str
) -> tuple[jax.Array, Statistics]:
    # One batch of all planes, rather than a network that is vmapped over them: the same, but its
    # gradients have one axis less, which saves a CPU about 15 % of a step.
    batch = as_batch(planes).astype(dtype)
    passes = 1 if joint else len(planes)
    y, updated = network.apply(variables, batch, passes=passes, mutable=["batch_stats"])
    return as_planes(y, len(planes)).astype(jnp.float32), updated["batch_stats"]


def as_batch(planes: jax.Array) -> jax.Array:
    """Planes of examples, ``(P, B, ...)``, as one batch, ``(B P, ...)``.

    The planes of an example stay together, so that devices can share the examples.
    """
    return jnp.moveaxis(planes, 0, 1).reshape(-1, *planes.shape[2:])


def as_planes(batch: jax.Array, count: int) -> jax.Array:
    """The inverse of `as_batch`, for ``count`` planes."""
    return jnp.moveaxis(batch.reshape(-1, count, *batch.shape[1:]), 1, 0)


def anchored(z: jax.Array, zb: jax.Array) -> jax.Array:
    """Gives z as it is: content and blur are one in this network, see `separated.anchored`."""
    del zb
    return z


def without_noise(xb: jax.Array, own: jax.Array, z: jax.Array, zb: jax.Array) -> jax.Array:
    """Gives x_b as it is: its blur is not known here, see `separated.without_noise`."""
    del own, z, zb
    return xb


def limited(x: jax.Array) -> jax.Array:
    """Clips images to [0, 1], where those of this network lie."""
    return jnp.clip(x, 0, 1)


def fold_statistics(running: Statistics, passes: Statistics) -> Statistics:
    """Folds the moments of several passes into the running averages, one after the other.

    Args:
      running: The running averages.
      passes: The same pytree with a leading axis over the passes, in their order.

    Returns:
      The averages after ``running = 0.9 * running + 0.1 * moments`` for each pass in turn.
    """

    def fold(average: jax.Array, moments: jax.Array) -> jax.Array:
        count = moments.shape[0]
        weights = (1 - MOMENTUM) * MOMENTUM ** jnp.arange(count - 1, -1, -1)
        return MOMENTUM**count * average + jnp.tensordot(weights, moments, axes=1)

    return jax.tree.map(fold, running, passes)


def _initialiser(kernel: Sequence[int]) -> nn.initializers.Initializer:
    """Draws the kernel or the biases of a layer as PyTorch, hence the published code, does.

    Both are uniform in ±1 / sqrt(fan_in): PyTorch's ``_ConvNd.reset_parameters`` says so of the
    biases, and calls it ``kaiming_uniform_(a=sqrt(5))`` for the weights. It counts the fan-in over
    the second axis of its arrays, which are the *outputs* of a transposed convolution; here both
    are the third axis.

    Args:
      kernel: Shape of the layer's kernel, also where the biases are to be drawn.
    """
    bound = 1 / math.sqrt(math.prod(kernel[:-1]))

    def draw(key: jax.Array, shape: Sequence[int], dtype: Any = jnp.float32) -> jax.Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return draw


def _per_channel(values: jax.Array) -> jax.Array:
    """Shapes ``(C,)`` for images ``(N, H, W, C)``."""
    return values.reshape(1, 1, 1, -1)


def half(variables: Variables, name: str) -> dict[str, Any]:
    """The variables of the ``encoder`` or the ``decoder`` alone."""
    return {collection: halves[name] for collection, halves in variables.items()}


def check_images(x: jax.Array, *, stride: int) -> None:
    """Raises `ValueError` unless x are images ``(N, H, W, 1)`` whose sides the stride divides."""
    fits = x.ndim == 4 and x.shape[-1] == 1 and not (x.shape[1] % stride or x.shape[2] % stride)
    if not (fits and jnp.issubdtype(x.dtype, jnp.floating)):
        raise ValueError(
            f"images must be (N, H, W, 1), floating point in [0, 1], with H and W divisible by"
            f" {stride}; got shape {x.shape} of {x.dtype}"
        )


def _check_latents(z: jax.Array, *, channels: int) -> None:
    if z.ndim != 4 or z.shape[-1] != channels:
        raise ValueError(f"latents must be (N, h, w, {channels}); got shape {z.shape}")
