"""The networks that come with linlatent."""

import jax
import numpy as np
import pytest

import linlatent
from linlatent import config as configuration
from linlatent import networks, shipped


def test_a_network_comes_back_as_it_was_written(random_network, tmp_path, monkeypatch, trained):
    variables = random_network((2, 3))
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    shipped.write("mine", variables, 7)
    configuration.write(trained.config, shipped.folder("mine"))
    assert shipped.names() == ["mine"]
    params, read_config, step = linlatent.load("mine")
    assert step == 7
    assert read_config.to_dict() == trained.config.to_dict()
    assert jax.tree.structure(params) == jax.tree.structure(variables)
    jax.tree.map(np.testing.assert_array_equal, params, variables)


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(FileNotFoundError, match=r"w1-blunt: no such folder.*: "):
        linlatent.load("w1-blunt")


@pytest.mark.parametrize("name", shipped.names())
def test_what_is_shipped_is_small_and_works(name):
    params, config, step = linlatent.load(name)
    assert step > 0
    assert config.model.widths == networks.of(params).widths_of(params)
    x = jax.random.uniform(jax.random.key(0), (2, 64, 64, 1))
    z = linlatent.encode(params, x)
    y = linlatent.deblur(params, z, z, 1.0, anchor=x)
    np.testing.assert_allclose(y, x, atol=1e-6)
    assert (shipped.folder(name) / "params.npz").stat().st_size < 10 * 2**20
