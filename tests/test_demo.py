"""The whole demo, as `make demo` runs it: minutes long, hence only in `make test-slow`."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_demo_deblurs_slides_it_never_saw_better_than_a_tuned_deconvolution(tmp_path):
    workdir = tmp_path / "demo"
    done = subprocess.run(
        [
            *(sys.executable, "main.py", "--config=configs/quickstart.py"),
            *(f"--workdir={workdir}", "--mode=train_and_evaluate"),
            f"--config.data.synthetic.data_dir={tmp_path / 'data'}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    report = workdir / "evaluation" / "report.html"
    assert done.stdout.splitlines()[-1] == f"report: {report}"
    assert report.exists()
    assert "untouched" in done.stdout

    decibels = {
        (row["estimate"], row["levels"]): row["mean"]
        for row in json.loads((workdir / "evaluation" / "metrics.json").read_text())["rows"]
        if (row["quantity"], row["definition"]) == ("PSNR", "per image, range 1")
        and row["reference"] == "ground truth"
    }
    assert min(decibels["reconstruction", str(level)] for level in range(9)) >= 45
    for level in map(str, range(1, 8)):
        deblurred = decibels["deblurred, anchored", level]
        assert deblurred > decibels["Richardson-Lucy, Gaussian PSF", level]
        assert deblurred > decibels["untouched input", level] + 1
