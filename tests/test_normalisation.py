"""Batch normalisation: its written gradient against the one that JAX derives."""

import jax
import jax.numpy as jnp
import numpy as np

from linlatent import normalisation


def derived(x, scale, bias):
    mean = jnp.mean(x, axis=(0, 2, 3), keepdims=True)
    var = jnp.var(x, axis=(0, 2, 3), keepdims=True)
    return (x - mean) / jnp.sqrt(var + normalisation.EPSILON) * scale.reshape(
        1, 1, 1, 1, -1
    ) + bias.reshape(1, 1, 1, 1, -1)


def test_value_and_gradients_are_those_of_its_definition():
    keys = jax.random.split(jax.random.key(0), 4)
    x = 3 + jax.random.normal(keys[0], (4, 2, 6, 5, 3))
    scale, bias = jax.random.normal(keys[1], (2, 3))
    cotangent = jax.random.normal(keys[2], x.shape)
    expected, expected_vjp = jax.vjp(derived, x, scale, bias)
    (actual, mean, var), actual_vjp = jax.vjp(normalisation.by_batch, x, scale, bias)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mean, x.mean((0, 2, 3)), rtol=1e-6)
    np.testing.assert_allclose(var, x.var((0, 2, 3)), rtol=1e-5)
    nothing = jnp.zeros_like(mean)
    gradients = actual_vjp((cotangent, nothing, nothing))
    for a, e in zip(gradients, expected_vjp(cotangent), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5)


def test_bfloat16_images_stay_so_and_their_moments_are_float32():
    x = jax.random.normal(jax.random.key(0), (4, 2, 6, 5, 3)).astype(jnp.bfloat16)
    y, mean, var = normalisation.by_batch(x, jnp.ones(3), jnp.zeros(3))
    assert (y.dtype, mean.dtype, var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    np.testing.assert_allclose(y.astype(jnp.float32).mean((0, 2, 3)), 0, atol=0.01)
    again = normalisation.by_moments(x, mean, var, jnp.ones(3), jnp.zeros(3))
    np.testing.assert_array_equal(again.astype(jnp.float32), y.astype(jnp.float32))


def test_a_network_that_has_gone_to_pieces_is_not_hidden():
    """NaN is the one scale with which the gradient's detour through memory does something."""
    x = jax.random.normal(jax.random.key(0), (4, 2, 6, 5, 3))
    scale = jnp.array([jnp.nan, 1.0, 2.0])

    cotangent = jax.random.normal(jax.random.key(1), x.shape)

    def total(x, scale):
        return jnp.sum(cotangent * normalisation.by_batch(x, scale, jnp.zeros(3))[0])

    of_x, of_scale = jax.jit(jax.grad(total, argnums=(0, 1)))(x, scale)
    sound = jax.grad(total, argnums=(0, 1))(x, scale.at[0].set(1.0))
    assert np.all(np.isnan(of_x[..., 0]))
    np.testing.assert_allclose(of_x[..., 1:], sound[0][..., 1:], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_scale, sound[1], rtol=1e-5)
