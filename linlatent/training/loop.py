"""The training loop: where a configuration becomes arrays, and steps become a workdir."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from linlatent import checkpoints, devices, inference, losses, networks, pair
from linlatent import config as configuration
from linlatent.data import (
    TRIPLETS,
    StackSource,
    Triplet,
    evaluation_batches,
    open_source,
    steps_per_epoch,
    train_batches,
)
from linlatent.training import progress
from linlatent.training.recorder import NonFiniteLossError, Recorder, Schedule
from linlatent.training.state import TrainState, create_state, stack_members, state_of
from linlatent.training.step import Batch, Recipe, train_step, validation_step

__all__ = ["NonFiniteLossError", "train"]


def train(config: ConfigDict, workdir: epath.PathLike) -> TrainState:
    """Trains a network, or goes on where the workdir's latest checkpoint ends.

    After every epoch (or every ``config.validate_every_steps``), and at the end, the objective is
    measured on the validation split (centre crops, all triplets, evaluation mode) and a checkpoint
    is saved.

    All devices take part, and all processes if there are several (`devices.connect`): each of them
    calls this function with the same arguments, reads its share of every batch, and returns.

    Args:
      config: Of the form of ``configs/default.py``.
      workdir: Folder for ``config.json``, ``checkpoints/`` and ``metrics.jsonl``, local or ``gs://``.

    Returns:
      The final state.

    Raises:
      ValueError: If a value of the configuration is impossible, the workdir belongs to another
        configuration, or the data do not fit.
      FileNotFoundError: If the data or ``config.init_from`` are missing.
      NonFiniteLossError: If the loss is NaN or infinite.
    """
    configuration.validate(config)
    if config.objective in losses.TRAINED_PART and not config.init_from:
        raise ValueError(
            f"config.init_from is not given; objective {config.objective!r} trains a part of a"
            " network, expected the workdir or the name of one"
        )
    with devices.first_process_first("data"):  # It generates or downloads what is not there yet.
        source = open_source(config.data.source, **config.data[config.data.source])
    table = TRIPLETS[config.triplets](source.num_levels)
    schedule = _schedule(config, source, table)
    triplets = table if config.batching == "stack" else (Triplet(0, 1, 2),)
    recipe = _recipe(config, triplets, schedule)
    mesh = devices.mesh()
    _check_batch_size(config, mesh)

    with checkpoints.Checkpoints(workdir) as store:
        _claim(workdir, config, store)
        state = _first_state(config, recipe, store, mesh)
        first_step = int(np.max(state.step))  # The same of all members.
        if first_step >= schedule.last_step:
            progress.logger.info(
                "%s: already trained for %d steps of %d", workdir, first_step, schedule.last_step
            )
            return state
        _announce(workdir, config, source, schedule, first_step)
        step = compiled_step(recipe, state, mesh, num_models=config.num_models)
        of_stacks = dataclasses.replace(recipe, triplets=table, whole_every=1)
        validate = _validation(source, config, of_stacks, mesh)
        with (
            # A reader that outlives its training keeps the interpreter from ending.
            contextlib.closing(_batches(config, source, table, first_step)) as batches,
            Recorder(
                workdir,
                schedule,
                first_step=first_step,
                triplets_per_step=config.batch_size * len(recipe.triplets),
                tensorboard=config.tensorboard,
                last_good_step=store.latest_step,
            ) as recorder,
        ):
            for number in range(first_step + 1, schedule.last_step + 1):
                # Read, and on its way to the devices, while they are busy with the step before.
                batch = devices.assemble(next(batches), mesh)
                began = time.perf_counter()
                state, metrics = step(state, batch)
                recorder.step(number, metrics, began=began)
                if schedule.is_validated(number):
                    recorder.finish()
                    measured = validate(state.variables)
                    recorder.validation(number, measured)
                    store.save(number, state.variables, _rest_of(state), measured["loss"])
    return state


def _recipe(config: ConfigDict, triplets: tuple[Triplet, ...], schedule: Schedule) -> Recipe:
    moves = schedule.last_step // config.accumulate
    return Recipe(
        objective=config.objective,
        criterion=config.criterion,
        latent_weight=config.latent_weight,
        learning_rate=config.learning_rate,
        triplets=triplets,
        whole_every=config.whole_every,
        joint_statistics=config.batching == "stack",
        accumulate=config.accumulate,
        dtype=config.dtype,
        decay_steps=moves if config.schedule == "cosine" else None,
    )


def _schedule(config: ConfigDict, source: StackSource, table: tuple[Triplet, ...]) -> Schedule:
    per_epoch = steps_per_epoch(
        source, triplets=table, batching=config.batching, batch_size=config.batch_size
    )
    return Schedule(
        last_step=config.num_steps or config.num_epochs * per_epoch,
        per_epoch=per_epoch,
        per_validation=config.validate_every_steps or per_epoch,
        per_log=config.log_every_steps,
    )


def _check_batch_size(config: ConfigDict, mesh: Mesh) -> None:
    share = mesh.size * config.whole_every
    if config.batch_size % share:
        raise ValueError(
            f"config.batch_size is {config.batch_size}, expected a multiple of {share}: of"
            f" config.whole_every, {config.whole_every}, on each of the {mesh.size} devices"
        )


def _claim(workdir: epath.PathLike, config: ConfigDict, store: checkpoints.Checkpoints) -> None:
    """Checks that a workdir is of this configuration, or makes it so."""
    if store.latest_step() is not None:
        configuration.require_same(workdir, config, but_for=configuration.EXTENDABLE)
    devices.wait_for_all_processes("read config.json")
    if devices.is_first_process():
        configuration.write(config, workdir)


def _first_state(
    config: ConfigDict, recipe: Recipe, store: checkpoints.Checkpoints, mesh: Mesh
) -> TrainState:
    """Starts from the workdir's own checkpoint, else ``config.init_from``, else from scratch."""

    def create() -> TrainState:
        seeds = range(config.seed, config.seed + config.num_models)
        return stack_members(
            [
                create_state(
                    seed, config.model.widths, recipe.optimiser, network=config.model.network
                )
                for seed in seeds
            ]
        )

    like = jax.eval_shape(create)
    shardings = devices.state_shardings(like, mesh, sharded=config.shard_params)
    if store.latest_step() is None:
        state = _borrowed(config, recipe) if config.init_from else create()
        return jax.device_put(state, shardings)
    like = jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        like,
        shardings,
    )
    variables, rest = store.restore(like.variables, _rest_of(like))
    return TrainState(variables=variables, **rest)


