"""The same network and training step in plain linen, differentiated as it comes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from benchmarks.workload import Workload
from linlatent import model


class Downsample(nn.Module):
    """Stride-2 convolution, batch normalisation, leaky ReLU."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Halves images ``(N, H, W, C)``."""
        x = nn.Conv(self.width, (3, 3), strides=(2, 2), padding=1, name="conv")(x)
        return nn.leaky_relu(_batch_norm("norm")(x))


class Upsample(nn.Module):
    """Stride-2 transposed convolution, batch normalisation, leaky ReLU."""

    width: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Doubles images ``(N, H, W, C)``."""
        x = nn.ConvTranspose(
            self.width,
            (3, 3),
            strides=(2, 2),
            padding=((1, 2), (1, 2)),
            transpose_kernel=True,
            name="conv",
        )(x)
        return nn.leaky_relu(_batch_norm("norm")(x))


class Autoencoder(nn.Module):
    """The network in training mode; the BatchNorm moments are those of each pass."""

    widths: Sequence[int]

    def setup(self) -> None:
        """Names the layers as linlatent does."""
        self.encoder = nn.Sequential([Downsample(width) for width in self.widths])
        blocks = [Upsample(width) for width in model.decoder_widths(self.widths)]
        self.decoder = nn.Sequential([*blocks, nn.Conv(1, (3, 3), padding=1), nn.sigmoid])

    def __call__(
        self, x_a: jax.Array, x_b: jax.Array, x_c: jax.Array, alpha: jax.Array, objective: str
    ) -> jax.Array:
        """The loss of a batch of triplets ``(B, H, W, 1)`` with ``alpha`` (B, 1), a scalar."""
        z_a = self.encoder(x_a)
        reconstruction = _l1(self.decoder(z_a), x_a)
        z_c = self.encoder(x_c)
        reconstruction += _l1(self.decoder(z_c), x_c)
        weight = alpha[..., None, None]
        z = weight * z_a + (1 - weight) * z_c
        loss = reconstruction / 2 + _l1(self.decoder(z), x_b)
        if objective == "direct":
            z_b = self.encoder(x_b)
            loss += _l1(z_b, z)
            self.decoder(jax.lax.stop_gradient(z_b))  # only for BatchNorm's running averages
        return loss


def train(*, objective: str, batch: int, widths: Sequence[int], size: int) -> Workload:
    """Training steps on triplets, compiled ahead."""
    network = Autoencoder(tuple(widths))
    planes = jax.device_put(
        [*np.random.default_rng(0).random((3, batch, size, size, 1), np.float32)]
    )
    alpha = jnp.full((batch, 1), 0.5)
    optimiser = optax.adam(1e-4)

    def start(key: jax.Array) -> Any:
        small = jnp.zeros((1, 2 ** len(widths), 2 ** len(widths), 1))
        variables = network.init(key, small, small, small, alpha[:1], objective)
        return variables, optimiser.init(variables["params"])

    def step(variables: Any, moments: Any, planes: Any, alpha: jax.Array) -> Any:
        def loss_of(params: Any) -> Any:
            merged = {**variables, "params": params}
            return network.apply(merged, *planes, alpha, objective, mutable=["batch_stats"])

        (loss, updated), gradients = jax.value_and_grad(loss_of, has_aux=True)(variables["params"])
        updates, moments = optimiser.update(gradients, moments)
        params = optax.apply_updates(variables["params"], updates)
        return {"params": params, **updated}, moments, loss

    variables, moments = jax.jit(start)(jax.random.key(0))
    arguments = (variables, moments, planes, alpha)
    compiled = jax.jit(step, donate_argnums=(0, 1)).lower(*arguments).compile()

    def run() -> None:
        nonlocal variables, moments
        variables, moments, loss = compiled(variables, moments, planes, alpha)
        jax.block_until_ready((variables, moments, loss))

    # Compiled already, and so slow that what is left of a warm-up does not show.
    return Workload(run, {}, warm_up=False)


def _batch_norm(name: str) -> nn.BatchNorm:
    return nn.BatchNorm(use_running_average=False, momentum=0.9, epsilon=1e-5, name=name)


def _l1(x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean(jnp.abs(x - y))
