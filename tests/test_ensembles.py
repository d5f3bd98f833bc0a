"""Several networks in one program: each is what it would be alone, and they are told apart."""

import functools
import json

import jax
import numpy as np
import pytest

import linlatent
from linlatent import checkpoints, devices
from linlatent import config as configuration
from linlatent.data import Triplet
from linlatent.evaluation import evaluate, format_table, read_results
from linlatent.evaluation.members import mean_over_members, spread
from linlatent.evaluation.rows import rows_of, rows_of_members
from linlatent.evaluation.tables import tables_of
from linlatent.training import NonFiniteLossError, loop, train
from linlatent.training.recorder import Recorder, Schedule
from linlatent.training.state import create_state, stack_members
from linlatent.training.step import Recipe, train_step

WIDTHS = (4,)
FIELDS = {
    **{"model.widths": WIDTHS, "num_steps": 4, "validate_every_steps": 2, "seed": 3},
    "data.folder.split": (0.5, 0.0, 0.5),
}
RECIPE = Recipe("indirect", "l1", 1.0, 1e-3, triplets=(Triplet(0, 1, 2),))
TITLE = "Spread over initialisations"
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def member_of(tree, member):
    return jax.tree.map(lambda leaf: leaf[member], tree)


def metrics_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def make_workdir(folder, config, variables):
    """A workdir of given weights, as if they had been trained."""
    with checkpoints.Checkpoints(folder) as store:
        store.save(0, variables, {"step": np.zeros((), np.int32)}, validation_loss=1.0)
    configuration.write(config, folder)


@pytest.fixture(scope="module")
def ensemble(tiny_config, tmp_path_factory):
    """Two networks, trained for four steps: the workdir and the final state."""
    workdir = tmp_path_factory.mktemp("ensemble")
    return workdir, train(tiny_config({**FIELDS, "num_models": 2}), workdir)


@pytest.fixture(scope="module")
def alone(tiny_config, tmp_path_factory):
    """Trainings of one network each, on the same batches: of seed 3, and from weights of seed 4."""
    folder = tmp_path_factory.mktemp("alone")
    weights = create_state(4, WIDTHS, RECIPE.optimiser).variables
    make_workdir(folder / "weights", tiny_config(FIELDS), weights)
    fields = [{}, {"init_from": str(folder / "weights")}]
    return [
        (folder / str(number), train(tiny_config(FIELDS | more), folder / str(number)))
        for number, more in enumerate(fields)
    ]


@pytest.fixture(scope="module")
def evaluated(ensemble):
    workdir, _ = ensemble
    return workdir, evaluate(workdir)


def test_each_member_is_what_it_would_be_alone(ensemble, alone):
    _, state = ensemble
    for member, (_, single) in enumerate(alone):
        jax.tree.map(close, member_of(state, member), single)
    apart = jax.tree.map(lambda leaf: np.abs(leaf[0] - leaf[1]).max(), state.variables["params"])
    assert max(jax.tree.leaves(apart)) > 0.1


def test_the_metrics_are_means_over_the_members(ensemble, alone):
    workdir, _ = ensemble
    singles = [metrics_of(folder) for folder, _ in alone]
    for record, *same in zip(metrics_of(workdir), *singles, strict=True):
        assert {each["step"] for each in same} == {record["step"]}
        for name in ("loss", "reconstruction", "interpolation"):
            assert record[name] == pytest.approx(np.mean([each[name] for each in same]), rel=1e-5)


def test_vmapped_steps_are_those_of_the_members():
    """What accelerators run; gradients are compared, which the optimiser accumulates."""
    recipe = Recipe("direct", "mse", 0.5, 1e-3, triplets=RECIPE.triplets, accumulate=2)
    images = np.random.default_rng(0).random((4, 3, 8, 8, 1), np.float32)
    batch = {"planes": images, "alpha": np.full((4, 1), 0.5, np.float32)}
    states = [create_state(seed, (2,), recipe.optimiser) for seed in (0, 1)]
    step = jax.jit(functools.partial(train_step, recipe=recipe))
    together = jax.jit(jax.vmap(functools.partial(train_step, recipe=recipe), in_axes=(0, None)))
    after, metrics = together(stack_members(states), batch)
    for member, state in enumerate(states):
        expected, of_member = step(state, batch)
        jax.tree.map(close, member_of(metrics, member), of_member)
        jax.tree.map(close, member_of(after.optimiser, member), expected.optimiser)
        jax.tree.map(
            close,
            member_of(after.variables["batch_stats"], member),
            expected.variables["batch_stats"],
        )


