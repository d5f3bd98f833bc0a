"""A tiny training on a folder: what it writes, how it resumes, and how it stops."""

import json
import logging
import math
import types

import jax
import numpy as np
import pytest

from linlatent import checkpoints, inference
from linlatent import config as configuration
from linlatent.evaluation import evaluate
from linlatent.training import NonFiniteLossError, loop, train

TERMS = {"loss", "reconstruction", "interpolation"}


def metrics_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def assert_same(actual, expected):
    jax.tree.map(np.testing.assert_array_equal, actual, expected)


def with_nan(monkeypatch, *, at_step):
    """Lets a NaN into the planes of one training step."""
    good = loop.train_batches

    def batches(*args, first_step=0, **options):
        stream = good(*args, first_step=first_step, **options)
        for step, batch in enumerate(stream, start=first_step + 1):
            if step == at_step:
                batch = {**batch, "planes": np.full_like(batch["planes"], math.nan)}
            yield batch

    monkeypatch.setattr(loop, "train_batches", batches)


def test_metrics_are_logged_by_name(trained):
    records = metrics_of(trained.workdir)
    assert [(record["step"], record["split"]) for record in records] == [
        (3, "train"),
        (4, "train"),
        (4, "validation"),
        (6, "train"),
        (6, "validation"),
    ]
    for record in records:
        assert record.keys() == {"step", "split", *TERMS}
        assert record["loss"] == pytest.approx(record["reconstruction"] + record["interpolation"])
    assert records[3]["loss"] < records[0]["loss"]


def test_nothing_is_compiled_after_the_first_step(trained):
    """Steps, validations and the batches of a second epoch all have the same shapes."""
    for name in ("train_step", "validation_step"):
        assert sum(f"Compiling jit({name})" in message for message in trained.compiled) == 1


def test_the_state_is_counted_and_saved(trained):
    assert int(trained.state.step) == 6
    params, step = checkpoints.read_best(trained.workdir, network="paper", widths=(4, 8))
    losses = {
        record["step"]: record["loss"]
        for record in metrics_of(trained.workdir)
        if record["split"] == "validation"
    }
    assert step == min(losses, key=losses.__getitem__) == 6
    assert_same(params, trained.state.variables)


