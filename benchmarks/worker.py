"""The process of one competitor: ``python -m benchmarks.worker MODULE FUNCTION ARGUMENTS``.

It makes a `Workload`, ``benchmarks.MODULE.FUNCTION(**ARGUMENTS)`` with the arguments in JSON, and
says so in a line of JSON on stdout. Every line on stdin then asks for one repeat, which is answered
by a line with its seconds and the peak of the process's memory. It ends with its stdin.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import pathlib
import re
import sys
import time
from typing import Any, TextIO

from benchmarks.workload import WARM_UPS, NotAvailable

PAUSE = 0.3
"""Seconds after a repeat in which XLA gives back memory, lest the next competitor feel it."""


def main() -> None:
    """Serves repeats until stdin ends; while others have their turn it holds little memory."""
    replies = _claim_stdout()
    module, function, arguments = sys.argv[1:]
    try:
        make = getattr(importlib.import_module(f"benchmarks.{module}"), function)
        workload = make(**json.loads(arguments))
        if workload.warm_up:
            workload.run()
    except (ModuleNotFoundError, NotAvailable) as error:
        _reply(replies, {"not_available": str(error)})
        return
    _return_memory()
    pathlib.Path("/proc/self/clear_refs").write_text("5")  # what is held now is the peak so far
    _reply(replies, {"facts": workload.facts})
    for _ in sys.stdin:
        if workload.warm_up:
            for _ in range(WARM_UPS):
                workload.run()
        start = time.perf_counter()
        workload.run()
        seconds = time.perf_counter() - start
        time.sleep(PAUSE)
        _return_memory()
        _reply(replies, {"seconds": seconds, "peak_bytes": _peak_memory()})


def _claim_stdout() -> TextIO:
    """Keeps stdout for the replies: whatever a library prints goes to stderr."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return replies


def _reply(replies: TextIO, content: dict[str, Any]) -> None:
    print(json.dumps(content), file=replies, flush=True)


def _return_memory() -> None:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _peak_memory() -> int:
    """The most memory that the process held at once, in bytes, libraries and all."""
    status = pathlib.Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"VmHWM:\s*(\d+) kB", status)[0])


if __name__ == "__main__":
    main()
