"""The evaluator and what it writes: results, figures, tables and the report."""

import ast
import csv
import dataclasses
import html
import json
import pathlib
import re
import types

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from linlatent import data, evaluation, inference, model
from linlatent.data import StackSource
from linlatent.evaluation import deblurring
from linlatent.evaluation.deconvolution import gaussian_psf
from linlatent.evaluation.evaluate import (
    choose_baselines,
    choose_slides,
    evaluate,
    read_results,
    tuning_slides,
)
from linlatent.evaluation.rows import POOLED, RANGE_1, rows_of, select

LEVELS = 5
ESTIMATES = [
    "untouched input",
    "pixel extrapolation",
    "unsharp mask",
    "Wiener, Gaussian PSF",
    "Richardson-Lucy, Gaussian PSF",
    "Wiener, true PSF",
    "Richardson-Lucy, true PSF",
    "deblurred",
    "deblurred, anchored",
]


@pytest.fixture(scope="module")
def params():
    """A small random network that halves its images twice."""
    return jax.jit(model.init, static_argnums=1)(jax.random.key(0), (2, 3))


@pytest.fixture(scope="module")
def source():
    """Stacks in memory that claim to be a channel of the paper's data, and to be blurred so."""
    stacks = np.random.default_rng(2).integers(100, 4000, (5, LEVELS, 24, 20), np.uint16)
    slide_ids = {"train": [], "validation": ["d", "e"], "test": ["a", "b", "<c>"]}
    named = dict(zip([*slide_ids["test"], *slide_ids["validation"]], stacks, strict=True))
    return StackSource(
        "memory",
        LEVELS,
        slide_ids,
        named.__getitem__,
        level_spacing_um=4.0,
        paper_channel="w2",
        psfs=lambda: [gaussian_psf(0.5 * (1 + level)) for level in range(LEVELS)],
    )


@pytest.fixture(scope="module")
def network(params):
    config = ConfigDict(
        {
            "batch_size": 2 * LEVELS,
            "num_models": 1,
            "objective": "indirect",
            "criterion": "l1",
            "model": {"network": "paper", "widths": (2, 3)},
            "data": {
                "source": "memory",
                "memory": {"colour": "w1"},
                "crop_size": 16,
                "normalisation": "stack",
            },
        }
    )
    return inference.Model(params, config, 7)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory, network, source):
    """A workdir that has been evaluated with a small random network."""
    folder = tmp_path_factory.mktemp("workdir")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inference, "load", lambda path: network)
        patch.setattr(data, "open_source", lambda name, *, colour: source)
        results = evaluate(folder)
    return folder / "evaluation", results


def test_slides_to_show_are_the_fullest_and_one_of_the_full():
    contrast = {"empty": 0.0, "b": 0.1, "c": 0.2, "d": 0.3, "full": 0.9}
    assert choose_slides(contrast) == ["full", "d"]


def test_results_say_their_conditions(workdir):
    _, results = workdir
    conditions = results["conditions"]
    expected = {
        "data": "memory",
        "paper_channel": "w2",
        "split": "test",
        "slides": 3,
        "num_levels": LEVELS,
        "level_spacing_um": 4.0,
        "crop_size": 16,
        "normalisation": "stack",
        "point_spread_function": "known",
        "baselines_tuned_on": "2 validation slides",
        "objective": "indirect",
        "criterion": "l1",
        "network": "paper",
        "widths": [2, 3],
        "checkpoint_step": 7,
    }
    assert {name: conditions[name] for name in expected} == expected
    assert "hardware" in conditions


def test_baselines_are_tuned_on_other_slides_and_said_to_be(workdir):
    folder, results = workdir
    chosen = results["baseline_settings"]
    assert {choice["baseline"] for choice in chosen} == {*ESTIMATES[2:-2]}
    assert len(chosen) == 5 * (LEVELS - 2)
    for text in (
        (folder / "report.html").read_text(),
        (folder / "table.md").read_text(),
        evaluation.format_table(results),
    ):
        assert deblurring.SETTINGS in text
        assert "Richardson-Lucy, true PSF: iterations" in text
        assert "2 validation slides" in " ".join(text.split())


@pytest.mark.parametrize(
    ("slide_ids", "split", "expected"),
    [
        ({"train": ["t"], "validation": ["v"], "test": ["s"]}, "test", ("validation", ["v"])),
        ({"train": ["t"], "validation": ["v"], "test": ["s"]}, "validation", ("train", ["t"])),
        ({"train": ["t"], "validation": [], "test": ["s"]}, "test", ("train", ["t"])),
        ({"train": [], "validation": [], "test": ["s"]}, "test", None),
        ({"train": [*"abcdefghij"], "test": ["s"]}, "test", ("train", [*"abcdefgh"])),
    ],
)
def test_slides_to_tune_on(slide_ids, split, expected):
    source = StackSource("memory", LEVELS, slide_ids, lambda slide_id: np.zeros(0))
    assert tuning_slides(source, split) == expected