@pytest.mark.parametrize(("platform", "loops"), [("cpu", True), ("cuda", False), ("tpu", False)])
def test_accelerators_compute_all_members_at_once(platform, loops):
    mesh = devices.mesh()
    state = stack_members([create_state(seed, WIDTHS, RECIPE.optimiser) for seed in (0, 1)])
    state = jax.device_put(state, devices.replicated(mesh))
    images = np.zeros((4, 3, 8, 8, 1), np.float32)
    batch = devices.assemble({"planes": images, "alpha": np.ones((4, 1), np.float32)}, mesh)
    step = loop.compiled_step(RECIPE, state, mesh, num_models=2)
    program = step.trace(state, batch).lower(lowering_platforms=(platform,)).as_text()
    assert ("stablehlo.while" in program) == loops
    assert ("feature_group_count = 2" in program) != loops


def test_an_ensemble_resumes_as_if_never_interrupted(ensemble, tiny_config, tmp_path):
    workdir, state = ensemble
    fields = FIELDS | {"num_models": 2}
    train(tiny_config({**fields, "num_steps": 2}), tmp_path)
    resumed = train(tiny_config(fields), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, resumed, state)
    assert metrics_of(tmp_path) == metrics_of(workdir)
    with pytest.raises(ValueError, match=r"num_models: 2 there, 1 given"):
        train(tiny_config(FIELDS), tmp_path)


@pytest.mark.parametrize("values", [(1.0, np.nan), (np.inf, 1.0)])
def test_one_member_that_is_not_finite_stops_all(tmp_path, values):
    with Recorder(
        tmp_path,
        Schedule(last_step=2, per_epoch=2, per_validation=2, per_log=2),
        first_step=0,
        triplets_per_step=1,
        tensorboard=False,
        last_good_step=lambda: None,
    ) as recorder:
        recorder.step(1, {"loss": np.array(values, np.float32)}, began=0.0)
        with pytest.raises(NonFiniteLossError, match="not finite at step 1"):
            recorder.finish()


def test_every_array_of_a_checkpoint_has_an_axis_of_members(ensemble):
    workdir, state = ensemble
    assert {leaf.shape[0] for leaf in jax.tree.leaves(state)} == {2}
    params, step = checkpoints.read_best(workdir, network="paper", widths=WIDTHS, num_models=2)
    assert step == 4
    jax.tree.map(np.testing.assert_array_equal, params, state.variables)
    with pytest.raises(ValueError, match=r"config.num_models"):
        checkpoints.read_best(workdir, network="paper", widths=WIDTHS)


def test_a_member_is_loaded_like_any_network(ensemble):
    workdir, state = ensemble
    for member in (0, 1):
        params, _, _ = linlatent.load(workdir, member=member)
        jax.tree.map(np.testing.assert_array_equal, params, member_of(state.variables, member))
    first = linlatent.load(workdir).params
    jax.tree.map(np.testing.assert_array_equal, first, linlatent.load(workdir, member=0).params)
    for member in (2, -1):
        with pytest.raises(ValueError, match=f"no member {member}; expected one of 0 to 1"):
            linlatent.load(workdir, member=member)


def test_a_workdir_that_knows_of_no_ensembles_holds_one_network(alone, tiny_config, tmp_path):
    folder, _ = alone[0]
    fields = json.loads((folder / configuration.FILE).read_text())
    del fields["num_models"]
    (tmp_path / configuration.FILE).write_text(json.dumps(fields))
    (tmp_path / checkpoints.FOLDER).symlink_to(folder / checkpoints.FOLDER)
    assert linlatent.load(tmp_path).step == 4
    configuration.require_same(tmp_path, tiny_config(FIELDS), but_for=())
    with pytest.raises(ValueError, match="no member 1; expected one of 0 to 0"):
        linlatent.load(tmp_path, member=1)


