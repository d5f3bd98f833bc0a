"""The networks there are, behind one set of functions of a pytree that tells which one it is.

``paper`` is the network of the paper, `model`; ``separated`` keeps content and blur apart. Each is
a module with the same names. ``paired`` is a separated network with a part that sees c beside b.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType

import jax
import jax.numpy as jnp

from linlatent import latent, model, pair, separated

Variables = model.Variables

NETWORKS: Mapping[str, Callable[[jax.Array, Sequence[int]], Variables]] = {
    "paper": model.init,
    "separated": separated.init,
    "paired": pair.init,
}
"""What draws the weights of each kind of network, from a key and widths."""


def of(variables: Variables) -> ModuleType:
    """The module of the network that has these variables."""
    return model if "block_0" in variables["params"]["encoder"] else separated


def init(key: jax.Array, *, network: str, widths: Sequence[int]) -> Variables:
    """Draws the weights of a network of `NETWORKS`; see its ``init``."""
    return NETWORKS[network](key, tuple(widths))


def encode(
    variables: Variables, x: jax.Array, blur: jax.typing.ArrayLike | None = None
) -> latent.Latent:
    """Encodes images ``(N, H, W, 1)`` in [0, 1].

    Args:
      variables: The network.
      x: The images.
      blur: What is known of how far out of focus they are (`separated.encode`), of a network that
        keeps content and blur apart.

    Returns:
      Their latent, float32: of the paper's network an array ``(N, H / s, W / s, C)`` with
      s = ``2 ** len(widths)``, 32 in the paper; of the separated one a `separated.Latent`.

    Raises:
      ValueError: If the images are not ``(N, H, W, 1)`` with sides divisible by s, or the network
        cannot be told a blur.
    """
    network = of(variables)
    if blur is None:
        return network.encode(variables, x)
    if network is not separated:
        raise ValueError(
            "blur can be told to a separated network (config.model.network) only; this one is the"
            " paper's, which knows no other input than images"
        )
    return separated.encode(variables, x, blur)


def encode_between(
    variables: Variables,
    xb: jax.Array,
    zc: latent.Latent,
    alpha: jax.typing.ArrayLike,
    *,
    xc: jax.Array | None = None,
) -> latent.Latent:
    """Encodes images between a plane in focus and c, to be deblurred with z_c (`inference.deblur`).

    A separated network is told their blur, which is Eq. 1 of that of c and none, and a paired one
    sees c itself beside them, where c is about the blurriest there is; others do not look at c.

    Args:
      variables: The network.
      xb: Images ``(N, H, W, 1)``.
      zc: Latents of blurrier ones of the same fields.
      alpha: ``(c - b) / c`` in blur levels, in (0, 1]; a scalar or ``(N,)``.
      xc: The blurrier images themselves, ``(N, H, W, 1)`` in the unit of b: what a paired network
        needs to see more in b.

    Returns:
      z_b, as `encode` does; its blur is the one that was told.

    Raises:
      ValueError: As `encode` does, or if alpha is a number outside (0, 1].
    """
    if of(variables) is not separated:
        return encode(variables, xb)
    blur = latent.interpolate(jnp.zeros_like(zc.blur), zc.blur, alpha)
    alone = separated.encode(variables, xb, blur)._replace(blur=blur)
    if xc is None or not pair.sees(variables):
        return alone
    return pair.mixed(alone, pair.encode(variables, xb, blur, xc), zc)


def decode(variables: Variables, z: latent.Latent) -> jax.Array:
    """Decodes a latent to images ``(N, H, W, 1)`` float32; those of the paper's lie in [0, 1].

    Raises:
      ValueError: If the latent is not one of this network.
    """
    return of(variables).decode(variables, z)
