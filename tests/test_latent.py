"""Eq. 1 and 2: identities, and what alpha may be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from linlatent import latent

PER_EXAMPLE = np.array([0.25, 0.5, 1.0], np.float32)


def latents():
    return np.random.default_rng(0).normal(size=(2, 3, 2, 2, 4)).astype(np.float32)


@pytest.mark.parametrize("alpha", [0.01, 0.125, 0.5, 1, 1.0, np.float32(0.75), PER_EXAMPLE])
def test_extrapolation_undoes_interpolation(alpha):
    za, zc = latents()
    zb = latent.interpolate(za, zc, alpha)
    np.testing.assert_allclose(latent.extrapolate(zb, zc, alpha), za, rtol=1e-4, atol=1e-4)


def test_hand_computed():
    za, zb, zc = jnp.array([8.0, 0.0]), jnp.array([3.0, 5.0]), jnp.array([4.0, 4.0])
    np.testing.assert_array_equal(latent.interpolate(za, zc, 0.25), [5.0, 3.0])
    np.testing.assert_array_equal(latent.extrapolate(zb, zc, 0.25), [0.0, 8.0])


def test_alpha_one_is_the_sharper_endpoint_itself():
    zb, zc = latents()
    np.testing.assert_array_equal(latent.extrapolate(zb, zc, 1), zb)
    np.testing.assert_array_equal(latent.interpolate(zb, zc, 1), zb)


@pytest.mark.parametrize("function", [latent.interpolate, latent.extrapolate])
def test_an_alpha_per_example(function):
    za, zc = latents()
    together = function(za, zc, PER_EXAMPLE)
    for index, alpha in enumerate(PER_EXAMPLE):
        np.testing.assert_allclose(
            together[index], function(za[index], zc[index], float(alpha)), rtol=1e-6
        )


@pytest.mark.parametrize("function", [latent.interpolate, latent.extrapolate])
def test_a_latent_may_be_a_pytree_with_leaves_of_different_rank(function):
    za, zc = latents()
    tree = function({"z": za, "w": (za[:, 0, 0],)}, {"z": zc, "w": (zc[:, 0, 0],)}, PER_EXAMPLE)
    expected = function(za, zc, PER_EXAMPLE)
    np.testing.assert_array_equal(tree["z"], expected)
    np.testing.assert_allclose(tree["w"][0], expected[:, 0, 0], rtol=1e-6)


@pytest.mark.parametrize("function", [latent.interpolate, latent.extrapolate])
@pytest.mark.parametrize("alpha", [0, 0.0, -0.5, 1.001, float("nan"), float("inf"), [0.5, 0.0]])
def test_alpha_outside_its_range_is_refused(function, alpha):
    with pytest.raises(ValueError, match=r"alpha.* must lie in \(0, 1\]; got"):
        function(jnp.ones((2, 3)), jnp.ones((2, 3)), alpha)


def test_a_concrete_alpha_is_looked_at_under_jit_too():
    with pytest.raises(ValueError, match="alpha"):
        jax.jit(functools.partial(latent.extrapolate, alpha=2.0))(jnp.ones(2), jnp.ones(2))


@pytest.mark.parametrize("function", [latent.interpolate, latent.extrapolate])
def test_jit_vmap_and_grad_see_a_traced_alpha(function):
    za, zc = latents()
    np.testing.assert_allclose(jax.jit(function)(za, zc, 0.3), function(za, zc, 0.3), rtol=1e-5)
    for index, mapped in enumerate(jax.vmap(function, (None, None, 0))(za, zc, PER_EXAMPLE)):
        expected = function(za, zc, float(PER_EXAMPLE[index]))
        np.testing.assert_allclose(mapped, expected, rtol=1e-5, atol=1e-6)


def test_gradients_in_alpha():
    za, zc = latents()
    interpolated = jax.grad(lambda alpha: latent.interpolate(za, zc, alpha).sum())(0.5)
    np.testing.assert_allclose(interpolated, (za - zc).sum(), rtol=1e-4)
    # d/dalpha [zb / alpha - (1 / alpha - 1) zc] = (zc - zb) / alpha^2
    extrapolated = jax.grad(lambda alpha: latent.extrapolate(za, zc, alpha).sum())(0.5)
    np.testing.assert_allclose(extrapolated, 4 * (zc - za).sum(), rtol=1e-4)


@pytest.mark.parametrize("function", [latent.interpolate, latent.extrapolate])
def test_counts_are_weighted_as_numbers(function):
    b, c = np.array([[100]], np.uint16), np.array([[40]], np.uint16)
    expected = function(b.astype(np.float32), c.astype(np.float32), 0.5)
    np.testing.assert_allclose(function(b, c, 0.5), expected)
