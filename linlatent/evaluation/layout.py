"""Tables of text: their cells, and how they are set for a console and in Markdown."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from linlatent.evaluation.rows import Row

MISSING = "–"
_HEAD_WIDTH = 7
_DIGITS = {
    "PSNR": 2,
    "PSNR, affine": 2,
    "SSIM": 3,
    "nuclei F1": 3,
    "nuclei area error": 3,
    "LDS": 4,
    "APD": 4,
}


class Table(NamedTuple):
    """A table for people: a title, a line on how to read it, column heads and cells of text."""

    title: str
    caption: str
    header: Sequence[str]
    cells: Sequence[Sequence[str]]


def value_text(value: float | None, quantity: str) -> str:
    """A value in decimals that suit its quantity."""
    return MISSING if value is None else f"{value:.{_DIGITS[quantity]}f}"


def number(row: Row) -> str:
    """A mean with its standard error."""
    mean = value_text(row.mean, row.quantity)
    if row.mean is None or row.standard_error is None:
        return mean
    return f"{mean} ± {value_text(row.standard_error, row.quantity)}"


def level_head(level: int, conditions: Mapping[str, Any]) -> str:
    """A blur level, and its distance from the plane in focus where conditions know it."""
    spacing = conditions["level_spacing_um"]
    if spacing is None:
        return f"{level}"
    return f"{level} ({level * spacing:g}\N{NO-BREAK SPACE}µm)"


def markdown_of(table: Table) -> str:
    """The head and the cells of a table in Markdown."""
    rule = ["---", *["---:"] * (len(table.header) - 1)]
    return "\n".join(
        "| " + " | ".join(cells) + " |" for cells in (table.header, rule, *table.cells)
    )


def to_text(table: Table) -> str:
    """Title, head and cells in aligned columns; heads are wrapped."""
    widths = [
        max(_HEAD_WIDTH, *(len(line[column]) for line in table.cells))
        for column in range(len(table.header))
    ]
    heads = [
        textwrap.wrap(head, width, break_long_words=False) or [""]
        for head, width in zip(table.header, widths, strict=True)
    ]
    lines = [*itertools.zip_longest(*heads, fillvalue=""), *table.cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(widths))]
    aligned = [
        "  ".join(
            text.ljust(width) if column == 0 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    ]
    return "\n".join([table.title, *aligned])
