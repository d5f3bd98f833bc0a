"""The terms on small arrays computed by hand, and the objectives as sums of them."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from linlatent import losses


def planes(*pixels):
    """Planes of two pixels and one example each: ``(K, 1, 2, 1, 1)``."""
    return jnp.array(pixels, jnp.float32).reshape(len(pixels), 1, 2, 1, 1)


@pytest.fixture(scope="module")
def outputs():
    """One triplet; the differences of each pair are those below."""
    return losses.Outputs(
        endpoints=planes((0.5, 0.5), (0.4, 0.6)),
        reconstructions=planes((0.6, 0.2), (0.2, 0.8)),
        endpoint_weights=jnp.array([0.5, 0.5]),
        targets=planes((0.9, 0.3)),
        interpolated=planes((1.0, 2.0)),
        syntheses=planes((0.4, 0.4)),
        latents=planes((3.0, 1.0)),
        sharper=planes((0.1, 0.8)),
        extrapolations=planes((0.4, 0.3)),
    )


def root(square):
    """The square root, made smooth at 0."""
    return np.sqrt(square + 1e-6) - 1e-3


def log(square):
    """Its logarithm as PSNR has it, from 50 dB on."""
    return np.log(1 + square / 1e-5) / 100


BY_HAND = {
    # 1/2 [mean(0.1, 0.3) + mean(0.2, 0.2)], mean(0.5, 0.1), mean(2, 1), mean(0.3, 0.5); then their
    # squares, and the roots of these.
    "l1": {"reconstruction": 0.2, "interpolation": 0.3, "latent": 1.5, "extrapolation": 0.4},
    "mse": {"reconstruction": 0.045, "interpolation": 0.13, "latent": 2.5, "extrapolation": 0.17},
    "rmse": {
        "reconstruction": (root(0.05) + root(0.04)) / 2,
        "interpolation": root(0.13),
        "latent": root(2.5),
        "extrapolation": root(0.17),
    },
    "log": {
        "reconstruction": (log(0.05) + log(0.04)) / 2,
        "interpolation": log(0.13),
        "latent": log(2.5),
        "extrapolation": log(0.17),
    },
}
ROWS = {
    "baseline": ("reconstruction",),
    "indirect": ("reconstruction", "interpolation"),
    "direct": ("reconstruction", "interpolation", "latent"),
    "extrapolated": ("reconstruction", "interpolation", "extrapolation"),
}


@pytest.mark.parametrize("criterion", BY_HAND)
@pytest.mark.parametrize("objective", ROWS)
def test_the_rows_by_hand(outputs, objective, criterion):
    weights = {"latent": 0.25}
    terms = losses.objective_terms(
        outputs, objective=objective, criterion=criterion, latent_weight=0.25
    )
    expected = {name: BY_HAND[criterion][name] for name in ROWS[objective]}
    total = sum(weights.get(name, 1.0) * value for name, value in expected.items())
    assert terms.keys() == {"loss", *ROWS[objective]}
    for name, value in {"loss": total, **expected}.items():
        np.testing.assert_allclose(terms[name], [value], rtol=2e-5, err_msg=name)
        assert terms[name].dtype == jnp.float32


def test_the_terms_of_a_separated_latent_by_hand(outputs):
    # Contents of a, b and c: b is (0, 0.2) and c (0.4, 0) from a, whose mean size is 1.
    contents = jnp.stack([planes((0.5, 1.5)), planes((0.5, 1.7)), planes((0.9, 1.5))])
    separated = outputs.replace(
        in_focus=planes((0.1, 0.8)),
        focused=planes((0.2, 0.6)),
        contents=contents,
        # Blurs of 0.1, 0.5 and 0.7 in place of 0, 0.5 and 1; steps of 0.4 and 0.2.
        blur_errors=jnp.array([0.1, 0.0, -0.3]).reshape(3, 1),
        step_errors=jnp.array([-0.1, -0.3]).reshape(2, 1),
    )
    terms = losses.objective_terms(
        separated, objective="separated", criterion="l1", latent_weight=1.0
    )
    np.testing.assert_allclose(terms["focus"], [0.15], rtol=1e-5)
    np.testing.assert_allclose(terms["content"], [(0.1 + 0.2) / 2 / 1.001], rtol=1e-5)
    np.testing.assert_allclose(terms["blur"], [0.4 / 3], rtol=1e-5)
    np.testing.assert_allclose(terms["steps"], [0.2], rtol=1e-5)
    weights = losses.OBJECTIVES["separated"]
    total = sum(weights[name] * terms[name] for name in weights)
    np.testing.assert_allclose(terms["loss"], total, rtol=1e-6)


def test_every_objective_and_criterion_is_known():
    assert set(losses.objectives_of("paper")) == set(ROWS)
    others = {*losses.objectives_of("separated"), *losses.objectives_of("paired")}
    assert set(losses.OBJECTIVES) == {*ROWS, *others}
    assert set(losses.CRITERIA) == set(BY_HAND)


def test_endpoints_count_by_their_weights(outputs):
    uneven = dataclasses.replace(outputs, endpoint_weights=jnp.array([0.25, 0.75]))
    np.testing.assert_allclose(
        losses.reconstruction(uneven, losses.absolute_error), [0.25 * 0.2 + 0.75 * 0.2]
    )
    np.testing.assert_allclose(
        losses.reconstruction(uneven, losses.squared_error), [0.25 * 0.05 + 0.75 * 0.04], rtol=1e-6
    )


def test_terms_average_over_triplets_and_keep_examples_apart(outputs):
    pair = jnp.array([[[0.1, 0.3], [0.0, 0.0]], [[0.5, 0.1], [0.2, 0.4]]])  # 2 triplets, 2 examples
    difference = pair.reshape(2, 2, 2, 1, 1)
    two = dataclasses.replace(
        outputs,
        targets=difference,
        syntheses=jnp.zeros_like(difference),
        latents=jnp.zeros_like(difference),
        interpolated=-difference,
    )
    for term in (losses.interpolation, losses.latent):
        np.testing.assert_allclose(term(two, losses.absolute_error), [0.25, 0.15], rtol=1e-6)


@pytest.mark.parametrize("criterion", losses.CRITERIA)
def test_what_is_perfect_costs_nothing(outputs, criterion):
    perfect = dataclasses.replace(
        outputs,
        reconstructions=outputs.endpoints,
        syntheses=outputs.targets,
        latents=outputs.interpolated,
    )
    terms = losses.objective_terms(
        perfect, objective="direct", criterion=criterion, latent_weight=1.0
    )
    assert all(float(value[0]) == 0 for value in terms.values())