def test_figures_show_the_best_of_the_tuned_baselines(workdir):
    _, results = workdir
    shown = choose_baselines(rows_of(results), LEVELS)
    assert shown[:2] == ESTIMATES[:2]
    of_mean = {"section": "deblurring", "levels": "1-3", "quantity": "PSNR"}
    rows = select(rows_of(results), **of_mean, definition=RANGE_1)
    psnr = {row.estimate: row.mean for row in rows if row.estimate in ESTIMATES[2:-2]}
    assert shown[2:] == [max(psnr, key=psnr.__getitem__)]


def test_what_biologists_care_about_is_measured_against_the_truth_alone(workdir):
    _, results = workdir
    for quantity, definition in list(deblurring.MEASURES)[1:]:
        rows = select(rows_of(results), quantity=quantity, definition=definition)
        if quantity == "SSIM":
            continue
        assert {row.section for row in rows} == {"deblurring"}
        assert {row.reference for row in rows} == {"ground truth"}
        assert {row.estimate for row in rows} == {*ESTIMATES}


def test_files_hold_the_results(workdir):
    folder, results = workdir

    def refuse(constant):
        raise AssertionError(f"metrics.json is not JSON: it holds {constant}")

    text = (folder / "metrics.json").read_text()
    assert json.loads(text, parse_constant=refuse) == results
    with (folder / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(results["rows"])
    assert float(lines[0]["mean"]) == results["rows"][0]["mean"]
    for title in ("Deblurring", "Reconstruction and blur synthesis", "Linearity"):
        assert f"## {title}" in (folder / "table.md").read_text()
    pictures = sorted(path.name for path in folder.glob("*.png"))
    assert pictures == [
        "deblurring_1.png",
        "deblurring_2.png",
        "latent_paths.png",
        "psnr_of_deblurring.png",
        "psnr_of_synthesis.png",
        "synthesis_1.png",
        "synthesis_2.png",
    ]


def test_results_are_read_back_until_something_else_would_be_measured(
    workdir, network, source, monkeypatch
):
    folder, results = workdir

    def read(*, step=7, hardware="cpu", **fields):
        other = dataclasses.replace(source, **fields)
        monkeypatch.setattr(inference, "load", lambda path: network._replace(step=step))
        monkeypatch.setattr(data, "open_source", lambda name, *, colour: other)
        monkeypatch.setattr(jax, "devices", lambda: [types.SimpleNamespace(device_kind=hardware)])
        return read_results(folder.parent)

    assert read() == results
    assert read(hardware="TPU") == results
    assert read(step=8) is None
    assert read(name="other") is None
    assert read(paper_channel=None) is None
    assert read(psfs=None) is None
    assert read(slide_ids=source.slide_ids | {"train": ["d"], "validation": []}) is None
    assert read_results(folder / "nothing") is None


def test_averages_keep_their_values_slide_by_slide(workdir):
    _, results = workdir
    assert results["slides"] == ["a", "b", "<c>"]
    for row in results["rows"]:
        kept = not row["levels"].isdigit() and row["definition"] != POOLED
        assert (row["per_slide"] is not None) == kept
        if kept and row["mean"] is not None:
            assert np.mean(row["per_slide"]) == pytest.approx(row["mean"])


def test_the_paper_s_values_stand_beside_ours_in_all_that_people_read(workdir):
    folder, results = workdir
    for text in (
        (folder / "report.html").read_text(),
        (folder / "table.md").read_text(),
        evaluation.format_table(results),
    ):
        assert "The paper's values" in html.unescape(text)
        assert "32.48" in text  # of w2, indirect
        assert "not comparable" not in text


def test_the_report_needs_nothing_else(workdir):
    folder, _ = workdir
    page = (folder / "report.html").read_text()
    assert "http" not in page
    assert "$" not in page
    sources = re.findall(r'src="([^"]{0,22})', page)
    assert sources == ["data:image/png;base64,"] * 7
    assert "<link" not in page
    assert "<script" not in page


def test_the_console_table_puts_the_baselines_beside_deblurring(workdir):
    _, results = workdir
    text = evaluation.format_table(results)
    assert max(map(len, text.splitlines())) <= 120
    for quantity, _ in deblurring.MEASURES:
        block = text[text.index(f"\n{deblurring.title(quantity)}\n") :].split("\n\n")[0]
        assert "(4\N{NO-BREAK SPACE}µm)" in block
        names = [re.split("  +", line)[0] for line in block.splitlines()[1:]]
        assert names[-len(ESTIMATES) :] == ESTIMATES


def test_the_evaluator_knows_no_training():
    for path in pathlib.Path(evaluation.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in getattr(node, "names", []) if hasattr(alias, "name")]
            module = getattr(node, "module", None) or ""
            imported = [module, *names, *(f"{module}.{name}" for name in names)]
            assert not any(name.split(".")[0] == "optax" for name in imported), path
            assert not any(name.startswith("linlatent.training") for name in imported), path
