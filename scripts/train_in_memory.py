"""Trains one network with all slides in the memory of one accelerator, where crops are cut, too.

    python scripts/train_in_memory.py --config=configs/sharp.py --workdir=DIR

For small networks on fast accelerators: nothing comes from the host but the slides, once. The steps
are those of main.py with random crops of triplets, in another order; there is no validation, so the
schedule should be a cosine, and DIR holds the last state alone. Evaluate it by
``python main.py --workdir=DIR --mode=evaluate``.
"""

from __future__ import annotations

import functools
import operator
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from linlatent import config as configuration
from linlatent import images, inference, losses, program
from linlatent.data import TRIPLETS, StackSource, Triplet, open_source
from linlatent.training.recipe import Recipe
from linlatent.training.state import TrainState, create_state
from linlatent.training.step import Batch, train_step

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # Configurations import each other.

_STEPS_AT_ONCE = 100

_FIXED = {
    **{"data.crops": "random", "batching": "triplet"},
    **{"num_models": 1, "accumulate": 1, "init_from": None},
}
"""Fields of the configuration that have one value here."""

_REFUSED = {"objective": losses.TRAINED_PART, "data.normalisation": ("plane-8bit",)}
"""Values of fields that are not for here."""


def main() -> None:
    """Trains, and writes the workdir."""
    config, workdir = flags.FLAGS.config, flags.FLAGS.workdir
    configuration.validate(config)
    inference.check_new(workdir)
    source = open_source(config.data.source, **config.data[config.data.source])
    inference.save(train(config, source), workdir)


def train(config: ConfigDict, source: StackSource) -> inference.Model:
    """Trains the network of a configuration on the training slides of a source, all of one size.

    Raises:
      ValueError: If the configuration asks for what is not done here (`_FIXED`), or the number of
        steps is missing or not a multiple of 100.
    """
    for field, value in _FIXED.items():
        configuration.require(
            config, field, functools.partial(operator.eq, value), f"{value!r} here"
        )
    for field, refused in _REFUSED.items():
        configuration.require(config, field, lambda v, no=refused: v not in no, "another one here")
    configuration.require(
        config,
        "num_steps",
        lambda steps: steps and steps % _STEPS_AT_ONCE == 0,
        f"a multiple of {_STEPS_AT_ONCE}",
    )
    recipe = Recipe(
        objective=config.objective,
        criterion=config.criterion,
        latent_weight=config.latent_weight,
        learning_rate=config.learning_rate,
        triplets=(Triplet(0, 1, 2),),
        whole_every=config.whole_every,
        dtype=config.dtype,
        decay_steps=config.num_steps if config.schedule == "cosine" else None,
    )
    stacks = np.stack([source.read_stack(slide) for slide in source.slide_ids["train"]])
    ranges = [images.intensity_range(stack, config.data.normalisation) for stack in stacks]
    low, high = (np.stack(ends) for ends in zip(*ranges, strict=True))
    slides = jax.device_put((stacks, low, high))
    draw = functools.partial(
        draw_batch,
        triplets=TRIPLETS[config.triplets](source.num_levels),
        size=config.data.crop_size,
        count=config.batch_size,
    )

    def one(state: TrainState, key: jax.Array, slides: Any) -> tuple[TrainState, jax.Array]:
        state, metrics = train_step(state, draw(key, *slides), recipe=recipe)
        return state, metrics["loss"]

    @functools.partial(jax.jit, donate_argnums=0)
    def steps(state: TrainState, key: jax.Array, slides: Any) -> tuple[TrainState, jax.Array]:
        keys = jax.random.split(key, _STEPS_AT_ONCE)
        return jax.lax.scan(lambda state, key: one(state, key, slides), state, keys)

    state = create_state(
        config.seed, config.model.widths, recipe.optimiser, network=config.model.network
    )
    key = jax.random.key(config.seed)
    with tqdm(total=config.num_steps, unit="step", desc="training") as progress:
        for number in range(config.num_steps // _STEPS_AT_ONCE):
            state, values = steps(state, jax.random.fold_in(key, number), slides)
            progress.set_postfix(loss=f"{float(values.mean()):.4f}")
            progress.update(_STEPS_AT_ONCE)
    return inference.Model(state.variables, config, config.num_steps)


def draw_batch(
    key: jax.Array,
    stacks: jax.Array,
    low: jax.Array,
    high: jax.Array,
    *,
    triplets: tuple[Triplet, ...],
    size: int,
    count: int,
) -> Batch:
    """Cuts crops of triplets, anywhere in any slide, in any of the eight orientations of a square.

    Args:
      key: What the batch is a function of.
      stacks: ``(slides, levels, height, width)``, in counts.
      low: ``(slides, levels)``, the counts that become 0.
      high: Likewise, that become 1.
      triplets: The triplets of blur levels there are.
      size: Height and width of the crops, in pixels.
      count: How many.

    Returns:
      The batch of a step: planes ``(count, 3, size, size, 1)`` and alpha ``(count, 1)``.
    """
    slide_key, triplet_key, row_key, column_key, turn_key = jax.random.split(key, 5)
    slides, _, height, width = stacks.shape
    slide = jax.random.randint(slide_key, (count,), 0, slides)
    triplet = jax.random.randint(triplet_key, (count,), 0, len(triplets))
    row = jax.random.randint(row_key, (count,), 0, height - size + 1)
    column = jax.random.randint(column_key, (count,), 0, width - size + 1)
    turns = jax.random.bernoulli(turn_key, shape=(count, 3))

    def cut(slide: Any, levels: Any, row: Any, column: Any, turn: Any) -> jax.Array:
        start, shape = (slide, 0, row, column), (1, stacks.shape[1], size, size)
        planes = jax.lax.dynamic_slice(stacks, start, shape)[0, levels].astype(jnp.float32)
        bottom, top = (ends[slide, levels].reshape(3, 1, 1) for ends in (low, high))
        planes = (planes - bottom) / (top - bottom)
        planes = jnp.where(turn[0], planes[:, ::-1], planes)
        planes = jnp.where(turn[1], planes[:, :, ::-1], planes)
        return jnp.where(turn[2], planes.swapaxes(1, 2), planes)[..., None]

    planes = jax.vmap(cut)(slide, jnp.array(triplets)[triplet], row, column, turns)
    alphas = jnp.array([each.alpha for each in triplets])
    return {"planes": planes, "alpha": alphas[triplet][:, None]}


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Such as configs/sharp.py.")
    flags.DEFINE_string("workdir", None, "A new folder, local or gs://.")
    flags.mark_flags_as_required(["config", "workdir"])
    program.run(main)
