"""What is saved comes back bit by bit, and what does not fit is refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from linlatent import checkpoints
from linlatent.checkpoints import Checkpoints

WIDTHS = (2, 3)


def read_best(workdir, widths=WIDTHS):
    return checkpoints.read_best(workdir, network="paper", widths=widths)


@pytest.fixture(scope="module")
def variables(random_network):
    return random_network(WIDTHS)


@pytest.fixture(scope="module")
def train(variables):
    """The step and a state of Adam that is not all zeros."""
    moments = optax.adam(1e-3).init(variables["params"])
    moments = jax.tree.map(lambda leaf: leaf + jnp.asarray(3, leaf.dtype), moments)
    return {"step": jnp.int32(7), "optimiser": moments}


def scaled(variables, factor):
    return jax.tree.map(lambda leaf: leaf * factor, variables)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, variables, train):
    """Saved at steps 1 to 4; the second was best."""
    folder = tmp_path_factory.mktemp("workdir")
    with Checkpoints(folder) as store:
        for step, loss in [(1, 0.5), (2, 0.1), (3, 0.4), (4, 0.3)]:
            store.save(step, scaled(variables, step), train, loss)
    return folder


def assert_same(actual, expected):
    assert jax.tree.structure(actual) == jax.tree.structure(expected)
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_array_equal(a, e)


def test_the_latest_and_the_best_are_kept(workdir):
    kept = {path.name for path in (workdir / "checkpoints").iterdir()}
    assert kept == {"2", "4"}
    with Checkpoints(workdir) as store:
        assert store.latest_step() == 4


def test_the_latest_comes_back_bit_by_bit_with_its_optimiser(workdir, variables, train):
    templates = jax.tree.map(jnp.zeros_like, (variables, train))
    with Checkpoints(workdir) as store:
        restored = store.restore(*templates)
    assert_same(restored, (scaled(variables, 4), train))


def test_the_best_comes_back_for_use(workdir, variables):
    params, step = read_best(workdir)
    assert step == 2
    assert_same(params, scaled(variables, 2))


def test_a_relative_path_will_do(workdir, monkeypatch):
    monkeypatch.chdir(workdir.parent)
    assert read_best(workdir.name)[1] == 2


def test_four_devices_save_and_one_reads_and_back(tmp_path, variables, train):
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    replicated = NamedSharding(mesh, PartitionSpec())
    with Checkpoints(tmp_path) as store:
        store.save(1, *jax.device_put((variables, train), replicated), 0.5)
    params, _ = read_best(tmp_path)
    assert_same(params, variables)
    assert all(leaf.devices() == {jax.devices()[0]} for leaf in jax.tree.leaves(params))
    with Checkpoints(tmp_path) as store:
        alone = store.restore(variables, train)
        shared = store.restore(*jax.device_put((variables, train), replicated))
    assert_same(alone, (variables, train))
    assert_same(shared, (variables, train))
    assert all(len(leaf.devices()) == 1 for leaf in jax.tree.leaves(alone))
    assert all(len(leaf.devices()) == 4 for leaf in jax.tree.leaves(shared))


def test_a_folder_without_checkpoints_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.checkpoints: no checkpoints here"):
        read_best(tmp_path / "nowhere")
    with Checkpoints(tmp_path) as store:
        assert store.latest_step() is None
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}.*no finished checkpoint"):
        read_best(tmp_path)


@pytest.mark.parametrize("widths", [(2, 4), (2,), (2, 3, 3)])
def test_other_widths_are_refused(workdir, widths):
    with pytest.raises(ValueError, match=r"checkpoints.2: the item 'params' .*model.widths"):
        read_best(workdir, widths)


def test_a_state_of_another_shape_is_refused(workdir, train, random_network):
    with (
        Checkpoints(workdir) as store,
        pytest.raises(ValueError, match=r"checkpoints.4: the item 'params' .* shapes"),
    ):
        store.restore(random_network((2, 4)), train)
