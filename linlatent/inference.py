"""What a trained network does for its user: pure functions of one pytree of parameters.

`params` is one pytree with everything a network needs (weights and BatchNorm statistics), as `load`
returns it. The functions can be jitted, vmapped (over alpha, too) and differentiated. Images are
NHWC float32 in [0, 1]; blur grows from a (sharp) over b to c (blurry), and alpha is the weight of
the sharper endpoint a: ``alpha = (c - b) / (c - a)`` in blur levels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from linlatent import images, latent, networks, separated, shipped

if TYPE_CHECKING:
    from etils import epath
    from ml_collections import ConfigDict

interpolate = latent.interpolate
encode = networks.encode
encode_between = networks.encode_between
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

    Anchored to x_b, it is ``x_b + D(z_a') - D(z_b)``: what the network would change in its own
    picture of b is changed in b itself. So no detail of b is lost for not fitting into the latent,
    and alpha = 1 gives back b exactly; its noise stays, too. Of a network that keeps content and
    blur apart, only the blur of z_a' is extrapolated then, its content is b's; and since it knows
    how blurred b is, what it does not find in its own picture of b is smoothed, noise with it.

    Args:
      params: The network.
      zb: Latent of the image to deblur, such as ``(N, h, w, C)``. Where a is in focus, a separated
        network sees more in b if it is told how blurred b is (`encode_between`).
      zc: Latent of a blurrier image of the same field, same shape.
      alpha: ``(c - b) / (c - a)`` in blur levels, in (0, 1]; a scalar or ``(N,)``. 1 reconstructs
        b; the smaller, the further the step towards sharp.
      anchor: The image to deblur itself, x_b, ``(N, H, W, 1)`` in [0, 1]; None for the paper's
        deblurring, which knows its latent alone.

    Returns:
      Images ``(N, H, W, 1)`` float32: of the paper's network in [0, 1], of a separated one in the
      unit of b, where a sharp image is brighter than 1.

    Raises:
      ValueError: If alpha is a number outside (0, 1], the latents are not the network's, or the
        anchor has not the shape of the images they stand for.
    """
    za = latent.extrapolate(zb, zc, alpha)
    if anchor is None:
        return decode(params, za)
    za = networks.of(params).anchored(za, zb)
    sharper = decode(params, za)
    if anchor.shape != sharper.shape:
        raise ValueError(f"anchor must be x_b, of shape {sharper.shape}; got {anchor.shape}")
    return _anchored(params, anchor, sharper, za, zb)


def deblur_single(
    params: networks.Variables, xb: jax.Array, blur: jax.typing.ArrayLike | None = None
) -> jax.Array:
    """Removes blur from images without a blurrier one: shows their content in focus.

    It is `deblur` anchored to x_b, where z_a' has the content of z_b and a blur of 0, as if
    extrapolation knew the latent of c exactly. ``encode(params, xb).blur`` tells how far out of
    focus the images are.

    Args:
      params: A network that keeps content and blur apart.
      xb: Images ``(N, H, W, 1)`` in any unit of intensity.
      blur: How far out of focus they are, where it is known: a scalar, ``(N,)`` or a map, from 0 to
        `separated.BLURRIEST` (`separated.encode`). They come out sharper for it.

    Returns:
      Images ``(N, H, W, 1)`` float32 in that unit.

    Raises:
      ValueError: If the network is another one, or the images do not fit it.
    """
    if networks.of(params) is not separated:
        raise ValueError(
            "a single image can be deblurred by a separated network (config.model.network) only;"
            " this one is the paper's, which needs a blurrier image, see deblur"
        )
    zb = separated.encode(params, xb, blur)
    if blur is not None:
        zb = separated.with_known(zb, blur)
    za = zb._replace(blur=jnp.zeros_like(zb.blur))
    return _anchored(params, xb, separated.in_focus(zb), za, zb)


def _anchored(
    params: networks.Variables,
    xb: jax.Array,
    sharper: jax.Array,
    za: latent.Latent,
    zb: latent.Latent,
) -> jax.Array:
    """Changes x_b as D(z_b) would be changed to D(z_a'), ``sharper``."""
    network, own = networks.of(params), decode(params, zb)
    return network.limited(latent.anchor(network.without_noise(xb, own, za, zb), sharper, own))


