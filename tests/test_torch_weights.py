"""Weights of the published PyTorch code come in, and go back, bit by bit; what differs is named.

All of it without torch: the reading of the file is left out. ``test_torch_files.py`` has that.
"""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published import assert_deblurs_as_published, assert_same

import linlatent
from linlatent import config as configuration
from linlatent import model, torch_weights

WIDTHS = (4, 8, 16, 16, 32)


@pytest.fixture(scope="module")
def imported(state_dict, tmp_path_factory):
    """A workdir made of the reference's weights, without torch."""
    workdir = tmp_path_factory.mktemp("imported") / "workdir"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_weights, "read_state_dict", lambda path: state_dict)
        torch_weights.import_torch("w.ckpt", workdir, objective="direct")
    return workdir


def test_a_state_dict_comes_back_bit_by_bit(state_dict):
    back = torch_weights.to_state_dict(torch_weights.to_variables(state_dict))
    assert list(back) == list(state_dict)
    assert_same(back, state_dict)
    assert back["encoder.0.1.num_batches_tracked"].dtype == np.int64


@pytest.mark.parametrize("widths", [(3,), (2, 3), (5, 4, 3), (2, 2, 3, 3, 2, 4)])
def test_variables_of_any_widths_come_back_bit_by_bit(widths, random_network):
    variables = random_network(widths)
    back = torch_weights.to_variables(torch_weights.to_state_dict(variables))
    assert model.widths_of(back) == widths
    assert_same(back, variables)


def test_a_prefix_of_all_names_is_left_out(state_dict):
    prefixed = {f"net._orig_mod.{name}": array for name, array in state_dict.items()}
    assert_same(torch_weights.to_variables(prefixed), torch_weights.to_variables(state_dict))


def test_the_count_of_passes_is_no_weight(state_dict):
    counted = {
        name: np.array(1234) if name.endswith("num_batches_tracked") else array
        for name, array in state_dict.items()
    }
    variables = torch_weights.to_variables(counted)
    assert_same(variables, torch_weights.to_variables(state_dict))
    assert_same(torch_weights.to_state_dict(variables), state_dict)


def problems_of(arrays):
    with pytest.raises(ValueError, match="not the weights of the published architecture") as caught:
        torch_weights.to_variables(arrays)
    return str(caught.value).splitlines()[1:]


def test_all_that_is_wrong_is_said_at_once(state_dict):
    arrays = dict(state_dict)
    del arrays["encoder.1.0.weight"], arrays["final_layer.3.bias"]
    arrays["loss.weight"] = np.zeros(3, np.float32)
    arrays["encoder.2.1.weight"] = np.zeros(15, np.float32)
    arrays["decoder.0.0.weight"] = state_dict["decoder.0.0.weight"].transpose(1, 0, 2, 3)
    arrays["decoder.1.0.bias"] = state_dict["decoder.1.0.bias"].astype(np.float64)
    arrays["encoder.0.1.running_mean"] = np.array([0, np.nan, 0, 0], np.float32)
    assert problems_of(arrays) == [
        "  missing: encoder.1.0.weight, final_layer.3.bias",
        "  unknown: loss.weight",
        "  of another shape or type: encoder.2.1.weight (15,) float32, expected (16,) float32,"
        " decoder.0.0.weight (16, 32, 3, 3) float32, expected (32, 16, 3, 3) float32,"
        " decoder.1.0.bias (16,) float64, expected (16,) float32",
        "  not finite: encoder.0.1.running_mean",
    ]


def test_a_missing_block_is_named_and_the_others_known(state_dict):
    arrays = {name: a for name, a in state_dict.items() if not name.startswith("encoder.2.")}
    (problem,) = problems_of(arrays)
    assert problem.startswith("  missing: encoder.2.0.weight, encoder.2.0.bias, encoder.2.1.weight")


def test_half_a_network_is_refused(state_dict):
    arrays = {name: a for name, a in state_dict.items() if name.startswith("encoder.")}
    (problem,) = problems_of(arrays)
    assert problem.startswith("  missing: decoder.0.0.weight, ")
    assert problem.endswith(" and 25 more")  # four blocks of 7 and the 9 of the final layer


