"""The configuration of an experiment: checked once, kept in the workdir as ``config.json``.

It is an `ml_collections.ConfigDict`, which stops at `main`, the training loop and the evaluator;
everything below takes keyword arguments. `default` lists its fields, `RECIPES` the ways to train.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict, config_dict

from linlatent import images, losses, model, networks
from linlatent.data import BATCHINGS, CROPPINGS, SOURCES, TRIPLETS

FILE = "config.json"

EXTENDABLE = (
    *("num_epochs", "num_steps", "tensorboard", "log_every_steps", "validate_every_steps"),
    "shard_params",
    *(f"data.{source}.{field}" for source in SOURCES for field in ("data_dir", "manual_dir")),
)
"""Fields that may change when a workdir is trained further: they do not change what a step does."""

DATA = (
    *("batch_size", "data.crop_size", "data.source"),
    *(f"data.{source}" for source in SOURCES),
)
"""Fields that may change when a workdir is evaluated, on other data than it was trained on."""


def default() -> ConfigDict:
    """Makes the configuration of the paper's training, as printed; lists all fields there are."""
    config = ConfigDict()
    config.seed = 0
    # Networks trained together: member i starts from the weights of seed + i, all of them see the
    # batches of seed.
    config.num_models = 1

    # Objective: baseline | indirect | direct (the paper), extrapolated | separated (beyond it) |
    # separated_blur, separated_pair (a part of a network alone), with l1 (the paper), mse (its
    # published code), rmse or log.
    config.objective = "indirect"
    config.criterion = "l1"
    config.latent_weight = 1.0

    # Training. An example is a crop of one triplet, or with batching "stack" of all planes;
    # "ten-crop" (the published code) keeps the ten crops of a triplet of a slide in one batch.
    # midpoint: all equidistant ones | dyadic (the published code) | spanning: from 0 to the last
    config.triplets = "midpoint"
    config.batching = "triplet"
    config.batch_size = 40
    # Of a separated network on triplets: one example in so many is passed through it whole, of the
    # others only b, for deblurring of single images.
    config.whole_every = 1
    config.accumulate = 1  # batches whose mean gradient moves the weights once
    config.learning_rate = 1e-4
    config.schedule = "constant"  # of the learning rate; cosine: up, then down to nothing
    config.num_epochs = 40
    config.num_steps = config_dict.placeholder(int)  # instead of num_epochs; a step is a batch
    config.init_from = config_dict.placeholder(str)  # a model whose weights to start from
    config.log_every_steps = 20
    config.validate_every_steps = config_dict.placeholder(int)  # None: once an epoch
    config.tensorboard = False
    config.shard_params = False  # splits large weights over the devices, to save their memory

    config.dtype = "float32"  # float32 | bfloat16: what the network computes in when it is trained

    config.model = ConfigDict()
    config.model.network = "paper"  # paper | separated: content and blur apart | paired: with c
    config.model.widths = (64, 128, 256, 512, 1024)

    # Data: synthetic | folder | in_focus | bbbc006; each source has its own options, which its
    # open_source explains.
    config.data = ConfigDict()
    config.data.source = "synthetic"
    config.data.crop_size = 128
    config.data.crops = "ten"  # ten: corners and centre, mirrored | random: anywhere, turned, too
    config.data.normalisation = "plane"  # plane | plane-8bit (the published code) | stack

    config.data.synthetic = ConfigDict()
    config.data.synthetic.config = "w1"  # w1 | w2 | w1_varied | w2_varied | w1_tiny | w2_tiny
    config.data.synthetic.data_dir = config_dict.placeholder(str)  # None: TFDS's own folder

    config.data.folder = ConfigDict()
    config.data.folder.path = ""
    config.data.folder.in_focus = config_dict.placeholder(object)  # index or name; None: found
    config.data.folder.direction = "below"  # below | above the plane in focus
    config.data.folder.num_levels = config_dict.placeholder(int)  # None: all there are
    config.data.folder.level_step = 1
    config.data.folder.level_spacing_um = config_dict.placeholder(float)
    config.data.folder.field_pattern = config_dict.placeholder(str)
    config.data.folder.split = (0.7, 0.1, 0.2)
    config.data.folder.seed = 0

    config.data.in_focus = ConfigDict()
    config.data.in_focus.path = ""
    config.data.in_focus.num_levels = 9
    config.data.in_focus.level_spacing_um = 4.0
    config.data.in_focus.split = (0.7, 0.1, 0.2)
    config.data.in_focus.seed = 0

    config.data.bbbc006 = ConfigDict()
    config.data.bbbc006.config = "w1"  # w1 | w2
    config.data.bbbc006.split = "by_well"  # by_well | published (the published code's)
    config.data.bbbc006.data_dir = config_dict.placeholder(str)  # None: TFDS's own folder
    config.data.bbbc006.manual_dir = config_dict.placeholder(str)  # None: downloaded
    return config


