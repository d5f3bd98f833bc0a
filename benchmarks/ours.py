"""linlatent as a competitor: its own training step and public functions, compiled ahead."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import cast

import jax
import numpy as np

import linlatent
from benchmarks.plan import NUM_LEVELS
from benchmarks.workload import Workload
from linlatent import model
from linlatent.data import Triplet, midpoint_triplets
from linlatent.training.state import create_state
from linlatent.training.step import Recipe, train_step


def train(
    *, batching: str, objective: str, batch: int, widths: Sequence[int], size: int
) -> Workload:
    """Training steps as the loop takes them; a batch has `batch` triplets, or whole stacks."""
    recipe = recipe_of(batching, objective)
    num_planes = NUM_LEVELS if batching == "stack" else 3
    random = np.random.default_rng(0)
    data = jax.device_put(
        {
            "planes": random.random((batch, num_planes, size, size, 1), np.float32),
            "alpha": np.full((batch, len(recipe.triplets)), 0.5, np.float32),
        }
    )
    state = create_state(0, widths, recipe.optimiser)
    step = jax.jit(functools.partial(train_step, recipe=recipe), donate_argnums=0)
    compiled = step.lower(state, data).compile()
    cost = cast(dict[str, float], compiled.cost_analysis())
    facts = {"xla_flops": cost["flops"], "xla_bytes": cost["bytes accessed"]}

    def run() -> None:
        nonlocal state
        state, metrics = compiled(state, data)
        jax.block_until_ready((state, metrics))

    return Workload(run, facts)


def recipe_of(batching: str, objective: str) -> Recipe:
    """The paper's training on triplets (a, b, c), or on stacks with all of theirs."""
    stacked = batching == "stack"
    return Recipe(
        objective=objective,
        criterion="l1",
        latent_weight=1.0,
        learning_rate=1e-4,
        triplets=midpoint_triplets(NUM_LEVELS) if stacked else (Triplet(0, 1, 2),),
        joint_statistics=stacked,
    )


def deblur(*, count: int, height: int, width: int, widths: Sequence[int]) -> Workload:
    """Deblurs `count` images b, with as many c, all in one batch."""
    params = jax.jit(model.init, static_argnums=1)(jax.random.key(0), tuple(widths))
    shape = (2 * count, height, width, 1)
    planes = jax.device_put(np.random.default_rng(0).random(shape, np.float32))

    @jax.jit
    def deblurred(params: model.Variables, planes: jax.Array) -> jax.Array:
        z = linlatent.encode(params, planes)
        return linlatent.deblur(params, z[:count], z[count:], 0.5)

    return Workload(lambda: deblurred(params, planes).block_until_ready(), {})
