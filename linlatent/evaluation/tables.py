"""The few tables that people read: on the console, in Markdown and in the report."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from linlatent.evaluation import deblurring, paper
from linlatent.evaluation.layout import (
    MISSING,
    Table,
    level_head,
    markdown_of,
    number,
    to_text,
    value_text,
)
from linlatent.evaluation.members import spread
from linlatent.evaluation.rows import (
    EQ_7,
    POOLED,
    RANGE_1,
    Row,
    baselines_of,
    one,
    rows_of,
    rows_of_members,
    select,
    span,
)


def reading_tables(rows: Sequence[Row], conditions: Mapping[str, Any]) -> list[Table]:
    """The tables of the console, of ``table.md`` and of the report.

    Args:
      rows: All rows of an evaluation.
      conditions: Its conditions: ``num_levels``, ``level_spacing_um``, ``objective`` and
        ``paper_channel`` are used.

    Returns:
      Deblurring by each of `deblurring.MEASURES`, reconstruction and synthesis per level, the
      paper's values beside ours, its Table 1 under each definition, and linearity of the latent
      space.
    """
    last = conditions["num_levels"] - 1
    everything, interior = span(0, last), span(1, last - 1)

    def cell(estimate: str, reference: str, levels: str, quantity: str, section: str) -> str:
        return number(
            one(
                rows,
                section=section,
                estimate=estimate,
                reference=reference,
                levels=levels,
                quantity=quantity,
                definition=RANGE_1,
            )
        )

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
            *((level_head(level, conditions), str(level)) for level in range(last + 1)),
            (f"mean of {everything}", everything),
            (f"mean of {interior}", interior),
        )
    ]
    return [
        *deblurring.by_measure(rows, conditions),
        Table(
            "Reconstruction and blur synthesis",
            "Every level from its own latent (reconstruction), or from the latents of the two end"
            " points only (synthesised). PSNR in dB and SSIM per image, range 1. At the end points"
            f" both are one image: a PSNR against the reconstruction is infinite ({MISSING}).",
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
        _paper_table(rows, conditions),
        _definitions_table(rows, everything, interior),
        _linearity_table(rows),
    ]


def tables_of(results: dict[str, Any]) -> list[Table]:
    """What `reading_tables` makes of results.

    Where baselines have settings, a table of them follows; of an ensemble the spread over members.
    """
    conditions = results["conditions"]
    tables = reading_tables(rows_of(results), conditions)
    if results["baseline_settings"]:
        tables.append(deblurring.settings_table(results["baseline_settings"], conditions))
    members = rows_of_members(results)
    if members:
        tables.append(_spread_table(members, conditions["num_levels"]))
    return tables


def format_table(results: dict[str, Any]) -> str:
    """The results for a console: what `tables_of` makes of them, under their conditions."""
    tables = tables_of(results)
    conditions = textwrap.fill(_conditions_line(results["conditions"]), 100)
    return "\n\n".join([conditions, *map(to_text, tables)])


def to_markdown(results: dict[str, Any]) -> str:
    """The same tables in Markdown."""
    blocks = [_conditions_line(results["conditions"])]
    for table in tables_of(results):
        blocks += [f"## {table.title}", table.caption, markdown_of(table)]
    return "\n\n".join(blocks) + "\n"


def readable(conditions: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The conditions of an evaluation as names and values for people."""
    unset = {"level_spacing_um": "unknown"}
    return [
        (
            name.replace("_um", " (µm)").replace("_", " "),
            unset.get(name, "none") if value is None else str(value),
        )
        for name, value in conditions.items()
    ]


def _paper_table(rows: Sequence[Row], conditions: Mapping[str, Any]) -> Table:
    """The lines of the paper's tables with its values, ours, and what lies between."""
    lines = []
    for quantity in paper.QUANTITIES:
        ours = paper.published_row(rows, quantity, conditions["num_levels"])
        printed = paper.printed_row(rows, quantity, conditions["num_levels"])
        lines.append(
            [
                quantity.name,
                paper.value_text(conditions, quantity),
                number(ours),
                _difference(ours.mean, paper.value(conditions, quantity), quantity.digits),
                number(printed),
            ]
        )
    return Table(
        "The paper's values",
        f"{paper.CONDITIONS} Eq. 5, 6 and 7 are means over slides, those of PSNR per image and of"
        " the levels between the end points. Ours: under the conditions of this evaluation.",
        ["", "the paper", "ours, published code", "difference", "ours, Eq. 5, 6 and 7"],
        lines,
    )


def _definitions_table(rows: Sequence[Row], everything: str, interior: str) -> Table:
    """The four PSNRs of the paper's Table 1, and what they should be compared with."""
    lines = [
        ("blur synthesis", "synthesised", "reconstruction", everything),
        ("blur synthesis", "synthesised", "reconstruction", interior),
        ("blur synthesis", "synthesised", "ground truth", everything),
        ("blur synthesis", "synthesised", "ground truth", interior),
        ("deblurring", "deblurred", "reconstruction", interior),
        ("deblurring", "deblurred", "ground truth", interior),
        *(("deblurring", name, "ground truth", interior) for name in baselines_of(rows)),
    ]
    return Table(
        "The four PSNRs of the paper's Table 1, under each definition",
        "PSNR in dB. The published code pools the squared errors of all images, end points"
        " included, and takes the maximum of all targets as range; the paper's Eq. 7 is per image"
        f" and takes the maximum of each target. {MISSING}: infinite, since at the end points the"
        " two are one image.",
        ["", "levels", "published code, pooled", "Eq. 7, per image", "range 1, per image", "SSIM"],
        [
            [
                f"{estimate} vs {'sharp ' if section == 'deblurring' else ''}{reference}",
                levels,
                *(
                    number(one(of_line, quantity=quantity, definition=definition))
                    for quantity, definition in (
                        ("PSNR", POOLED),
                        ("PSNR", EQ_7),
                        ("PSNR", RANGE_1),
                        ("SSIM", RANGE_1),
                    )
                ),
            ]
            for section, estimate, reference, levels in lines
            for of_line in [
                select(rows, section=section, estimate=estimate, reference=reference, levels=levels)
            ]
        ],
    )


def _linearity_table(rows: Sequence[Row]) -> Table:
    return Table(
        "Linearity of the latent space",
        "How straight (LDS, 1 is best) and how evenly spaced (APD, 0 is best) the latents of a"
        " slide lie along blur.",
        ["quantity", "definition", "mean ± standard error", "n"],
        [
            [row.quantity, row.definition, number(row), str(row.n)]
            for row in select(rows, section="latent space")
        ],
    )


def _spread_table(members: Sequence[Sequence[Row]], num_levels: int) -> Table:
    return Table(
        "Spread over initialisations",
        "The members of the ensemble began with other weights and saw the same batches. All other"
        " numbers are means over them, their standard errors those of a typical member over slides;"
        " pictures of slides show member 0.",
        ["quantity", "mean over members", "standard deviation over members", "n"],
        [
            [
                each.name,
                *(
                    value_text(value, each.quantity)
                    for value in (each.mean, each.standard_deviation)
                ),
                str(each.n),
            ]
            for each in spread(members, num_levels)
        ],
    )


def _difference(ours: float | None, theirs: float | None, digits: int) -> str:
    return MISSING if ours is None or theirs is None else f"{ours - theirs:+.{digits}f}"


def _conditions_line(conditions: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {value}" for name, value in readable(conditions))
