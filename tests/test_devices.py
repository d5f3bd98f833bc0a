"""One device or four, a state whole or in parts: the same training, with little to exchange."""

import functools
import json
import logging
import math
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec

from linlatent import devices, inference, networks
from linlatent.data import Triplet, midpoint_triplets
from linlatent.training import loop, train
from linlatent.training.recorder import Recorder, Schedule
from linlatent.training.state import create_state, state_of
from linlatent.training.step import Recipe

ROOT = pathlib.Path(__file__).parents[1]
WIDTHS = (4, 8)
LEVELS, EXAMPLES, CROP = 5, 8, 16
BATCHINGS = {
    "triplet": {"triplets": (Triplet(0, 1, 2),)},
    "stack": {"triplets": midpoint_triplets(LEVELS), "joint_statistics": True},
}


def mesh_of(count):
    return jax.make_mesh(
        (count,), (devices.AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:count]
    )


def batch_on(mesh, recipe):
    planes = 1 + max(triplet.c for triplet in recipe.triplets)
    images = np.random.default_rng(0).random((EXAMPLES, planes, CROP, CROP, 1), np.float32)
    alpha = np.array([[triplet.alpha for triplet in recipe.triplets]] * EXAMPLES, np.float32)
    return devices.assemble({"planes": images, "alpha": alpha}, mesh)


def step_on(mesh, recipe, *, sharded=False, variables=None):
    """The state and the metrics after a step, and the program that made it."""
    if variables is None:
        state = create_state(0, WIDTHS, recipe.optimiser)
    else:
        state = state_of(variables, recipe.optimiser)
    state = jax.device_put(state, devices.state_shardings(state, mesh, sharded=sharded))
    batch = batch_on(mesh, recipe)
    program = loop.compiled_step(recipe, state, mesh).lower(state, batch).compile()
    return *program(state, batch), program.as_text()


def assert_same_step(actual, expected):
    """Compares gradients (first moments of Adam) rather than weights, which Adam makes of signs."""
    for name in expected[1]:
        np.testing.assert_allclose(actual[1][name], expected[1][name], rtol=1e-5)
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5, atol=1e-5 * np.abs(e).max()),
        (actual[0].variables.get("batch_stats"), actual[0].optimiser[0].mu),
        (expected[0].variables.get("batch_stats"), expected[0].optimiser[0].mu),
    )


def collectives(program):
    """Kinds of the collectives of a compiled program, and how many numbers they exchange."""
    kinds = "all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute"
    found = re.findall(rf"= (.+?) ({kinds})(?:-start)?\(", program)
    dimensions = [re.findall(r"\w\[([\d,]*)\]", shapes) for shapes, _ in found]
    sizes = [math.prod(map(int, filter(None, d.split(",")))) for each in dimensions for d in each]
    return [kind for _, kind in found], sum(sizes)


@pytest.fixture(scope="module", params=BATCHINGS)
def recipe(request):
    return Recipe("indirect", "l1", 1.0, 1e-3, **BATCHINGS[request.param])


@pytest.fixture(scope="module")
def together(recipe):
    return step_on(mesh_of(4), recipe)


def test_four_devices_take_the_same_step_as_one(recipe, together):
    assert_same_step(together, step_on(mesh_of(1), recipe))


def test_devices_exchange_moments_and_gradients_only(recipe, together):
    """A layer's mean, its variance and, on the way back, the pair of their gradients: 3 messages.

    The gradients of all weights, however many, travel in one more, or with the moments.
    """
    state, metrics, program = together
    kinds, numbers = collectives(program)
    assert set(kinds) == {"all-reduce"}
    assert len(kinds) <= 3 * 2 * len(WIDTHS) + 1
    size = {
        name: sum(leaf.size for leaf in jax.tree.leaves(tree))
        for name, tree in state.variables.items()
    }
    passes = 1 if recipe.joint_statistics else 3
    assert numbers <= size["params"] + 2 * passes * size["batch_stats"] + len(metrics)


def test_a_validation_exchanges_sums_only(recipe, together):
    mesh = mesh_of(4)
    program = loop.compiled_validation_step(recipe, devices.replicated(mesh)).lower(
        together[0].variables,
        batch_on(mesh, recipe),
        devices.assemble(np.ones(EXAMPLES, np.float32), mesh),
    )
    kinds, numbers = collectives(program.compile().as_text())
    assert set(kinds) == {"all-reduce"}
    assert numbers <= len(together[1]) + 1


@pytest.mark.parametrize(
    ("network", "objective", "batching"),
    [
        ("separated", "separated", {**BATCHINGS["triplet"], "whole_every": 2}),
        ("paired", "separated_pair", BATCHINGS["triplet"]),
    ],
)
def test_networks_without_moments_exchange_gradients_only(network, objective, batching):
    recipe = Recipe(objective, "log", 1.0, 1e-3, **batching)
    rng = np.random.default_rng(0)
    init = functools.partial(networks.init, network=network, widths=(4, 4, 6, 8))
    variables = jax.tree.map(  # Faster than init is compiled.
        lambda leaf: rng.normal(0, 0.1, leaf.shape).astype(np.float32),
        jax.eval_shape(init, jax.random.key(0)),
    )
    four, one = (step_on(mesh_of(count), recipe, variables=variables) for count in (4, 1))
    assert_same_step(four, one)
    kinds, numbers = collectives(four[2])
    assert set(kinds) == {"all-reduce"}
    parameters = sum(leaf.size for leaf in jax.tree.leaves(variables))
    passes = 2 if recipe.whole_every > 1 else 1  # A CPU adds their gradients after the exchange.
    assert numbers <= passes * parameters + len(four[1])


