"""Two processes of main.py train together, on two devices each, as one process would."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from linlatent.training import train

ROOT = pathlib.Path(__file__).parents[1]
TIMEOUT = 300


def free_port():
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def run_together(arguments, cache):
    """Runs main.py in two processes; returns what each wrote to stderr."""
    command = [
        *(sys.executable, "main.py", *arguments),
        *(f"--coordinator_address=localhost:{free_port()}", "--num_processes=2"),
    ]
    # Everything is kept, even what compiles fast.
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": "2",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XDG_CACHE_HOME": str(cache),
    }
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    processes = [
        subprocess.Popen(
            [*command, f"--process_id={number}"],
            **{"cwd": ROOT, "env": environment, "text": True},
            **{"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE},
        )
        for number in range(2)
    ]
    try:
        told = [process.communicate(timeout=TIMEOUT)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    codes = [process.wait() for process in processes]
    assert codes == [0, 0], "\n".join(told)
    return told


def metrics_of(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("processes")


@pytest.fixture(scope="module")
def arguments(tiny_config, folder):
    """The flags of `tiny_config`."""
    fields = tiny_config().to_dict()
    tiny = {
        **{name: fields[name] for name in ("learning_rate", "batch_size", "log_every_steps")},
        **{"model.widths": fields["model"]["widths"]},
        **{f"data.{name}": fields["data"][name] for name in ("source", "crop_size")},
        **{
            f"data.folder.{name}": fields["data"]["folder"][name]
            for name in ("path", "in_focus", "direction", "split")
        },
    }
    return [
        "--config=configs/default.py",
        f"--workdir={folder / 'workdir'}",
        *(f"--config.{name}={value}" for name, value in tiny.items()),
    ]


@pytest.fixture(scope="module")
def runs(arguments, folder):
    """What two processes say of an epoch, and two others of the half that follows."""
    return [
        run_together([*arguments, f"--config.num_steps={steps}"], folder / "cache")
        for steps in (4, 6)
    ]


@pytest.fixture(scope="module")
def workdir(runs, folder):
    return folder / "workdir"


def test_their_losses_are_those_of_one(workdir, trained):
    together, alone = metrics_of(workdir), metrics_of(trained.workdir)
    assert [record.keys() for record in together] == [record.keys() for record in alone]
    for actual, expected in zip(together, alone, strict=True):
        assert actual.pop("split") == expected.pop("split")
        assert actual == pytest.approx(expected, rel=1e-5)


def test_the_first_one_speaks_for_both(runs):
    for (first, second), steps in zip(runs, ["0 to 4", "4 to 6"], strict=True):
        assert f"steps {steps}, 4 an epoch, on 4 x cpu" in first
        assert second == ""


def test_what_they_compile_is_kept(runs, folder):
    kept = [path.name for path in (folder / "cache" / "linlatent" / "jax").iterdir()]
    assert any(name.startswith("jit_train_step-") for name in kept)


def test_their_checkpoint_is_one_processes_too(workdir, trained, tiny_config):
    state = train(tiny_config(), workdir)
    assert int(state.step) == 6
    jax.tree.map(
        lambda actual, expected: np.testing.assert_allclose(actual, expected, atol=1e-4),
        state.variables,
        trained.state.variables,
    )


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--num_processes=2", "--process_id, all three, or --distributed alone"),
        ("--distributed", "no other processes are to be found: expected the environment of a TPU"),
    ],
)
def test_processes_that_are_not_to_be_found_are_told(arguments, flag, message):
    clusters = ("SLURM_", "OMPI_", "KUBERNETES_", "JAX_COORDINATOR")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(clusters)}
    failed = subprocess.run(
        [sys.executable, "main.py", *arguments, flag],
        **{"cwd": ROOT, "env": environment, "capture_output": True, "text": True},
        check=False,
        timeout=TIMEOUT,
    )
    assert failed.returncode == 1
    assert len(failed.stderr.splitlines()) == 1
    assert message in failed.stderr
