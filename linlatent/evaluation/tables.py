"""The results as data, one `Row` per number, and the few tables people read."""

from __future__ import annotations

import csv
import io
import itertools
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from linlatent.evaluation.baselines import BASELINES
from linlatent.metrics import summarise

RANGE_1 = "per image, range 1"
EQ_7 = "per image, range = maximum of the target (Eq. 7)"
POOLED = "pooled, range = maximum of all targets (published code)"

_MISSING = "–"
_HEAD_WIDTH = 7


class Row(NamedTuple):
    """One number of an evaluation.

    Attributes:
      section: ``latent space``, ``reconstruction``, ``blur synthesis`` or ``deblurring``.
      estimate: What was measured, such as ``deblurred`` or ``untouched input``.
      reference: What it was measured against: ``ground truth``, ``reconstruction`` or nothing.
      levels: Blur level of the input, or the first and last of those averaged over: ``1-7``.
      quantity: ``PSNR`` (dB), ``SSIM``, ``LDS`` or ``APD``.
      definition: Which of the definitions of the quantity.
      mean: Mean over slides; None where it is not finite, as PSNR of identical images.
      standard_error: Standard error of that mean over slides, None for one slide and pooled values.
      n: Number of slides.
    """

    section: str
    estimate: str
    reference: str
    levels: str
    quantity: str
    definition: str
    mean: float | None
    standard_error: float | None
    n: int


class Table(NamedTuple):
    """A table for people: a title, a line on how to read it, column heads and cells of text."""

    title: str
    caption: str
    header: Sequence[str]
    cells: Sequence[Sequence[str]]


def make_row(
    section: str,
    estimate: str,
    reference: str,
    levels: str,
    quantity: str,
    definition: str,
    values: npt.ArrayLike,
) -> Row:
    """Summarises values per slide ``(n,)`` to a row."""
    mean, error, n = summarise(values)
    return Row(
        section, estimate, reference, levels, quantity, definition, _finite(mean), _finite(error), n
    )


def span(first: int, last: int) -> str:
    """How `Row.levels` names an average over blur levels."""
    return f"{first}-{last}"


def select(rows: Sequence[Row], **fields: Any) -> list[Row]:
    """The rows whose fields have the given values, in their order."""
    return [
        row for row in rows if all(getattr(row, name) == value for name, value in fields.items())
    ]


def reading_tables(rows: Sequence[Row], conditions: Mapping[str, Any]) -> list[Table]:
    """The tables of the console, of ``table.md`` and of the report.

    Args:
      rows: All rows of an evaluation.
      conditions: Its conditions: ``num_levels`` and ``level_spacing_um`` are used.

    Returns:
      Deblurring per level, reconstruction and synthesis per level, the paper's Table 1 under each
      definition, and linearity of the latent space.
    """
    last, spacing = conditions["num_levels"] - 1, conditions["level_spacing_um"]
    everything, interior = span(0, last), span(1, last - 1)

    def cell(estimate: str, reference: str, levels: str, quantity: str, section: str) -> str:
        definition = RANGE_1
        return _cell(rows, section, estimate, reference, levels, quantity, definition)

    def heading(level: int) -> str:
        return f"{level}" if spacing is None else f"{level} ({level * spacing:g} µm)"

    candidates = (*BASELINES, "deblurred")
    deblurring = [
        [
            label,
            *(cell(name, "ground truth", key, "PSNR", "deblurring") for name in candidates),
            *(cell(name, "ground truth", key, "SSIM", "deblurring") for name in candidates),
        ]
        for label, key in (
            *((heading(level), str(level)) for level in range(1, last)),
            (f"mean of {interior}", interior),
        )
    ]
    levels = [
        [
            label,
            cell("reconstruction", "ground truth", key, "PSNR", "reconstruction"),
            cell("synthesised", "ground truth", key, "PSNR", "blur synthesis"),
            cell("synthesised", "reconstruction", key, "PSNR", "blur synthesis"),
            cell("reconstruction", "ground truth", key, "SSIM", "reconstruction"),
            cell("synthesised", "ground truth", key, "SSIM", "blur synthesis"),
        ]
        for label, key in (
            *((heading(level), str(level)) for level in range(last + 1)),
            (f"mean of {everything}", everything),
            (f"mean of {interior}", interior),
        )
    ]
    return [
        Table(
            "Deblurring",
            "Estimates of the in-focus plane from input b and the blurriest plane, against the true"
            " in-focus plane. PSNR in dB and SSIM per image, range 1.",
            [
                "input b",
                *(f"{name}, PSNR" for name in candidates),
                *(f"{name}, SSIM" for name in candidates),
            ],
            deblurring,
        ),
        Table(
            "Reconstruction and blur synthesis",
            "Every level from its own latent (reconstruction), or from the latents of the two end"
            " points only (synthesised). PSNR in dB and SSIM per image, range 1. At the end points"
            f" both are one image: a PSNR against the reconstruction is infinite ({_MISSING}).",
            [
                "blur level",
                "reconstruction vs truth, PSNR",
                "synthesised vs truth, PSNR",
                "synthesised vs reconstruction, PSNR",
                "reconstruction vs truth, SSIM",
                "synthesised vs truth, SSIM",
            ],
            levels,
        ),
        _definitions_table(rows, everything, interior),
        _linearity_table(rows),
    ]