def _announce(
    workdir: epath.PathLike,
    config: ConfigDict,
    source: StackSource,
    schedule: Schedule,
    first_step: int,
) -> None:
    progress.logger.info(
        "%s: %d slides of %s, %s objective, steps %d to %d, %d an epoch, on %d x %s",
        *(workdir, len(source.slide_ids["train"]), source.name, config.objective),
        *(first_step, schedule.last_step, schedule.per_epoch),
        *(jax.device_count(), jax.devices()[0].device_kind),
    )
    if not source.slide_ids["validation"]:
        progress.logger.info(
            "%s has no validation slides: training slides stand in for them", source.name
        )
    progress.logger.info("compiling the step, which can take a minute if it is not in the cache")


def _batches(
    config: ConfigDict, source: StackSource, table: tuple[Triplet, ...], first_step: int
) -> Generator[Batch, None, None]:
    """The rows of the training batches that this process reads."""
    return train_batches(
        source,
        triplets=table,
        batching=config.batching,
        crop_size=config.data.crop_size,
        crops=config.data.crops,
        normalisation=config.data.normalisation,
        batch_size=config.batch_size,
        seed=config.seed,
        first_step=first_step,
        share=devices.share(),
    )


def compiled_step(
    recipe: Recipe, state: TrainState, mesh: Mesh, *, num_models: int = 1
) -> Callable[[TrainState, Batch], tuple[TrainState, dict[str, jax.Array]]]:
    """The step as the devices run it: the state stays where it is, and gives up its memory.

    The metrics of an ensemble are ``(num_models,)``.
    """
    return jax.jit(
        _of_all_members(functools.partial(train_step, recipe=recipe), num_models),
        donate_argnums=0,
        out_shardings=(
            jax.tree.map(lambda leaf: leaf.sharding, state),
            devices.replicated(mesh),
        ),
    )


