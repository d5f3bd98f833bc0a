"""One step of training and one of validation: pure functions of a state and a batch.

A batch is ``{"planes": (B, P, H, W, 1), "alpha": (B, T)}`` with a static table of T triplets, whose
levels index the P planes. The paper's triplet batches have P = 3 and T = 1; a whole stack with all
its triplets has P = 9 and T = 16. The loop adds jit, donation and shardings.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import DictKey

from linlatent import losses, model, networks, pair
from linlatent.training import passes
from linlatent.training.passes import Apply, Batch
from linlatent.training.recipe import Recipe
from linlatent.training.state import TrainState


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
        **({"batch_stats": statistics} if statistics else {}),
    }
    return TrainState(step=state.step + 1, variables=variables, optimiser=optimiser), metrics


def gradients_of(
    variables: networks.Variables, batch: Batch, *, recipe: Recipe
) -> tuple[Any, dict[str, jax.Array], model.Statistics]:
    """Differentiates the objective's mean over a batch, in training mode.

    Where the objective trains a part of the network alone, the other gradients are zero.

    Args:
      variables: The network.
      batch: As in `train_step`.
      recipe: As in `train_step`.

    Returns:
      The gradients of ``variables["params"]``, the metrics, and the running statistics with the
      moments of this batch folded in; empty for a network without BatchNorm.
    """
    network = networks.of(variables)
    joint, dtype = recipe.joint_statistics, recipe.dtype
    part = losses.TRAINED_PART.get(recipe.objective, ())

    def mean_loss(params: Any) -> tuple[jax.Array, Any]:
        params = jax.tree.map_with_path(functools.partial(_trained, part=part), params)
        outputs, moments = passes.run(
            {**variables, "params": params},
            batch,
            recipe,
            encode=functools.partial(network.encode_in_training, joint=joint, dtype=dtype),
            encode_pair=functools.partial(pair.encode_in_training, dtype=dtype),
            decode=functools.partial(network.decode_in_training, joint=joint, dtype=dtype),
        )
        metrics = {name: jnp.mean(term) for name, term in _terms(outputs, recipe).items()}
        return metrics["loss"], (metrics, moments)

    gradients, (metrics, moments) = jax.grad(mean_loss, has_aux=True)(variables["params"])
    running = variables.get("batch_stats")
    statistics = model.fold_statistics(running, moments) if running else {}
    return gradients, metrics, statistics


def validation_step(
    variables: networks.Variables, batch: Batch, mask: jax.Array, *, recipe: Recipe
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
    outputs, _ = passes.run(
        variables,
        batch,
        recipe,
        encode=_without_moments(networks.encode),
        encode_pair=_without_moments(pair.encode),
        decode=_without_moments(networks.decode),
    )
    sums = {name: jnp.sum(term * mask) for name, term in _terms(outputs, recipe).items()}
    return {**sums, "count": jnp.sum(mask)}


def _trained(path: Sequence[DictKey], leaf: jax.Array, *, part: tuple[str, ...]) -> jax.Array:
    """The leaf of the parameters at a path, through which no gradient goes outside of the part."""
    names = tuple(key.key for key in path[: len(part)])
    return leaf if names == part else jax.lax.stop_gradient(leaf)


def _without_moments(apply: Callable[..., Any]) -> Apply:
    """Maps a function of evaluation mode over examples; it has no moments to return.

    Mapped over planes, it would mix examples of several devices, which would then exchange them.
    """

    def over_examples(variables: networks.Variables, *planes: Any) -> tuple[Any, None]:
        applied = functools.partial(apply, variables)
        return jax.vmap(applied, in_axes=1, out_axes=1)(*planes), None

    return over_examples


def _terms(outputs: losses.Outputs, recipe: Recipe) -> dict[str, jax.Array]:
    return losses.objective_terms(
        outputs,
        objective=recipe.objective,
        criterion=recipe.criterion,
        latent_weight=recipe.latent_weight,
    )
