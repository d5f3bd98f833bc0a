"""Impossible values are refused by name, and a workdir belongs to one configuration."""

import importlib
import json
import pathlib

import pytest

from configs import default
from linlatent import config as configuration

IMPOSSIBLE = [
    ("objective", "sharpness", "one of baseline, indirect, direct"),
    ("objective", "", "one of baseline, indirect, direct"),
    ("criterion", "l2", "one of l1, mse"),
    ("dtype", "float16", "one of float32, bfloat16"),
    ("triplets", "all", "one of midpoint, dyadic"),
    ("schedule", "linear", "one of constant, cosine"),
    ("model.network", "unet", "one of paper, separated"),
    ("data.crops", "five", "one of ten, random"),
    ("batching", "pair", "one of triplet, ten-crop, stack"),
    ("data.normalisation", "slide", "one of plane, plane-8bit, stack"),
    ("data.source", "internet", "one of synthetic, folder"),
    ("batch_size", 0, "a positive integer"),
    ("accumulate", 0, "a positive integer"),
    ("num_epochs", -1, "a positive integer"),
    ("num_steps", 0, "a positive integer"),
    ("log_every_steps", 0, "a positive integer"),
    ("seed", -1, "an integer >= 0"),
    ("learning_rate", 0.0, "a positive number"),
    ("learning_rate", -1e-4, "a positive number"),
    ("learning_rate", float("nan"), "a positive number"),
    ("latent_weight", -0.5, "a number >= 0"),
    ("latent_weight", float("nan"), "a number >= 0"),
    ("model.widths", (), "a tuple of positive integers"),
    ("model.widths", (64, 0), "a tuple of positive integers"),
    ("model.widths", (64, 1.5), "a tuple of positive integers"),
    ("data.crop_size", -128, "a positive integer"),
    ("data.crop_size", 100, "a multiple of 32, since 5 layers halve it"),
]


def make(**fields):
    config = default.get_config()
    config.update_from_flattened_dict(fields)
    return config


@pytest.mark.parametrize(("field", "value", "expected"), IMPOSSIBLE)
def test_an_impossible_value_is_refused_with_what_was_expected(field, value, expected):
    config = default.get_config()
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the message is compared below)
        configuration.validate(config)
    assert str(caught.value).startswith(f"config.{field} is {value!r}, expected {expected}")


@pytest.mark.parametrize("field", ["learning_rate", "batch_size", "seed", "model.widths"])
def test_a_value_of_another_type_is_refused(field):
    config = default.get_config()
    with config.ignore_type():
        config.update_from_flattened_dict({field: "many"})
    with pytest.raises(ValueError, match=f"config.{field} is 'many', expected"):
        configuration.validate(config)


@pytest.mark.parametrize("field", ["learning_rate", "latent_weight"])
def test_an_infinite_value_is_refused(field):
    with pytest.raises(ValueError, match=f"config.{field} is inf"):
        configuration.validate(make(**{field: float("inf")}))


def test_ten_crops_are_not_parted():
    configuration.validate(make(batching="ten-crop", batch_size=20))
    message = r"config.batch_size is 25, expected a multiple of 10 with batching 'ten-crop'"
    with pytest.raises(ValueError, match=message):
        configuration.validate(make(batching="ten-crop", batch_size=25))


SEPARATED = {"model.network": "separated", "objective": "separated", "triplets": "spanning"}


def test_the_separated_network_and_its_objective_belong_together():
    configuration.validate(make(**SEPARATED))
    for field, value, message in (
        (
            "model.network",
            "paper",
            "config.objective is 'separated', expected one of baseline, .* with .*'paper'",
        ),
        (
            "objective",
            "indirect",
            "config.objective is 'indirect', expected one of separated, separated_blur with",
        ),
        ("triplets", "midpoint", "config.triplets is 'midpoint', expected 'spanning'"),
        ("model.widths", (4, 8, 8), r"config.model.widths is \(4, 8, 8\), expected at least four"),
    ):
        with pytest.raises(ValueError, match=message):
            configuration.validate(make(**{**SEPARATED, field: value}))


def test_a_pair_is_seen_by_a_paired_network():
    fields = {"model.network": "paired", "objective": "separated_pair", "triplets": "spanning"}
    configuration.validate(make(**fields))
    for field, value, message in (
        ("objective", "separated", "config.objective is 'separated', expected one of separated_pa"),
        ("triplets", "midpoint", "config.triplets is 'midpoint', expected 'spanning'"),
        ("whole_every", 2, "config.whole_every is 2, expected 1 but for triplets of"),
    ):
        with pytest.raises(ValueError, match=message):
            configuration.validate(make(**{**fields, field: value}))


def test_examples_are_passed_through_whole_in_equal_groups():
    fields = {**SEPARATED, "batch_size": 12, "whole_every": 6}
    configuration.validate(make(**fields))
    for field, value, message in (
        ("batch_size", 8, "config.whole_every is 6, expected a divisor of config.batch_size, 8"),
        ("batching", "stack", "config.whole_every is 6, expected 1 but for triplets of"),
        ("objective", "separated_blur", "config.whole_every is 6, expected 1 but for triplets of"),
    ):
        with pytest.raises(ValueError, match=message):
            configuration.validate(make(**{**fields, field: value}))


