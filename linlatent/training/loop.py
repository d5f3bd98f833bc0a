"""The training loop: where a configuration becomes arrays, and steps become a workdir."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from etils import epath
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from linlatent import checkpoints, inference, model
from linlatent import config as configuration
from linlatent.data import (
    StackSource,
    Triplet,
    evaluation_batches,
    midpoint_triplets,
    open_source,
    steps_per_epoch,
    train_batches,
)
from linlatent.training import progress
from linlatent.training.state import TrainState, create_state, state_of
from linlatent.training.step import Batch, Recipe, train_step, validation_step


class NonFiniteLossError(ArithmeticError):
    """The loss is NaN or infinite; the last checkpoint holds the state before."""


def train(config: ConfigDict, workdir: epath.PathLike) -> TrainState:
    """Trains a network, or goes on where the workdir's latest checkpoint ends.

    After every epoch (or every ``config.validate_every_steps``), and at the end, the objective is
    measured on the validation split (centre crops, all triplets, evaluation mode) and a checkpoint
    is saved.

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
    source = open_source(config.data.source, **config.data[config.data.source])
    table = midpoint_triplets(source.num_levels)
    recipe = _recipe(config, table if config.batching == "stack" else (Triplet(0, 1, 2),))
    per_epoch = steps_per_epoch(
        source, triplets=table, batching=config.batching, batch_size=config.batch_size
    )
    last_step = config.num_steps or config.num_epochs * per_epoch
    per_validation = config.validate_every_steps or per_epoch
    batch_sharding, replicated = _shardings(config.batch_size)

    with checkpoints.Checkpoints(workdir) as store:
        if store.latest_step() is not None:
            configuration.require_same(workdir, config, but_for=configuration.EXTENDABLE)
        configuration.write(config, workdir)
        state = _first_state(config, recipe, store, replicated)
        first_step = int(state.step)
        if first_step >= last_step:
            progress.logger.info(
                "%s: already trained for %d steps of %d", workdir, first_step, last_step
            )
            return state
        progress.logger.info(
            "%s: %d slides of %s, %s objective, steps %d to %d, %d an epoch, on %d x %s",
            *(workdir, len(source.slide_ids["train"]), source.name, config.objective),
            *(first_step, last_step, per_epoch, jax.device_count(), jax.devices()[0].device_kind),
        )
        if not source.slide_ids["validation"]:
            progress.logger.info(
                "%s has no validation slides: training slides stand in for them", source.name
            )
        batches = train_batches(
            source,
            triplets=table,
            batching=config.batching,
            crop_size=config.data.crop_size,
            normalisation=config.data.normalisation,
            batch_size=config.batch_size,
            seed=config.seed,
            first_step=first_step,
        )
        # The only place that knows of compilation, donated buffers and devices.
        step = jax.jit(
            functools.partial(train_step, recipe=recipe),
            donate_argnums=0,
            out_shardings=(replicated, replicated),
        )
        validate = functools.partial(
            _validate, source, config, _recipe(config, table), batch_sharding
        )
        log = progress.MetricsLog(workdir, first_step=first_step, tensorboard=config.tensorboard)
        triplets_per_step = config.batch_size * len(recipe.triplets)
        with progress.Progress(first_step, last_step, triplets_per_step) as bar:
            records: list[dict[str, float]] = []

            def is_validated(number: int) -> bool:
                return number % per_validation == 0 or number == last_step

            def finish(number: int, metrics: Mapping[str, jax.Array]) -> None:
                """Reads the metrics of a step, one step late, so that the device never waits."""
                record = {name: float(value) for name, value in jax.device_get(metrics).items()}
                _require_finite(record, number, "training", store)
                records.append(record)
                bar.update(number, record["loss"])
                # Before a checkpoint, too: what resumes from it starts with no records.
                if number % config.log_every_steps == 0 or is_validated(number):
                    log.write(number, "train", progress.means(records))
                    records.clear()

            pending: tuple[int, Mapping[str, jax.Array]] | None = None
            for number in range(first_step + 1, last_step + 1):
                batch = jax.device_put(next(batches), batch_sharding)
                state, metrics = step(state, batch)
                if pending:
                    finish(*pending)
                pending = number, metrics
                if is_validated(number):
                    finish(*pending)
                    pending = None
                    measured = validate(state.variables)
                    _require_finite(measured, number, "validation", store)
                    log.write(number, "validation", measured)
                    store.save(number, state.variables, _rest_of(state), measured["loss"])
                    bar.message(
                        f"epoch {number / per_epoch:.2f}, step {number}: validation "
                        + ", ".join(f"{name} {value:.4f}" for name, value in measured.items())
                    )
    return state


