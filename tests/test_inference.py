"""The public functions on a trained workdir: as pure functions of one pytree."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import linlatent

close = {"rtol": 1e-4, "atol": 1e-5}


@pytest.fixture(scope="module")
def loaded(trained):
    return linlatent.load(trained.workdir)


@pytest.fixture(scope="module")
def params(loaded):
    return loaded.params


@pytest.fixture(scope="module")
def latents(params):
    """z_b and z_c of two images each."""
    x = jax.random.uniform(jax.random.key(0), (2, 2, 16, 24, 1))
    run = jax.jit(linlatent.encode)
    return run(params, x[0]), run(params, x[1])


synthesize = jax.jit(linlatent.synthesize)
deblur = jax.jit(linlatent.deblur)
decode = jax.jit(linlatent.decode)


def test_load_gives_parameters_configuration_and_step(loaded, trained):
    assert loaded.step == 6
    assert loaded.config.to_dict() == trained.config.to_dict()
    assert jax.tree.structure(loaded.params) == jax.tree.structure(trained.state.variables)
    assert loaded.config.data.normalisation == "plane"


def test_load_takes_a_string_or_a_path(trained):
    assert linlatent.load(str(trained.workdir)).step == 6


def test_an_untrained_workdir_is_named(trained, tmp_path):
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}.config.json"):
        linlatent.load(tmp_path)
    (tmp_path / "config.json").write_text((trained.workdir / "config.json").read_text())
    with pytest.raises(FileNotFoundError, match=f"{tmp_path}.checkpoints"):
        linlatent.load(tmp_path)


def test_a_configuration_of_another_network_is_refused(trained, tmp_path):
    (tmp_path / "checkpoints").symlink_to(trained.workdir / "checkpoints")
    fields = json.loads((trained.workdir / "config.json").read_text())
    fields["model"]["widths"] = [4, 8, 8]
    (tmp_path / "config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match=r"checkpoints/6: the item 'params'.*widths"):
        linlatent.load(tmp_path)


def test_synthesis_and_deblurring_are_eq_1_and_2(params, latents):
    zb, zc = latents
    z = 0.25 * zb + 0.75 * zc
    np.testing.assert_allclose(synthesize(params, zb, zc, 0.25), decode(params, z), **close)
    np.testing.assert_allclose(linlatent.interpolate(zb, zc, 0.25), z, **close)
    np.testing.assert_allclose(
        deblur(params, zb, zc, 0.25), decode(params, 4 * zb - 3 * zc), **close
    )


def test_deblurring_undoes_synthesis_and_alpha_one_reconstructs(params, latents):
    za, zc = latents
    zb = linlatent.interpolate(za, zc, 0.5)
    np.testing.assert_allclose(deblur(params, zb, zc, 0.5), decode(params, za), **close)
    np.testing.assert_allclose(deblur(params, za, zc, 1.0), decode(params, za), **close)


def test_anchored_deblurring_changes_the_image_as_the_network_changes_its_own(params, latents):
    zb, zc = latents
    xb = jax.random.uniform(jax.random.key(1), (2, 16, 24, 1), minval=0.3, maxval=0.7)
    change = deblur(params, zb, zc, 0.8) - decode(params, zb)
    anchored = deblur(params, zb, zc, 0.8, anchor=xb)
    np.testing.assert_allclose(anchored, jnp.clip(xb + change, 0, 1), **close)
    assert jnp.abs(anchored - xb).max() > 1e-3
    np.testing.assert_array_equal(deblur(params, zb, zc, 1.0, anchor=xb), xb)
    assert deblur(params, zb, zc, 0.01, anchor=xb).max() <= 1


def test_a_whole_frame_keeps_its_size_its_type_and_its_unit():
    """Counts and their offset are those of the frame, whatever their number of pixels and bits."""
    model = linlatent.load("w1-sharp")
    y, x = np.mgrid[:50, :77]
    spots = np.exp(-((y - 25.0) ** 2 + (x - 30.0) ** 2) / 120)
    frame = np.rint(20 + 30 * spots)
    small = linlatent.deblur_frame(model, frame.astype(np.uint8))
    assert (small.shape, small.dtype) == ((50, 77), np.uint8)
    large = linlatent.deblur_frame(model, (100 + 40 * frame).astype(np.uint16))
    np.testing.assert_allclose((large - 100.0) / 40, small, atol=0.6)
    blurrier = np.roll(frame, 1).astype(np.uint8)
    both = linlatent.deblur_frame(model, frame.astype(np.uint8), blurrier=blurrier, alpha=1.0)
    np.testing.assert_array_equal(both, frame)


def test_thorough_deblurring_is_the_same_in_any_orientation():
    model = linlatent.load("w1-sharp")
    frame = np.random.default_rng(0).integers(1000, 60000, (32, 64)).astype(np.uint16)
    once, mirrored = (linlatent.deblur_frame(model, x) for x in (frame, frame[:, ::-1]))
    assert np.abs(mirrored[:, ::-1] - once.astype(float)).max() > 100
    thorough = functools.partial(linlatent.deblur_frame, model, thorough=True)
    mean = thorough(frame).astype(float)
    assert np.abs(mean - once).max() > 100
    np.testing.assert_allclose(thorough(frame[:, ::-1])[:, ::-1], mean, atol=1)
    np.testing.assert_allclose(thorough(frame.T).T, mean, atol=1)
    blurrier = frame.T.reshape(32, 64)
    np.testing.assert_array_equal(thorough(frame, blurrier=blurrier, alpha=1.0), frame)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.5}, "go together"),
        ({"blurrier": np.zeros((8, 9), np.uint8)}, "go together"),
        ({"blurrier": np.zeros((8, 8), np.uint8), "alpha": 0.5}, r"\(8, 8\) pixels of uint8"),
        ({"blurrier": np.ones((8, 9), np.uint8), "alpha": 1.5}, "alpha, the weight"),
        ({"blurrier": np.ones((8, 9), np.uint8), "alpha": 0.5, "blur": 4.1}, r"in \[0, 4\], so"),
        ({"blur": 9}, r"blur must lie in \[0, 8\]; got 9"),
    ],
)
def test_frames_that_do_not_fit_are_refused(arguments, message):
    frame = np.arange(72, dtype=np.uint8).reshape(8, 9)
    with pytest.raises(ValueError, match=message):
        linlatent.deblur_frame(linlatent.load("w1-sharp"), frame, **arguments)


def test_the_papers_network_cannot_be_told_a_blur():
    frame = np.arange(72, dtype=np.uint8).reshape(8, 9)
    with pytest.raises(ValueError, match="blur is nothing to the paper's network"):
        linlatent.deblur_frame(linlatent.load("w1-indirect"), frame, blur=1)


def test_an_anchor_of_another_shape_is_refused(params, latents):
    zb, zc = latents
    with pytest.raises(ValueError, match=r"anchor must be x_b, of shape \(2, 16, 24, 1\)"):
        linlatent.deblur(params, zb, zc, 0.5, anchor=jnp.zeros((1, 16, 24, 1)))


def test_jit_changes_nothing(params, latents):
    zb, zc = latents
    np.testing.assert_allclose(
        linlatent.deblur(params, zb, zc, 0.5), deblur(params, zb, zc, 0.5), **close
    )


def test_alpha_may_be_one_per_image_or_mapped_over(params, latents):
    zb, zc = latents
    alphas = jnp.array([0.5, 0.75])
    singly = jnp.stack([deblur(params, zb, zc, float(alpha)) for alpha in alphas])
    each = deblur(params, zb, zc, alphas)
    np.testing.assert_allclose(each, singly[jnp.arange(2), jnp.arange(2)], **close)
    mapped = jax.jit(jax.vmap(linlatent.deblur, (None, None, None, 0)))(params, zb, zc, alphas)
    np.testing.assert_allclose(mapped, singly, **close)


def test_gradients_agree_with_finite_differences(params, latents):
    zb, zc = latents
    deblurred = jax.jit(linlatent.deblur)

    def brightness(params, zb, alpha):
        return linlatent.deblur(params, zb, zc, alpha).sum()

    def slope(ahead, behind):
        # Pixel by pixel, because the sum of all is rounded more than it changes.
        return np.sum(np.float64(ahead) - np.float64(behind)) / (2 * h)

    of_params, of_latent, of_alpha = jax.jit(jax.grad(brightness, argnums=(0, 1, 2)))(
        params, zb, 0.5
    )
    h = 2e-4  # short, because the network has kinks
    in_alpha = slope(*(deblurred(params, zb, zc, 0.5 + sign * h) for sign in (1, -1)))
    np.testing.assert_allclose(of_alpha, in_alpha, rtol=0.02)
    # The steepest direction: along another one, what kinks add could outweigh what is left.
    direction = of_latent / jnp.abs(of_latent).max()
    along = slope(*(deblurred(params, zb + sign * h * direction, zc, 0.5) for sign in (1, -1)))
    np.testing.assert_allclose(jnp.vdot(of_latent, direction), along, rtol=0.02)
    assert jax.tree.structure(of_params) == jax.tree.structure(params)
    assert np.abs(of_params["params"]["decoder"]["to_image"]["kernel"]).max() > 0


@pytest.mark.parametrize("function", [linlatent.synthesize, linlatent.deblur])
def test_mistakes_are_named(params, latents, function):
    zb, zc = latents
    with pytest.raises(ValueError, match=r"alpha.* must lie in \(0, 1\]; got 0"):
        function(params, zb, zc, 0)
    with pytest.raises(ValueError, match=r"latents must be \(N, h, w, 8\); got shape"):
        function(params, zb[..., :3], zc[..., :3], 0.5)
    with pytest.raises(ValueError, match=r"images must be .* divisible by 4; got shape"):
        linlatent.encode(params, jnp.zeros((1, 16, 17, 1)))


def test_public_names():
    assert set(linlatent.__all__) <= set(dir(linlatent))
    with pytest.raises(AttributeError, match="'sharpen'"):
        linlatent.sharpen  # noqa: B018
