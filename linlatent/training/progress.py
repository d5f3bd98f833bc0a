"""How training shows where it is: a bar on a terminal, plain log lines elsewhere, and files."""

from __future__ import annotations

import json
import logging
import math
import sys
import time
from collections.abc import Iterable, Mapping

from etils import epath
from tqdm import tqdm

from linlatent import devices

logger = logging.getLogger("linlatent")

_SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows loss, triplets/s, how idle the devices are, and the time left.

    Devices are idle when a step is done and the next has no batch yet: the data come too slowly.

    Args:
      first_step: Steps done before.
      last_step: Steps to be done in all.
      triplets_per_step: What a step counts for.
    """

    def __init__(self, first_step: int, last_step: int, triplets_per_step: int):
        self._terminal = sys.stderr.isatty() and devices.is_first_process()
        self._triplets_per_step = triplets_per_step
        self._next_line = time.monotonic() + _SECONDS_BETWEEN_LINES
        self._last_step = last_step
        self._bar = tqdm(
            desc="training",
            total=last_step * triplets_per_step,
            initial=first_step * triplets_per_step,
            unit=" triplets",
            unit_scale=True,
            disable=None if self._terminal else True,
            dynamic_ncols=True,
        )
        self._timed_from: tuple[int, float] | None = None

    def close(self) -> None:
        """Leaves the bar as it is."""
        self._bar.close()

    def update(self, step: int, loss: float, idle: float) -> None:
        """Tells that `step` steps are done, the last with this loss, and the share of idle time."""
        now = time.monotonic()
        if self._timed_from is None:  # The first step was compiled: it tells nothing of the others.
            self._timed_from = step, now
        if self._terminal:
            self._bar.set_postfix(loss=f"{loss:.4f}", step=step, idle=f"{idle:.0%}", refresh=False)
            self._bar.update(self._triplets_per_step)
        elif now >= self._next_line or step == self._last_step:
            self._next_line = now + _SECONDS_BETWEEN_LINES
            text = f"step {step} of {self._last_step}: loss {loss:.4f}"
            first, began = self._timed_from
            if step > first:
                seconds = (now - began) / (step - first)
                left = tqdm.format_interval(seconds * (self._last_step - step))
                rate = self._triplets_per_step / seconds
                text += f", {rate:.1f} triplets/s, idle {100 * idle:.0f} %, {left} left"
            logger.info("%s", text)

    def message(self, text: str) -> None:
        """Prints a line without breaking the bar."""
        if self._terminal:
            self._bar.write(text, file=sys.stderr)
        else:
            logger.info("%s", text)


class MetricsLog:
    """``metrics.jsonl`` of a workdir, one JSON object a line, and TensorBoard if asked for.

    Each line has ``step``, ``split`` (train or validation) and the values. Lines beyond the step
    that a training resumes from are dropped, so that none stands there twice.
    """

    def __init__(self, workdir: epath.PathLike, *, first_step: int, tensorboard: bool):
        self._path = epath.Path(workdir) / "metrics.jsonl"
        lines = self._path.read_text().splitlines() if self._path.exists() else []
        kept = [line for line in lines if _step_of(line) <= first_step]
        self._path.write_text("".join(line + "\n" for line in kept))
        self._writer = None
        if tensorboard:
            from tensorboardX import SummaryWriter  # Optional: slow to import.

            self._writer = SummaryWriter(str(epath.Path(workdir) / "tensorboard"))

    def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Appends a line."""
        record = {"step": step, "split": split, **{k: float(v) for k, v in values.items()}}
        with self._path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(f"{split}/{name}", value, step)


def _step_of(line: str) -> float:
    """The step of a line; beyond all steps if a crash cut the line short."""
    try:
        return json.loads(line)["step"]
    except json.JSONDecodeError:
        return math.inf


def means(records: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Averages records that have the same names."""
    records = list(records)
    return {name: sum(record[name] for record in records) / len(records) for name in records[0]}