def test_a_sharded_state_takes_the_same_step(recipe, together, monkeypatch):
    monkeypatch.setattr(devices, "MIN_SHARDED_SIZE", 64)
    sharded = step_on(mesh_of(4), recipe, sharded=True)
    assert_same_step(sharded, together)
    parts = [
        (leaf.size, leaf.addressable_shards[0].data.size) for leaf in jax.tree.leaves(sharded[0])
    ]
    assert {(288, 72), (144, 36), (8, 8), (1, 1)} <= set(parts)


def test_large_arrays_are_split_along_their_longest_axis():
    large, odd, small = (3, 3, 512, 1024), (3, 3, 512, 1023), (1024,)
    state = {shape: jax.ShapeDtypeStruct(shape, np.float32) for shape in (large, odd, small, ())}
    split = devices.state_shardings(state, mesh_of(4), sharded=True)
    assert split[large].spec == PartitionSpec(None, None, None, devices.AXIS)
    assert split[odd].spec == PartitionSpec(None, None, devices.AXIS)
    assert split[small].spec == split[()].spec == PartitionSpec()
    whole = devices.state_shardings(state, mesh_of(4), sharded=False)
    assert {sharding.spec for sharding in whole.values()} == {PartitionSpec()}


def test_a_training_goes_on_with_other_devices(trained, tiny_config, tmp_path, monkeypatch):
    """From four to two, which share the state, to one."""

    def losses_after_six(count, steps, sharded, workdir):
        monkeypatch.setattr(devices, "mesh", lambda: mesh_of(count))
        fields = {"num_steps": steps, "validate_every_steps": 1, "shard_params": sharded}
        state = train(tiny_config(fields), workdir)
        assert int(state.step) == steps
        assert {len(leaf.devices()) for leaf in jax.tree.leaves(state)} == {count}
        assert any(not leaf.is_fully_replicated for leaf in jax.tree.leaves(state)) == sharded
        lines = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
        return [line["loss"] for line in lines if line["step"] > 6]

    monkeypatch.setattr(devices, "MIN_SHARDED_SIZE", 64)
    same, other = (shutil.copytree(trained.workdir, tmp_path / name) for name in ("same", "other"))
    losses_after_six(2, 7, True, other)
    actual = losses_after_six(1, 8, False, other)
    np.testing.assert_allclose(actual, losses_after_six(4, 8, False, same), rtol=1e-5)
    params, _, step = inference.load(other)
    assert step in (6, 7, 8)
    assert {len(leaf.devices()) for leaf in jax.tree.leaves(params)} == {1}


def test_what_is_compiled_is_kept_in_the_users_cache(tmp_path):
    program = """
import jax
from linlatent import devices
devices.keep_compiled()
hits = []
jax.monitoring.register_event_listener(lambda event, **_: hits.append(event))
jax.jit(lambda x: x + 1)(1.0)
print(hits.count("/jax/compilation_cache/cache_hits"))
"""

    def run(**folders):
        environment = os.environ | {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)
        result = subprocess.run(
            [sys.executable, "-c", program],
            **{"cwd": ROOT, "env": environment | folders, "capture_output": True, "text": True},
            check=True,
        )
        assert result.stderr == ""
        return int(result.stdout)

    assert run(XDG_CACHE_HOME=str(tmp_path)) == 0
    kept = sorted((tmp_path / "linlatent" / "jax").iterdir())
    assert kept
    assert run(XDG_CACHE_HOME=str(tmp_path)) == 1
    assert run(HOME=str(tmp_path), XDG_CACHE_HOME="") == 0
    assert list((tmp_path / ".cache" / "linlatent" / "jax").iterdir())
    assert run(XDG_CACHE_HOME="unused", JAX_COMPILATION_CACHE_DIR=str(kept[0].parent)) == 1


@pytest.mark.parametrize(("seconds", "idle"), [(0.05, "idle (9|10)[0-9]+ %"), (0.0, "idle 0 %")])
def test_idle_devices_are_told(tmp_path, caplog, seconds, idle):
    """Here a step takes no time at all, and its batch comes at once or late."""
    schedule = Schedule(last_step=3, per_epoch=3, per_validation=3, per_log=3)
    with (
        caplog.at_level(logging.INFO, logger="linlatent"),
        Recorder(
            tmp_path,
            schedule,
            first_step=0,
            triplets_per_step=1,
            tensorboard=False,
            last_good_step=lambda: None,
        ) as recorder,
    ):
        for number in (1, 2, 3):
            time.sleep(seconds)
            began = time.perf_counter() if seconds else 0.0
            recorder.step(number, {"loss": np.float32(1)}, began=began)
        recorder.finish()
    assert re.search(idle, caplog.text)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or platform.libc_ver()[1] < "2.35",
    reason="the GNU C library, from 2.35 on",
)
@pytest.mark.skipif(
    not devices.POLICY.exists() or "[madvise]" not in devices.POLICY.read_text(),
    reason="Linux where it gives huge pages on request",
)
@pytest.mark.parametrize("tunables", [None, "glibc.malloc.perturb=0", f"{devices.HUGE_PAGES}=0"])
def test_huge_pages_are_used_unless_refused(tunables):
    program = """
import resource
from linlatent import devices
devices.use_huge_pages()
import numpy as np
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    output = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={
            **{name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"},
            **({"GLIBC_TUNABLES": tunables} if tunables else {}),
            "NUMPY_MADVISE_HUGEPAGE": "0",
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    pages = 2**26 / os.sysconf("SC_PAGE_SIZE")
    if tunables == f"{devices.HUGE_PAGES}=0":
        assert int(output) >= pages
    else:
        assert int(output) < pages / 10
