"""The networks there are, behind one set of functions of a pytree that tells which one it is.

``paper`` is the network of the paper, `model`; ``separated`` keeps content and blur apart. Each is
a module with the same names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import ModuleType

import jax

from linlatent import latent, model, separated

Variables = model.Variables

NETWORKS: Mapping[str, ModuleType] = {"paper": model, "separated": separated}


def of(variables: Variables) -> ModuleType:
    """The module of the network that has these variables."""
    return model if "block_0" in variables["params"]["encoder"] else separated


def init(key: jax.Array, *, network: str, widths: Sequence[int]) -> Variables:
    """Draws the weights of a network of `NETWORKS`; see its ``init``."""
    return NETWORKS[network].init(key, tuple(widths))


def encode(variables: Variables, x: jax.Array) -> latent.Latent:
    """Encodes images ``(N, H, W, 1)`` in [0, 1].

    Returns:
      Their latent, float32: of the paper's network an array ``(N, H / s, W / s, C)`` with
      s = ``2 ** len(widths)``, 32 in the paper; of the separated one a `separated.Latent`.

    Raises:
      ValueError: If the images are not ``(N, H, W, 1)`` with sides divisible by s.
    """
    return of(variables).encode(variables, x)


def decode(variables: Variables, z: latent.Latent) -> jax.Array:
    """Decodes a latent to images ``(N, H, W, 1)`` float32; those of the paper's lie in [0, 1].

    Raises:
      ValueError: If the latent is not one of this network.
    """
    return of(variables).decode(variables, z)
