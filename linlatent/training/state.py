"""What training carries from step to step."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import flax
import jax
import jax.numpy as jnp
import optax

from linlatent import networks


@flax.struct.dataclass
class TrainState:
    """A pytree of device arrays.

    In the state of an ensemble every array has a leading axis over the members.

    Attributes:
      step: Number of steps done, int32 scalar.
      variables: Weights and BatchNorm statistics, the *params* of the public functions.
      optimiser: The state of the optimiser.
    """

    step: jax.Array
    variables: networks.Variables
    optimiser: optax.OptState


def create_state(
    seed: int,
    widths: Sequence[int],
    optimiser: optax.GradientTransformation,
    *,
    network: str = "paper",
) -> TrainState:
    """Initialises a network of `networks.NETWORKS` and its optimiser from a seed."""
    init = functools.partial(networks.init, network=network, widths=tuple(widths))
    variables = jax.jit(init)(jax.random.key(seed))
    return state_of(variables, optimiser)


def stack_members(members: Sequence[TrainState]) -> TrainState:
    """Makes the state of an ensemble out of its members'; that of one alone stays as it is."""
    if len(members) == 1:
        return members[0]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def state_of(variables: networks.Variables, optimiser: optax.GradientTransformation) -> TrainState:
    """Makes the state in which given weights start their training, at step 0."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        optimiser=optimiser.init(variables["params"]),
    )
