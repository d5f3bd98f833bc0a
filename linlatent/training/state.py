"""What training carries from step to step."""

from __future__ import annotations

from collections.abc import Sequence

import flax
import jax
import jax.numpy as jnp
import optax

from linlatent import model


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
    variables: model.Variables
    optimiser: optax.OptState


def create_state(
    seed: int, widths: Sequence[int], optimiser: optax.GradientTransformation
) -> TrainState:
    """Initialises a network and its optimiser from a seed."""
    variables = jax.jit(model.init, static_argnums=1)(jax.random.key(seed), tuple(widths))
    return state_of(variables, optimiser)


def stack_members(members: Sequence[TrainState]) -> TrainState:
    """Makes the state of an ensemble out of its members'; that of one alone stays as it is."""
    if len(members) == 1:
        return members[0]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)


def state_of(variables: model.Variables, optimiser: optax.GradientTransformation) -> TrainState:
    """Makes the state in which given weights start their training, at step 0."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        optimiser=optimiser.init(variables["params"]),
    )
