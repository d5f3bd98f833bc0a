"""The tables of deblurring: every estimate of the sharp plane, by every measure and blur level."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from linlatent.evaluation.layout import Table, level_head, number
from linlatent.evaluation.rows import (
    AFFINE,
    MATCHED,
    OF_LARGER,
    RANGE_1,
    Row,
    one,
    select,
    sharp_estimates,
    span,
)

MEASURES: Mapping[tuple[str, str], str] = {
    ("PSNR", RANGE_1): "PSNR in dB per image, range 1.",
    ("PSNR, affine", AFFINE): "PSNR in dB per image, range 1, after the gain and the offset that"
    " suit each image best: what is left where the unit of intensity does not matter.",
    ("SSIM", RANGE_1): "SSIM per image, range 1.",
    ("nuclei F1", MATCHED): "Share of nuclei found again (Otsu's threshold, watershed of the"
    " distance): 2 matches / (nuclei of the estimate + nuclei of the truth), where two match whose"
    " intersection is more than half of their union.",
    ("nuclei area error", OF_LARGER): "Difference between the areas that nuclei cover in the"
    " estimate and in the truth, as a share of the larger one; 0 is best.",
}
"""What deblurring is measured by, and how to read it."""

SETTINGS = "Settings of the baselines"


def title(quantity: str) -> str:
    """The title of one of the tables of deblurring."""
    return f"Deblurring: {quantity}"


def by_measure(rows: Sequence[Row], conditions: Mapping[str, Any]) -> list[Table]:
    """A table for each of `MEASURES`; lines are estimates, columns blur levels.

    Args:
      rows: All rows of an evaluation.
      conditions: Its conditions.
    """
    last = conditions["num_levels"] - 1
    interior = span(1, last - 1)
    heads = [level_head(level, conditions) for level in range(1, last)]

    def cells(name: str, quantity: str, definition: str) -> list[str]:
        chosen = select(
            rows,
            section="deblurring",
            estimate=name,
            reference="ground truth",
            quantity=quantity,
            definition=definition,
        )
        means = [one(chosen, levels=str(level)) for level in range(1, last)]
        return [
            *(number(row._replace(standard_error=None)) for row in means),
            number(one(chosen, levels=interior)),
        ]

    return [
        Table(
            title(quantity),
            "Estimates of the in-focus plane against the true one, by the blur level of their"
            f" input b. {caption}",
            ["", *heads, f"mean of {interior}"],
            [[name, *cells(name, quantity, definition)] for name in sharp_estimates(rows)],
        )
        for (quantity, definition), caption in MEASURES.items()
    ]


def settings_table(choices: Sequence[Mapping[str, Any]], conditions: Mapping[str, Any]) -> Table:
    """What was chosen for the baselines.

    Args:
      choices: The fields of each `baselines.Choice`.
      conditions: The conditions of the evaluation.
    """
    levels = range(1, conditions["num_levels"] - 1)
    lines: dict[tuple[str, str], dict[int, str]] = {}
    for choice in choices:
        for setting, value in choice["settings"].items():
            cells = lines.setdefault((choice["baseline"], setting), {})
            cells[choice["level"]] = f"{value:.3g}"
    return Table(
        SETTINGS,
        f"Chosen on {conditions['baselines_tuned_on']} for every blur level of the input, by PSNR,"
        " with a gain and an offset for all images of a level.",
        ["", *(level_head(level, conditions) for level in levels)],
        [
            [f"{name}: {setting.replace('_', ' ')}", *(cells[level] for level in levels)]
            for (name, setting), cells in lines.items()
        ],
    )