def test_members_start_from_their_counterparts(ensemble, tiny_config, tmp_path):
    workdir, state = ensemble
    fields = {"num_models": 2, "init_from": str(workdir), "num_steps": 1, "learning_rate": 1e-12}
    borrowed = train(tiny_config(FIELDS | fields), tmp_path)
    jax.tree.map(close, borrowed.variables["params"], state.variables["params"])


@pytest.mark.parametrize("num_models", [1, 3])
def test_borrowed_weights_must_be_of_as_many_networks(ensemble, tiny_config, tmp_path, num_models):
    fields = {"num_models": num_models, "init_from": str(ensemble[0])}
    message = f"holds 2 networks, config.num_models is {num_models}"
    with pytest.raises(ValueError, match=message):
        train(tiny_config(FIELDS | fields), tmp_path)


@pytest.mark.parametrize("value", [0, -1])
def test_an_impossible_number_of_networks_is_refused(tiny_config, value):
    with pytest.raises(ValueError, match=f"config.num_models is {value}, expected a positive"):
        configuration.validate(tiny_config({"num_models": value}))


def test_every_member_is_evaluated_as_if_alone(evaluated, tiny_config, tmp_path):
    workdir, results = evaluated
    make_workdir(tmp_path, tiny_config(FIELDS), linlatent.load(workdir, member=1).params)
    single = evaluate(tmp_path)
    assert "members" not in single
    assert results["members"][1] == single["rows"]
    assert results["members"][0] != single["rows"]
    assert TITLE not in format_table(single)
    assert TITLE not in (tmp_path / "evaluation" / "report.html").read_text()


def test_the_rows_of_an_ensemble_are_means(evaluated):
    _, results = evaluated
    assert results["conditions"]["num_models"] == len(results["members"]) == 2
    for row, *same in zip(rows_of(results), *rows_of_members(results), strict=True):
        assert row[:6] == same[0][:6]
        for field in ("mean", "standard_error", "per_slide"):
            values = [getattr(each, field) for each in same]
            if values[0] is None:
                assert getattr(row, field) is None
            elif row.mean is not None:
                assert getattr(row, field) == pytest.approx(np.mean(values, axis=0))


def test_what_one_member_lacks_the_ensemble_lacks(evaluated):
    first, second = rows_of_members(evaluated[1])
    lacking = [row._replace(mean=None) for row in second]
    assert all(row.mean is None for row in mean_over_members([first, lacking]))
    assert {each.mean for each in spread([first, lacking], 5)} == {None}


def test_the_spread_over_initialisations_is_told(evaluated):
    workdir, results = evaluated
    (table,) = [table for table in tables_of(results) if table.title == TITLE]
    assert [cells[0] for cells in table.cells] == [
        "reconstruction, PSNR of the worst level",
        "synthesised vs truth, PSNR, mean of 1-3",
        "deblurred vs truth, PSNR, mean of 1-3",
        "LDS, paper, Eq. 5",
        "APD, paper, Eq. 6",
    ]
    # The worst level of a member is its own.
    worst = [
        min(
            row.mean
            for row in rows
            if (row.section, row.quantity, row.definition)
            == ("reconstruction", "PSNR", "per image, range 1")
            and row.levels in "01234"
        )
        for rows in rows_of_members(results)
    ]
    expected = [f"{np.mean(worst):.2f}", f"{np.std(worst, ddof=1):.2f}", "2"]
    assert table.cells[0][1:] == expected
    folder = workdir / "evaluation"
    for text in (
        format_table(results),
        (folder / "table.md").read_text(),
        (folder / "report.html").read_text(),
    ):
        assert table.cells[1][0] in text
    assert TITLE in format_table(results)
    assert "those of member 0" in (folder / "report.html").read_text()
    assert read_results(workdir) == json.loads(json.dumps(results))