def _borrowed(config: ConfigDict, recipe: Recipe) -> TrainState:
    """Starts from the best weights of another workdir, each member from its counterpart."""
    other = inference.load(config.init_from)
    if other.config.num_models != config.num_models:
        raise ValueError(
            f"config.init_from: {config.init_from} holds {other.config.num_models} networks,"
            f" config.num_models is {config.num_models}"
        )
    to_be_paired = (other.config.model.network, config.model.network) == ("separated", "paired")
    if other.config.model.network != config.model.network and not to_be_paired:
        raise ValueError(
            f"config.init_from: the network of {config.init_from} is"
            f" {other.config.model.network!r}, config.model.network is {config.model.network!r}"
        )
    if tuple(other.config.model.widths) != tuple(config.model.widths):
        raise ValueError(
            f"config.init_from: the network of {config.init_from} has widths"
            f" {tuple(other.config.model.widths)}, config.model.widths is"
            f" {tuple(config.model.widths)}"
        )
    members = [
        inference.load(config.init_from, member=member).params
        for member in range(config.num_models)
    ]
    if to_be_paired:
        members = [pair.added(member) for member in members]
    states = [state_of(member, recipe.optimiser) for member in members]
    # From there to all devices, of other processes, too.
    return jax.device_get(stack_members(states))


def _rest_of(state: TrainState) -> dict[str, Any]:
    """What a checkpoint keeps beside the variables."""
    return {"step": state.step, "optimiser": state.optimiser}


def _validation(
    source: StackSource, config: ConfigDict, recipe: Recipe, mesh: Mesh
) -> Callable[[networks.Variables], dict[str, float]]:
    """Makes what measures a network on the validation split.

    It returns the means of the objective and its terms, exact for any batch size; those of an
    ensemble are means over its members, too.
    """
    step = compiled_validation_step(recipe, devices.replicated(mesh), num_models=config.num_models)

    def validate(variables: networks.Variables) -> dict[str, float]:
        sums: dict[str, float] = {}
        for rows in _validation_batches(source, config, recipe.triplets, mesh):
            batch, mask = devices.assemble(rows, mesh)
            for name, value in jax.device_get(step(variables, batch, mask)).items():
                sums[name] = sums.get(name, 0.0) + float(np.mean(value, dtype=np.float64))
        count = sums.pop("count")
        return {name: value / count for name, value in sums.items()}

    return validate


@functools.cache
def compiled_validation_step(recipe: Recipe, replicated: NamedSharding, *, num_models: int = 1):
    step = _of_all_members(functools.partial(validation_step, recipe=recipe), num_models)
    return jax.jit(step, out_shardings=replicated)


def _of_all_members(step: Callable[..., Any], num_models: int) -> Callable[..., Any]:
    """Lets a step take the state of an ensemble, first of its arguments, and one batch for all."""
    if num_models == 1:
        return step

    def steps(members: Any, *batch: Any) -> Any:
        def step_of(member: Any) -> Any:
            return step(member, *batch)

        # Under vmap, convolutions become grouped ones, which cost XLA's CPU backend up to twice the
        # time of one member after the other.
        return jax.lax.platform_dependent(
            members, cpu=functools.partial(jax.lax.map, step_of), default=jax.vmap(step_of)
        )

    return steps


def _validation_batches(
    source: StackSource, config: ConfigDict, table: tuple[Triplet, ...], mesh: Mesh
) -> Iterator[tuple[Batch, Any]]:
    """Centre crops with all triplets; without validation slides, those of the training split."""
    split = "validation" if source.slide_ids["validation"] else "train"
    # A batch of whole stacks weighs as much as one of triplets.
    batch_size = math.ceil(config.batch_size / len(table) / mesh.size) * mesh.size
    alpha = np.array([[triplet.alpha for triplet in table]], np.float32)
    for batch in evaluation_batches(
        source,
        split,
        crop_size=config.data.crop_size,
        normalisation=config.data.normalisation,
        batch_size=batch_size,
        share=devices.share(),
    ):
        mask = batch["mask"]
        yield {"planes": batch["planes"], "alpha": np.repeat(alpha, len(mask), axis=0)}, mask
