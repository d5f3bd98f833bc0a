"""The convolutions against XLA's own, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from linlatent import convolution

LAYOUT = ("NHWC", "HWIO", "NHWC")


def native(x, kernel, stride):
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), ((1, 1), (1, 1)), dimension_numbers=LAYOUT
    )


def native_transposed(y, kernel):
    output = jax.ShapeDtypeStruct(
        (y.shape[0], 2 * y.shape[1], 2 * y.shape[2], kernel.shape[2]), y.dtype
    )
    return jax.linear_transpose(lambda x: native(x, kernel, 2), output)(y)[0]


CASES = {
    "downsample": (
        convolution.downsample,
        lambda x, k: native(x, k, 2),
        (2, 12, 8, 5),
        (3, 3, 5, 7),
    ),
    "upsample": (convolution.upsample, native_transposed, (2, 6, 4, 7), (3, 3, 5, 7)),
    "filter_channels": (
        convolution.filter_channels,
        lambda x, k: native(x, k, 1),
        (2, 6, 9, 5),
        (3, 3, 5, 7),
    ),
    "convolve": (convolution.convolve, lambda x, k: native(x, k, 1), (2, 6, 9, 5), (3, 3, 5, 2)),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_those_of_xla(name):
    ours, theirs, x_shape, kernel_shape = CASES[name]
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = jax.random.normal(keys[0], x_shape), jax.random.normal(keys[1], kernel_shape)
    expected, expected_vjp = jax.vjp(theirs, x, kernel)
    actual, actual_vjp = jax.vjp(ours, x, kernel)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    cotangent = jax.random.normal(keys[2], expected.shape)
    for a, e in zip(actual_vjp(cotangent), expected_vjp(cotangent), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_the_accelerators_weight_gradient_is_the_same(stride):
    x = jax.random.normal(jax.random.key(0), (2, 8, 6, 3))
    y = jax.random.normal(jax.random.key(1), (2, 8 // stride, 6 // stride, 5))
    np.testing.assert_allclose(
        convolution._weight_gradient_as_convolution(x, y, stride=stride),
        convolution._weight_gradient_as_product(x, y, stride=stride),
        rtol=1e-4,
        atol=1e-4,
    )


def test_upsample_is_the_adjoint_of_downsample():
    x = jax.random.normal(jax.random.key(0), (1, 16, 16, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 4))
    y = jax.random.normal(jax.random.key(2), (1, 8, 8, 4))
    np.testing.assert_allclose(
        jnp.vdot(convolution.downsample(x, kernel), y),
        jnp.vdot(x, convolution.upsample(y, kernel)),
        rtol=1e-4,
    )
