"""The convolutions against XLA's own, forward and backward."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from linlatent import convolution, products, winograd

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


# Large enough for minimal filtering, with sides that its tiles do and do not divide.
LARGE = {
    "downsample, large": (*CASES["downsample"][:2], (2, 16, 12, 32), (3, 3, 32, 40)),
    "downsample, large, odd": (*CASES["downsample"][:2], (3, 10, 14, 32), (3, 3, 32, 33)),
    "upsample, large": (*CASES["upsample"][:2], (2, 8, 6, 40), (3, 3, 32, 40)),
    "upsample, large, odd": (*CASES["upsample"][:2], (3, 5, 7, 33), (3, 3, 32, 33)),
}
CASES["upsample, as many inputs"] = (*CASES["upsample"][:2], (2, 6, 4, 5), (3, 3, 5, 5))


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
        convolution._weight_gradient(x, y, stride=stride),
        rtol=1e-4,
        atol=1e-4,
    )


def test_upsample_is_the_adjoint_of_downsample():
    x = jax.random.normal(jax.random.key(0), (1, 16, 16, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 2, 4))
    y = jax.random.normal(jax.random.key(2), (1, 8, 8, 4))
    # Terms of 649 in all come to 0.165: summed in float32 they are off by up to 1e-4 of that.
    np.testing.assert_allclose(
        np.vdot(np.float64(convolution.downsample(x, kernel)), np.float64(y)),
        np.vdot(np.float64(x), np.float64(convolution.upsample(y, kernel))),
        rtol=1e-4,
    )


@pytest.mark.parametrize("name", LARGE)
def test_minimal_filtering_is_used_and_good_to_float32_rounding(name, monkeypatch):
    ours, theirs, x_shape, kernel_shape = LARGE[name]
    keys = jax.random.split(jax.random.key(0), 3)
    x, kernel = jax.random.normal(keys[0], x_shape), jax.random.normal(keys[1], kernel_shape)
    actual, actual_vjp = jax.vjp(ours, x, kernel)
    cotangent = jax.random.normal(keys[2], actual.shape)
    with jax.enable_x64(True):
        exact, exact_vjp = jax.vjp(theirs, *(a.astype(jnp.float64) for a in (x, kernel)))
        exact = (exact, *exact_vjp(cotangent.astype(jnp.float64)))
    for a, e in zip((actual, *actual_vjp(cotangent)), exact, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=1e-6 * np.abs(e).max())
    calls = []
    original = getattr(winograd, ours.__name__)
    monkeypatch.setattr(winograd, ours.__name__, lambda *a: calls.append(a) or original(*a))
    ours(x, kernel)
    assert calls


def test_weight_gradients_of_the_cpu_are_the_same():
    x = jax.random.normal(jax.random.key(0), (2, 10, 6, 5))
    y = jax.random.normal(jax.random.key(1), (2, 5, 3, 4))
    expected = products.weight_gradient(x, y)
    for gradient in (products.weight_gradient_by_rows, winograd.weight_gradient):
        np.testing.assert_allclose(gradient(x, y), expected, rtol=1e-4, atol=1e-4)
