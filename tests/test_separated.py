"""The network that keeps content and blur apart."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import linlatent
from linlatent import losses, networks, separated
from linlatent.data import Triplet
from linlatent.evaluation import evaluate
from linlatent.training import train
from linlatent.training.recipe import Recipe
from linlatent.training.step import gradients_of

WIDTHS = (4, 4, 6, 8)
close = {"rtol": 1e-4, "atol": 1e-5}

encode, decode = jax.jit(linlatent.encode), jax.jit(linlatent.decode)


@pytest.fixture(scope="module")
def params():
    """A random network in which nothing is zero."""
    init = jax.jit(lambda key: networks.init(key, network="separated", widths=WIDTHS))
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32),
        init(jax.random.key(0)),
    )


@pytest.fixture(scope="module")
def images():
    """Two images b and as many c."""
    return jax.random.uniform(jax.random.key(1), (2, 2, 32, 48, 1))


@pytest.fixture(scope="module")
def latents(params, images):
    return encode(params, images[0]), encode(params, images[1])


def test_a_latent_is_content_and_blur_at_half_the_resolution(params, latents):
    zb, _ = latents
    assert zb.content.shape == (2, 16, 24, separated.CONTENT_CHANNELS)
    assert zb.blur.shape == (2, 16, 24, 1)
    x = decode(params, zb)
    assert (x.shape, x.dtype) == ((2, 32, 48, 1), jnp.float32)
    assert networks.of(params) is separated
    assert separated.widths_of(params) == WIDTHS


def test_equations_1_and_2_hold_for_the_whole_latent(params, latents):
    zb, zc = latents
    between = linlatent.interpolate(zb, zc, 0.25)
    for leaf, b, c in zip(between, zb, zc, strict=True):
        np.testing.assert_allclose(leaf, 0.25 * b + 0.75 * c, **close)
    beyond = separated.Latent(*(4 * b - 3 * c for b, c in zip(zb, zc, strict=True)))
    np.testing.assert_allclose(
        jax.jit(linlatent.deblur)(params, zb, zc, 0.25), decode(params, beyond), **close
    )


def test_anchored_deblurring_moves_blur_alone(params, images, latents):
    zb, zc = latents
    deblur = jax.jit(linlatent.deblur)
    beyond = separated.Latent(zb.content, 4 * zb.blur - 3 * zc.blur)
    expected = images[0] + decode(params, beyond) - decode(params, zb)
    anchored = deblur(params, zb, zc, 0.25, anchor=images[0])
    np.testing.assert_allclose(anchored, expected, **close)
    other = zc._replace(content=zc.content + 1)
    np.testing.assert_allclose(deblur(params, zb, other, 0.25, anchor=images[0]), anchored, **close)
    np.testing.assert_array_equal(deblur(params, zb, zc, 1.0, anchor=images[0]), images[0])


def test_a_single_image_is_deblurred_by_showing_its_content_in_focus(params, images, latents):
    zb, _ = latents
    in_focus = separated.Latent(zb.content, jnp.zeros_like(zb.blur))
    single = jax.jit(linlatent.deblur_single)(params, images[0])
    np.testing.assert_allclose(single, decode(params, in_focus), **close)
    assert jnp.abs(single - images[0]).max() > 1e-3


def test_the_network_has_no_unit_of_intensity(params, images, latents):
    """What is brighter has a brighter content, as far out of focus, and is shown as bright."""
    zb, _ = latents
    brighter = encode(params, 7 * images[0] + 0.5)
    features = slice(4, 8)  # The only ones that a background does not shift.
    np.testing.assert_allclose(
        brighter.content[..., features], 7 * zb.content[..., features], rtol=1e-3, atol=1e-4
    )
    np.testing.assert_allclose(brighter.blur, zb.blur, rtol=1e-3)
    np.testing.assert_allclose(
        decode(params, brighter), 7 * decode(params, zb) + 0.5, rtol=1e-3, atol=1e-4
    )


def test_an_empty_image_stays_empty(params):
    empty = jnp.full((1, 32, 32, 1), 0.25)
    np.testing.assert_allclose(linlatent.deblur_single(params, empty), empty, **close)


def test_the_paper_s_network_needs_a_blurrier_image(random_network, images):
    with pytest.raises(ValueError, match=r"by a separated network .* needs a blurrier image"):
        linlatent.deblur_single(random_network((2, 3)), images[0])


def test_no_blur_is_less_than_none(params, latents):
    zb, _ = latents
    in_focus, beyond = (zb._replace(blur=jnp.full_like(zb.blur, blur)) for blur in (0.0, -3.0))
    np.testing.assert_array_equal(decode(params, beyond), decode(params, in_focus))
    out_of_focus = zb._replace(blur=jnp.full_like(zb.blur, 4.0))
    assert jnp.abs(decode(params, out_of_focus) - decode(params, in_focus)).max() > 1e-3


def test_phases_come_back_to_their_places():
    x = jax.random.normal(jax.random.key(0), (2, 4, 6, 1))
    phases = separated.to_phases(x)
    np.testing.assert_array_equal(phases[..., 1], x[:, 0::2, 1::2, 0])
    np.testing.assert_array_equal(separated.from_phases(phases), x)


def test_activations_keep_their_size():
    """At the beginning no layer makes them much larger or smaller."""
    widths = (16, 16, 16, 16)
    params = networks.init(jax.random.key(0), network="separated", widths=widths)
    x = jax.random.normal(jax.random.key(1), (1, 64, 64, 1))
    z = jax.jit(separated.encode)(params, x)
    assert 0.3 < z.content.std() < 5
    assert 0 < z.blur.mean() < separated.BLURRIEST
    assert 0.3 < jax.jit(separated.decode)(params, z).std() < 5


def test_in_bfloat16_it_says_about_the_same(params, images):
    outputs = {}
    for dtype in ("float32", "bfloat16"):
        z, moments = jax.jit(functools.partial(separated.encode_in_training, dtype=dtype))(
            params, images
        )
        planes, _ = jax.jit(functools.partial(separated.decode_in_training, dtype=dtype))(params, z)
        outputs[dtype] = planes
        assert moments == {}
        assert {leaf.dtype for leaf in (*z, planes)} == {jnp.dtype("float32")}
    largest = jnp.abs(outputs["float32"]).max()
    np.testing.assert_allclose(outputs["bfloat16"], outputs["float32"], atol=0.03 * largest)
    assert jnp.abs(outputs["bfloat16"] - outputs["float32"]).max() > 1e-5


def test_the_reading_of_blur_leaves_the_features_alone(params, images):
    def mean_blur(params):
        return separated.encode(params, images[0]).blur.mean()

    gradients = jax.jit(jax.grad(mean_blur))(params)["params"]["encoder"]
    assert jnp.abs(gradients.pop("blur")["first"]["kernel"]).max() > 0
    assert all(not leaf.any() for leaf in jax.tree.leaves(gradients))


def test_single_images_need_no_whole_examples(params):
    planes = jax.random.uniform(jax.random.key(2), (6, 3, 32, 32, 1))
    batch = {"planes": planes, "alpha": jnp.linspace(0.2, 0.8, 6)[:, None]}
    recipe = Recipe("separated", "log", 1.0, 1e-3, triplets=(Triplet(0, 1, 2),))

    def metrics_of(batch, **fields):
        run = functools.partial(gradients_of, recipe=dataclasses.replace(recipe, **fields))
        gradients, metrics, _ = jax.jit(run)(params, batch)
        return gradients, metrics

    gradients, metrics = metrics_of(batch, whole_every=3)
    _, of_all = metrics_of(batch)
    _, of_whole = metrics_of(jax.tree.map(lambda leaf: leaf[::3], batch))
    # Four bs more than the six planes of the two whole examples.
    b = jax.tree.map(lambda leaf: jnp.delete(leaf, jnp.array([0, 3]), axis=0), batch)
    blurs = encode(params, b["planes"][:, 1]).blur.mean(axis=(1, 2, 3)) / separated.BLURRIEST
    others = jnp.abs(blurs - (1 - b["alpha"][:, 0])).mean()
    expected = {**of_whole, "focus": of_all["focus"], "blur": 0.6 * of_whole["blur"] + 0.4 * others}
    weights = losses.OBJECTIVES["separated"]
    expected["loss"] = sum(weights[name] * expected[name] for name in weights)
    assert abs(of_all["focus"] - of_whole["focus"]) > 1e-3 * of_whole["focus"]
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, **close, err_msg=name)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradients))


def test_mistakes_are_named(params, latents):
    zb, _ = latents
    with pytest.raises(ValueError, match=r"images must be .* divisible by 16; got shape"):
        linlatent.encode(params, jnp.zeros((1, 32, 40, 1)))
    with pytest.raises(ValueError, match=r"latents must be separated.Latent"):
        linlatent.decode(params, zb.content)


TRAINING = {
    **{"model.network": "separated", "objective": "separated", "triplets": "spanning"},
    **{"model.widths": WIDTHS, "criterion": "log", "schedule": "cosine"},
    **{"data.crops": "random", "batch_size": 8, "whole_every": 2},
    **{"num_steps": 30, "validate_every_steps": 15},
}


@pytest.fixture(scope="module")
def workdir(tiny_config, tmp_path_factory):
    """A tiny network that was trained on a folder."""
    folder = tmp_path_factory.mktemp("separated")
    train(tiny_config(TRAINING), folder)
    return folder


def test_it_is_trained_and_evaluated_like_the_paper_s(workdir):
    params, config, step = linlatent.load(workdir)
    assert (config.model.network, separated.widths_of(params)) == ("separated", WIDTHS)
    assert step in (15, 30)
    estimates = {row["estimate"] for row in evaluate(workdir)["rows"]}
    assert {"deblurred", "reconstruction", "synthesised"} <= estimates


def test_the_reading_of_blur_is_trained_by_itself(workdir, tiny_config, tmp_path):
    fields = {"objective": "separated_blur", "batching": "stack", "batch_size": 4, "whole_every": 1}
    config = tiny_config({**TRAINING, **fields, "num_steps": 10, "validate_every_steps": 10})
    with pytest.raises(ValueError, match=r"init_from is not given; .* expected the workdir or"):
        train(config, tmp_path / "none")
    config.init_from = str(workdir)
    train(config, tmp_path / "blur")
    before, after = (
        traverse_util.flatten_dict(linlatent.load(folder).params, sep="/")
        for folder in (workdir, tmp_path / "blur")
    )
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("params/encoder/blur/")}
