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
    """One triplet; the differences are (0.1, 0.3) and (0.2, 0.2), (0.5, 0.1), and (2, 1)."""
    return losses.Outputs(
        endpoints=planes((0.5, 0.5), (0.4, 0.6)),
        reconstructions=planes((0.6, 0.2), (0.2, 0.8)),
        endpoint_weights=jnp.array([0.5, 0.5]),
        targets=planes((0.9, 0.3)),
        interpolated=planes((1.0, 2.0)),
        syntheses=planes((0.4, 0.4)),
        latents=planes((3.0, 1.0)),
    )


BY_HAND = {
    # 1/2 [mean(0.1, 0.3) + mean(0.2, 0.2)], mean(0.5, 0.1), mean(2, 1); then their squares.
    "l1": {"reconstruction": 0.2, "interpolation": 0.3, "latent": 1.5},
    "mse": {"reconstruction": 0.045, "interpolation": 0.13, "latent": 2.5},
}
ROWS = {
    "baseline": ("reconstruction",),
    "indirect": ("reconstruction", "interpolation"),
    "direct": ("reconstruction", "interpolation", "latent"),
}


@pytest.mark.parametrize("criterion", BY_HAND)
@pytest.mark.parametrize("objective", ROWS)
def test_the_rows_by_hand(outputs, objective, criterion):
    weights = {"reconstruction": 1.0, "interpolation": 1.0, "latent": 0.25}
    terms = losses.objective_terms(
        outputs, objective=objective, criterion=criterion, latent_weight=0.25
    )
    expected = {name: BY_HAND[criterion][name] for name in ROWS[objective]}
    total = sum(weights[name] * value for name, value in expected.items())
    assert terms.keys() == {"loss", *ROWS[objective]}
    for name, value in {"loss": total, **expected}.items():
        np.testing.assert_allclose(terms[name], [value], rtol=1e-6, err_msg=name)
        assert terms[name].dtype == jnp.float32


def test_every_objective_and_criterion_is_known():
    assert set(losses.OBJECTIVES) == set(ROWS)
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
