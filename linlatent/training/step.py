"""One step of training and one of validation: pure functions of a state and a batch.

A batch is ``{"planes": (B, P, H, W, 1), "alpha": (B, T)}`` with a static table of T triplets, whose
levels index the P planes. The paper's triplet batches have P = 3 and T = 1; a whole stack with all
its triplets has P = 9 and T = 16. The loop adds jit, donation and shardings.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from linlatent import latent, losses, model
from linlatent.data import Triplet
from linlatent.training.state import TrainState

Batch = Mapping[str, Any]
Apply = Callable[[model.Variables, jax.Array], tuple[jax.Array, Any]]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a step must know besides its arguments; hashable, hence static under jit.

    Attributes:
      objective: A key of `losses.OBJECTIVES`.
      criterion: A key of `losses.CRITERIA`.
      latent_weight: Weight of the latent term.
      learning_rate: Of Adam.
      triplets: Table of triplets; a, b and c index the planes of a batch.
      joint_statistics: Whether all planes of a pass share their BatchNorm moments.
      accumulate: Steps, each of one batch, whose mean gradient moves the weights once.
      dtype: Of `model.DTYPES`, what the network is computed in; all else is float32.
    """

    objective: str
    criterion: str
    latent_weight: float
    learning_rate: float
    triplets: tuple[Triplet, ...]
    joint_statistics: bool = False
    accumulate: int = 1
    dtype: str = "float32"

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """Adam, as in the paper; between its moves its state holds the gradients so far."""
        adam = optax.adam(self.learning_rate)
        if self.accumulate == 1:
            return adam
        return optax.MultiSteps(adam, self.accumulate).gradient_transformation()

    @property
    def endpoints(self) -> tuple[int, ...]:
        """The planes that are endpoint a or c of some triplet, sharpest first."""
        return tuple(sorted({plane for a, _, c in self.triplets for plane in (a, c)}))

    @property
    def midpoints(self) -> tuple[int, ...]:
        """The planes that are only ever in the middle of a triplet."""
        return tuple(sorted({b for _, b, _ in self.triplets} - set(self.endpoints)))


def train_step(
    state: TrainState, batch: Batch, *, recipe: Recipe
) -> tuple[TrainState, dict[str, jax.Array]]:
    """Takes one step of the optimiser on the objective's mean over a batch.

    BatchNorm's running averages move at every step, the weights at every `recipe.accumulate`-th.

    Args:
      state: The state before.
      batch: ``planes`` (B, P, H, W, 1) float32 in [0, 1] and ``alpha`` (B, T) float32 in (0, 1].
      recipe: The objective, its weights and the table of triplets.

    Returns:
      The state after, and the metrics of the batch before the step: ``loss`` and each of its terms,
      scalars.
    """
    gradients, metrics, statistics = gradients_of(state.variables, batch, recipe=recipe)
    updates, optimiser = recipe.optimiser.update(gradients, state.optimiser)
    variables = {
        "params": optax.apply_updates(state.variables["params"], updates),
        "batch_stats": statistics,
    }
    return TrainState(step=state.step + 1, variables=variables, optimiser=optimiser), metrics


def gradients_of(
    variables: model.Variables, batch: Batch, *, recipe: Recipe
) -> tuple[Any, dict[str, jax.Array], model.Statistics]:
    """Differentiates the objective's mean over a batch, in training mode.

    Args:
      variables: The network.
      batch: As in `train_step`.
      recipe: As in `train_step`.

    Returns:
      The gradients of ``variables["params"]``, the metrics, and the running statistics with the
      moments of this batch folded in.
    """
    joint, dtype = recipe.joint_statistics, recipe.dtype

    def mean_loss(params: Any) -> tuple[jax.Array, Any]:
        outputs, moments = _forward(
            {**variables, "params": params},
            batch,
            recipe,
            encode=functools.partial(model.encode_in_training, joint=joint, dtype=dtype),
            decode=functools.partial(model.decode_in_training, joint=joint, dtype=dtype),
        )
        metrics = {name: jnp.mean(term) for name, term in _terms(outputs, recipe).items()}
        return metrics["loss"], (metrics, moments)

    gradients, (metrics, moments) = jax.grad(mean_loss, has_aux=True)(variables["params"])
    return gradients, metrics, model.fold_statistics(variables["batch_stats"], moments)


def validation_step(
    variables: model.Variables, batch: Batch, mask: jax.Array, *, recipe: Recipe
) -> dict[str, jax.Array]:
    """Sums the objective and its terms over the examples of a batch, in evaluation mode.

    Args:
      variables: The network.
      batch: As in `train_step`.
      mask: ``(B,)``, 1 for an example that counts and 0 for padding.
      recipe: As in `train_step`.

    Returns:
      ``loss`` and each term, summed over the examples that count, and ``count``; scalars.
    """
    outputs, _ = _forward(
        variables,
        batch,
        recipe,
        encode=_without_moments(model.encode),
        decode=_without_moments(model.decode),
    )
    sums = {name: jnp.sum(term * mask) for name, term in _terms(outputs, recipe).items()}
    return {**sums, "count": jnp.sum(mask)}


def _forward(
    variables: model.Variables, batch: Batch, recipe: Recipe, *, encode: Apply, decode: Apply
) -> tuple[losses.Outputs, dict[str, Any]]:
    """Runs the passes that the objective needs, in the published order: a, c, interpolation, b.

    Returns:
      The outputs, and for each half of the network the BatchNorm moments of its passes, stacked.
    """
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
        endpoint_weights=_endpoint_weights(recipe),
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


def _without_moments(apply: Callable[[model.Variables, jax.Array], jax.Array]) -> Apply:
    """Maps a function of evaluation mode over examples; it has no moments to return.

    Mapped over planes, it would mix examples of several devices, which would then exchange them.
    """
    over_examples = jax.vmap(apply, in_axes=(None, 1), out_axes=1)
    return lambda variables, planes: (over_examples(variables, planes), None)


def _endpoint_weights(recipe: Recipe) -> jax.Array:
    counts = Counter(plane for a, _, c in recipe.triplets for plane in (a, c))
    return jnp.array([counts[plane] / (2 * len(recipe.triplets)) for plane in recipe.endpoints])


def _terms(outputs: losses.Outputs, recipe: Recipe) -> dict[str, jax.Array]:
    return losses.objective_terms(
        outputs,
        objective=recipe.objective,
        criterion=recipe.criterion,
        latent_weight=recipe.latent_weight,
    )
