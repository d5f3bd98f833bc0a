"""The contract between every source of focal stacks and the rest of the program.

A *slide* is one field of view in one channel; its *planes*, ordered by *blur level* (0 = in focus,
growing with defocus), make its *stack*. A source names its slides, says which split each belongs
to (always by slide, never by plane) and reads one stack at a time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

SPLITS = ("train", "validation", "test")
CROPS = 10
"""Crops of every slide; in the paper the corners and the centre, plain and mirrored."""

CROPPINGS = ("ten", "random")
"""Where these ten lie: there, or anywhere and in any orientation."""

BATCHINGS = {"triplet": 1, "ten-crop": CROPS, "stack": 1}
"""What an example is, and how many follow each other instead of being shuffled.

``triplet`` is a crop of one triplet, ``stack`` one of all planes with all triplets. ``ten-crop`` is
``triplet`` in the order of the published code: all crops of a slide and triplet in one batch.
"""


class Triplet(NamedTuple):
    """Blur levels a < b < c of three planes of one slide."""

    a: int
    b: int
    c: int

    @property
    def alpha(self) -> float:
        """Weight of the sharper endpoint a, ``(c - b) / (c - a)``, in (0, 1)."""
        return (self.c - self.b) / (self.c - self.a)


def midpoint_triplets(num_levels: int) -> tuple[Triplet, ...]:
    """All triplets of equidistant blur levels, 2 b = a + c (paper, Section 3.1).

    Args:
      num_levels: Number of blur levels of a stack, at least 3.

    Returns:
      The triplets ordered by their distance, then by a: 16 of them for the paper's 9 levels.

    Raises:
      ValueError: If there are fewer than three levels.
    """
    _check_triplets_fit(num_levels)
    return tuple(
        Triplet(b - step, b, b + step)
        for step in range(1, (num_levels - 1) // 2 + 1)
        for b in range(step, num_levels - step)
    )


def dyadic_triplets(num_levels: int) -> tuple[Triplet, ...]:
    """The equidistant triplets that repeated bisection of all levels comes to (published code).

    Args:
      num_levels: Number of blur levels of a stack, 2^k + 1.

    Returns:
      The triplets in the order of the published code, wide to narrow and blurred to sharp: 7 of
      them for the paper's 9 levels.

    Raises:
      ValueError: If the levels cannot be bisected down to neighbours.

    Note:
      The paper speaks of all equidistant triplets (`midpoint_triplets`), its published code lists
      these seven.
    """
    halvings = (num_levels - 1).bit_length() - 1
    if halvings < 1 or num_levels != 2**halvings + 1:
        raise ValueError(
            f"dyadic triplets need 2^k + 1 blur levels (3, 5, 9, 17, ...), got {num_levels}"
        )
    return tuple(
        Triplet(b - step, b, b + step)
        for step in (2**k for k in reversed(range(halvings)))
        for b in reversed(range(step, num_levels, 2 * step))
    )


def spanning_triplets(num_levels: int) -> tuple[Triplet, ...]:
    """The triplets of every interior level between the sharpest and the blurriest one.

    They are those that evaluation deblurs: the steps from b to a that users take.

    Args:
      num_levels: Number of blur levels of a stack, at least 3.

    Returns:
      The triplets by b: 7 of them for 9 levels.

    Raises:
      ValueError: If there are fewer than three levels.
    """
    _check_triplets_fit(num_levels)
    return tuple(Triplet(0, b, num_levels - 1) for b in range(1, num_levels - 1))


def _check_triplets_fit(num_levels: int) -> None:
    if num_levels < 3:
        raise ValueError(f"a triplet needs at least 3 blur levels, got {num_levels}")


TRIPLETS = {
    "midpoint": midpoint_triplets,
    "dyadic": dyadic_triplets,
    "spanning": spanning_triplets,
}
"""The tables of triplets, as functions of the number of blur levels."""


@dataclasses.dataclass(frozen=True)
class StackSource:
    """Named slides, split by slide, each readable as a stack.

    Attributes:
      name: What the data are, in words for tables and reports, such as ``synthetic/w1 1.0.0``.
      num_levels: Number of blur levels of every stack.
      slide_ids: For each of ``SPLITS`` the ids of its slides; a split may be empty.
      read_stack: From a slide id to its stack, a ``(num_levels, height, width)`` uint8 or uint16
        array whose first axis is the blur level. It may be called from several threads at once.
      level_spacing_um: Distance between neighbouring blur levels along the optical axis, in µm,
        or None where it is not known.
      paper_channel: Which channel of the paper's data this is, ``w1`` or ``w2``; None for other
        data and for a part of the paper's.
      psfs: Makes the point-spread function of every blur level, level 0 included: each ``(size,
        size)`` float32 of sum 1, centred at ``size // 2``; sizes are odd and may differ. None where
        the optics are not known. The arrays are shared: they are not to be written to.
    """

    name: str
    num_levels: int
    slide_ids: Mapping[str, Sequence[str]]
    read_stack: Callable[[str], np.ndarray]
    level_spacing_um: float | None = None
    paper_channel: str | None = None
    psfs: Callable[[], Sequence[np.ndarray]] | None = None


def checked_stack(source: StackSource, slide_id: str, *, min_size: int = 1) -> np.ndarray:
    """Reads a stack and holds the source to its contract.

    Args:
      source: Where the slide comes from.
      slide_id: The slide.
      min_size: Least height and width that is of use, in pixels, such as the size of a crop.

    Returns:
      ``(num_levels, height, width)`` uint8 or uint16.

    Raises:
      ValueError: If the stack has another number of planes or type, or is smaller than
        ``min_size``. What ``read_stack`` raises comes through as it is.
    """
    stack = source.read_stack(slide_id)
    where = f"slide {slide_id!r} of {source.name}"
    if stack.ndim != 3 or len(stack) != source.num_levels:
        raise ValueError(
            f"{where} has the shape {stack.shape}; expected ({source.num_levels}, height, width)"
        )
    if stack.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{where} has pixels of type {stack.dtype}; expected uint8 or uint16")
    height, width = stack.shape[1:]
    if min(height, width) < min_size:
        raise ValueError(
            f"{where} is {height} pixels high and {width} wide, smaller than the crop of"
            f" {min_size} x {min_size} pixels"
        )
    return stack
