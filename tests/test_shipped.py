"""The networks that come with linlatent."""

import jax
import numpy as np
import pytest

import linlatent
from linlatent import config as configuration
from linlatent import images, metrics, networks, shipped
from linlatent.data.synthetic.slides import render_slide
from linlatent.evaluation import protocol


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
    halves = jax.tree.map(lambda leaf: np.asarray(leaf, np.float16), variables)
    jax.tree.map(np.testing.assert_array_equal, params, halves)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype("float32")}
    with pytest.raises(FloatingPointError):
        shipped.write("mine", {"params": np.full(1, 1e5, np.float32)}, 7)


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


def test_the_latent_path_of_a_sharp_network_is_straight():
    """What its content cannot share between planes is little beside the steps of blur."""
    params, config, _ = linlatent.load("w1-sharp")
    stack = render_slide("s000_w1", channel="w1", height=128, width=128)
    low, high = images.intensity_range(stack, config.data.normalisation)
    planes = images.normalise(stack, low, high, config.data.normalisation)
    z = linlatent.encode(params, planes[..., None])
    latents = protocol.flatten_latents(jax.tree.map(lambda leaf: leaf[None], z))
    assert metrics.lds_paper(latents) > 0.95
