"""Names, wells and splits of the image set BBBC006: pure facts, no files.

A 384-well plate (rows a to p, columns 01 to 24), two sites per well, two channels per site: 768
slides a channel, each taken at 34 z-levels 2 µm apart. z_16 is in focus.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from linlatent.data.stack import SPLITS

HEIGHT, WIDTH = 520, 696
"""Of every plane, in pixels."""

CHANNELS = {"w1": "Hoechst-stained nuclei", "w2": "phalloidin-stained cell bodies"}
WELLS = tuple(f"{row}{column:02d}" for row in "abcdefghijklmnop" for column in range(1, 25))
SITES = (1, 2)

ALL_Z_LEVELS = tuple(range(34))
PAPER_Z_LEVELS = tuple(range(16, -1, -2))
"""Those the paper uses, by blur level, ``(16 - z) / 2``: from z_16, in focus, to z_00."""

PAPER_LEVEL_SPACING_UM = 4.0
"""Between neighbouring blur levels: every second z-level, which are 2 µm apart."""

_PREFIX = "mcf-z-stacks-03212011_"
_PLANE_NAME = re.compile(
    re.escape(_PREFIX)
    + r"(?P<well>[a-p](?:0[1-9]|1\d|2[0-4]))_s(?P<site>[12])_(?P<channel>w[12])"
    + r"(?P<uuid>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\.tif"
)


class PlaneName(NamedTuple):
    """What the name of a plane's file says.

    Attributes:
      well: ``a01`` to ``p24``.
      site: 1 or 2, place within the well.
      channel: ``w1`` or ``w2``.
      uuid: Of this one file: planes of one slide have different ones.
    """

    well: str
    site: int
    channel: str
    uuid: str

    @property
    def slide_id(self) -> str:
        """The slide that the plane belongs to, such as ``a01_s1_w1``."""
        return f"{self.well}_s{self.site}_{self.channel}"


def parse_plane_name(name: str) -> PlaneName | None:
    """Reads a file name (without folders); None if it is not that of a plane."""
    match = _PLANE_NAME.fullmatch(name)
    if match is None:
        return None
    return PlaneName(match["well"], int(match["site"]), match["channel"], match["uuid"])


def plane_pattern(slide_id: str) -> str:
    """The name of a slide's planes as far as it is known, in words for a message."""
    return f"{_PREFIX}{slide_id}*.tif"


def archive_name(z_level: int) -> str:
    """Name of the folder with the planes of a z-level; the archive has ``.zip`` added."""
    return f"BBBC006_v1_images_z_{z_level:02d}"


def slide_ids(channel: str) -> tuple[str, ...]:
    """The 768 slides of a channel, sorted."""
    return tuple(f"{well}_s{site}_{channel}" for well in WELLS for site in SITES)


def published_split() -> dict[str, str]:
    """The split of the published code: slide id to split, for both channels.

    The code sorts the 1536 file names of a z-level, both channels together, and takes the first
    307 for testing, the next 153 for validation and the rest for training: 154/76/538 slides of
    w1 and 153/77/538 of w2.

    Note:
      The cuts ignore wells. In w2 the two sites of d05 are parted: s1 is for testing, s2 for
      validation. And the test set is one end of the plate, rows a to d.
    """
    # Sorted by well, site and channel, the order of the file names: the uuid comes last.
    names = sorted(itertools.chain.from_iterable(map(slide_ids, CHANNELS)))
    bounds = {"test": slice(None, 307), "validation": slice(307, 307 + 153)}
    split_of = dict.fromkeys(names, "train")
    for split, places in bounds.items():
        split_of |= dict.fromkeys(names[places], split)
    return split_of


def by_well_split() -> dict[str, str]:
    """Splits 70/10/20 by well: slide id to split, for both channels.

    The wells, in an order that a hash of their names draws, are dealt out: 269 to train, 38 to
    validation, 77 to test. Both sites and both channels of a well go together, and a well goes
    to the same split whichever files there are.
    """
    shuffled = sorted(WELLS, key=lambda well: hashlib.sha256(f"BBBC006/{well}".encode()).digest())
    splits = itertools.chain.from_iterable(
        itertools.repeat(split, count) for split, count in zip(SPLITS, (269, 38, 77), strict=True)
    )
    split_of_well = dict(zip(shuffled, splits, strict=True))
    return {
        slide_id: split_of_well[slide_id.partition("_")[0]]
        for channel in CHANNELS
        for slide_id in slide_ids(channel)
    }


SPLITTINGS: Mapping[str, Callable[[], dict[str, str]]] = {
    "by_well": by_well_split,
    "published": published_split,
}
"""Name of a split: from every slide id of the collection to one of ``SPLITS``."""
