"""The numbers of the paper (Table 1 and its table of linearity), and which of ours they match.

They are of the test slides of BBBC006, one training for each channel and objective, and come
without errors. Only numbers of the same data can be compared with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from linlatent.evaluation.rows import EQ_7, POOLED, Row, one, span

CHANNELS = {"w1": "nuclei", "w2": "cell bodies"}
OBJECTIVES = ("baseline", "indirect", "direct")

CONDITIONS = (
    "The paper's values: BBBC006, widths 64 to 1024, 40 epochs, centre crops of the test slides of"
    " the authors' own split, one training each, no errors given. The paper states L1 and Adam at"
    " 1e-4, its published code runs MSE and 1e-3. They are compared in the definitions of that"
    " code, which pools the squared errors of all images, counts the end points of blur synthesis,"
    " where nothing is synthesised, and measures linearity on squared differences of latents."
)


class Definition(NamedTuple):
    """Where a quantity stands among our rows: a definition of `Row`, and a span of blur levels.

    Attributes:
      name: `Row.definition`.
      levels: The first level and, counted from the end, the last; None where levels do not apply.
    """

    name: str
    levels: tuple[int, int] | None


class Quantity(NamedTuple):
    """A line of the paper's tables.

    Attributes:
      name: What it is, for people.
      digits: Decimals that the paper gives.
      measured: The fields of a `Row` that do not depend on the definition.
      published: What the published code computes, to which the paper's values are taken to belong.
      printed: What the paper prints: Eq. 5, 6 or 7.
      values: The paper's values by channel and objective.
    """

    name: str
    digits: int
    measured: Mapping[str, str]
    published: Definition
    printed: Definition
    values: Mapping[str, Mapping[str, float]]


_ALL, _INTERIOR = (0, -1), (1, -2)


def _values(w1: Sequence[float], w2: Sequence[float]) -> Mapping[str, Mapping[str, float]]:
    """From the values of the three objectives."""
    return {
        channel: dict(zip(OBJECTIVES, values, strict=True))
        for channel, values in zip(CHANNELS, (w1, w2), strict=True)
    }


def _linearity(quantity: str, digits: int, equation: str, **values: Sequence[float]) -> Quantity:
    return Quantity(
        *(quantity, digits, {"section": "latent space", "quantity": quantity}),
        *(Definition("published code", None), Definition(equation, None), _values(**values)),
    )


def _psnr(section: str, estimate: str, reference: str, **values: Sequence[float]) -> Quantity:
    sharp = "sharp " if section == "deblurring" else ""
    measured = {"section": section, "estimate": estimate, "reference": reference}
    return Quantity(
        *(f"PSNR of {section} vs {sharp}{reference} (dB)", 2, {**measured, "quantity": "PSNR"}),
        # The published code counts the end points of blur synthesis, where nothing is synthesised
        # and a PSNR per image against the reconstruction would be infinite.
        Definition(POOLED, _INTERIOR if section == "deblurring" else _ALL),
        Definition(EQ_7, _INTERIOR),
        _values(**values),
    )


LDS = _linearity("LDS", 2, "paper, Eq. 5", w1=(0.59, 0.62, 0.76), w2=(0.52, 0.47, 0.75))
APD = _linearity("APD", 3, "paper, Eq. 6", w1=(0.036, 0.028, 0.014), w2=(0.037, 0.048, 0.031))
QUANTITIES = (
    LDS,
    APD,
    _psnr(
        *("blur synthesis", "synthesised", "reconstruction"),
        w1=(31.97, 31.77, 31.60),
        w2=(32.35, 32.48, 33.05),
    ),
    _psnr(
        *("blur synthesis", "synthesised", "ground truth"),
        w1=(29.09, 31.03, 28.30),
        w2=(29.78, 29.46, 29.02),
    ),
    _psnr(
        *("deblurring", "deblurred", "reconstruction"),
        w1=(23.89, 23.02, 23.52),
        w2=(22.47, 22.22, 22.03),
    ),
    _psnr(
        *("deblurring", "deblurred", "ground truth"),
        w1=(22.55, 22.60, 21.98),
        w2=(24.00, 23.49, 24.46),
    ),
)
"""All lines of the paper's tables."""


def value(conditions: Mapping[str, Any], quantity: Quantity) -> float | None:
    """The paper's number that an evaluation may be compared with.

    Args:
      conditions: Of the evaluation: ``paper_channel`` and ``objective`` are used.
      quantity: One of `QUANTITIES`.

    Returns:
      The number, or None where the data, or the objective, are not the paper's.
    """
    return quantity.values.get(conditions["paper_channel"], {}).get(conditions["objective"])


def value_text(conditions: Mapping[str, Any], quantity: Quantity) -> str:
    """The paper's number for people, or why there is none."""
    number = value(conditions, quantity)
    if number is not None:
        return f"{number:.{quantity.digits}f}"
    other = "data" if conditions["paper_channel"] is None else "objective"
    return f"other {other}: not comparable"


def published_row(rows: Sequence[Row], quantity: Quantity, num_levels: int) -> Row:
    """Our number in the published code's definition, with which the paper's is compared."""
    return _row(rows, quantity, quantity.published, num_levels)


def printed_row(rows: Sequence[Row], quantity: Quantity, num_levels: int) -> Row:
    """Our number in the paper's own definition, a mean over slides."""
    return _row(rows, quantity, quantity.printed, num_levels)


def _row(rows: Sequence[Row], quantity: Quantity, definition: Definition, num_levels: int) -> Row:
    levels = ""
    if definition.levels is not None:
        first, last = definition.levels
        levels = span(first, num_levels + last)
    return one(rows, **quantity.measured, definition=definition.name, levels=levels)
