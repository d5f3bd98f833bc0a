"""The network that keeps content and blur apart."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

import linlatent
from linlatent import latent, losses, networks, separated, windows
from linlatent.data import Triplet
from linlatent.evaluation.evaluate import predict
from linlatent.training.recipe import Recipe
from linlatent.training.step import gradients_of, validation_step

WIDTHS = (4, 4, 6, 8)
close = {"rtol": 1e-4, "atol": 1e-5}

encode, decode = jax.jit(linlatent.encode), jax.jit(linlatent.decode)


@pytest.fixture(scope="module")
def params(random_separated):
    return random_separated("separated")


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
    own = decode(params, zb)
    xb = separated.without_noise(images[0], own, beyond, zb)
    anchored = deblur(params, zb, zc, 0.25, anchor=images[0])
    np.testing.assert_allclose(anchored, xb + decode(params, beyond) - own, **close)
    other = zc._replace(content=zc.content + 1)
    np.testing.assert_allclose(deblur(params, zb, other, 0.25, anchor=images[0]), anchored, **close)
    np.testing.assert_array_equal(deblur(params, zb, zc, 1.0, anchor=images[0]), images[0])


def test_a_single_image_is_deblurred_by_showing_its_content_in_focus(params, images, latents):
    zb, _ = latents
    in_focus = separated.Latent(zb.content, jnp.zeros_like(zb.blur))
    own = decode(params, zb)
    xb = separated.without_noise(images[0], own, in_focus, zb)
    single = jax.jit(linlatent.deblur_single)(params, images[0])
    np.testing.assert_allclose(single, xb + decode(params, in_focus) - own, **close)
    assert jnp.abs(single - images[0]).max() > 1e-3


def test_a_known_blur_changes_the_content_and_not_what_is_read(params, images, latents):
    zb, _ = latents
    blurs = jnp.array([2.0, 5.0])
    told = encode(params, images[0], blurs)
    np.testing.assert_allclose(told.blur, zb.blur, **close)
    assert jnp.abs(told.content[..., :4] - zb.content[..., :4]).max() > 1e-3
    np.testing.assert_array_equal(told.content[..., 8], zb.content[..., 8])
    for known in (jnp.broadcast_to(blurs.reshape(2, 1, 1, 1), told.blur.shape), blurs[0]):
        again = encode(params, images[0], known)
        np.testing.assert_allclose(again.content[0], told.content[0], **close)
    single = jax.jit(linlatent.deblur_single)(params, images[0], blurs)
    known = told._replace(blur=jnp.broadcast_to(blurs.reshape(2, 1, 1, 1), told.blur.shape))
    own = decode(params, known)
    xb = latent.smooth_residual(images[0], own, 1.0)
    np.testing.assert_allclose(single, xb + separated.in_focus(told) - own, **close)
    sharp = jax.jit(linlatent.deblur_single)(params, images[0], 0.0)
    np.testing.assert_allclose(sharp, images[0], **close)


def test_what_is_not_known_is_read(params, images, latents):
    zb, _ = latents
    one = encode(params, images[0], jnp.array([jnp.nan, 5.0]))
    for leaf, read, told in zip(one, zb, encode(params, images[0], 5.0), strict=True):
        np.testing.assert_allclose(leaf, jnp.stack([read[0], told[1]]), **close)
    half = zb.blur.at[:, :, :12].set(5.0)
    not_known = half.at[:, :, 12:].set(jnp.nan)
    for leaf, expected in zip(
        encode(params, images[0], not_known), encode(params, images[0], half), strict=True
    ):
        np.testing.assert_allclose(leaf, expected, **close)


def test_to_be_told_what_one_has_read_changes_nothing(params, images, latents):
    zb, _ = latents
    assert zb.blur.min() > 0
    again = encode(params, images[0], zb.blur)
    jax.tree.map(functools.partial(np.testing.assert_allclose, **close), again, zb)


def test_with_alpha_and_c_the_network_is_told_the_blur_of_b(params, images, latents):
    zc = latents[1]._replace(blur=6 + latents[1].blur / 8)
    zb = jax.jit(linlatent.encode_between)(params, images[0], zc, 0.25)
    told = encode(params, images[0], 0.75 * zc.blur)._replace(blur=0.75 * zc.blur)
    one_each = linlatent.encode_between(params, images[0], zc, jnp.array([0.25, 0.5]))
    for leaf, expected, other in zip(zb, told, one_each, strict=True):
        np.testing.assert_allclose(leaf, expected, **close)
        np.testing.assert_allclose(other[0], expected[0], **close)
        assert jnp.abs(other[1] - expected[1]).max() > 1e-3
    anchored = jax.jit(linlatent.deblur)(params, zb, zc, 0.25, anchor=images[0])
    own = decode(params, zb)
    expected = latent.smooth_residual(images[0], own, 1.0) + separated.in_focus(zb) - own
    np.testing.assert_allclose(anchored, expected, **close)


def test_an_anchor_loses_its_noise_where_blur_is_removed_and_keeps_coarse_detail(params, images):
    zb = encode(params, images[0], 4.0)
    own = decode(params, zb)
    coarse = 0.1 + jnp.zeros_like(own)
    noise = 0.1 * jax.random.normal(jax.random.key(6), own.shape)
    removed = jnp.zeros_like(zb.blur).at[:, :, 6:12].set(0.5).at[:, :, 12:].set(3.0)
    z = zb._replace(blur=zb.blur - removed)
    left = jax.jit(separated.without_noise)(own + coarse + noise, own, z, zb) - own - coarse
    for columns, share in ((slice(0, 12), 0), (slice(12, 24), 0.5), (slice(24, 48), 1)):
        smooth = scipy.ndimage.gaussian_filter(
            noise, (0, 2, 2, 0), mode="nearest", radius=(0, 6, 6, 0)
        )
        expected = share * smooth + (1 - share) * noise
        np.testing.assert_allclose(left[:, :, columns], expected[:, :, columns], **close)
    assert left[:, :, 24:].std() < 0.2 * noise.std()


def test_the_paper_s_network_is_told_nothing(random_network, images):
    paper = random_network((2, 3))
    with pytest.raises(ValueError, match=r"blur can be told to a separated network"):
        linlatent.encode(paper, images[0], 3.0)
    zc = linlatent.encode(paper, images[1])
    zb = linlatent.encode_between(paper, images[0], zc, 0.5)
    np.testing.assert_array_equal(zb, linlatent.encode(paper, images[0]))


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


def test_blur_and_content_are_learnt_apart(params, images):
    def mean_of(params, leaf):
        z = separated.encode(params, images[0], jnp.array([jnp.nan, 3.0]))
        return getattr(z, leaf).mean()

    gradients = jax.jit(jax.grad(mean_of), static_argnums=1)
    for_blur = gradients(params, "blur")["params"]["encoder"]
    for_content = gradients(params, "content")["params"]["encoder"]
    assert jnp.abs(for_blur.pop("blur")["phases"]["kernel"]).max() > 0
    assert all(not leaf.any() for leaf in jax.tree.leaves(for_blur))
    assert all(not leaf.any() for leaf in jax.tree.leaves(for_content.pop("blur")))
    assert jnp.abs(for_content["phases"]["kernel"]).min() > 0


def test_single_images_need_no_whole_examples(params):
    brightness = jnp.linspace(0.3, 1.0, 6).reshape(6, 1, 1, 1, 1)
    planes = brightness * jax.random.uniform(jax.random.key(2), (6, 3, 32, 32, 1))
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


def test_every_example_is_told_its_blur(params):
    planes = jax.random.uniform(jax.random.key(3), (4, 3, 32, 32, 1))
    alpha = jnp.array([0.2, 0.4, 0.6, 0.8])
    batch = {"planes": planes, "alpha": alpha[:, None]}
    recipe = Recipe("separated", "log", 1.0, 1e-3, triplets=(Triplet(0, 1, 2),))
    focused = separated.in_focus(encode(params, planes[:, 1], 8 * (1 - alpha)))
    expected = losses.log_of_squared_error(planes[None, :, 0], focused[None]).mean()
    read = encode(params, planes[:, 1]).blur.mean(axis=(1, 2, 3)) / separated.BLURRIEST
    run = functools.partial(gradients_of, recipe=recipe)
    _, metrics, _ = jax.jit(run)(params, batch)
    np.testing.assert_allclose(metrics["focus"], expected, **close)
    sums = validation_step(params, batch, jnp.ones(4), recipe=recipe)
    for name in ("focus", "blur"):
        np.testing.assert_allclose(sums[name] / 4, metrics[name], **close)
    ends = [encode(params, planes[:, i]).blur.mean(axis=(1, 2, 3)) / 8 - i / 2 for i in (0, 2)]
    errors = jnp.abs(jnp.array([*ends, read - (1 - alpha)]))
    np.testing.assert_allclose(metrics["blur"], errors.mean(), **close)


def test_mistakes_are_named(params, latents):
    zb, _ = latents
    with pytest.raises(ValueError, match=r"one for each image, \(2,\), or a map, \(2, 16, 24, 1\)"):
        linlatent.encode(params, jnp.zeros((2, 32, 48, 1)), jnp.zeros(3))
    with pytest.raises(ValueError, match=r"images must be .* divisible by 16; got shape"):
        linlatent.encode(params, jnp.zeros((1, 32, 40, 1)))
    with pytest.raises(ValueError, match=r"latents must be separated.Latent"):
        linlatent.decode(params, zb.content)


@pytest.mark.parametrize("network", ["paper", "separated"])
def test_what_is_evaluated_is_what_the_user_gets(network, params, random_network):
    params = params if network == "separated" else random_network((2, 3))
    planes = jax.random.uniform(jax.random.key(4), (2, 4, 32, 32, 1))
    further = predict(params, planes).further
    zc = encode(params, planes[:, 3])
    for index, alpha in enumerate((2 / 3, 1 / 3)):
        xb = planes[:, 1 + index]
        zb = linlatent.encode_between(params, xb, zc, alpha)
        expected = {"anchored": linlatent.deblur(params, zb, zc, alpha, anchor=xb)}
        if network == "separated":
            expected["b alone"] = linlatent.deblur_single(params, xb)
            expected["b and its blur"] = linlatent.deblur_single(params, xb, 8 * (1 - alpha))
        assert further.keys() == {f"deblurred, {name}" for name in expected}
        for name, image in expected.items():
            np.testing.assert_allclose(further[f"deblurred, {name}"][:, index], image, **close)


def test_the_local_mean_is_that_of_a_crop_and_smooth_over_a_frame():
    """Where the edge of a window shows, the network finds something to sharpen."""
    crop = jax.random.uniform(jax.random.key(0), (1, 32, 32, 1))
    mean = windows.local_mean(crop, stride=8)
    np.testing.assert_allclose(mean, np.full((1, 16, 16, 1), crop.mean()), rtol=1e-5)
    frame = np.zeros((1, 160, 160, 1), np.float32)
    frame[:, 80:88, 80:88] = 1
    (profile,) = windows.local_mean(jnp.asarray(frame), stride=8)[:, 42, :, 0]
    bends = np.abs(np.diff(profile, n=2)).max() / profile.max()
    assert bends < 0.05  # an eighth for a window of even weight


def test_blur_is_read_alike_all_over_a_crop_and_without_edges_in_a_frame(params):
    rng = np.random.default_rng(0)
    frame = 0.1 * rng.random((1, 1024, 64, 1), np.float32)
    np.testing.assert_allclose(np.ptp(separated.encode(params, frame[:, :64]).blur), 0, atol=1e-5)
    frame[:, 512:528, 24:40] += rng.random((1, 16, 16, 1), np.float32)
    profile = separated.encode(params, frame).blur[0, 4::8, 0, 0]
    assert np.abs(np.diff(profile)).max() < 0.45 * np.ptp(profile)  # 0.57 for a single window
