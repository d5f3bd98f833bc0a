"""What a competitor offers: work that is ready to be repeated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

WARM_UPS = 1
"""Runs after a pause that do not count: caches are cold, and memory was given back."""


class Workload(NamedTuple):
    """Work on data of its own, compiled where it can be ahead of time.

    Attributes:
      run: Does the work once and returns when it is done.
      facts: What the results should say about it, as JSON.
      warm_up: Whether the first runs after a pause are unlike the next ones and should not count.
    """

    run: Callable[[], object]
    facts: dict[str, Any]
    warm_up: bool = True


class NotAvailable(Exception):  # noqa: N818 (nothing went wrong)
    """This competitor cannot run on this machine; the message says why."""
