"""What an ensemble shows: means over its members, and how far apart they lie."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from linlatent.evaluation import paper
from linlatent.evaluation.rows import RANGE_1, Row, deblurring_row, one, select, span


class Spread(NamedTuple):
    """How much of a quantity is due to the initial weights.

    Attributes:
      name: The quantity, for people.
      quantity: `Row.quantity`.
      mean: Mean over the members; None where it is missing of one.
      standard_deviation: Sample standard deviation over the members; None likewise.
      n: Number of members.
    """

    name: str
    quantity: str
    mean: float | None
    standard_deviation: float | None
    n: int


def mean_over_members(members: Sequence[Sequence[Row]]) -> list[Row]:
    """The rows of an ensemble.

    Args:
      members: For each of its networks the rows of the same evaluation.

    Returns:
      These rows with means over the members: of the mean, of the values per slide and of the
      standard error, which so is that of a typical member, and tells of the slides alone. What is
      missing of one member is missing of the ensemble. A single network's rows are its own.
    """
    if len(members) == 1:
        return list(members[0])
    return [_mean_row(same) for same in zip(*members, strict=True)]


def spread(members: Sequence[Sequence[Row]], num_levels: int) -> list[Spread]:
    """Summarises a few quantities over the members of an ensemble, two or more.

    Args:
      members: As in `mean_over_members`.
      num_levels: Blur levels of a slide.
    """
    of_members = [_headlines(rows, num_levels) for rows in members]
    spreads = []
    for name, row in of_members[0].items():
        means = [headlines[name].mean for headlines in of_members]
        known = None not in means
        deviation = float(np.std(np.array(means, np.float64), ddof=1)) if known else None
        spreads.append(Spread(name, row.quantity, _mean(means), deviation, len(means)))
    return spreads


def _headlines(rows: Sequence[Row], num_levels: int) -> dict[str, Row]:
    """The numbers that tell most about a network."""
    against_truth = {"reference": "ground truth", "quantity": "PSNR", "definition": RANGE_1}
    interior = span(1, num_levels - 2)
    reconstructed = select(rows, section="reconstruction", **against_truth)
    synthesised = one(rows, estimate="synthesised", levels=interior, **against_truth)
    return {
        "reconstruction, PSNR of the worst level": min(
            (row for row in reconstructed if row.levels.isdigit()),
            key=lambda row: math.inf if row.mean is None else row.mean,
        ),
        f"synthesised vs truth, PSNR, mean of {interior}": synthesised,
        f"deblurred vs truth, PSNR, mean of {interior}": deblurring_row(
            rows, "deblurred", num_levels
        ),
        f"LDS, {paper.LDS.printed.name}": paper.printed_row(rows, paper.LDS, num_levels),
        f"APD, {paper.APD.printed.name}": paper.printed_row(rows, paper.APD, num_levels),
    }


def _mean_row(same: Sequence[Row]) -> Row:
    per_slide = [row.per_slide for row in same if row.per_slide is not None]
    return same[0]._replace(
        mean=_mean([row.mean for row in same]),
        standard_error=_mean([row.standard_error for row in same]),
        per_slide=[_mean(values) for values in zip(*per_slide, strict=True)] if per_slide else None,
    )


def _mean(values: Sequence[float | None]) -> float | None:
    return None if None in values else float(np.mean(np.array(values, np.float64)))