def published() -> ConfigDict:
    """Makes the configuration of the paper's training as its published code runs it.

    Note:
      The published code computes in a mixture of float16 and float32, linlatent in float32. At the
      end of an epoch the published code moves the weights even if fewer than ``accumulate`` batches
      have come together, as Lightning does; here the next epoch goes on accumulating.
    """
    config = default()
    config.criterion = "mse"
    config.triplets = "dyadic"
    config.batching = "ten-crop"
    config.batch_size = 10
    config.accumulate = 16
    config.learning_rate = 1e-3
    config.data.normalisation = "plane-8bit"
    config.data.bbbc006.split = "published"
    return config


SCHEDULES = ("constant", "cosine")
"""How the learning rate goes on; ``cosine`` ends with the training, so a longer one is another."""

RECIPES = {"printed": default, "published": published}
"""The paper's training, as it is printed and as its published code runs it."""


def of_recipe(name: str) -> ConfigDict:
    """Makes the configuration of a recipe.

    Raises:
      ValueError: If the name is not in `RECIPES`.
    """
    if name not in RECIPES:
        raise ValueError(f"unknown recipe {name!r}; choose one of {', '.join(RECIPES)}")
    return RECIPES[name]()


def validate(config: ConfigDict) -> None:
    """Checks every value of a configuration.

    Raises:
      ValueError: If a value is impossible; names the field, the value and what was expected.
    """
    _choice(config, "objective", losses.OBJECTIVES)
    _choice(config, "criterion", losses.CRITERIA)
    _choice(config, "triplets", TRIPLETS)
    _choice(config, "batching", BATCHINGS)
    _choice(config, "dtype", model.DTYPES)
    _choice(config, "schedule", SCHEDULES)
    _choice(config, "model.network", networks.NETWORKS)
    _choice(config, "data.crops", CROPPINGS)
    _choice(config, "data.normalisation", images.NORMALISATIONS)
    _choice(config, "data.source", SOURCES)
    for field in (
        *("num_models", "batch_size", "whole_every", "accumulate", "num_epochs"),
        *("log_every_steps", "data.crop_size"),
    ):
        require(config, field, _is_positive_integer, "a positive integer")
    block = BATCHINGS[config.batching]
    require(
        config,
        "batch_size",
        lambda size: size % block == 0,
        f"a multiple of {block} with batching {config.batching!r}",
    )
    for field in ("num_steps", "validate_every_steps"):
        require(config, field, lambda n: n is None or _is_positive_integer(n), "a positive integer")
    for field in ("tensorboard", "shard_params"):
        require(config, field, lambda flag: isinstance(flag, bool), "True or False")
    require(config, "seed", lambda n: _is_number(n) and n == int(n) >= 0, "an integer >= 0")
    require(
        config, "learning_rate", lambda rate: _is_number(rate) and rate > 0, "a positive number"
    )
    require(config, "latent_weight", lambda w: _is_number(w) and w >= 0, "a number >= 0")
    require(
        config,
        "model.widths",
        lambda widths: len(widths) > 0 and all(map(_is_positive_integer, widths)),
        "a tuple of positive integers",
    )
    network = config.model.network
    objectives = losses.objectives_of(network)
    expected = f"one of {', '.join(objectives)} with config.model.network={network!r}"
    require(config, "objective", lambda objective: objective in objectives, expected)
    if network != "paper":
        require(config, "triplets", lambda t: t == "spanning", "'spanning' with this objective")
        require(config, "model.widths", lambda widths: len(widths) >= 4, "at least four widths")
    if config.objective != "separated" or config.batching == "stack":
        require(config, "whole_every", lambda n: n == 1, "1 but for triplets of 'separated'")
    require(
        config,
        "whole_every",
        lambda n: config.batch_size % n == 0,
        f"a divisor of config.batch_size, {config.batch_size}",
    )
    stride = 2 ** len(config.model.widths)
    require(
        config,
        "data.crop_size",
        lambda size: size % stride == 0,
        f"a multiple of {stride}, since {len(config.model.widths)} layers halve it",
    )