def _recipe(config: ConfigDict, triplets: tuple[Triplet, ...]) -> Recipe:
    return Recipe(
        objective=config.objective,
        criterion=config.criterion,
        latent_weight=config.latent_weight,
        learning_rate=config.learning_rate,
        triplets=triplets,
        joint_statistics=config.batching == "stack",
    )


def _shardings(batch_size: int) -> tuple[NamedSharding, NamedSharding]:
    """Splits the first axis of a batch over all devices, and keeps everything else on each."""
    if batch_size % jax.device_count():
        raise ValueError(
            f"config.batch_size is {batch_size}, expected a multiple of the {jax.device_count()}"
            " devices that share a batch"
        )
    mesh = jax.make_mesh((jax.device_count(),), ("batch",), axis_types=(AxisType.Auto,))
    return NamedSharding(mesh, PartitionSpec("batch")), NamedSharding(mesh, PartitionSpec())


def _first_state(
    config: ConfigDict, recipe: Recipe, store: checkpoints.Checkpoints, sharding: NamedSharding
) -> TrainState:
    """Starts from the workdir's own checkpoint, else ``config.init_from``, else from scratch."""
    create = functools.partial(create_state, config.seed, config.model.widths, recipe.optimiser)
    if store.latest_step() is None:
        state = state_of(_borrowed(config), recipe.optimiser) if config.init_from else create()
        return jax.device_put(state, sharding)
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        jax.eval_shape(create),
    )
    variables, rest = store.restore(like.variables, _rest_of(like))
    return TrainState(variables=variables, **rest)


def _borrowed(config: ConfigDict) -> model.Variables:
    other = inference.load(config.init_from)
    if tuple(other.config.model.widths) != tuple(config.model.widths):
        raise ValueError(
            f"config.init_from: the network of {config.init_from} has widths"
            f" {tuple(other.config.model.widths)}, config.model.widths is"
            f" {tuple(config.model.widths)}"
        )
    return other.params


def _rest_of(state: TrainState) -> dict[str, Any]:
    """What a checkpoint keeps beside the variables."""
    return {"step": state.step, "optimiser": state.optimiser}


def _validate(
    source: StackSource,
    config: ConfigDict,
    recipe: Recipe,
    sharding: NamedSharding,
    variables: model.Variables,
) -> dict[str, float]:
    """Means of the objective and its terms over the validation split, exact for any batch size."""
    step = _compiled_validation_step(recipe)
    sums: dict[str, float] = {}
    for batch, mask in _validation_batches(source, config, recipe.triplets):
        batch, mask = jax.device_put((batch, mask), sharding)
        for name, value in jax.device_get(step(variables, batch, mask)).items():
            sums[name] = sums.get(name, 0.0) + float(value)
    count = sums.pop("count")
    return {name: value / count for name, value in sums.items()}


@functools.cache
def _compiled_validation_step(recipe: Recipe):
    return jax.jit(functools.partial(validation_step, recipe=recipe))


def _validation_batches(
    source: StackSource, config: ConfigDict, table: tuple[Triplet, ...]
) -> Iterator[tuple[Batch, Any]]:
    """Centre crops with all triplets; without validation slides, those of the training split."""
    split = "validation" if source.slide_ids["validation"] else "train"
    # A batch of whole stacks weighs as much as one of triplets.
    batch_size = math.ceil(config.batch_size / len(table) / jax.device_count()) * jax.device_count()
    alpha = np.array([[triplet.alpha for triplet in table]], np.float32)
    for batch in evaluation_batches(
        source,
        split,
        crop_size=config.data.crop_size,
        normalisation=config.data.normalisation,
        batch_size=batch_size,
    ):
        yield (
            {"planes": batch["planes"], "alpha": np.repeat(alpha, batch_size, axis=0)},
            batch["mask"],
        )


def _require_finite(
    record: Mapping[str, float], step: int, split: str, store: checkpoints.Checkpoints
) -> None:
    if not all(map(math.isfinite, record.values())):
        values = ", ".join(f"{name} {value}" for name, value in record.items())
        kept = store.latest_step()
        raise NonFiniteLossError(
            f"the {split} loss is not finite at step {step} ({values}); "
            + (f"the checkpoint of step {kept} is the last good one" if kept else "nothing saved")
            + "; a lower config.learning_rate usually helps, in another workdir, which can start"
            " from this one by config.init_from"
        )
