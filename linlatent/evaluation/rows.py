"""The results of an evaluation as data: one `Row` per number."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from linlatent.metrics import Summary, summarise

RANGE_1 = "per image, range 1"
EQ_7 = "per image, range = maximum of the target (Eq. 7)"
POOLED = "pooled, range = maximum of all targets (published code)"
AFFINE = "per image, range 1, after the best gain and offset"
MATCHED = "per image, intersection over union above 0.5"
OF_LARGER = "per image, share of the larger area"


class Row(NamedTuple):
    """One number of an evaluation.

    Attributes:
      section: ``latent space``, ``reconstruction``, ``blur synthesis`` or ``deblurring``.
      estimate: What was measured, such as ``deblurred`` or ``untouched input``.
      reference: What it was measured against: ``ground truth``, ``reconstruction`` or nothing.
      levels: Blur level of the input, or the first and last of those averaged over: ``1-7``.
      quantity: ``PSNR`` or ``PSNR, affine`` (dB), ``SSIM``, ``nuclei F1``, ``nuclei area error``,
        ``LDS`` or ``APD``.
      definition: Which of the definitions of the quantity.
      mean: Mean over slides; None where it is not finite, as PSNR of identical images.
      standard_error: Standard error of that mean over slides, None for one slide and pooled values.
      n: Number of slides.
      per_slide: The values behind the mean, in the order of the evaluation's ``slides``; None for
        single blur levels and pooled values.
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
    per_slide: Sequence[float | None] | None


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
        *(section, estimate, reference, levels, quantity, definition),
        *(_finite(mean), _finite(error), n),
        [_finite(value) for value in np.asarray(values, np.float64).tolist()],
    )


def span(first: int, last: int) -> str:
    """How `Row.levels` names an average over blur levels."""
    return f"{first}-{last}"


def select(rows: Sequence[Row], **fields: Any) -> list[Row]:
    """The rows whose fields have the given values, in their order."""
    return [
        row for row in rows if all(getattr(row, name) == value for name, value in fields.items())
    ]


def one(rows: Sequence[Row], **fields: Any) -> Row:
    """The only row whose fields have the given values.

    Raises:
      ValueError: If there is none or more than one.
    """
    (row,) = select(rows, **fields)
    return row


def deblurring_row(rows: Sequence[Row], estimate: str, num_levels: int) -> Row:
    """PSNR at range 1 of an estimate of the sharp plane, averaged over the interior levels."""
    return one(
        rows,
        section="deblurring",
        estimate=estimate,
        reference="ground truth",
        levels=span(1, num_levels - 2),
        quantity="PSNR",
        definition=RANGE_1,
    )


def sharp_estimates(rows: Sequence[Row]) -> list[str]:
    """What was compared with the sharp truth: the baselines in their order, then the network."""
    chosen = select(rows, section="deblurring", reference="ground truth")
    names = dict.fromkeys(row.estimate for row in chosen)
    return sorted(names, key=is_of_network)


def is_of_network(estimate: str) -> bool:
    """Whether an estimate of the sharp plane is the network's, and no baseline's."""
    return estimate.startswith("deblurred")


def baselines_of(rows: Sequence[Row]) -> list[str]:
    """The baselines that were compared with the sharp truth, in their order."""
    return [name for name in sharp_estimates(rows) if not is_of_network(name)]


def difference(row: Row, other: Row) -> Summary:
    """The mean of ``row - other`` over slides, taken slide by slide.

    What makes one slide harder than another drops out of it, so that its standard error is smaller
    than those of the two means would suggest.

    Args:
      row: A row with values per slide.
      other: Another one, of the same slides in the same order.

    Returns:
      The paired difference; not finite where one of the values is not.
    """
    return summarise(
        np.subtract(np.array(row.per_slide, np.float64), np.array(other.per_slide, np.float64))
    )


def rows_of(results: dict[str, Any]) -> list[Row]:
    """The rows of a results dictionary, such as one read from ``metrics.json``."""
    return [Row(**row) for row in results["rows"]]


def rows_of_members(results: dict[str, Any]) -> list[list[Row]]:
    """Those of each member of an ensemble; none for a single network."""
    return [[Row(**row) for row in rows] for rows in results.get("members", [])]


def to_csv(rows: Sequence[Row]) -> str:
    """All rows as CSV with a header, but for their values per slide; not finite is left empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows(row[:-1] for row in (Row._fields, *rows))
    return text.getvalue()


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