def write(config: ConfigDict, workdir: epath.PathLike) -> None:
    """Writes ``config.json`` into a workdir, making the folder if need be."""
    folder = epath.Path(workdir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps(_plain(config), indent=2, sort_keys=True) + "\n")


def read(workdir: epath.PathLike) -> ConfigDict:
    """Reads the configuration of a workdir.

    Raises:
      FileNotFoundError: If the folder or its ``config.json`` is missing.
      ValueError: If the file does not hold a configuration.
    """
    path = epath.Path(workdir) / FILE
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file; expected a workdir that training wrote")
    try:
        plain = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise ValueError(f"{path}: not a configuration in JSON: {error}") from error
    if not isinstance(plain, dict) or not {"model", "data"} <= plain.keys():
        raise ValueError(f"{path}: not a configuration: no object with fields 'model' and 'data'")
    return _with_younger_fields(ConfigDict(_tuples(plain)))


def _with_younger_fields(config: ConfigDict) -> ConfigDict:
    """Adds the fields that older workdirs do not have, with the values they were trained with."""
    for group, fields in (
        (config, {"num_models": 1, "schedule": "constant", "dtype": "float32", "whole_every": 1}),
        (config.model, {"network": "paper"}),
        (config.data, {"crops": "ten"}),
    ):
        for name, value in fields.items():
            if name not in group:
                group[name] = value
    return config


def require_same(workdir: epath.PathLike, config: ConfigDict, *, but_for: Sequence[str]) -> None:
    """Checks that a workdir was trained with a given configuration.

    Args:
      workdir: The workdir.
      config: The configuration it should have.
      but_for: Fields, or groups of them, that may differ.

    Raises:
      ValueError: If other fields differ; lists them with both values.
    """
    differences = [
        f"  {field}: {theirs!r} there, {ours!r} given"
        for field, theirs, ours in _differences(_relevant(read(workdir)), _relevant(config))
        if not f"{field}.".startswith(tuple(f"{name}." for name in but_for))
    ]
    if differences:
        raise ValueError(
            f"{workdir}: this workdir was trained with another configuration; give another"
            " --workdir, or the same values:\n" + "\n".join(differences)
        )


def _choice(config: ConfigDict, field: str, choices: Any) -> None:
    require(config, field, lambda value: value in choices, f"one of {', '.join(choices)}")


def require(config: ConfigDict, field: str, holds: Callable[[Any], bool], expectation: str) -> None:
    """Checks one value of a configuration.

    Args:
      config: The configuration.
      field: Name of the value, with dots between groups.
      holds: Says whether a value is possible; a TypeError is a no.
      expectation: What was expected, to end the message with.

    Raises:
      ValueError: If the field is missing or its value impossible; names both.
    """
    value: Any = config
    for name in field.split("."):
        if name not in value:
            raise ValueError(f"config.{field} is missing, expected {expectation}")
        value = value[name]
    try:
        valid = holds(value)
    except TypeError:
        valid = False
    if not valid:
        raise ValueError(f"config.{field} is {value!r}, expected {expectation}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_positive_integer(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int) and value > 0


def _plain(config: ConfigDict) -> dict[str, Any]:
    return json.loads(config.to_json())


def _relevant(config: ConfigDict) -> dict[str, Any]:
    """The configuration without the options of the sources that it does not use."""
    plain = _plain(config)
    unused = SOURCES.keys() - {plain["data"]["source"]}
    return plain | {"data": {k: v for k, v in plain["data"].items() if k not in unused}}


def _tuples(value: Any) -> Any:
    """Turns the lists of JSON back into the tuples of a configuration."""
    if isinstance(value, dict):
        return {key: _tuples(item) for key, item in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def _differences(
    theirs: dict[str, Any], ours: dict[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    for key in sorted(theirs.keys() | ours.keys()):
        left, right = theirs.get(key), ours.get(key)
        if isinstance(left, dict) and isinstance(right, dict):
            yield from _differences(left, right, f"{prefix}{key}.")
        elif left != right:
            yield f"{prefix}{key}", left, right
