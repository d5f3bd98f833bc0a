"""The script that trains networks without a latent space."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linlatent import metrics
from linlatent.data import evaluation_batches, open_source


@pytest.fixture(scope="module")
def script(load_script):
    return load_script("train_free")


@pytest.fixture(scope="module")
def config(tiny_config):
    fields = {"data.crops": "random", "triplets": "spanning", "criterion": "log", "num_steps": 120}
    return tiny_config(fields | {"data.normalisation": "stack", "schedule": "cosine"})


def test_its_networks_have_no_unit_of_intensity(script):
    network = script.Free((4, 6, 8))
    key = jax.random.key(0)
    images = list(jax.random.uniform(key, (2, 3, 32, 32, 1)))
    alpha = jnp.array([0.2, 0.5, 0.9])
    params = network.init(key, images, alpha)
    y = network.apply(params, images, alpha)
    assert y.shape == (3, 32, 32, 1)
    scaled = network.apply(params, [3 * x + 0.5 for x in images], alpha)
    np.testing.assert_allclose(scaled, 3 * y + 0.5, rtol=1e-3, atol=1e-4)
    other = network.apply(params, images, alpha / 2)
    assert jnp.abs(other - y).max() > 1e-3
    untold = network.apply(network.init(key, images, None), images, None)
    assert untold.shape == y.shape
    blurrier = network.apply(params, [images[0], images[0]], alpha)
    assert jnp.abs(blurrier - y).max() > 1e-3


@pytest.mark.parametrize("number", range(3))
def test_it_learns_to_deblur(script, config, number):
    seen = script.INPUTS[number]
    source = open_source(config.data.source, **config.data[config.data.source])
    params = script.train(config, source, seen)
    found = script.measure(params, config, seen, source, 32)
    (batch,) = evaluation_batches(
        source, "test", crop_size=32, normalisation="stack", batch_size=found.n
    )
    stacks = batch["planes"]
    errors = metrics.mean_squared_error(stacks[:, 1:-1], np.repeat(stacks[:, :1], 3, axis=1))
    untouched = metrics.summarise(metrics.psnr_from_mse(errors, 1.0).mean(axis=1))
    assert found.n == len(source.slide_ids["test"])
    assert found.mean > untouched.mean + 0.5


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batching", "stack", r"config.batching is 'stack', expected 'triplet' here"),
        ("schedule", "constant", r"config.schedule is 'constant', expected 'cosine' here"),
        ("num_steps", None, r"config.num_steps is None, expected a positive integer here"),
    ],
)
def test_what_it_cannot_do_is_named(script, config, field, value, message):
    other = config.copy_and_resolve_references()
    other[field] = value
    with pytest.raises(ValueError, match=message):
        script.train(other, None, script.INPUTS[0])
