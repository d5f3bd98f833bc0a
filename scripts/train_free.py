"""Trains networks that deblur without any latent space: what giving it up would win.

    python scripts/train_free.py --config=configs/sharp.py

They have the layers of the separated network's encoder, but for those that read blur, and all that
counts is the plane in focus. One sees b alone, one is told its blur, as the separated network is in
training, and one sees c, too. Batches, criterion, optimiser and number of steps are those of the
configuration. Prints a table in Markdown: PSNR in dB at range 1 against the plane in focus, mean
over the test slides of the embedded data and over blur levels 1 to 7; with ``--in_focus=FOLDER``
also over the last 60 % of the frames in a folder (`linlatent.data.in_focus`), in crops of 512x512.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import operator
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags
from flax import linen as nn
from ml_collections import ConfigDict, config_flags
from tqdm import tqdm

from linlatent import config as configuration
from linlatent import losses, metrics, program, separated, unet, windows
from linlatent.data import (
    TRIPLETS,
    StackSource,
    evaluation_batches,
    open_source,
    train_batches,
)
from linlatent.training.recipe import Recipe
from linlatent.training.step import Batch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # Configurations import each other.


class Input(NamedTuple):
    """What a network sees of a triplet: planes, b first, and whether it is told the blur of b."""

    name: str
    planes: tuple[int, ...]
    blur: bool


INPUTS = (
    Input("b", (1,), blur=False),
    Input("b and its blur", (1,), blur=True),
    Input("b, c and the blur of b", (1, 2), blur=True),
)

_STEPS_PER_REPORT = 20


class Free(nn.Module):
    """The encoder of `separated`, reading no blur; like it, it has no unit of intensity."""

    widths: Sequence[int]

    @nn.compact
    def __call__(self, images: Sequence[jax.Array], alpha: jax.Array | None) -> jax.Array:
        """Makes a of images ``(N, H, W, 1)``, b first; alpha ``(N,)`` is the weight of a in b."""
        stride = 2 ** len(self.widths)
        phases = [separated.to_phases(x) for x in images]
        contrasts = jnp.concatenate(
            [
                image - windows.local_mean(x, stride=stride)
                for image, x in zip(phases, images, strict=True)
            ],
            axis=-1,
        )
        x = contrasts
        if alpha is not None:
            blur = separated.BLURRIEST * (1 - alpha.reshape(-1, 1, 1, 1))
            x = separated.at_blur(contrasts, blur)
        x = unet.ascend(unet.descend(x, self.widths), self.widths)
        return separated.from_phases(phases[0] + 0.25 * unet.Mix(4, name="sharpening")(x))


def main() -> None:
    """Trains the networks, and prints the table."""
    config = flags.FLAGS.config
    configuration.validate(config)
    tests = {"synthetic": (open_source("synthetic", config="w1"), config.data.crop_size)}
    if flags.FLAGS.in_focus:
        frames = open_source("in_focus", path=flags.FLAGS.in_focus, split=(0, 0.4, 0.6))
        tests["frames"] = (frames, 512)
    source = open_source(config.data.source, **config.data[config.data.source])
    table = [f"| network sees | {' | '.join(tests)} |", "|---" * (len(tests) + 1) + "|"]
    for seen in INPUTS:
        params = train(config, source, seen)
        values = [
            measure(params, config, seen, *source_and_size) for source_and_size in tests.values()
        ]
        cells = [f"{value.mean:.2f} ± {value.standard_error:.2f}" for value in values]
        table.append(f"| {seen.name} | {' | '.join(cells)} |")
    print("\n".join(table))


def train(config: ConfigDict, source: StackSource, seen: Input) -> Any:
    """Trains the network that sees a part of a triplet; returns its weights.

    Raises:
      ValueError: If the configuration asks for other examples than triplets, for another schedule
        than a cosine, or for no number of steps.
    """
    for field, value in {"batching": "triplet", "schedule": "cosine"}.items():
        configuration.require(
            config, field, functools.partial(operator.eq, value), f"{value!r} here"
        )
    configuration.require(config, "num_steps", bool, "a positive integer here")
    triplets = TRIPLETS[config.triplets](source.num_levels)
    network = Free(config.model.widths)
    optimiser = Recipe(
        objective=config.objective,
        criterion=config.criterion,
        latent_weight=config.latent_weight,
        learning_rate=config.learning_rate,
        triplets=triplets,
        decay_steps=config.num_steps,
    ).optimiser

    def loss(params: Any, batch: Batch) -> jax.Array:
        images = [batch["planes"][:, plane] for plane in seen.planes]
        estimates = network.apply(params, images, batch["alpha"][:, 0] if seen.blur else None)
        sharp = batch["planes"][:, 0]
        return jnp.mean(losses.CRITERIA[config.criterion](sharp[None], estimates[None]))

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Any, state: optax.OptState, batch: Batch) -> tuple[Any, ...]:
        value, gradients = jax.value_and_grad(loss)(params, batch)
        updates, state = optimiser.update(gradients, state)
        return optax.apply_updates(params, updates), state, value

    side = config.data.crop_size
    images = [jnp.zeros((1, side, side, 1))] * len(seen.planes)
    alpha = jnp.ones(1) if seen.blur else None
    params = jax.jit(network.init)(jax.random.key(config.seed), images, alpha)
    state = optimiser.init(params)
    batches = train_batches(
        source,
        triplets=triplets,
        batching=config.batching,
        crop_size=side,
        crops=config.data.crops,
        normalisation=config.data.normalisation,
        batch_size=config.batch_size,
        seed=config.seed,
    )
    with (
        # A reader that outlives its training keeps the interpreter from ending.
        contextlib.closing(batches),
        tqdm(total=config.num_steps, unit="step", desc=seen.name) as progress,
    ):
        for number, batch in enumerate(itertools.islice(batches, config.num_steps), start=1):
            params, state, value = step(params, state, batch)
            if number % _STEPS_PER_REPORT == 0 or number == config.num_steps:
                progress.set_postfix(loss=f"{float(value):.4f}", refresh=False)
                progress.update(number - progress.n)
    return params


def measure(
    params: Any, config: ConfigDict, seen: Input, source: StackSource, size: int
) -> metrics.Summary:
    """PSNR on the centre crops of test slides, mean over the levels between the end points."""
    network = Free(config.model.widths)
    triplets = TRIPLETS["spanning"](source.num_levels)

    @jax.jit
    def deblur(stack: jax.Array) -> jax.Array:
        images = [[stack[triplet[plane]] for triplet in triplets] for plane in seen.planes]
        alphas = jnp.array([triplet.alpha for triplet in triplets])
        return network.apply(
            params, [jnp.stack(each) for each in images], alphas if seen.blur else None
        )

    values = []
    for batch in evaluation_batches(
        source,
        "test",
        crop_size=size,
        normalisation=config.data.normalisation,
        batch_size=1,
    ):
        (stack,) = batch["planes"]
        estimates = np.asarray(deblur(stack))
        sharp = np.broadcast_to(stack[:1], estimates.shape)
        errors = metrics.mean_squared_error(estimates, sharp)
        values.append(metrics.psnr_from_mse(errors, 1.0).mean())
    return metrics.summarise(np.array(values))


if __name__ == "__main__":
    config_flags.DEFINE_config_file("config", None, "Such as configs/sharp.py.")
    flags.DEFINE_string("in_focus", None, "A folder of frames in focus, to test on, too.")
    flags.mark_flags_as_required(["config"])
    program.run(main)
