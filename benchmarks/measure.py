"""Measurement: competitors in processes of their own that take turns."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.plan import Job, title
from linlatent import devices

ROOT = pathlib.Path(__file__).parents[1]


class Worker:
    """The process of one competitor; see `worker`.

    Attributes:
      seconds_to_ready: From its start until it was ready to be measured.
      facts: What it says about itself.
      not_available: Why it cannot be measured, or None.
    """

    def __init__(self, job: Job, environment: Mapping[str, str] | None = None):
        start = time.perf_counter()
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by close)
        tunables = f"{devices.HUGE_PAGES}={int(job.huge_pages)}"
        command = (sys.executable, "-m", "benchmarks.worker", job.module, job.function)
        self._process = subprocess.Popen(
            [*command, json.dumps(dict(job.arguments))],
            cwd=ROOT,
            env={
                **os.environ,
                **{"JAX_PLATFORMS": "cpu", "GLIBC_TUNABLES": tunables},
                **(environment or {}),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        reply = self._reply()
        self.seconds_to_ready = time.perf_counter() - start
        self.facts: dict[str, Any] = reply.get("facts", {})
        self.not_available: str | None = reply.get("not_available")

    def repeat(self) -> dict[str, Any]:
        """Asks for one repeat and waits: ``seconds`` and ``peak_bytes``."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):  # then there is no reply either
            print(file=self._process.stdin, flush=True)
        reply = self._reply()
        self.not_available = reply.get("not_available")
        return reply

    def close(self) -> None:
        """Ends the process."""
        self._process.communicate()
        self._errors.close()

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        self._errors.seek(0)
        lines = self._errors.read().splitlines() or ["no message"]
        return {"not_available": f"ended with status {self._process.wait()}: {lines[-1]}"}


class Progress:
    """Prints what was measured and about how long the rest will take.

    Args:
      total: All that there is to do, in any unit.
    """

    def __init__(self, total: float):
        self._total, self._done, self._start = total, 0.0, time.perf_counter()

    def add(self, work: float, message: str) -> None:
        """Counts work that is done, and prints a line."""
        self._done += work
        elapsed = time.perf_counter() - self._start
        left = elapsed * (self._total / self._done - 1) / 60
        print(
            f"{self._done / self._total:4.0%}  {message:<68} about {left:.0f} min left", flush=True
        )


def seconds_of(jobs: Sequence[Job]) -> float:
    """About how long `take_turns` takes."""
    return sum(job.seconds_to_ready + job.repeats * job.seconds for job in jobs)


def take_turns(jobs: Sequence[Job], progress: Progress) -> list[dict[str, Any]]:
    """Starts all competitors of a group, then measures one repeat of each, round after round.

    Only one of them works at a time; one that waits holds little memory.

    Args:
      jobs: The competitors and their tasks.
      progress: Is told of every repeat.

    Returns:
      A row for each job: its own, what it says about itself, ``seconds`` (see `summary`) and
      ``peak_bytes``; or ``not_available`` with the reason.
    """
    with contextlib.ExitStack() as stack:
        workers = []
        for job in jobs:
            worker = Worker(job)
            stack.callback(worker.close)
            workers.append(worker)
            progress.add(
                job.seconds_to_ready, f"{title(job.row)}: {worker.not_available or 'ready'}"
            )
        replies: list[list[dict[str, Any]]] = [[] for _ in jobs]
        for turn in range(max(job.repeats for job in jobs)):
            for job, worker, answers in zip(jobs, workers, replies, strict=True):
                if turn >= job.repeats:
                    continue
                message = worker.not_available
                if not message:
                    answers.append(worker.repeat())
                    message = worker.not_available or f"{answers[-1]['seconds']:.3f} s"
                progress.add(job.seconds, f"{title(job.row)}: {message}")
        return [
            _row(job, worker, answers)
            for job, worker, answers in zip(jobs, workers, replies, strict=True)
        ]


def first_steps(job: Job, progress: Progress) -> list[dict[str, Any]]:
    """Times new processes until the end of their first step, in pairs.

    Args:
      job: A training of linlatent.
      progress: Is told of every process.

    Returns:
      A row for the processes that compile, ``cold``, and one for those that find JAX's persistent
      compilation cache, ``cached``.
    """
    seconds: dict[str, list[float]] = {"cold": [], "cached": []}
    for _ in range(job.repeats):
        with tempfile.TemporaryDirectory() as cache:
            environment = {
                "JAX_COMPILATION_CACHE_DIR": cache,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            }
            for state, values in seconds.items():
                worker = Worker(job, environment)
                worker.close()
                if worker.not_available:
                    raise RuntimeError(f"linlatent cannot train: {worker.not_available}")
                values.append(worker.seconds_to_ready)
                progress.add(job.seconds_to_ready, f"first step, {state}: {values[-1]:.3f} s")
    return [
        {**job.row, "competitor": state, "seconds": summary(values)}
        for state, values in seconds.items()
    ]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, range and number of some measurements."""
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
        "repeats": len(values),
    }


def _row(job: Job, worker: Worker, replies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if worker.not_available:
        return {**job.row, "not_available": worker.not_available}
    return {
        **job.row,
        **worker.facts,
        "seconds": summary([reply["seconds"] for reply in replies]),
        "peak_bytes": max(reply["peak_bytes"] for reply in replies),
    }