def format_table(results: dict[str, Any]) -> str:
    """The results for a console: what `reading_tables` makes of them, under their conditions."""
    rows = rows_of(results)
    tables = reading_tables(rows, results["conditions"])
    conditions = textwrap.fill(_conditions_line(results["conditions"]), 100)
    return "\n\n".join([conditions, *map(_to_text, tables)])


def to_markdown(results: dict[str, Any]) -> str:
    """The same tables in Markdown."""
    blocks = [_conditions_line(results["conditions"])]
    for table in reading_tables(rows_of(results), results["conditions"]):
        rule = ["---", *["---:"] * (len(table.header) - 1)]
        lines = ["| " + " | ".join(cells) + " |" for cells in (table.header, rule, *table.cells)]
        blocks += [f"## {table.title}", table.caption, "\n".join(lines)]
    return "\n\n".join(blocks) + "\n"


def to_csv(rows: Sequence[Row]) -> str:
    """All rows as CSV with a header; what is not finite is left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Row._fields)
    writer.writerows(rows)
    return text.getvalue()


def readable(conditions: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The conditions of an evaluation as names and values for people."""
    return [
        (name.replace("_um", " (µm)").replace("_", " "), "unknown" if value is None else str(value))
        for name, value in conditions.items()
    ]


def rows_of(results: dict[str, Any]) -> list[Row]:
    """The rows of a results dictionary, such as one read from ``metrics.json``."""
    return [Row(**row) for row in results["rows"]]


def _definitions_table(rows: Sequence[Row], everything: str, interior: str) -> Table:
    """The four PSNRs of the paper's Table 1, and what they should be compared with."""
    lines = [
        ("blur synthesis", "synthesised", "reconstruction", everything),
        ("blur synthesis", "synthesised", "reconstruction", interior),
        ("blur synthesis", "synthesised", "ground truth", everything),
        ("blur synthesis", "synthesised", "ground truth", interior),
        ("deblurring", "deblurred", "reconstruction", interior),
        ("deblurring", "deblurred", "ground truth", interior),
        *(("deblurring", name, "ground truth", interior) for name in BASELINES),
    ]
    return Table(
        "The four PSNRs of the paper's Table 1, under each definition",
        "PSNR in dB. The published code pools the squared errors of all images, end points"
        " included, and takes the maximum of all targets as range; the paper's Eq. 7 is per image"
        f" and takes the maximum of each target. {_MISSING}: infinite, for the reason above.",
        ["", "levels", "published code, pooled", "Eq. 7, per image", "range 1, per image", "SSIM"],
        [
            [
                f"{estimate} vs {'sharp ' if section == 'deblurring' else ''}{reference}",
                levels,
                *(
                    _cell(rows, section, estimate, reference, levels, quantity, definition)
                    for quantity, definition in (
                        ("PSNR", POOLED),
                        ("PSNR", EQ_7),
                        ("PSNR", RANGE_1),
                        ("SSIM", RANGE_1),
                    )
                ),
            ]
            for section, estimate, reference, levels in lines
        ],
    )


def _linearity_table(rows: Sequence[Row]) -> Table:
    return Table(
        "Linearity of the latent space",
        "How straight (LDS, 1 is best) and how evenly spaced (APD, 0 is best) the latents of a"
        " slide lie along blur.",
        ["quantity", "definition", "mean ± standard error", "n"],
        [
            [row.quantity, row.definition, _number(row), str(row.n)]
            for row in select(rows, section="latent space")
        ],
    )


_DIGITS = {"PSNR": 2, "SSIM": 3, "LDS": 4, "APD": 4}


def _cell(
    rows: Sequence[Row],
    section: str,
    estimate: str,
    reference: str,
    levels: str,
    quantity: str,
    definition: str,
) -> str:
    (row,) = select(
        rows,
        section=section,
        estimate=estimate,
        reference=reference,
        levels=levels,
        quantity=quantity,
        definition=definition,
    )
    return _number(row)


def _number(row: Row) -> str:
    if row.mean is None:
        return _MISSING
    digits = _DIGITS[row.quantity]
    if row.standard_error is None:
        return f"{row.mean:.{digits}f}"
    return f"{row.mean:.{digits}f} ± {row.standard_error:.{digits}f}"


def _to_text(table: Table) -> str:
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


def _conditions_line(conditions: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in readable(conditions))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
