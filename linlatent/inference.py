"""What a trained network does for its user: pure functions of one pytree of parameters.

`params` is one pytree with everything a network needs (weights and BatchNorm statistics), as `load`
returns it. The functions can be jitted, vmapped (over alpha, too) and differentiated. Images are
NHWC float32 in [0, 1]; blur grows from a (sharp) over b to c (blurry), and alpha is the weight of
the sharper endpoint a: ``alpha = (c - b) / (c - a)`` in blur levels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import jax

from linlatent import latent, networks, separated, shipped

if TYPE_CHECKING:
    from etils import epath
    from ml_collections import ConfigDict

interpolate = latent.interpolate
encode = networks.encode
decode = networks.decode


class Model(NamedTuple):
    """A trained network.

    Attributes:
      params: The pytree that the functions of this module take.
      config: The configuration of its training; ``config.data.normalisation`` says what its images
        must look like.
      step: Number of training steps behind the parameters.
    """

    params: networks.Variables
    config: ConfigDict
    step: int


def synthesize(
    params: networks.Variables, za: latent.Latent, zc: latent.Latent, alpha: jax.typing.ArrayLike
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
    params: networks.Variables,
    zb: latent.Latent,
    zc: latent.Latent,
    alpha: jax.typing.ArrayLike,
    *,
    anchor: jax.Array | None = None,
) -> jax.Array:
    """Removes blur: ``x_a' = D(z_a')``, ``z_a' = z_b / alpha - (1 - alpha) / alpha z_c`` (Eq. 2).

    Anchored to x_b, it is ``x_b + D(z_a') - D(z_b)``, clipped to [0, 1]: what the network would
    change in its own picture of b is changed in b itself. So no detail of b is lost for not fitting
    into the latent, and alpha = 1 gives back b exactly; its noise stays, too. Of a network that
    keeps content and blur apart, only the blur of z_a' is extrapolated then, its content is b's.

    Args:
      params: The network.
      zb: Latent of the image to deblur, such as ``(N, h, w, C)``.
      zc: Latent of a blurrier image of the same field, same shape.
      alpha: ``(c - b) / (c - a)`` in blur levels, in (0, 1]; a scalar or ``(N,)``. 1 reconstructs
        b; the smaller, the further the step towards sharp.
      anchor: The image to deblur itself, x_b, ``(N, H, W, 1)`` in [0, 1]; None for the paper's
        deblurring, which knows its latent alone.

    Returns:
      Images ``(N, H, W, 1)`` float32 in [0, 1].

    Raises:
      ValueError: If alpha is a number outside (0, 1], the latents are not the network's, or the
        anchor has not the shape of the images they stand for.
    """
    za = latent.extrapolate(zb, zc, alpha)
    if anchor is None:
        return decode(params, za)
    sharper = decode(params, networks.of(params).anchored(za, zb))
    if anchor.shape != sharper.shape:
        raise ValueError(f"anchor must be x_b, of shape {sharper.shape}; got {anchor.shape}")
    return latent.anchor(anchor, sharper, decode(params, zb))


def deblur_single(params: networks.Variables, xb: jax.Array) -> jax.Array:
    """Removes blur from images without a blurrier one: their blur is read off themselves.

    It is anchored deblurring with the latent of b, of which the blur is set to none:
    ``x_b + D(content, 0) - D(content, blur)``, clipped to [0, 1]. ``encode(params, xb).blur`` is
    the blur that it starts from.

    Args:
      params: A network that keeps content and blur apart.
      xb: Images ``(N, H, W, 1)`` in [0, 1].

    Returns:
      Images ``(N, H, W, 1)`` float32 in [0, 1].

    Raises:
      ValueError: If the network is another one, or the images do not fit it.
    """
    if networks.of(params) is not separated:
        raise ValueError(
            "a single image can be deblurred by a separated network (config.model.network) only;"
            " this one is the paper's, which needs a blurrier image, see deblur"
        )
    zb = encode(params, xb)
    return latent.anchor(xb, decode(params, separated.in_focus(zb)), decode(params, zb))


def load(workdir: epath.PathLike, *, member: int = 0) -> Model:
    """Loads the network of a workdir: the checkpoint that was best on validation.

    Args:
      workdir: A folder that training wrote, local or ``gs://``; or, where there is no such folder,
        the name of a network that comes with linlatent, such as ``w1-sharp``.
      member: Which of the networks of an ensemble (``config.num_models``), counted from 0.

    Returns:
      Its parameters, configuration and step.

    Raises:
      FileNotFoundError: If the folder, its ``config.json`` or its checkpoints are missing, and no
        network has this name; lists the names.
      ValueError: If the checkpoint does not fit the configuration, or there is no such member.
    """
    from etils import epath

    from linlatent import checkpoints  # Orbax and ml-collections load only here.
    from linlatent import config as configuration

    comes_along = not epath.Path(workdir).exists()
    if comes_along and str(workdir) not in shipped.names():
        raise FileNotFoundError(
            f"{workdir}: no such folder; expected a workdir that training wrote, or one of the"
            f" networks that come with linlatent: {', '.join(shipped.names())}"
        )
    config = configuration.read(shipped.folder(str(workdir)) if comes_along else workdir)
    count = config.num_models
    if member not in range(count):
        raise ValueError(f"{workdir}: no member {member!r}; expected one of 0 to {count - 1}")
    if comes_along:
        params, step = shipped.read(str(workdir))
        return Model(params, config, step)
    params, step = checkpoints.read_best(
        workdir,
        network=config.model.network,
        widths=tuple(config.model.widths),
        num_models=count,
    )
    if count > 1:
        params = jax.tree.map(lambda leaf: leaf[member], params)
    return Model(params, config, step)
