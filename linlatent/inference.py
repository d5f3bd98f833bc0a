"""What a trained network does for its user: pure functions of one pytree of parameters.

`params` is one pytree with everything a network needs (weights and BatchNorm statistics), as `load`
returns it. The functions can be jitted, vmapped (over alpha, too) and differentiated. Images are
NHWC float32 in [0, 1]; blur grows from a (sharp) over b to c (blurry), and alpha is the weight of
the sharper endpoint a: ``alpha = (c - b) / (c - a)`` in blur levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax

from linlatent import latent, model

if TYPE_CHECKING:
    from etils import epath
    from ml_collections import ConfigDict

interpolate = latent.interpolate
encode = model.encode
decode = model.decode


class Model(NamedTuple):
    """A trained network.

    Attributes:
      params: The pytree that the functions of this module take.
      config: The configuration of its training; ``config.data.normalisation`` says what its images
        must look like.
      step: Number of training steps behind the parameters.
    """

    params: model.Variables
    config: ConfigDict
    step: int


def synthesize(
    params: model.Variables, za: latent.Latent, zc: latent.Latent, alpha: jax.typing.ArrayLike
) -> jax.Array:
    """Synthesises the image of an intermediate blur level, D(z_b') of Eq. 1.

    Args:
      params: The network.
      za: Latent of the sharper endpoint, ``(N, h, w, C)``.
      zc: Latent of the blurrier endpoint, same shape.
      alpha: Weight of the sharper endpoint in (0, 1]; a scalar or ``(N,)``.

    Returns:
      Images ``(N, H, W, 1)`` float32 in (0, 1).

    Raises:
      ValueError: If alpha is a number outside (0, 1], or the latents are not the network's.
    """
    return decode(params, interpolate(za, zc, alpha))


def deblur(
    params: model.Variables, zb: latent.Latent, zc: latent.Latent, alpha: jax.typing.ArrayLike
) -> jax.Array:
    """Removes blur: ``x_a' = D(z_b / alpha - (1 - alpha) / alpha z_c)`` (Eq. 2).

    Args:
      params: The network.
      zb: Latent of the image to deblur, ``(N, h, w, C)``.
      zc: Latent of a blurrier image of the same field, same shape.
      alpha: ``(c - b) / (c - a)`` in blur levels, in (0, 1]; a scalar or ``(N,)``. 1 reconstructs
        b; the smaller, the further the step towards sharp.

    Returns:
      Images ``(N, H, W, 1)`` float32 in (0, 1).

    Raises:
      ValueError: If alpha is a number outside (0, 1], or the latents are not the network's.
    """
    return decode(params, latent.extrapolate(zb, zc, alpha))


def load(workdir: epath.PathLike, *, member: int = 0) -> Model:
    """Loads the network of a workdir: the checkpoint that was best on validation.

    Args:
      workdir: A folder that training wrote, local or ``gs://``.
      member: Which of the networks of an ensemble (``config.num_models``), counted from 0.

    Returns:
      Its parameters, configuration and step.

    Raises:
      FileNotFoundError: If the folder, its ``config.json`` or its checkpoints are missing.
      ValueError: If the checkpoint does not fit the configuration, or there is no such member.
    """
    from linlatent import checkpoints  # Orbax and ml-collections load only here.
    from linlatent import config as configuration

    config = configuration.read(workdir)
    count = config.num_models
    if member not in range(count):
        raise ValueError(f"{workdir}: no member {member!r}; expected one of 0 to {count - 1}")
    params, step = checkpoints.read_best(
        workdir, widths=tuple(config.model.widths), num_models=count
    )
    if count > 1:
        params = jax.tree.map(lambda leaf: leaf[member], params)
    return Model(params, config, step)
