"""Trains and evaluates the paper's six networks, and puts their numbers into one table.

    python scripts/reproduce_tables.py --config=configs/narrow.py --workdir=build/tables

The six are two channels by three objectives: these two fields of the configuration are replaced,
all else is as given, and can be set as --config.FIELD=VALUE. Each network has an ordinary workdir,
WORKDIR/w1-baseline and so on. The same command goes on where an interrupted one ended. At the end
WORKDIR/results.md has the tables, with the paper's values where the data are the paper's.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import os
import pathlib
import shlex
import sys
import time
from collections.abc import Mapping
from typing import Any

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from linlatent import config as configuration
from linlatent import program
from linlatent.data import SOURCES, open_source

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # Configurations import each other.

_CONFIG = config_flags.DEFINE_config_file("config", None, "Such as configs/narrow.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the six workdirs, local or gs://.")
flags.mark_flags_as_required(["config", "workdir"])

_CHANNELS = ("w1", "w2")
_MAKES_NO_DIFFERENCE = ("objective", "log_every_steps", "tensorboard")

logger = logging.getLogger("linlatent")


def main() -> None:
    """Runs the grid."""
    configuration.validate(_CONFIG.value)  # Before the slow imports.
    reproduce(_CONFIG.value, epath.Path(_WORKDIR.value), channels_of(_CONFIG.value))


def channels_of(config: ConfigDict) -> Mapping[str, str]:
    """What the data call the channels w1 and w2 of the paper: w1_tiny and w2_tiny, for instance.

    Raises:
      ValueError: If the data have no such channels.
    """
    source = config.data.source
    choices = [name for name in SOURCES if "config" in config.data[name]]
    if source not in choices:
        raise ValueError(
            f"config.data.source is {source!r}, which has no channels w1 and w2; choose one of"
            f" {', '.join(choices)}"
        )
    given = config.data[source].config
    if given[:2] not in _CHANNELS:
        raise ValueError(f"config.data.{source}.config is {given!r}, expected w1 or w2")
    return {channel: channel + given[2:] for channel in _CHANNELS}


def reproduce(config: ConfigDict, workdir: epath.Path, channels: Mapping[str, str]) -> None:
    """Trains and evaluates what is not there yet, and writes the tables."""
    from linlatent.evaluation import evaluate, grid, paper, read_results

    runs: list[grid.Run] = []
    for channel, objective in itertools.product(channels, paper.OBJECTIVES):
        own = copy.deepcopy(config)
        own.objective = objective
        own.data[config.data.source].config = channels[channel]
        folder = workdir / f"{channels[channel]}-{objective}"
        logger.info("network %d of 6: %s", len(runs) + 1, folder)
        training = grid.Training(**train_timed(own, folder))
        results = read_results(folder) or evaluate(folder)
        runs.append(grid.Run(channel, objective, results, training))
    settings = {"command": f"`{shlex.join(['python', *sys.argv])}`", "configuration": told(config)}
    grid.write(workdir, runs, settings=settings)
    print((workdir / "results.md").read_text())
    print(f"tables: {workdir / 'results.md'}")


def train_timed(config: ConfigDict, folder: epath.Path) -> dict[str, Any]:
    """Trains, or trains on, and keeps the time it took in the ``times.json`` beside the folder.

    A session that is cut off leaves no time there: its steps then count as not timed.

    Returns:
      The fields of `linlatent.evaluation.grid.Training`.
    """
    import jax

    from linlatent.checkpoints import Checkpoints
    from linlatent.training import train

    # Generates the data if need be, which is no part of the time of training.
    open_source(config.data.source, **config.data[config.data.source])
    with Checkpoints(folder) as store:
        before = store.latest_step() or 0
    started = time.perf_counter()
    steps = int(train(config, folder).step)
    seconds = time.perf_counter() - started

    file = folder.parent / "times.json"
    times = json.loads(file.read_text()) if file.exists() else {}
    if not before or folder.name not in times:
        times[folder.name] = {"timed_steps": 0, "seconds": 0.0, "hardware": "unknown"}
    time_of_folder = times[folder.name]
    if steps > before:
        time_of_folder["timed_steps"] += steps - before
        time_of_folder["seconds"] += seconds
        time_of_folder["hardware"] = (
            f"{jax.device_count()} x {jax.devices()[0].device_kind}, {os.cpu_count()} CPU cores"
        )
        file.write_text(json.dumps(times, indent=1))
    return {"steps": steps, **time_of_folder}


def told(config: ConfigDict) -> str:
    """The fields that the six networks share, in a line; where the data lie is left out."""
    fields = json.loads(config.to_json())
    data, model = fields.pop("data"), fields.pop("model")
    options = data[data["source"]]
    shared = {**fields, **model, **{k: v for k, v in data.items() if k not in SOURCES}, **options}
    unsaid = {*_MAKES_NO_DIFFERENCE, "config", "data_dir", "manual_dir"}
    if config.num_steps:
        unsaid.add("num_epochs")
    return "; ".join(
        f"{name.replace('_', ' ')} {value}"
        for name, value in shared.items()
        if value is not None and name not in unsaid
    )


if __name__ == "__main__":
    program.run(main)
