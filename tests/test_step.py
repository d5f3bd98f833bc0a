"""One step: it learns, stacks agree with their triplets, padding and devices do not matter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from linlatent import convolution, losses, normalisation
from linlatent.data import Triplet, midpoint_triplets
from linlatent.training.state import create_state, state_of
from linlatent.training.step import Recipe, gradients_of, train_step, validation_step

WIDTHS = (3, 5)
LEVELS = 9
# The 16 midpoints, where alpha is 1/2, and two triplets where it is 7/8 and 1/7.
TABLE = (*midpoint_triplets(LEVELS), Triplet(0, 1, 8), Triplet(1, 7, 8))
ALONE = (Triplet(0, 1, 2),)
VARIANTS = [
    (objective, criterion)
    for objective in losses.objectives_of("paper")
    for criterion in ("l1", "mse")
]


def recipe(objective="direct", criterion="l1", *, triplets=ALONE, **fields):
    fields = {"latent_weight": 0.5, "learning_rate": 1e-2} | fields
    return Recipe(objective=objective, criterion=criterion, triplets=triplets, **fields)


def stack_batch(examples):
    planes = np.random.default_rng(3).uniform(size=(examples, LEVELS, 8, 8, 1))
    # Planes that differ in brightness and contrast, so that none can stand for another.
    planes *= np.linspace(1, 0.2, LEVELS).reshape(1, LEVELS, 1, 1, 1)
    alpha = np.array([[triplet.alpha for triplet in TABLE]], np.float32)
    return {"planes": planes.astype(np.float32), "alpha": np.repeat(alpha, examples, axis=0)}


def triplet_batch(batch, triplet):
    alpha = np.full((len(batch["planes"]), 1), triplet.alpha, np.float32)
    return {"planes": batch["planes"][:, np.array(triplet)], "alpha": alpha}


@pytest.fixture(scope="module")
def variables(random_network):
    return random_network(WIDTHS)


def validate_all(triplets):
    """Validation under every objective and criterion in one compilation."""

    @jax.jit
    def run(variables, batch, mask):
        return {
            variant: validation_step(
                variables, batch, mask, recipe=recipe(*variant, triplets=triplets)
            )
            for variant in VARIANTS
        }

    return run


validate_stack = validate_all(TABLE)
validate_triplet = validate_all(ALONE)


def test_a_stack_is_worth_its_triplets(variables):
    batch, mask = stack_batch(4), jnp.ones(4)
    stack = validate_stack(variables, batch, mask)
    each = [validate_triplet(variables, triplet_batch(batch, t), mask) for t in TABLE]
    for variant in VARIANTS:
        expected = {
            name: np.mean([metrics[variant][name] for metrics in each]) for name in each[0][variant]
        }
        assert stack[variant].keys() == expected.keys()
        assert expected.keys() == {"loss", "count", *losses.OBJECTIVES[variant[0]]}
        for name, value in expected.items():
            np.testing.assert_allclose(
                stack[variant][name], value, rtol=1e-5, err_msg=f"{variant} {name}"
            )


def test_the_sums_count_each_example_once_and_padding_not_at_all(variables):
    batch = stack_batch(4)
    padded = {**batch, "planes": batch["planes"].copy()}
    padded["planes"][3] = 0.9
    two, one = jnp.array([1.0, 0.0, 1.0, 0.0]), jnp.array([0.0, 1.0, 0.0, 0.0])
    rest, single, both = (validate_stack(variables, padded, mask) for mask in (two, one, two + one))
    unpadded = validate_stack(variables, batch, two + one)
    for variant in VARIANTS:
        assert rest[variant]["count"] == 2
        for name, value in both[variant].items():
            np.testing.assert_allclose(
                rest[variant][name] + single[variant][name], value, rtol=1e-5
            )
            assert unpadded[variant][name] == value


def test_the_loss_is_the_weighted_sum_of_its_terms(variables):
    metrics = validate_stack(variables, stack_batch(4), jnp.ones(4))["direct", "mse"]
    weighted = metrics["reconstruction"] + metrics["interpolation"] + 0.5 * metrics["latent"]
    np.testing.assert_allclose(metrics["loss"], weighted, rtol=1e-6)


@pytest.fixture(scope="module")
def fitted(random_network):
    """The states before and after twelve steps on one batch, and the metrics of each step.

    The first state is donated; the parameters before and after the first step are copies.
    """
    settings = recipe()
    step = jax.jit(functools.partial(train_step, recipe=settings), donate_argnums=0)
    batch = triplet_batch(stack_batch(4), Triplet(0, 4, 8))
    first = state = state_of(random_network(WIDTHS), settings.optimiser)
    params, metrics = [], []
    for _ in range(12):
        params.append(jax.tree.map(np.array, state.variables["params"]))
        state, measured = step(state, batch)
        metrics.append(measured)
    return first, state, metrics, params[:2]


def test_a_step_learns_and_counts(fitted):
    _, state, metrics, _ = fitted
    loss = [float(record["loss"]) for record in metrics]
    assert loss[-1] < 0.8 * loss[0]
    assert int(state.step) == 12
    assert int(state.optimiser[0].count) == 12
    assert metrics[0].keys() == {"loss", "reconstruction", "interpolation", "latent"}
    assert all(value.shape == () for value in metrics[0].values())


def test_a_step_may_take_the_buffers_of_the_state_before(fitted):
    first, state, *_ = fitted
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(first))
    assert jax.tree.structure(first) == jax.tree.structure(state)


def test_the_first_step_of_adam_is_as_long_as_the_learning_rate(fitted):
    before, after = fitted[-1]
    lengths = jax.tree.leaves(jax.tree.map(lambda a, b: np.abs(b - a).max(), before, after))
    assert max(lengths) <= 1.001e-2
    assert np.median(lengths) > 0.99e-2


def test_accumulated_batches_move_the_weights_once_by_their_mean_gradient(variables):
    """Two moves of three batches each, against Adam itself; BatchNorm follows every batch."""
    settings = recipe(accumulate=3)
    step = jax.jit(functools.partial(train_step, recipe=settings))
    differentiate = jax.jit(functools.partial(gradients_of, recipe=settings))
    stacks = stack_batch(4)
    batches = [triplet_batch(stacks, Triplet(b - 1, b, b + 1)) for b in range(1, 7)]
    adam = optax.adam(settings.learning_rate)
    params, statistics = variables["params"], variables["batch_stats"]
    moments = adam.init(params)
    state = state_of(variables, settings.optimiser)
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-6)
    for move in (batches[:3], batches[3:]):
        gradients, before = [], state.variables["params"]
        for batch in move:
            jax.tree.map(np.testing.assert_array_equal, state.variables["params"], before)
            state, _ = step(state, batch)
            gradient, _, statistics = differentiate(
                {"params": params, "batch_stats": statistics}, batch
            )
            gradients.append(gradient)
        mean = jax.tree.map(lambda *g: sum(g) / 3, *gradients)
        updates, moments = adam.update(mean, moments)
        params = optax.apply_updates(params, updates)
        jax.tree.map(close, state.variables["params"], params)
        jax.tree.map(close, state.variables["batch_stats"], statistics)
        assert optax.tree.norm(updates) > 1e-2
    assert int(state.step) == 6


def test_one_and_four_devices_agree(variables):
    """Under a sharded batch the moments of BatchNorm are still those of the whole batch."""
    settings = recipe(triplets=TABLE, joint_statistics=True)
    run = jax.jit(functools.partial(gradients_of, recipe=settings))
    batch = stack_batch(8)
    alone = run(variables, batch)
    mesh = jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))
    shared = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("batch")))
    together = run(jax.device_put(variables, NamedSharding(mesh, PartitionSpec())), shared)
    assert len(shared["planes"].sharding.device_set) == 4
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, rtol=1e-4, atol=1e-5), together, alone
    )


def test_in_bfloat16_the_loss_falls_as_in_float32():
    images = np.random.default_rng(0).random((4, 3, 16, 16, 1), np.float32)
    batch = {"planes": images, "alpha": np.full((4, 1), 0.5, np.float32)}
    curves = {}
    for dtype in ("float32", "bfloat16"):
        recipe = Recipe("direct", "l1", 1.0, 1e-3, triplets=(Triplet(0, 1, 2),), dtype=dtype)
        state = create_state(0, (4, 8), recipe.optimiser)
        step = jax.jit(functools.partial(train_step, recipe=recipe))
        curve = []
        for _ in range(20):
            state, metrics = step(state, batch)
            curve.append(float(metrics["loss"]))
        assert {leaf.dtype for leaf in jax.tree.leaves(state.variables)} == {np.dtype(np.float32)}
        curves[dtype] = curve
    assert curves["bfloat16"] != curves["float32"]
    np.testing.assert_allclose(curves["bfloat16"], curves["float32"], rtol=0.02)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA's CPU backend")
@pytest.mark.parametrize(
    ("module", "function", "widths"),
    [
        # Copies for weight gradients that were made in the forward pass would all be there at once,
        (convolution, "_after", (8, 16)),
        # and BatchNorm's gradient be there in pieces, beside what each is computed of.
        (normalisation, "_written_once", (32, 32)),
    ],
)
def test_what_holds_xla_back_saves_memory(module, function, widths, monkeypatch):
    def temporaries():
        state = jax.eval_shape(lambda: create_state(0, widths, recipe("indirect").optimiser))
        batch = {
            "planes": jax.ShapeDtypeStruct((4, 3, 64, 64, 1), jnp.float32),
            "alpha": jax.ShapeDtypeStruct((4, 1), jnp.float32),
        }
        jax.clear_caches()  # of what was traced with the other function
        step = jax.jit(functools.partial(train_step, recipe=recipe("indirect")))
        return step.lower(state, batch).compile().memory_analysis().temp_size_in_bytes

    held_back = temporaries()
    monkeypatch.setattr(module, function, lambda x, _: x)
    assert held_back < 0.9 * temporaries()
