"""The program as its user starts it: trains, resumes, evaluates, and says what is wrong."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "main.py", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Three steps of a narrow network on the embedded data, which it generates first."""
    folder = tmp_path_factory.mktemp("main")
    return [
        "--config=configs/indirect.py",
        f"--workdir={folder / 'workdir'}",
        "--config.model.widths=(4, 8)",
        "--config.data.crop_size=64",
        "--config.data.synthetic.config=w1_tiny",
        f"--config.data.synthetic.data_dir={folder / 'data'}",
        "--config.num_steps=3",
        "--config.batch_size=4",
    ]


@pytest.fixture(scope="module")
def trained(command):
    return run(*command)


@pytest.fixture(scope="module")
def workdir(command, trained):
    assert trained.returncode == 0, trained.stderr
    return pathlib.Path(command[1].removeprefix("--workdir="))


def test_it_trains(workdir, trained):
    assert "steps 0 to 3" in trained.stderr
    assert "Traceback" not in trained.stderr
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["split"] for line in lines] == ["train", "validation"]
    fields = json.loads((workdir / "config.json").read_text())
    assert (fields["model"]["widths"], fields["data"]["crop_size"]) == ([4, 8], 64)


def test_the_same_command_again_goes_on_at_step_3(workdir, command):
    again = run(*command)
    assert again.returncode == 0, again.stderr
    assert "already trained for 3 steps of 3" in again.stderr
    assert len((workdir / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_workdir_is_all_that_evaluation_needs(workdir):
    evaluated = run(f"--workdir={workdir}", "--mode=evaluate")
    assert evaluated.returncode == 0, evaluated.stderr
    report = workdir / "evaluation" / "report.html"
    assert evaluated.stdout.splitlines()[-1] == f"report: {report}"
    assert "untouched" in evaluated.stdout
    assert "checkpoint step: 3" in " ".join(evaluated.stdout.split())
    assert report.read_text().startswith("<!DOCTYPE html>")


def test_an_impossible_value_ends_in_one_line(command):
    failed = run(*command, "--config.objective=sharpness")
    assert failed.returncode == 1
    assert failed.stderr.splitlines() == [
        "error: config.objective is 'sharpness', expected one of baseline, indirect, direct,"
        " extrapolated, separated, separated_blur, separated_pair"
    ]


def test_an_unknown_field_is_refused(command):
    failed = run(*command, "--config.learning_rat=1")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: a --config.FIELD names no field of the configuration")
    assert 'Did you mean "learning_rate"' in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("indirect.py:best", "unknown recipe 'best'; choose one of printed, published"),
        ("quickstart.py:published", "this configuration takes no recipe after a colon"),
    ],
)
def test_an_impossible_recipe_ends_in_one_line(config, message):
    failed = run(f"--config=configs/{config}", "--workdir=unused", "--config.seed=1")
    assert failed.returncode == 1
    assert failed.stderr.splitlines() == [f"error: flag --config=configs/{config}: {message}"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode=train"], "Flag --workdir must have a value other than None"),
        (["--workdir=unused"], "training needs a --config, such as --config=configs/indirect.py"),
        (["--workdir=unused", "--mode=dream"], "<train|evaluate|train_and_evaluate>"),
        (["--workdir=unused", "--config=nowhere.py", "--config.seed=1"], "No such file"),
        (["--workdir=unused", "--mode=evaluate", "left"], "unexpected arguments: left"),
    ],
)
def test_mistakes_in_the_flags_are_told(arguments, message):
    failed = run(*arguments)
    assert failed.returncode == 1
    assert message in failed.stdout + failed.stderr
    assert "Traceback" not in failed.stderr
    assert not (ROOT / "unused").exists()
