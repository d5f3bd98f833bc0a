"""The passes of a batch through the network, and what the objectives look at of them."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from linlatent import latent, losses, networks, separated
from linlatent.training.recipe import Recipe

Batch = Mapping[str, Any]
Apply = Callable[..., tuple[Any, Any]]


def run(
    variables: networks.Variables,
    batch: Batch,
    recipe: Recipe,
    *,
    encode: Apply,
    encode_pair: Apply,
    decode: Apply,
) -> tuple[losses.Outputs, dict[str, Any]]:
    """Runs the passes that the objective needs.

    Args:
      variables: The network.
      batch: As in `step.train_step`.
      recipe: The objective and the table of triplets.
      encode: From the variables and planes ``(P, B, H, W, 1)`` to their latents ``(P, B, ...)`` and
        the moments of the pass; of a separated network also from what is known of the planes' blur,
        ``(P, B)``.
      encode_pair: From the variables of a paired network and planes b, their blur, ``(P, B)``, and
        the blurriest planes c to the latents of b (`pair.encode`) and no moments.
      decode: The counterpart of both.

    Returns:
      The outputs, and for each half of the network the BatchNorm moments of its passes, stacked.
    """
    if recipe.objective == "separated_pair":
        return _of_pairs(variables, batch, recipe, encode_pair=encode_pair, decode=decode)
    of_the_paper = losses.OBJECTIVES[recipe.objective].keys() <= losses.OBJECTIVES["direct"].keys()
    passes = _of_the_paper if of_the_paper else _with_extrapolation
    return passes(variables, batch, recipe, encode=encode, decode=decode)


def _of_the_paper(
    variables: networks.Variables, batch: Batch, recipe: Recipe, *, encode: Apply, decode: Apply
) -> tuple[losses.Outputs, dict[str, Any]]:
    """The paper's objectives, in the published order of passes: a, c, interpolation, b."""
    terms = losses.OBJECTIVES[recipe.objective]
    planes = jnp.moveaxis(batch["planes"], 1, 0)
    first, middle, last = (jnp.array(column) for column in zip(*recipe.triplets, strict=True))
    endpoints = jnp.array(recipe.endpoints)
    position = jnp.zeros(planes.shape[0], jnp.int32).at[endpoints].set(jnp.arange(endpoints.size))

    z, moments = encode(variables, planes[endpoints])
    encoder_moments = [moments]
    interpolated = latent.interpolate(z[position[first]], z[position[last]], batch["alpha"].T)

    to_decode = [z, interpolated] if "interpolation" in terms else [z]
    decoded, moments = decode(variables, jnp.concatenate(to_decode))
    decoder_moments = [moments]

    z_b = z[:0]
    if "latent" in terms:
        if recipe.midpoints:
            midpoints = jnp.array(recipe.midpoints)
            z_midpoints, moments = encode(variables, planes[midpoints])
            encoder_moments.append(moments)
            # The published code also decodes b. No term looks at it, but BatchNorm remembers it.
            _, moments = decode(variables, jax.lax.stop_gradient(z_midpoints))
            decoder_moments.append(moments)
            z = jnp.concatenate([z, z_midpoints])
            position = position.at[midpoints].set(endpoints.size + jnp.arange(midpoints.size))
        z_b = z[position[middle]]

    outputs = losses.Outputs(
        endpoints=planes[endpoints],
        reconstructions=decoded[: endpoints.size],
        endpoint_weights=_shares(
            (plane for a, _, c in recipe.triplets for plane in (a, c)), of=recipe.endpoints
        ),
        targets=planes[middle],
        interpolated=interpolated,
        syntheses=decoded[endpoints.size :],
        latents=z_b,
    )
    statistics = {
        "encoder": jax.tree.map(lambda *m: jnp.concatenate(m), *encoder_moments),
        "decoder": jax.tree.map(lambda *m: jnp.concatenate(m), *decoder_moments),
    }
    return outputs, statistics


