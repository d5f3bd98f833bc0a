"""The sources of focal stacks by name."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from linlatent.data.stack import StackSource

SOURCES = {
    "synthetic": "linlatent.data.synthetic",
    "folder": "linlatent.data.folder",
    "in_focus": "linlatent.data.in_focus",
    "bbbc006": "linlatent.data.bbbc006",
}
"""Name of a source: the module whose `open_source(**options)` opens it, imported when asked for."""


def open_source(name: str, **options: Any) -> StackSource:
    """Opens a source of focal stacks.

    Args:
      name: One of ``SOURCES``.
      **options: The source's own options; its module's `open_source` explains them.

    Returns:
      The source.

    Raises:
      ValueError: If the source or an option is unknown, or a needed option is missing; what the
        source itself raises comes through as it is.
    """
    if name not in SOURCES:
        raise ValueError(f"unknown data source {name!r}; choose one of {', '.join(SOURCES)}")
    opener = importlib.import_module(SOURCES[name]).open_source
    signature = inspect.signature(opener)
    try:
        signature.bind(**options)
    except TypeError as error:
        raise ValueError(
            f"data source {name!r}: {error}; its options are {', '.join(signature.parameters)}"
        ) from error
    return opener(**options)