@pytest.mark.parametrize("names", [(), ("layer1.0.weight", "fc.bias")])
def test_another_network_is_refused(names):
    missing, *unknown = problems_of({name: np.zeros((2, 2), np.float32) for name in names})
    assert missing.startswith("  missing: encoder.0.0.weight, ")
    assert unknown == [f"  unknown: {', '.join(names)}"] * bool(names)


def test_a_prefix_of_some_names_is_a_difference(state_dict):
    arrays = {f"model.{name}": a for name, a in state_dict.items()}
    arrays["criterion.weight"] = np.zeros(1, np.float32)
    missing, unknown = problems_of(arrays)
    assert missing.startswith("  missing: encoder.0.0.weight, ")
    assert unknown.startswith("  unknown: model.encoder.0.0.weight, ")


def test_an_imported_workdir_deblurs_as_the_published_code(imported, reference):
    assert_deblurs_as_published(linlatent.load(imported).params, reference)


def test_an_imported_workdir_says_what_it_is(imported, state_dict):
    loaded = linlatent.load(imported)
    assert loaded.step == 0
    assert_same(loaded.params, jax.tree.map(jnp.asarray, torch_weights.to_variables(state_dict)))
    configuration.validate(loaded.config)
    expected = configuration.published()
    expected.objective = "direct"
    expected.model.widths = WIDTHS
    assert loaded.config.to_dict() == expected.to_dict()


def test_an_imported_workdir_can_be_evaluated(imported, tiny_config):
    from linlatent.evaluation import evaluate

    config = linlatent.load(imported).config
    config.batch_size = 20
    config.data = tiny_config({"data.folder.num_levels": 3}).data
    config.data.normalisation = "plane-8bit"
    results = evaluate(imported, config)
    conditions = results["conditions"]
    assert (conditions["checkpoint_step"], conditions["objective"]) == (0, "direct")
    assert (conditions["criterion"], conditions["normalisation"]) == ("mse", "plane-8bit")
    assert conditions["widths"] == list(WIDTHS)
    assert (imported / "evaluation" / "report.html").is_file()


def test_a_deep_network_gets_a_crop_that_it_can_halve(random_network, tmp_path, monkeypatch):
    deep = torch_weights.to_state_dict(random_network((1,) * 8))
    monkeypatch.setattr(torch_weights, "read_state_dict", lambda path: deep)
    config = torch_weights.import_torch("w.ckpt", tmp_path / "w", objective="baseline")
    configuration.validate(config)
    assert config.data.crop_size == 256


def test_nothing_is_ever_replaced(tmp_path):
    with pytest.raises(FileExistsError, match=f"{tmp_path}: exists already; expected a new folder"):
        torch_weights.import_torch("w.ckpt", tmp_path, objective="direct")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        (
            {"objective": "sharp"},
            r"config.objective is 'sharp', expected one of baseline, indirect",
        ),
        ({"normalisation": "8bit"}, r"config.data.normalisation is '8bit', expected one of plane"),
    ],
)
def test_an_impossible_argument_is_named_and_nothing_written(tmp_path, argument, message):
    with pytest.raises(ValueError, match=message):
        torch_weights.import_torch("w.ckpt", tmp_path / "w", **{"objective": "direct"} | argument)
    assert not (tmp_path / "w").exists()


def test_foreign_weights_are_refused_with_their_file_and_nothing_written(tmp_path, monkeypatch):
    monkeypatch.setattr(torch_weights, "read_state_dict", lambda path: {})
    with pytest.raises(ValueError, match=r"^w.ckpt: not the weights of the published"):
        torch_weights.import_torch("w.ckpt", tmp_path / "w", objective="direct")
    assert not (tmp_path / "w").exists()


def test_without_torch_the_extra_is_named(imported, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for call in (
        lambda: torch_weights.import_torch("w.ckpt", tmp_path / "w", objective="direct"),
        lambda: torch_weights.export_torch(imported, tmp_path / "w.pt"),
    ):
        with pytest.raises(ModuleNotFoundError, match=r"pip install 'linlatent\[torch\]'"):
            call()
    assert not list(tmp_path.iterdir())