def _with_extrapolation(
    variables: networks.Variables, batch: Batch, recipe: Recipe, *, encode: Apply, decode: Apply
) -> tuple[losses.Outputs, dict[str, Any]]:
    """All planes are encoded and decoded, and with them what lies between and beyond them.

    With ``whole_every`` this is done for every so many-th example. Deblurring of single images, the
    hardest task by far, learns from all of them, and for that only b has to be encoded. A network
    that learns it is told the blur of all planes.
    """
    leaves = [batch["planes"], batch["alpha"]]
    if "focus" in losses.OBJECTIVES[recipe.objective]:
        leaves.append(separated.BLURRIEST * _blurs(batch["alpha"].T).T)
    groups = [_in_groups(leaf, recipe.whole_every) for leaf in leaves]
    (planes, alpha, *known), others = zip(*groups, strict=True)
    first, middle, last = (jnp.array(column) for column in zip(*recipe.triplets, strict=True))

    z, encoder_moments = encode(variables, planes, *known)
    za, zb, zc = (_take(z, levels) for levels in (first, middle, last))
    between = latent.interpolate(za, zc, alpha)
    beyond = networks.of(variables).anchored(latent.extrapolate(zb, zc, alpha), zb)
    together = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), z, between, beyond)
    decoded, decoder_moments = decode(variables, together)
    count = len(recipe.triplets)
    reconstructions, syntheses, sharpened = jnp.split(decoded, [len(planes), len(planes) + count])

    outputs = losses.Outputs(
        endpoints=planes,
        reconstructions=reconstructions,
        endpoint_weights=_shares(
            itertools.chain.from_iterable(recipe.triplets), of=range(len(planes))
        ),
        targets=planes[middle],
        interpolated=planes[:0],
        syntheses=syntheses,
        latents=planes[:0],
        sharper=planes[first],
        extrapolations=latent.anchor(planes[middle], sharpened, reconstructions[middle]),
    )
    if isinstance(z, separated.Latent):
        outputs = _with_contents_and_blurs(outputs, z, (za, zb, zc), alpha)
        if recipe.whole_every > 1:
            (sharp, blurry, _), alphas, *known = others
            zb, _ = encode(variables, blurry, *(blurs[1] for blurs in known))
            outputs = _with_others(outputs, zb, sharp, alphas[0])
    return outputs, {"encoder": encoder_moments, "decoder": decoder_moments}


def _of_pairs(
    variables: networks.Variables,
    batch: Batch,
    recipe: Recipe,
    *,
    encode_pair: Apply,
    decode: Apply,
) -> tuple[losses.Outputs, dict[str, Any]]:
    """Planes b are encoded beside c, and told their blur: c is the blurriest plane."""
    planes = jnp.moveaxis(batch["planes"], 1, 0)
    first, middle, last = (jnp.array(column) for column in zip(*recipe.triplets, strict=True))
    b, blurs = planes[middle], separated.BLURRIEST * (1 - batch["alpha"].T)
    zb, encoder_moments = encode_pair(variables, b, blurs, planes[last])
    decoded, decoder_moments = decode(variables, zb)
    outputs = losses.Outputs(
        endpoints=b,
        reconstructions=decoded,
        endpoint_weights=jnp.full(len(b), 1 / len(b)),
        targets=planes[:0],
        interpolated=planes[:0],
        syntheses=planes[:0],
        latents=planes[:0],
        in_focus=planes[first],
        focused=separated.in_focus(zb),
    )
    return outputs, {"encoder": encoder_moments, "decoder": decoder_moments}


def _with_contents_and_blurs(
    outputs: losses.Outputs,
    z: separated.Latent,
    latents: tuple[separated.Latent, ...],
    alpha: jax.Array,
) -> losses.Outputs:
    """Adds what the terms of separated latents see, of all planes and of a, b and c.

    All triplets span the planes: a is the first one, in focus, c the last, and each other is a b.
    """
    blur_errors = _mean_blur(z) - _blurs(alpha)
    return dataclasses.replace(
        outputs,
        in_focus=outputs.sharper,
        focused=separated.in_focus(latents[1]),
        contents=jnp.stack([each.content for each in latents]),
        blur_errors=blur_errors,
        step_errors=jnp.diff(blur_errors, axis=0),
    )


def _in_groups(leaf: jax.Array, size: int) -> tuple[jax.Array, jax.Array]:
    """The first of each group of ``size`` examples ``(B, P, ...)``, and the others, planes first.

    They are ``(P, B / size, ...)`` and ``(P, size - 1, B / size, ...)``. Examples that follow each
    other are on one device: so each of them takes part in both.
    """
    groups = leaf.reshape(-1, size, *leaf.shape[1:])
    groups = jnp.moveaxis(groups, (2, 1), (0, 1))
    return groups[:, 0], groups[:, 1:]


def _blurs(alpha: jax.Array) -> jax.Array:
    """Blurs of all planes in shares of the blurriest, where triplets ``(T, ...)`` span them."""
    ends = jnp.ones_like(alpha[:1])
    return jnp.concatenate([0 * ends, 1 - alpha, ends])


def _with_others(
    outputs: losses.Outputs, zb: separated.Latent, a: jax.Array, alpha: jax.Array
) -> losses.Outputs:
    """Adds what examples show of which b alone was encoded, ``(whole_every - 1, B, ...)``."""
    return dataclasses.replace(
        outputs,
        in_focus=jnp.concatenate([outputs.in_focus, a]),
        focused=jnp.concatenate([outputs.focused, separated.in_focus(zb)]),
        blur_errors=jnp.concatenate([outputs.blur_errors, _mean_blur(zb) - (1 - alpha)]),
    )


def _mean_blur(z: separated.Latent) -> jax.Array:
    """The mean over the image, in shares of the blurriest."""
    return jnp.mean(z.blur, axis=(-3, -2, -1)) / separated.BLURRIEST


def _take(z: latent.Latent, levels: jax.Array) -> latent.Latent:
    return jax.tree.map(lambda leaf: leaf[levels], z)


def _shares(planes: Iterable[int], of: Iterable[int]) -> jax.Array:
    """How large a part of a list of planes each of some planes is."""
    counts = Counter(planes)
    return jnp.array([counts[plane] / counts.total() for plane in of])
