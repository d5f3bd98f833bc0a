"""Muon moves kernels in all directions alike, all else as Adam does, and resumes like it."""

import functools

import jax
import numpy as np
import optax
import pytest
from jax.sharding import AxisType

from linlatent import devices
from linlatent.data import Triplet
from linlatent.optimisers import MUON_SCALE, OPTIMISERS
from linlatent.training import train
from linlatent.training.recipe import Recipe
from linlatent.training.state import create_state
from linlatent.training.step import train_step

RATE = 1e-2


@pytest.fixture(scope="module")
def gradients():
    """A kernel's, of which one direction is a thousand times as strong as another; and others."""
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 8, 4)) * np.geomspace(1, 1e-3, 4)
    others = {"matrix": rng.normal(size=(8, 4)), "bias": rng.normal(size=4)}
    return jax.tree.map(np.float32, {"kernel": kernel, "others": others})


def first_move(optimiser, gradients):
    updates, _ = optimiser.update(gradients, optimiser.init(gradients), gradients)
    return updates


def test_muon_moves_a_kernel_in_all_directions_alike(gradients):
    """Five iterations towards singular values of one leave them between 2/3 and 6/5 of it."""
    moves = {name: first_move(of_rate(RATE), gradients) for name, of_rate in OPTIMISERS.items()}
    strengths = {
        name: np.linalg.svd(move["kernel"].reshape(-1, 4), compute_uv=False)
        for name, move in moves.items()
    }
    assert strengths["muon"].max() < 1.8 * strengths["muon"].min()
    of_gradient = np.linalg.svd(gradients["kernel"].reshape(-1, 4), compute_uv=False)
    assert of_gradient.max() > 500 * of_gradient.min()
    rms = np.sqrt(np.mean(np.square(moves["muon"]["kernel"])))
    assert 2 / 3 < rms / (MUON_SCALE * RATE) < 6 / 5


def test_muon_leaves_all_else_to_adam(gradients):
    move = first_move(OPTIMISERS["muon"](RATE), gradients)
    expected = first_move(optax.nadam(RATE), gradients)
    for name, leaf in move["others"].items():
        np.testing.assert_allclose(leaf, expected["others"][name], rtol=1e-6)


def test_adam_is_adam(gradients):
    moves = [first_move(each(RATE), gradients) for each in (OPTIMISERS["adam"], optax.adam)]
    jax.tree.map(np.testing.assert_array_equal, *moves)


@pytest.mark.parametrize("sharded", [False, True])
def test_four_devices_take_the_same_step_of_muon_as_one(sharded, monkeypatch):
    monkeypatch.setattr(devices, "MIN_SHARDED_SIZE", 64)
    recipe = Recipe("baseline", "l1", 0.0, RATE, (Triplet(0, 1, 2),), optimiser_name="muon")
    images = np.random.default_rng(0).random((8, 3, 16, 16, 1), np.float32)
    batch = {"planes": images, "alpha": np.full((8, 1), 0.5, np.float32)}
    step = jax.jit(functools.partial(train_step, recipe=recipe))
    first = create_state(0, (4, 8), recipe.optimiser)
    after = []
    for count in (1, 4):
        mesh = jax.make_mesh(
            (count,), (devices.AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:count]
        )
        shardings = devices.state_shardings(first, mesh, sharded=sharded)
        state, _ = step(jax.device_put(first, shardings), devices.assemble(batch, mesh))
        after.append(jax.tree.map(np.asarray, state.variables["params"]))
    kernels = [
        [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 4]
        for params in (jax.tree.map(np.asarray, first.variables["params"]), *after)
    ]
    for before, alone, together in zip(*kernels, strict=True):
        assert np.abs(alone - before).max() > 0.1 * RATE
        np.testing.assert_allclose(together, alone, rtol=0, atol=1e-3 * RATE)


def test_a_training_with_muon_resumes_as_if_never_interrupted(tiny_config, tmp_path):
    fields = {"model.widths": (4,), "optimiser": "muon", "accumulate": 2}
    whole = train(tiny_config({**fields, "num_steps": 6}), tmp_path / "whole")
    train(tiny_config({**fields, "num_steps": 3}), tmp_path / "resumed")
    resumed = train(tiny_config({**fields, "num_steps": 6}), tmp_path / "resumed")
    assert jax.tree.structure(resumed) == jax.tree.structure(whole)
    jax.tree.map(np.testing.assert_array_equal, resumed, whole)
