"""The network in evaluation, band by band, against whole images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linlatent import bands, convolution, model

WIDTHS = ((3,), (4, 6, 8), (32, 40, 48))
"""One layer; narrow ones; and such as are computed by minimal filtering."""


def random_variables(widths):
    """A network whose running averages differ from channel to channel."""
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), widths))
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: random.normal(size=s.shape).astype(np.float32), shapes)
    variables["batch_stats"] = jax.tree.map(np.abs, variables["batch_stats"])
    return variables


def whole_and_in_bands(monkeypatch, function, *args):
    """The results with bands of two rows of the smallest image, and with none."""
    results = []
    for size in (0, 2**30):
        monkeypatch.setattr(bands, "_BAND_BYTES", size)
        traced = jax.jit(lambda *args: function(*args)).trace(*args)
        assert str(traced.jaxpr).count("scan[") == (1 if size == 0 else 0)
        results.append(traced.lower().compile()(*args))
    return results


@pytest.mark.parametrize("widths", WIDTHS, ids=str)
@pytest.mark.parametrize("rows", [3, 5])
def test_a_network_is_the_same_band_by_band(widths, rows, monkeypatch):
    variables, side = random_variables(widths), 2 ** len(widths)
    x = np.random.default_rng(1).random((2, rows * side, 3 * side, 1), np.float32)
    z, z_whole = whole_and_in_bands(monkeypatch, model.encode, variables, x)
    np.testing.assert_allclose(z, z_whole, rtol=0, atol=1e-6 * np.abs(z_whole).max())
    layers = model._layers(model.half(variables, "decoder"))
    kernel = variables["params"]["decoder"]["to_image"]["kernel"]
    y, y_whole = whole_and_in_bands(monkeypatch, bands.upsample, layers, z_whole, kernel)
    np.testing.assert_allclose(y, y_whole, rtol=0, atol=1e-6 * np.abs(y_whole).max())


def test_large_frames_go_in_bands_and_small_ones_do_not():
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), (64, 128)))

    def scans(height, width):
        x = jax.ShapeDtypeStruct((2, height, width, 1), jnp.float32)
        z = jax.eval_shape(model.encode, variables, x)
        texts = (
            str(jax.make_jaxpr(model.encode)(variables, x)),
            str(jax.make_jaxpr(model.decode)(variables, z)),
        )
        return ["scan[" in text for text in texts]

    assert scans(544, 704) == [True, True]
    assert scans(32, 32) == [False, False]


@pytest.mark.parametrize("channels", [4, 32])
def test_bands_of_rows_continue_one_another(channels):
    keys = jax.random.split(jax.random.key(0), 3)
    kernel = jax.random.normal(keys[0], (3, 3, channels, channels + 1))
    x = jax.random.normal(keys[1], (2, 12, 10, channels))
    y = jnp.concatenate(
        [
            convolution.downsample_band(x[:, :4], kernel, jnp.zeros((2, 1, 10, channels))),
            convolution.downsample_band(x[:, 4:], kernel, x[:, 3:4]),
        ],
        axis=1,
    )
    np.testing.assert_allclose(y, convolution.downsample(x, kernel), atol=1e-4)
    y = jax.random.normal(keys[2], (2, 6, 5, channels + 1))
    nothing = jnp.zeros((2, 1, 10, channels))
    lower, given_above = convolution.upsample_band(y[:, 4:], kernel, nothing)
    upper, beyond_the_top = convolution.upsample_band(y[:, :4], kernel, given_above)
    expected = convolution.upsample(jnp.pad(y, ((0, 0), (1, 0), (0, 0), (0, 0))), kernel)[:, 1:]
    actual = jnp.concatenate([beyond_the_top, upper, lower], axis=1)
    np.testing.assert_allclose(actual, expected, atol=1e-4)
