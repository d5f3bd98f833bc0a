"""What a training tells of itself while it runs: its metrics, and how well it feeds the device."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import numpy as np
from etils import epath

from linlatent import devices
from linlatent.training import progress


class NonFiniteLossError(ArithmeticError):
    """The loss is NaN or infinite; the last checkpoint holds the state before."""


class Schedule(NamedTuple):
    """The steps of a training, and those at which something is told.

    Attributes:
      last_step: The step to end with.
      per_epoch: Steps of an epoch.
      per_validation: Steps from one validation and checkpoint to the next.
      per_log: Steps whose metrics are averaged into a line.
    """

    last_step: int
    per_epoch: int
    per_validation: int
    per_log: int

    def is_validated(self, step: int) -> bool:
        """Whether the network is measured and saved after a step."""
        return step % self.per_validation == 0 or step == self.last_step

    def is_logged(self, step: int) -> bool:
        """Whether a line of metrics ends with a step."""
        # Before a checkpoint, too: what resumes from it starts with no records.
        return step % self.per_log == 0 or self.is_validated(step)


class Recorder:
    """Reads metrics one step late, so that no device waits for it; use as a context manager.

    Only the first process writes, but all read, so that all stop where the loss is not finite.

    Args:
      workdir: Folder of ``metrics.jsonl``.
      schedule: The steps of the training.
      first_step: Steps done before.
      triplets_per_step: What a step counts for.
      tensorboard: Whether to write for TensorBoard, too.
      last_good_step: Finds the step of the last checkpoint, or None.
    """

    def __init__(
        self,
        workdir: epath.PathLike,
        schedule: Schedule,
        *,
        first_step: int,
        triplets_per_step: int,
        tensorboard: bool,
        last_good_step: Callable[[], int | None],
    ):
        self._schedule = schedule
        self._last_good_step = last_good_step
        self._bar = progress.Progress(first_step, schedule.last_step, triplets_per_step)
        self._log = (
            progress.MetricsLog(workdir, first_step=first_step, tensorboard=tensorboard)
            if devices.is_first_process()
            else None
        )
        self._records: list[dict[str, float]] = []
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")
        self._pending: _Pending | None = None
        self._ended: float | None = None
        self._idle = self._spent = 0.0

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.shutdown()
        self._bar.close()

    def step(self, number: int, metrics: Mapping[str, jax.Array], *, began: float) -> None:
        """Takes the metrics of a step that the devices have just been given.

        Args:
          number: The number of the step.
          metrics: Its metrics, which need not be there yet.
          began: When its batch was there, by `time.perf_counter`.

        Raises:
          NonFiniteLossError: If the loss of the step before is NaN or infinite.
        """
        before = self._pending
        self._pending = _Pending(number, began, self._reader.submit(_read, metrics))
        if before is not None:
            self._tell(before)

    def finish(self) -> None:
        """Waits for the last step, and tells of it.

        Raises:
          NonFiniteLossError: If its loss is NaN or infinite.
        """
        before, self._pending = self._pending, None
        if before is not None:
            self._tell(before)

    def validation(self, number: int, measured: Mapping[str, float]) -> None:
        """Tells what was measured after a step.

        Raises:
          NonFiniteLossError: If the loss is NaN or infinite.
        """
        self._require_finite(number, "validation", measured)
        self._write(number, "validation", measured)
        self._ended = None  # The time from step to step has been interrupted.
        self._bar.message(
            f"epoch {number / self._schedule.per_epoch:.2f}, step {number}: validation "
            + ", ".join(f"{name} {value:.4f}" for name, value in measured.items())
        )

    def _tell(self, step: _Pending) -> None:
        number, began, reading = step
        record, ended = reading.result()
        self._require_finite(number, "training", record)
        if self._ended is not None:
            self._idle += max(began - self._ended, 0.0)
            self._spent += ended - self._ended
        self._ended = ended
        self._records.append(record)
        self._bar.update(number, record["loss"], self._idle / self._spent if self._spent else 0.0)
        if self._schedule.is_logged(number):
            self._write(number, "train", progress.means(self._records))
            self._records.clear()

    def _write(self, number: int, split: str, values: Mapping[str, float]) -> None:
        if self._log is not None:
            self._log.write(number, split, values)

    def _require_finite(self, number: int, split: str, record: Mapping[str, float]) -> None:
        if all(map(math.isfinite, record.values())):
            return
        values = ", ".join(f"{name} {value}" for name, value in record.items())
        kept = self._last_good_step()
        raise NonFiniteLossError(
            f"the {split} loss is not finite at step {number} ({values}); "
            + (f"the checkpoint of step {kept} is the last good one" if kept else "nothing saved")
            + "; a lower config.learning_rate usually helps, in another workdir, which can start"
            " from this one by config.init_from"
        )


class _Pending(NamedTuple):
    """A step whose metrics have not been read."""

    number: int
    began: float
    reading: Future[tuple[dict[str, float], float]]


def _read(metrics: Mapping[str, jax.Array]) -> tuple[dict[str, float], float]:
    """Waits for the metrics of a step; returns their means over members, and when they came."""
    record = {
        # Not finite where it is so for any member.
        name: float(np.mean(value, dtype=np.float64))
        for name, value in jax.device_get(metrics).items()
    }
    return record, time.perf_counter()
