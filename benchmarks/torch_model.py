"""The same network and training step in PyTorch, in whichever way it is fastest.

Its state dict has the published names, those of `linlatent.torch_weights`.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Sequence

import torch
from torch import nn

from benchmarks.workload import NotAvailable, Workload


class Autoencoder(nn.Module):
    """Images ``(N, 1, H, W)`` to latents ``(N, widths[-1], h, w)`` and back."""

    def __init__(self, widths: Sequence[int]):
        super().__init__()
        channels = (1, *widths)
        up = (*reversed(widths), widths[0])
        *blocks, last = (_upsample(*pair) for pair in itertools.pairwise(up))
        self.encoder = nn.Sequential(*(_downsample(*pair) for pair in itertools.pairwise(channels)))
        self.decoder = nn.Sequential(*blocks)
        self.final_layer = nn.Sequential(*last, nn.Conv2d(widths[0], 1, 3, padding=1), nn.Sigmoid())

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        """Encodes images."""
        return self.encoder(x)

    def decode(self, z: torch.Tensor) -> torch.Tensor:
        """Decodes latents."""
        return self.final_layer(self.decoder(z))


def loss(
    network: Autoencoder,
    x_a: torch.Tensor,
    x_b: torch.Tensor,
    x_c: torch.Tensor,
    alpha: torch.Tensor,
    objective: str,
) -> torch.Tensor:
    """The loss of a batch of triplets ``(B, 1, H, W)`` with ``alpha`` (B, 1), a scalar.

    In training mode BatchNorm sees one member after the other: a, c, the interpolation, b.
    """
    z_a = network.encode(x_a)
    reconstruction = _l1(network.decode(z_a), x_a)
    z_c = network.encode(x_c)
    reconstruction = reconstruction + _l1(network.decode(z_c), x_c)
    weight = alpha[..., None, None]
    z = weight * z_a + (1 - weight) * z_c
    total = reconstruction / 2 + _l1(network.decode(z), x_b)
    if objective == "direct":
        z_b = network.encode(x_b)
        total = total + _l1(z_b, z)
        with torch.no_grad():  # only for BatchNorm's running averages
            network.decode(z_b)
    return total


def train(
    *,
    objective: str,
    batch: int,
    widths: Sequence[int],
    size: int,
    channels_last: bool,
    compiled: bool,
    bfloat16: bool,
) -> Workload:
    """Training steps on triplets, with Adam in its fused form."""
    network = _network(widths, channels_last).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4, fused=True)
    x_a, x_b, x_c = (_images(batch, size, size, channels_last) for _ in range(3))
    alpha = torch.full((batch, 1), 0.5)
    loss_of = _compiled(loss) if compiled else loss

    def run() -> None:
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
            value = loss_of(network, x_a, x_b, x_c, alpha, objective)
        value.backward()
        optimiser.step()

    return Workload(run, {"threads": torch.get_num_threads()})


def deblur(
    *,
    count: int,
    height: int,
    width: int,
    widths: Sequence[int],
    channels_last: bool,
    compiled: bool,
) -> Workload:
    """Deblurs `count` images b, with as many c, all in one batch."""
    network = _network(widths, channels_last).eval()
    planes = _images(2 * count, height, width, channels_last)

    def deblurred(network: Autoencoder, planes: torch.Tensor) -> torch.Tensor:
        z = network.encode(planes)
        alpha = 0.5
        return network.decode(z[:count] / alpha - (1 - alpha) / alpha * z[count:])

    function = _compiled(deblurred) if compiled else deblurred

    @torch.inference_mode()
    def run() -> None:
        function(network, planes)

    return Workload(run, {"threads": torch.get_num_threads()})


def _network(widths: Sequence[int], channels_last: bool) -> Autoencoder:
    torch.manual_seed(0)
    network = Autoencoder(widths)
    return network.to(memory_format=torch.channels_last) if channels_last else network


def _images(count: int, height: int, width: int, channels_last: bool) -> torch.Tensor:
    if channels_last:  # With one channel only the strides tell, and PyTorch goes by them.
        return torch.rand(count, height, width, 1).permute(0, 3, 1, 2)
    return torch.rand(count, 1, height, width)


def _downsample(inputs: int, width: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, width, 3, stride=2, padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.LeakyReLU())


def _upsample(inputs: int, width: int) -> nn.Sequential:
    convolution = nn.ConvTranspose2d(inputs, width, 3, stride=2, padding=1, output_padding=1)
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.LeakyReLU())


def _l1(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x.float() - y.float()).abs().mean()


def _compiled(function):
    if not shutil.which(os.environ.get("CXX", "g++")):
        raise NotAvailable("torch.compile needs a C++ compiler, and there is no g++")
    return torch.compile(function)
