"""Shapes and sizes of the network, and BatchNorm over the passes of a batch."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linlatent import model

SMALL = (3, 5)


@pytest.fixture(scope="module")
def variables(random_network):
    return random_network(SMALL)


def planes(*shape):
    return np.random.default_rng(1).uniform(size=(*shape, 8, 12, 1)).astype(np.float32)


encode = jax.jit(model.encode)
decode = jax.jit(model.decode)
encode_in_training = jax.jit(model.encode_in_training, static_argnames="joint")
decode_in_training = jax.jit(model.decode_in_training, static_argnames="joint")


@pytest.mark.parametrize(
    ("widths", "size", "latent"),
    [
        (SMALL, (8, 12), (2, 3, 5)),
        ((4, 4, 4, 4, 7), (128, 128), (4, 4, 7)),
        ((4, 4, 4, 4, 7), (32, 96), (1, 3, 7)),
        (model.PAPER_WIDTHS, (128, 128), (4, 4, 1024)),
    ],
)
def test_shapes(widths, size, latent):
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), widths))
    x = jax.ShapeDtypeStruct((2, *size, 1), jnp.float32)
    z = jax.eval_shape(model.encode, shapes, x)
    assert (z.shape, z.dtype) == ((2, *latent), jnp.float32)
    y = jax.eval_shape(model.decode, shapes, z)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)


@pytest.mark.parametrize("shape", [(8, 12, 1), (1, 8, 12), (1, 8, 12, 3), (1, 8, 10, 1)])
def test_other_images_are_refused(variables, shape):
    with pytest.raises(ValueError, match=r"divisible by 4; got shape \(.*" + str(shape[-1])):
        model.encode(variables, jnp.zeros(shape))


@pytest.mark.parametrize("shape", [(2, 3, 5), (1, 2, 3, 4)])
def test_other_latents_are_refused(variables, shape):
    with pytest.raises(ValueError, match=r"latents must be \(N, h, w, 5\); got shape"):
        model.decode(variables, jnp.zeros(shape))


def test_images_lie_strictly_between_0_and_1(variables):
    y = decode(variables, encode(variables, planes(4)))
    assert 0 < y.min() < y.max() < 1


def test_number_of_parameters_at_full_width():
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    down, up = (1, 64, 128, 256, 512, 1024), (1024, 512, 256, 128, 64, 64)
    # A layer has a 3x3 kernel, a bias, and a scale and a bias of its BatchNorm.
    layers = [
        9 * before + 3
        for widths in (down, up)
        for before, after in itertools.pairwise(widths)
        for _ in range(after)
    ]
    to_image = 9 * 64 + 1
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
    assert count == sum(layers) + to_image
    statistics = sum(leaf.size for leaf in jax.tree.leaves(shapes["batch_stats"]))
    assert statistics == 2 * (sum(down[1:]) + sum(up[1:]))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes))


def test_initialisation_follows_the_key():
    init = jax.jit(model.init, static_argnums=1)
    first, again, other = (init(jax.random.key(seed), (4,)) for seed in (0, 0, 1))
    kernels = [each["params"]["decoder"]["block_0"]["kernel"] for each in (first, again, other)]
    np.testing.assert_array_equal(kernels[0], kernels[1])
    assert np.abs(kernels[0] - kernels[2]).min() > 0


@pytest.mark.parametrize("widths", [(64, 96), (40, 80, 24)])
def test_initialisation_is_pytorchs(widths):
    """Uniform in ±1 / sqrt(fan_in), where PyTorch's fan-in of an upsampling layer is its outputs'.

    By hand, from the shapes of its arrays: ``Conv2d`` has (outputs, inputs, 3, 3),
    ``ConvTranspose2d`` (inputs, outputs, 3, 3), and the fan-in is 9 times the second of them.
    """
    params = jax.jit(model.init, static_argnums=1)(jax.random.key(0), widths)["params"]
    down, up = (1, *widths[:-1]), (*widths[-2::-1], widths[0])
    fan_in = {("encoder", f"block_{i}"): 9 * inputs for i, inputs in enumerate(down)}
    fan_in |= {("decoder", f"block_{i}"): 9 * outputs for i, outputs in enumerate(up)}
    fan_in["decoder", "to_image"] = 9 * widths[0]
    layers = {(half, name): layer for half in params for name, layer in params[half].items()}
    assert layers.keys() == fan_in.keys()
    for name, layer in layers.items():
        bound = fan_in[name] ** -0.5
        for array in (layer["kernel"], layer["bias"]):
            assert np.abs(array).max() <= bound, name
        # The largest of n uniform numbers is below 1 - 12 / n with a probability of exp(-12), and
        # their variance has a relative standard deviation of sqrt(0.8 / n).
        kernel = layer["kernel"] / bound
        assert np.abs(kernel).max() > 1 - 12 / kernel.size, name
        assert np.var(kernel) == pytest.approx(1 / 3, rel=4.5 * np.sqrt(0.8 / kernel.size)), name
        if name[1] != "to_image":
            assert np.std(layer["bias"]) > 0.3 * bound, name
            np.testing.assert_array_equal(layer["norm"]["scale"], 1)
            np.testing.assert_array_equal(layer["norm"]["bias"], 0)
    assert np.abs(layers["decoder", "to_image"]["bias"]) > 0


def test_evaluation_mode_does_not_see_the_other_images_of_a_batch(variables):
    x = planes(3)
    z = encode(variables, x)
    np.testing.assert_allclose(z[:1], encode(variables, x[:1]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        decode(variables, z)[:1], decode(variables, z[:1]), rtol=1e-4, atol=1e-5
    )
    together, _ = encode_in_training(variables, x[None])
    alone, _ = encode_in_training(variables, x[None, :1])
    assert np.abs(together[0, 0] - alone[0, 0]).max() > 0.1


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_a_pass_per_plane_or_one_for_all(variables, half):
    run = {"encoder": encode_in_training, "decoder": decode_in_training}[half]
    x = planes(3, 4)
    # Planes of one brightness would not tell whose moments were used.
    x = x * jnp.array([0.2, 0.5, 1.0]).reshape(3, 1, 1, 1, 1)
    if half == "decoder":
        x = jnp.concatenate([x] * 5, axis=-1)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)

    own, moments = run(variables, x)
    for index in range(3):
        alone, alone_moments = run(variables, x[index : index + 1])
        close(own[index], alone[0])
        jax.tree.map(lambda a, e, i=index: close(a[i], e[0]), moments, alone_moments)

    joint, moments = run(variables, x, joint=True)
    merged, merged_moments = run(variables, x.reshape(1, 12, *x.shape[2:]))
    close(joint.reshape(merged.shape), merged)
    jax.tree.map(close, moments, merged_moments)
    assert np.abs(joint - own).max() > 0.05


def test_moments_are_the_mean_and_the_unbiased_variance(variables):
    x = planes(2, 3)
    block = jax.tree.map(np.array, variables["params"]["encoder"]["block_0"])
    padded = np.pad(x[1, ..., 0], [(0, 0), (1, 1), (1, 1)])
    convolved = block["bias"] + sum(
        padded[:, i : i + 8 : 2, j : j + 12 : 2, None] * block["kernel"][i, j, 0]
        for i in range(3)
        for j in range(3)
    )
    _, moments = encode_in_training(variables, x)
    norm = moments["block_0"]["norm"]
    np.testing.assert_allclose(norm["mean"][1], convolved.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm["var"][1], convolved.var((0, 1, 2), ddof=1), rtol=1e-4)


def test_folding_is_the_sequential_average():
    rng = np.random.default_rng(2)
    running = {name: rng.normal(size=4).astype(np.float32) for name in ("mean", "var")}
    passes = {name: rng.normal(size=(5, 4)).astype(np.float32) for name in ("mean", "var")}
    expected = running
    for index in range(5):
        expected = jax.tree.map(lambda r, p, i=index: 0.9 * r + 0.1 * p[i], expected, passes)
    folded = model.fold_statistics(running, passes)
    jax.tree.map(lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-5), folded, expected)


def test_widths_are_read_off_any_network():
    for widths in (SMALL, (2,), model.PAPER_WIDTHS):
        shapes = jax.eval_shape(lambda widths=widths: model.init(jax.random.key(0), widths))
        assert model.widths_of(shapes) == widths