def deblur_frame(
    model: Model,
    frame: np.ndarray,
    *,
    blur: float | None = None,
    blurrier: np.ndarray | None = None,
    alpha: float | None = None,
    thorough: bool = False,
) -> np.ndarray:
    """Removes blur from a whole frame as the camera counted it.

    Without a blurrier frame it is `deblur_single`, with one `deblur`, anchored to the frame.

    Args:
      model: The network, and what its images must look like.
      frame: ``(height, width)`` of any size, in counts, uint8 or uint16.
      blur: How far out of focus the frame is, if that is known: 0 in focus, 8 like the blurriest
        planes of the training. With alpha it tells how far a blurrier frame is, too.
      blurrier: A blurrier frame of the same field, of the same shape and type.
      alpha: As in `deblur`, with a in focus; with a blurrier frame only, and needed with it.
      thorough: Whether to take the mean of what the network makes of the frame in all eight
        orientations (Timofte et al., CVPR 2016): sharper, in eight times the time.

    Returns:
      The sharper frame, of the same shape and type; what does not fit into the type is clipped.

    Raises:
      ValueError: If the frames differ in shape or type, alpha is missing or too much, alpha or blur
        impossible, a single frame too little for the network, or blur nothing to it.
    """
    if (blurrier is None) != (alpha is None):
        raise ValueError("a blurrier frame and alpha go together: give both, or none of them")
    if alpha is not None:
        latent.check_alpha(alpha)
    if blur is not None:
        _check_blur(model.params, blur, alpha)
    frames = [frame] if blurrier is None else [frame, blurrier]
    if len({(each.shape, each.dtype) for each in frames}) > 1:
        raise ValueError(
            f"the blurrier frame is of {frames[1].shape} pixels of {frames[1].dtype}, expected"
            f" {frame.shape} of {frame.dtype} like the frame itself"
        )
    stack = np.stack(frames)
    low, high = images.intensity_range(stack, model.config.data.normalisation)
    x = images.normalise(stack, low, high, model.config.data.normalisation)
    stride = 2 ** len(networks.of(model.params).widths_of(model.params))
    margins = [(0, -n % stride) for n in frame.shape]
    x = np.pad(x, [(0, 0), *margins], mode="symmetric")[..., None]

    def sharpen(x: np.ndarray) -> np.ndarray:
        if alpha is None:
            return np.asarray(jax.jit(deblur_single)(model.params, x, blur))
        return np.asarray(jax.jit(_deblur_anchored)(model.params, x[:1], x[1:], alpha, blur))

    sharper = _over_orientations(sharpen, x) if thorough else sharpen(x)
    y = sharper[..., : frame.shape[0], : frame.shape[1], 0]
    limits = np.iinfo(frame.dtype)
    counts = np.rint(images.denormalise(y, low[:1], high[:1])[0])
    return np.clip(counts, limits.min, limits.max).astype(frame.dtype)


def _check_blur(params: networks.Variables, blur: float, alpha: float | None) -> None:
    if networks.of(params) is not separated:
        raise ValueError("blur is nothing to the paper's network; a separated one can be told it")
    most, further = separated.BLURRIEST, ""
    if alpha is not None:
        further = f", so that with alpha {alpha:g} c is at {most:g} at most"
        most *= 1 - alpha
    if not 0 <= blur <= most + 1e-6:
        raise ValueError(f"blur must lie in [0, {most:g}]{further}; got {blur:g}")


def _over_orientations(sharpen: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """The mean of what becomes of images ``(N, H, W, 1)`` in the eight orientations of a square."""
    made = []
    for quarters in range(4):
        for way in (1, -1):
            turned = np.rot90(x[:, :, ::way], quarters, axes=(1, 2))
            made.append(np.rot90(sharpen(turned), -quarters, axes=(1, 2))[:, :, ::way])
    return np.mean(made, axis=0)


def _deblur_anchored(
    params: networks.Variables,
    xb: jax.Array,
    xc: jax.Array,
    alpha: jax.Array,
    blur: jax.Array | None,
) -> jax.Array:
    zc = encode(params, xc)
    if blur is not None:
        zc = separated.with_known(zc, blur / (1 - alpha))
    return deblur(params, encode_between(params, xb, zc, alpha, xc=xc), zc, alpha, anchor=xb)


def save(model: Model, workdir: epath.PathLike) -> None:
    """Makes a workdir of a network, to evaluate it or to train on from it.

    Its only checkpoint has no state of an optimiser: to train on, name the workdir as
    ``config.init_from`` of another one.

    Args:
      model: The network.
      workdir: A new folder, local or ``gs://``.

    Raises:
      FileExistsError: If something is there already.
    """
    from linlatent import checkpoints  # Orbax and ml-collections load only here.
    from linlatent import config as configuration

    check_new(workdir)
    with checkpoints.Checkpoints(workdir) as store:
        rest = {"step": np.asarray(model.step, np.int32)}
        store.save(model.step, model.params, rest, validation_loss=math.inf)
    configuration.write(model.config, workdir)


def check_new(workdir: epath.PathLike) -> None:
    """Raises `FileExistsError` if there is something where a workdir is to be made."""
    from etils import epath

    if epath.Path(workdir).exists():
        raise FileExistsError(f"{workdir}: exists already; expected a new folder")


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
