"""The network, the objectives and their gradients against the paper's published implementation.

All of it on both paths of `linlatent.convolution`: what a CPU runs, and the native convolutions of
the other platforms, which these tests run on a CPU as well.
"""

import contextlib
import functools

import jax
import numpy as np
import pytest
from published import assert_trees_close, images, to_variables

import linlatent
from linlatent import convolution, model
from linlatent.data.stack import Triplet
from linlatent.training import step as steps

OBJECTIVES = [(c, o) for c in ("mse", "l1") for o in ("baseline", "indirect", "direct")]

# The native convolutions are compiled as they are: what XLA's CPU backend would make of them is
# not what other platforms run, and takes it twice as long.
COMPILER_OPTIONS = {"cpu": {}, "native": {"xla_backend_optimization_level": 0}}


@pytest.fixture(scope="module")
def variables(reference):
    return to_variables(reference, "state_dict")


@pytest.fixture(scope="module")
def batch(reference):
    planes = np.stack([images(reference[key]) for key in ("x_a", "x_b", "x_c")], axis=1)
    return {"planes": planes, "alpha": np.full((planes.shape[0], 1), 0.5, np.float32)}


def recipe(objective, criterion):
    return steps.Recipe(
        objective=objective,
        criterion=criterion,
        latent_weight=1.0,
        learning_rate=1e-3,
        triplets=(Triplet(0, 1, 2),),
    )


@contextlib.contextmanager
def convolutions_of(path):
    """Takes a path in all that is traced or run inside; yields the choices that were made."""
    choose, choices = convolution.lax.platform_dependent, []

    def chosen(*arguments, cpu, default):
        choices.append(default)
        if path == "native":
            return default(*arguments)
        return choose(*arguments, cpu=cpu, default=default)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution.lax, "platform_dependent", chosen)
        yield choices


@pytest.fixture(scope="module", params=COMPILER_OPTIONS)
def path(request):
    """One path after the other; what was traced on one must not be found again on the next."""
    jax.clear_caches()
    yield request.param
    jax.clear_caches()


@pytest.fixture(scope="module")
def gradients_of(path, variables, batch):
    """From an objective and a criterion to the gradients' function, compiled for the path."""

    @functools.cache
    def compiled(objective, criterion):
        run = functools.partial(steps.gradients_of, recipe=recipe(objective, criterion))
        with convolutions_of(path) as choices:
            lowered = jax.jit(run).lower(variables, batch)
        assert choices, "no convolution chose between the paths"
        return lowered.compile(compiler_options=COMPILER_OPTIONS[path])

    return compiled


def test_outputs_in_evaluation_mode(reference, variables, path):
    x_a, x_b, x_c = (images(reference[f"x_{plane}"]) for plane in "abc")
    with convolutions_of(path) as choices:
        z_a, z_b, z_c = (linlatent.encode(variables, x) for x in (x_a, x_b, x_c))
        outputs = {
            "z_a": z_a,
            "z_c": z_c,
            "recon_a": linlatent.decode(variables, z_a),
            "recon_c": linlatent.decode(variables, z_c),
            "decode_mid": linlatent.synthesize(variables, z_a, z_c, 0.5),
            "deblur_alpha_0.25_from_b_c": linlatent.deblur(variables, z_b, z_c, 0.25),
        }
    assert choices, "no convolution chose between the paths"
    for key, actual in outputs.items():
        np.testing.assert_allclose(actual, images(reference[f"eval/{key}"]), atol=1e-5, err_msg=key)


@pytest.mark.parametrize(("criterion", "objective"), OBJECTIVES)
def test_objective_gradients_and_statistics(
    reference, variables, batch, gradients_of, criterion, objective
):
    key = f"train/{criterion}/{objective}"
    gradients, metrics, statistics = gradients_of(objective, criterion)(variables, batch)
    np.testing.assert_allclose(metrics["loss"], reference[f"{key}/loss"], rtol=1e-5)

    def compare(path, actual, wanted):
        names = [entry.key for entry in path]
        if names[-1] == "bias" and names[-2].startswith("block"):
            # BatchNorm takes the mean away: the gradient is 0, and what PyTorch has is rounding.
            np.testing.assert_array_equal(actual, 0, err_msg=str(names))
        else:
            error = np.linalg.norm(actual - wanted) / np.linalg.norm(wanted)
            assert error <= 1e-4, names

    expected = to_variables(reference, f"{key}/grad")["params"]
    jax.tree.map_with_path(compare, gradients, expected)
    if criterion == "mse":  # The statistics do not depend on the criterion.
        assert_trees_close(
            statistics, to_variables(reference, f"{key}/after")["batch_stats"], rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize("objective", ["indirect", "direct"])
def test_five_steps_of_gradient_descent(reference, variables, batch, gradients_of, objective):
    run = gradients_of(objective, "mse")
    losses = []
    for _ in range(5):
        gradients, metrics, statistics = run(variables, batch)
        losses.append(float(metrics["loss"]))
        params = jax.tree.map(lambda p, g: p - 0.05 * g, variables["params"], gradients)
        variables = {"params": params, "batch_stats": statistics}
    np.testing.assert_allclose(
        losses, reference[f"train/mse/{objective}/sgd_lr0.05_losses"], rtol=1e-4
    )


def test_widths_are_read_off_the_shapes(variables):
    assert model.widths_of(variables) == (4, 8, 16, 16, 32)
    assert model.decoder_widths(model.PAPER_WIDTHS) == (512, 256, 128, 64, 64)