def test_nan_stops_the_training_which_then_resumes_as_if_never_interrupted(
    trained, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        with_nan(patch, at_step=6)
        message = r"training loss is not finite at step 6 .*loss nan.*checkpoint of step 4 is"
        with pytest.raises(NonFiniteLossError, match=message):
            train(trained.config, tmp_path)
    with checkpoints.Checkpoints(tmp_path) as store:
        assert store.latest_step() == 4
    assert [record["step"] for record in metrics_of(tmp_path)] == [3, 4, 4]
    resumed = train(trained.config, tmp_path)
    assert_same(resumed, trained.state)
    assert metrics_of(tmp_path) == metrics_of(trained.workdir)


def test_the_published_recipe_resumes_between_two_moves_of_the_weights(tiny_config, tmp_path):
    recipe = {
        "model.widths": (4,),
        "criterion": "mse",
        "triplets": "dyadic",
        "batching": "ten-crop",
        "accumulate": 4,
        "data.normalisation": "plane-8bit",
    }
    whole = train(tiny_config({**recipe, "num_steps": 6}), tmp_path / "whole")
    half = train(tiny_config({**recipe, "num_steps": 3}), tmp_path / "resumed")
    assert (int(half.optimiser.mini_step), int(half.optimiser.gradient_step)) == (3, 0)
    resumed = train(tiny_config({**recipe, "num_steps": 6}), tmp_path / "resumed")
    assert (int(resumed.optimiser.mini_step), int(resumed.optimiser.gradient_step)) == (2, 1)
    assert_same(resumed, whole)
    # Three triplets of ten crops of two slides, in batches of 20.
    validated = [r["step"] for r in metrics_of(tmp_path / "whole") if r["split"] == "validation"]
    assert validated == [3, 6]


def test_lines_beyond_the_checkpoint_are_dropped(tmp_path):
    lines = [{"step": step, "split": "train", "loss": 0.5} for step in (2, 4, 6)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    log = loop.progress.MetricsLog(tmp_path, first_step=4, tensorboard=False)
    log.write(6, "train", {"loss": 0.25})
    assert metrics_of(tmp_path) == [*lines[:2], {"step": 6, "split": "train", "loss": 0.25}]


def test_speed_and_time_left_are_those_of_compiled_steps(caplog, monkeypatch):
    clock = iter([0.0, 100.0, 102.0, 112.0])
    stopwatch = types.SimpleNamespace(monotonic=lambda: next(clock))
    monkeypatch.setattr(loop.progress, "time", stopwatch)
    with caplog.at_level(logging.INFO, logger="linlatent"):
        bar = loop.progress.Progress(first_step=7, last_step=20, triplets_per_step=12)
        for step in (8, 9, 10):
            bar.update(step, loss=0.5, idle=0.25)
    assert caplog.messages == [
        "step 8 of 20: loss 0.5000",
        "step 10 of 20: loss 0.5000, 2.0 triplets/s, idle 25 %, 01:00 left",
    ]


def test_a_trained_workdir_is_left_as_it_is(trained, caplog):
    before = (trained.workdir / "metrics.jsonl").read_text()
    with caplog.at_level(logging.INFO, logger="linlatent"):
        state = train(trained.config, trained.workdir)
    assert "already trained for 6 steps of 6" in caplog.text
    assert_same(state, trained.state)
    assert (trained.workdir / "metrics.jsonl").read_text() == before


def test_another_configuration_is_refused(trained, tiny_config):
    with pytest.raises(ValueError, match=r"learning_rate: 0.01 there, 0.001 given"):
        train(tiny_config({"learning_rate": 1e-3}), trained.workdir)


@pytest.fixture(scope="module")
def borrowed(trained, tiny_config, tmp_path_factory):
    """One step so short that it moves nothing, from the weights of `trained`; no validation."""
    folder = tmp_path_factory.mktemp("borrowed")
    fields = {
        "init_from": str(trained.workdir),
        "learning_rate": 1e-12,
        "num_steps": 1,
        "data.folder.split": (0.5, 0.0, 0.5),
    }
    return folder, train(tiny_config(fields), folder)


def test_training_may_start_from_the_weights_of_another(borrowed, trained):
    _, state = borrowed
    assert int(state.step) == int(state.optimiser[0].count) == 1
    jax.tree.map(
        lambda actual, expected: np.testing.assert_allclose(actual, expected, atol=1e-10),
        state.variables["params"],
        trained.state.variables["params"],
    )
    # Its BatchNorm has seen one batch more.
    assert state.variables["batch_stats"].keys() == trained.state.variables["batch_stats"].keys()


def test_without_validation_slides_the_training_slides_are_measured(borrowed):
    folder, _ = borrowed
    assert [(record["step"], record["split"]) for record in metrics_of(folder)] == [
        (1, "train"),
        (1, "validation"),
    ]
    assert inference.load(folder).step == 1


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"init_from": "nowhere"}, FileNotFoundError, r"nowhere: no such folder"),
        ({"data.folder.path": "nowhere"}, FileNotFoundError, "no folder 'nowhere'"),
        ({"batch_size": 6}, ValueError, "batch_size is 6, expected a multiple of 4: .* 4 devices"),
        (
            {"model.network": "separated", "model.widths": (4, 4, 4, 4), "objective": "separated"}
            | {"triplets": "spanning", "batch_size": 8, "whole_every": 4},
            ValueError,
            "batch_size is 8, expected a multiple of 16: of config.whole_every, 4, on each",
        ),
        ({"batch_size": 100}, ValueError, "an epoch has no full batch: .* 80 examples"),
        (
            {"triplets": "dyadic", "data.folder.num_levels": 4},
            ValueError,
            r"need 2\^k \+ 1 blur levels .* got 4",
        ),
        ({"data.crop_size": 64}, ValueError, r"slide_\d.* smaller than the crop of 64 x 64"),
        ({"objective": "none"}, ValueError, "config.objective is 'none'"),
    ],
)
def test_mistakes_end_the_training_at_once(tiny_config, tmp_path, fields, error, message):
    with pytest.raises(error, match=message):
        train(tiny_config(fields), tmp_path)


def test_borrowed_weights_must_have_the_same_widths(trained, tiny_config, tmp_path):
    fields = {"init_from": str(trained.workdir), "model.widths": (4, 4)}
    with pytest.raises(ValueError, match=r"widths \(4, 8\), config.model.widths is \(4, 4\)"):
        train(tiny_config(fields), tmp_path)


def test_a_mistake_can_be_corrected_in_the_same_workdir(tiny_config, tmp_path):
    with pytest.raises(ValueError, match="smaller than the crop"):
        train(tiny_config({"data.crop_size": 64}), tmp_path)
    train(tiny_config({"num_steps": 1, "tensorboard": True}), tmp_path)
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_a_trained_workdir_keeps_its_configuration(trained, tiny_config):
    with pytest.raises(ValueError, match=r"learning_rate: 0.01 there, 0.5 given"):
        train(tiny_config({"learning_rate": 0.5}), trained.workdir)
    assert configuration.read(trained.workdir).learning_rate == 1e-2


def test_evaluation_refuses_the_configuration_of_another_network(trained, tiny_config):
    with pytest.raises(ValueError, match=r"data.normalisation: 'plane' there, 'stack' given"):
        evaluate(trained.workdir, tiny_config({"data.normalisation": "stack"}))
