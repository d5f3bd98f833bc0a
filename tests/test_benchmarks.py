"""The benchmarks compare equal things, and their numbers follow from what was measured."""

import importlib
import inspect
import itertools
import json
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from published import assert_trees_close

from benchmarks import linen_model, measure, ours, plan, report, results
from benchmarks.flops import training_flops
from linlatent import torch_weights
from linlatent.data import midpoint_triplets
from linlatent.training.step import gradients_of

ROOT = pathlib.Path(__file__).parents[1]
WIDTHS = (4, 8)
RATIOS = [
    "triplet_vs_torch_f32",
    "stack_vs_torch_f32",
    "triplet_vs_torch_f32_huge_pages",
    "stack_vs_torch_f32_huge_pages",
    "stack_vs_torch_bf16",
    "triplet_vs_plain_linen",
    "frame_vs_torch_f32",
    "frame_vs_torch_f32_huge_pages",
    "share_of_matmul_peak",
    "peak_memory_vs_torch",
]


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return {
        "planes": rng.random((3, 3, 16, 16, 1), np.float32),
        "alpha": rng.uniform(0.2, 0.8, (3, 1)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def variables(random_network):
    return random_network(WIDTHS)


@pytest.fixture(scope="module", params=["indirect", "direct"])
def step(request, variables, batch):
    """An objective, and the loss and the running statistics of one of our steps."""
    recipe = ours.recipe_of("triplet", request.param)
    gradients = jax.jit(gradients_of, static_argnames="recipe")
    _, metrics, statistics = gradients(variables, batch, recipe=recipe)
    return request.param, float(metrics["loss"]), statistics


def test_pytorch_takes_the_same_step(step, variables, batch):
    torch = pytest.importorskip("torch", reason="torch is not installed (the extra 'torch')")
    from benchmarks import torch_model

    objective, expected, statistics = step
    network = torch_model.Autoencoder(WIDTHS).train()
    arrays = torch_weights.to_state_dict(variables)
    network.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
    planes = torch.from_numpy(batch["planes"].transpose(1, 0, 4, 2, 3).copy())
    loss = torch_model.loss(network, *planes, torch.from_numpy(batch["alpha"]), objective)
    np.testing.assert_allclose(loss.item(), expected, rtol=1e-5)
    theirs = torch_weights.to_variables({n: t.numpy() for n, t in network.state_dict().items()})
    assert_trees_close(theirs["batch_stats"], statistics, rtol=1e-5, atol=1e-6)


def as_plain_linen(variables):
    """Our variables in the tree of the plain linen network."""
    params, moments = {}, {}
    for half in ("encoder", "decoder"):
        blocks = variables["params"][half]
        params[half], moments[half] = {}, {}
        for i in range(len(WIDTHS)):
            block = dict(blocks[f"block_{i}"])
            norm = block.pop("norm")
            params[half][f"layers_{i}"] = {"conv": block, "norm": norm}
            moments[half][f"layers_{i}"] = variables["batch_stats"][half][f"block_{i}"]
    params["decoder"][f"layers_{len(WIDTHS)}"] = variables["params"]["decoder"]["to_image"]
    return {"params": params, "batch_stats": moments}


def test_plain_linen_takes_the_same_step(step, variables, batch):
    objective, expected, statistics = step
    network = linen_model.Autoencoder(WIDTHS)
    planes = jnp.moveaxis(batch["planes"], 1, 0)

    @jax.jit
    def loss_of(variables):
        alpha = batch["alpha"]
        return network.apply(variables, *planes, alpha, objective, mutable=["batch_stats"])

    loss, updated = loss_of(as_plain_linen(variables))
    np.testing.assert_allclose(loss, expected, rtol=1e-5)

    def means(tree):
        return [leaf for path, leaf in jax.tree.leaves_with_path(tree) if path[-1].key == "mean"]

    wanted = as_plain_linen({**variables, "batch_stats": statistics})["batch_stats"]
    assert_trees_close(  # Its variance is not that of PyTorch.
        dict(enumerate(means(updated["batch_stats"]))),
        dict(enumerate(means(wanted))),
        rtol=1e-5,
        atol=1e-6,
    )


def test_operations_as_counted_by_hand():
    # 8x8 -> 4x4 (1 -> 2 channels) -> 2x2 (2 -> 3) and back (3 -> 2 -> 2), then 2 -> 1 at 8x8.
    first, second = 2 * 9 * 1 * 2 * 16, 2 * 9 * 2 * 3 * 4
    decoder = 2 * 9 * 3 * 2 * 4 + 2 * 9 * 2 * 2 * 16 + 2 * 9 * 2 * 1 * 64

    def count(encoded, decoded, decoded_only=0):
        return training_flops(
            (2, 3), 8, encoded=encoded, decoded=decoded, decoded_only=decoded_only
        )

    assert count(1, 0) == 2 * first + 3 * second == 2448
    assert count(0, 1) == 3 * decoder == 11664
    assert count(0, 0, 1) == decoder
    assert count(9, 25, 2) == 9 * 2448 + 25 * 11664 + 2 * 3888


def test_a_stack_takes_the_passes_it_is_said_to():
    recipe = ours.recipe_of("stack", "direct")
    assert recipe.triplets == midpoint_triplets(plan.NUM_LEVELS)
    assert len(recipe.triplets) == plan.NUM_TRIPLETS
    assert recipe.endpoints == tuple(range(plan.NUM_LEVELS))
    assert recipe.midpoints == ()
    assert [plan.stacks_for(batch) for batch in (10, 40)] == [2, 6]  # 68 for 50, 204 for 200


@pytest.mark.parametrize("module", ["ours", "torch_model", "linen_model", "machine", "pipeline"])
def test_every_job_can_be_called(module):
    if module == "torch_model":
        pytest.importorskip("torch", reason="torch is not installed (the extra 'torch')")
    competitor = importlib.import_module(f"benchmarks.{module}")
    for scale in (plan.FULL, plan.QUICK):
        groups = plan.groups(scale, data_dir=None)
        jobs = [job for jobs in groups for job in jobs if job.module == module]
        assert jobs
        for job in jobs:
            inspect.signature(getattr(competitor, job.function)).bind(**job.arguments)
            json.dumps(dict(job.arguments))


def job(name, module="machine", **arguments):
    row = {"section": "matrix product", "competitor": name}
    return plan.Job(row, module, "product", arguments, 2, seconds=1, seconds_to_ready=1)


def test_competitors_take_turns_and_one_that_fails_is_named(capsys):
    jobs = [job("small", side=8), job("absent", module="missing"), job("impossible", side=-1)]
    progress = measure.Progress(measure.seconds_of(jobs))
    works, absent, dead = measure.take_turns(jobs, progress)
    assert works["seconds"]["repeats"] == 2
    assert 0 < works["seconds"]["low"] <= works["seconds"]["median"] <= works["seconds"]["high"]
    assert 2**25 < works["peak_bytes"] < 2**31
    assert absent["not_available"] == "No module named 'benchmarks.missing'"
    assert "status 1: " in dead["not_available"]
    assert "seconds" not in dead
    assert "100%  matrix product, impossible" in capsys.readouterr().out


def seconds(median, spread=0.02):
    half = spread * median / 2
    return {"median": median, "low": median - half, "high": median + half, "repeats": 3}


@pytest.fixture
def rows():
    """As if measured: 40 triplets or 6 stacks, and a smaller batch that must not count."""
    training = {
        plan.TRIPLETS: (4.0, 3.3e9),
        plan.STACKS: (4.8, 3.5e9),
        plan.TRIPLETS_SMALL_PAGES: (8.0, 2.4e9),
        "PyTorch": (6.0, 2.9e9),
        "PyTorch, channels_last": (5.0, 3.0e9),
        "PyTorch, channels_last, bfloat16": (2.5, 2.0e9),
        "PyTorch, channels_last, huge pages": (2.0, 6.0e9),
        plan.LINEN: (40.0, 9.0e9),
    }
    rows = []
    for objective, batch in itertools.product(("indirect", "direct"), (10, 40)):
        for name, (median, peak) in training.items():
            stacked = name == plan.STACKS
            row = {
                **{"section": "training", "competitor": name, "objective": objective},
                **{"batch": batch, "triplets": 96 if stacked else batch},
                **{"patches": 54 if stacked else 3 * batch, "flops": 400e9},
                **{"peak_bytes": peak, "seconds": seconds(median)},
            }
            rows.append(row if (objective, batch) == ("indirect", 40) else row | {"flops": 1e9})
    rows[0] |= {"xla_flops": 500e9, "xla_bytes": 60e9}
    section = {"section": "training", "objective": "indirect", "batch": 40, "triplets": 40}
    rows.append({**section, "competitor": "PyTorch, compiled", "not_available": "no g++"})
    for side, peak in ((2048, 150e9), (4096, 160e9)):
        row = {"section": "matrix product", "competitor": f"side {side}", "flops": peak}
        rows.append({**row, "peak_bytes": 1, "seconds": seconds(1.0)})
    for images, factor in (("frame", 1.0), ("crops", 7.0)):
        medians = {
            **{"linlatent": 0.2, "PyTorch": 0.4, "PyTorch, compiled": 0.3},
            "PyTorch, compiled, huge pages": 0.25,
        }
        for name, median in medians.items():
            row = {"section": "deblurring", "competitor": name, "images": images}
            rows.append({**row, "peak_bytes": 1e9, "seconds": seconds(factor * median)})
    for name in (plan.TRIPLETS, plan.STACKS):
        row = {"section": "pipeline", "competitor": name, "patches": 2400}
        rows.append({**row, "peak_bytes": 1e9, "seconds": seconds(2.0)})
    rows.append({"section": "first step", "competitor": "cold", "seconds": seconds(9.0)})
    return rows


@pytest.fixture
def conditions():
    return {
        **{"date": "2023-01-01T12:00+00:00", "cpu": "Abacus", "vector_instructions": ["avx2"]},
        **{
            "cores": 2,
            "memory_gib": 8.0,
            "load_before": 0.1,
            "python": "3.11",
            "versions": {"jax": "0.1"},
        },
        **{"widths": (4, 8), "crop": 32},
    }


def test_ratios_follow_from_the_rows(rows, conditions):
    found = results.of_rows(rows, conditions)
    assert found["ratios"] == {
        "triplet_vs_torch_f32": 1.25,
        "stack_vs_torch_f32": 2.5,
        "triplet_vs_torch_f32_huge_pages": 0.5,
        "stack_vs_torch_f32_huge_pages": 1.0,
        "stack_vs_torch_bf16": 1.25,
        "triplet_vs_plain_linen": 10.0,
        "frame_vs_torch_f32": 1.5,
        "frame_vs_torch_f32_huge_pages": 1.25,
        "share_of_matmul_peak": 0.625,
        "peak_memory_vs_torch": 1.1,
    }
    assert list(found["ratios"]) == list(results.RATIOS) == RATIOS
    assert not found["conditions"]["noisy"]
    pipeline = next(row for row in found["measurements"] if row["section"] == "pipeline")
    # 120 patches in 2 s, with huge pages, of 2400 in 2 s.
    assert pipeline["share_of_a_step"] == pytest.approx(60 / 1200)
    json.dumps(found)


def test_a_ratio_to_what_could_not_be_measured_is_none(rows, conditions):
    def without_torch(row):
        unavailable = row["competitor"].startswith("PyTorch")
        return {**row, "not_available": "none"} if unavailable else row

    rows = [without_torch(row) for row in rows]
    for row in rows:
        if "not_available" in row:
            row.pop("seconds", None)
    found = results.of_rows(rows, conditions)
    assert {name for name, value in found["ratios"].items() if value is not None} == {
        "triplet_vs_plain_linen",
        "share_of_matmul_peak",
    }
    assert list(found["ratios"]) == RATIOS


def test_a_noisy_machine_is_said_to_be_one(rows, conditions):
    assert "not quiet" not in report.as_markdown(results.of_rows(rows, conditions))
    pytorch = next(row for row in rows if row["competitor"] == "PyTorch")
    pytorch["seconds"] = seconds(6.0, spread=0.4)
    found = results.of_rows(rows, conditions)
    assert found["conditions"]["noisy"]
    text = report.as_markdown(found)
    assert "up to 40% of their median (training, indirect, 10, PyTorch)" in text
    assert "not quiet" in text


def test_the_report_has_all_that_was_measured(rows, conditions, tmp_path):
    found = results.of_rows(rows, conditions)
    text = report.as_markdown(found)
    for row in found["measurements"]:
        assert row["competitor"] in text
    assert "not available: no g++" in text
    assert "| linlatent, triplets | 40 | 10 [9.901, 10.1] | 4 [3.96, 4.04] | 100 [" in text
    report.plot(found, tmp_path / "results.png")
    assert (tmp_path / "results.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_quick_run_measures_everything(tmp_path):
    command = [sys.executable, "-m", "benchmarks", "--quick", "--output", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads((tmp_path / "results.json").read_text())
    assert list(found["ratios"]) == RATIOS
    missing = [row for row in found["measurements"] if "seconds" not in row]
    assert {row["not_available"] for row in missing} <= {"No module named 'torch'"}
    if not missing:
        assert None not in found["ratios"].values()
    assert (tmp_path / "results.md").exists()
    assert (tmp_path / "results.png").exists()
