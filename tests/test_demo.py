"""The whole demo, as `make demo` runs it: minutes long, hence only in `make test-slow`."""

import json
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_demo_reconstructs_every_level_of_slides_it_never_saw(tmp_path):
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

    rows = json.loads((workdir / "evaluation" / "metrics.json").read_text())["rows"]
    decibels = {
        row["levels"]: row["mean"]
        for row in rows
        if (row["section"], row["quantity"]) == ("reconstruction", "PSNR")
        and row["definition"] == "per image, range 1"
    }
    assert {str(level) for level in range(9)} <= decibels.keys()
    assert min(decibels.values()) >= 24