def test_a_missing_field_is_named():
    config = make()
    del config.data.crop_size
    with pytest.raises(ValueError, match=r"config.data.crop_size is missing, expected"):
        configuration.validate(config)


@pytest.mark.parametrize(
    "path",
    sorted((pathlib.Path(__file__).parents[1] / "configs").glob("[!_]*.py")),
    ids=lambda path: path.stem,
)
def test_every_experiment_is_valid_and_says_its_command(path):
    experiment = importlib.import_module(f"configs.{path.stem}")
    configuration.validate(experiment.get_config())
    assert f"--config=configs/{path.name}" in experiment.__doc__


@pytest.mark.parametrize("recipe", configuration.RECIPES)
@pytest.mark.parametrize("objective", ["baseline", "indirect", "direct"])
def test_every_objective_comes_in_every_recipe(objective, recipe):
    experiment = importlib.import_module(f"configs.{objective}")
    config = experiment.get_config(recipe)
    configuration.validate(config)
    expected = configuration.RECIPES[recipe]()
    expected.objective = objective
    assert config.to_dict() == expected.to_dict()
    assert experiment.get_config().to_dict() == experiment.get_config("printed").to_dict()
    assert f"--config=configs/{objective}.py:published" in experiment.__doc__


def test_an_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match=r"^unknown recipe 'best'; choose one of printed, publis"):
        default.get_config("best")


def test_the_published_recipe_is_that_of_the_code():
    config = default.get_config("published")
    assert (config.criterion, config.learning_rate) == ("mse", 1e-3)
    assert (config.triplets, config.batching) == ("dyadic", "ten-crop")
    assert (config.batch_size, config.accumulate, config.num_epochs) == (10, 16, 40)
    assert (config.data.normalisation, config.data.bbbc006.split) == ("plane-8bit", "published")


def test_the_default_is_the_paper():
    config = default.get_config()
    assert (config.criterion, config.batch_size, config.num_epochs) == ("l1", 40, 40)
    assert (config.learning_rate, config.data.crop_size) == (1e-4, 128)
    assert config.model.widths == (64, 128, 256, 512, 1024)
    assert (config.data.source, config.batching) == ("synthetic", "triplet")
    assert (config.triplets, config.accumulate) == ("midpoint", 1)


def test_what_is_written_is_read(tmp_path):
    config = make(num_steps=7)
    configuration.write(config, tmp_path / "new" / "folder")
    read = configuration.read(tmp_path / "new" / "folder")
    assert read.to_dict() == config.to_dict()
    assert read.model.widths == (64, 128, 256, 512, 1024)
    assert read.data.folder.split == (0.7, 0.1, 0.2)
    assert read.init_from is None
    configuration.validate(read)


def test_fields_that_older_workdirs_lack_have_the_values_of_their_training(tmp_path):
    config = make()
    configuration.write(config, tmp_path)
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text())
    del fields["num_models"], fields["schedule"], fields["dtype"], fields["model"]["network"]
    del fields["data"]["crops"]
    path.write_text(json.dumps(fields))
    assert configuration.read(tmp_path).to_dict() == config.to_dict()


def test_a_workdir_without_configuration_is_named(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=f"{folder}.config.json: no such file"):
            configuration.read(folder)


@pytest.mark.parametrize(
    "text",
    ["", '{"seed": 0', "[1, 2]", "3", "null", "{}"],
)
def test_a_corrupt_file_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=r"config.json: not a configuration"):
        configuration.read(tmp_path)


def test_training_may_go_on_for_longer_and_with_moved_data(tmp_path):
    configuration.write(make(num_steps=7), tmp_path)
    other = make(num_steps=9, num_epochs=50, log_every_steps=5)
    other.data.synthetic.data_dir = "elsewhere"
    other.data.folder.path = "not used"
    configuration.require_same(tmp_path, other, but_for=configuration.EXTENDABLE)


def test_another_configuration_is_refused_with_both_values(tmp_path):
    configuration.write(make(), tmp_path)
    other = make(learning_rate=1e-3, num_steps=7)
    other.model.widths = (8, 16)
    with pytest.raises(ValueError, match="another configuration") as caught:
        configuration.require_same(tmp_path, other, but_for=configuration.EXTENDABLE)
    assert str(caught.value).splitlines()[1:] == [
        "  learning_rate: 0.0001 there, 0.001 given",
        "  model.widths: [64, 128, 256, 512, 1024] there, [8, 16] given",
    ]
    assert str(tmp_path) in str(caught.value)


def test_a_field_that_only_one_side_has_is_a_difference(tmp_path):
    configuration.write(make(), tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, "momentum": 0.9}))
    with pytest.raises(ValueError, match=r"momentum: 0.9 there, None given"):
        configuration.require_same(tmp_path, make(), but_for=configuration.EXTENDABLE)


def test_a_group_of_fields_may_be_left_out_of_the_comparison(tmp_path):
    configuration.write(make(), tmp_path)
    other = make(batch_size=9)
    other.data.source = "folder"
    other.data.folder.path = "elsewhere"
    configuration.require_same(tmp_path, other, but_for=configuration.DATA)
    other.data.normalisation = "stack"
    with pytest.raises(ValueError, match=r"data.normalisation: 'plane' there, 'stack' given") as e:
        configuration.require_same(tmp_path, other, but_for=configuration.DATA)
    assert len(str(e.value).splitlines()) == 2
