"""The part of a separated network that sees a plane b beside a blurrier one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linlatent
from configs import default
from linlatent import inference, losses, networks, pair, separated
from linlatent.data import Triplet
from linlatent.evaluation.evaluate import predict
from linlatent.training import train
from linlatent.training.recipe import Recipe
from linlatent.training.step import gradients_of, validation_step

WIDTHS = (4, 4, 6, 8)
close = {"rtol": 1e-4, "atol": 1e-5}

ALPHA = jnp.array([0.2, 0.4, 0.6, 0.8])

encode_pair = jax.jit(pair.encode)
encode_between = jax.jit(linlatent.encode_between)
deblur = jax.jit(linlatent.deblur)


@pytest.fixture(scope="module")
def params(random_separated):
    """A network that reads all images to be nearly at the blurriest."""
    params = random_separated("paired")
    params["params"]["encoder"]["blur"]["estimates"]["bias"] += 0.8
    return params


@pytest.fixture(scope="module")
def planes():
    """Four triplets, of different brightness."""
    brightness = jnp.linspace(0.5, 1, 4).reshape(4, 1, 1, 1, 1)
    return brightness * jax.random.uniform(jax.random.key(1), (4, 3, 32, 32, 1))


@jax.jit
def between(params, planes, alpha=ALPHA):
    """z_b beside c, and z_c."""
    zc = linlatent.encode(params, planes[:, 2])
    return linlatent.encode_between(params, planes[:, 1], zc, alpha, xc=planes[:, 2]), zc


def test_what_is_added_is_the_encoder_blind_to_c(params, planes):
    plain = {"params": {k: v for k, v in params["params"].items() if k != "pair"}}
    added = jax.jit(pair.added)(plain)
    assert pair.sees(added)
    assert not pair.sees(plain)
    zb, zc = between(added, planes)
    expected = encode_between(plain, planes[:, 1], zc, ALPHA)
    jax.tree.map(functools.partial(np.testing.assert_allclose, **close), zb, expected)
    del added["params"]["pair"]
    jax.tree.map(np.testing.assert_array_equal, added, plain)


def test_it_is_told_the_blur_and_sees_the_blurriest_plane(params, planes):
    assert networks.of(params) is separated
    zc = separated.with_known(linlatent.encode(params, planes[:, 2]), separated.BLURRIEST)
    zb = encode_between(params, planes[:, 1], zc, ALPHA, xc=planes[:, 2])
    blur = separated.BLURRIEST * (1 - ALPHA)
    expected = encode_pair(params, planes[:, 1], blur, planes[:, 2])
    jax.tree.map(functools.partial(np.testing.assert_allclose, **close), zb, expected)
    others = [
        encode_between(params, planes[:, 1], zc, ALPHA),
        encode_pair(params, planes[:, 1], blur, planes[:, 0]),
        encode_pair(params, planes[:, 1], blur / 2, planes[:, 2]),
    ]
    for other in others:
        assert jnp.abs(separated.in_focus(other) - separated.in_focus(zb)).max() > 1e-3


def test_the_nearer_c_is_the_less_counts_what_is_seen_beside_it(params, planes):
    b, c = planes[:, 1], planes[:, 2]
    zc = separated.with_known(linlatent.encode(params, c), jnp.array([5.0, 6.0, 7.0, 8.0]))
    mixed = encode_between(params, b, zc, ALPHA, xc=c)
    alone = encode_between(params, b, zc, ALPHA)
    beside = encode_pair(params, b, alone.blur, c)
    share = jnp.array([0, 0, 0.5, 1]).reshape(-1, 1, 1, 1)
    expected = (1 - share) * alone.content + share * beside.content
    np.testing.assert_allclose(mixed.content, expected, **close)
    np.testing.assert_array_equal(mixed.blur, alone.blur)


def test_it_has_no_unit_of_intensity(params, planes):
    zb, _ = between(params, planes)
    scaled, _ = between(params, 3 * planes + 0.5)
    np.testing.assert_allclose(
        separated.in_focus(scaled), 3 * separated.in_focus(zb) + 0.5, rtol=1e-3, atol=1e-4
    )


def test_what_is_evaluated_is_what_the_user_gets(params):
    planes = jax.random.uniform(jax.random.key(4), (2, 4, 32, 32, 1))
    further = jax.jit(predict)(params, planes).further["deblurred, anchored"]
    for index, alpha in enumerate((2 / 3, 1 / 3)):
        zb, zc = between(params, planes[:, [0, 1 + index, 3]], alpha)
        image = deblur(params, zb, zc, alpha, anchor=planes[:, 1 + index])
        np.testing.assert_allclose(further[:, index], image, **close)
        plain = encode_between(params, planes[:, 1 + index], zc, alpha)
        image = deblur(params, plain, zc, alpha, anchor=planes[:, 1 + index])
        assert jnp.abs(further[:, index] - image).max() > 1e-3


@pytest.mark.parametrize("blur", [None, 3.5])
def test_a_frame_is_deblurred_beside_c(params, planes, blur):
    counts = np.rint(1000 + 10000 * planes[:1, ..., 0]).astype(np.uint16)
    config = default.get_config()
    config.data.normalisation = "stack"
    model = linlatent.Model(params, config, step=0)
    sharp = linlatent.deblur_frame(model, counts[0, 1], blurrier=counts[0, 2], alpha=0.5, blur=blur)
    x = counts.astype(np.float32)[..., None]
    zc = linlatent.encode(params, x[:, 2])
    if blur is not None:
        zc = separated.with_known(zc, 7.0)
    zb = encode_between(params, x[:, 1], zc, 0.5, xc=x[:, 2])
    expected = deblur(params, zb, zc, 0.5, anchor=x[:, 1])[0, ..., 0]
    assert np.ptp(sharp) > 1000
    np.testing.assert_allclose(sharp, np.clip(expected, 0, 65535), atol=5)


def test_it_is_trained_with_its_blur_told_and_nothing_else_is(params, planes):
    batch = {"planes": planes, "alpha": ALPHA[:, None]}
    recipe = Recipe("separated_pair", "log", 1.0, 1e-3, triplets=(Triplet(0, 1, 2),))
    gradients, metrics, _ = jax.jit(functools.partial(gradients_of, recipe=recipe))(params, batch)
    zb = encode_pair(params, planes[:, 1], 8 * (1 - ALPHA), planes[:, 2])
    log = losses.log_of_squared_error
    expected = {
        "focus": log(planes[None, :, 0], separated.in_focus(zb)[None]).mean(),
        "reconstruction": log(planes[None, :, 1], linlatent.decode(params, zb)[None]).mean(),
    }
    expected["loss"] = expected["focus"] + 0.05 * expected["reconstruction"]
    assert metrics.keys() == expected.keys()
    validate = jax.jit(functools.partial(validation_step, recipe=recipe))
    sums = validate(params, batch, jnp.ones(4))
    for name, value in expected.items():
        np.testing.assert_allclose(metrics[name], value, **close, err_msg=name)
        np.testing.assert_allclose(sums[name] / 4, value, **close, err_msg=name)
    assert all(leaf.any() for leaf in jax.tree.leaves(gradients.pop("pair")))
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradients))


def test_it_goes_on_from_a_separated_network(params, tiny_config, tmp_path):
    fields = {"model.network": "separated", "objective": "separated", "triplets": "spanning"}
    fields |= {"model.widths": WIDTHS, "criterion": "log", "batch_size": 8, "num_steps": 2}
    before = {part: layers for part, layers in params["params"].items() if part != "pair"}
    model = linlatent.Model({"params": before}, tiny_config(fields), step=1)
    inference.save(model, tmp_path / "separated")
    fields |= {"model.network": "paired", "objective": "separated_pair"}
    train(tiny_config({**fields, "init_from": str(tmp_path / "separated")}), tmp_path / "paired")
    after = linlatent.load(tmp_path / "paired").params["params"]
    start = pair.added(model.params)["params"]["pair"]
    moved = jax.tree.map(lambda x, y: bool((x != y).any()), start, after.pop("pair"))
    assert all(jax.tree.leaves(moved))
    jax.tree.map(np.testing.assert_array_equal, after, before)
    back = {"model.network": "separated", "objective": "separated"}
    config = tiny_config({**fields, **back, "init_from": str(tmp_path / "paired")})
    with pytest.raises(ValueError, match=r"is 'paired', config.model.network is 'separated'"):
        train(config, tmp_path / "single")


def test_c_must_be_of_the_same_field(params, planes):
    zc = linlatent.encode(params, planes[:, 2])
    with pytest.raises(ValueError, match=r"images c must have the shape of b, \(4, 32, 32, 1\);"):
        linlatent.encode_between(params, planes[:, 1], zc, 0.5, xc=planes[:2, 2])
