"""The planes of BBBC006 on disk: one archive per z-level, as a zip file or as a folder."""

from __future__ import annotations

import pathlib
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from linlatent import images
from linlatent.data.bbbc006 import layout

_NAMED = 3
"""How many of the missing a message names."""


class Archive:
    """The planes of one z-level.

    Attributes:
      path: The zip file or folder.
    """

    def __init__(self, path: str | pathlib.Path):
        """Lists the planes; reads none.

        Raises:
          ValueError: If it is neither a folder nor an intact zip file, or has two planes for one
            slide.
        """
        self.path = pathlib.Path(path)
        self._zip = None if self.path.is_dir() else _open_zip(self.path)
        if self._zip is None:
            names = [str(file.relative_to(self.path)) for file in self.path.rglob("*.tif")]
        else:
            names = self._zip.namelist()
        self._names: dict[str, str] = {}
        for name in sorted(names):
            plane = layout.parse_plane_name(pathlib.PurePosixPath(name).name)
            if plane is None:
                continue
            other = self._names.setdefault(plane.slide_id, name)
            if other != name:
                raise ValueError(
                    f"{self.path} has two planes of slide {plane.slide_id}: {other} and {name};"
                    " expected one"
                )

    @property
    def slide_ids(self) -> frozenset[str]:
        """The slides that have a plane here, of both channels."""
        return frozenset(self._names)

    def read(self, slide_id: str) -> np.ndarray:
        """Reads the plane of a slide.

        Returns:
          ``(520, 696)`` uint16, in camera counts.

        Raises:
          ValueError: If the plane is damaged, or has another size or type.
        """
        name = self._names[slide_id]
        if self._zip is None:
            plane = images.read_image(self.path / name)
        else:
            plane = _unpack(self._zip, name)
        if plane.shape != (layout.HEIGHT, layout.WIDTH) or plane.dtype != np.uint16:
            raise ValueError(
                f"{name} in {self.path} has the shape {plane.shape} and type {plane.dtype};"
                f" expected ({layout.HEIGHT}, {layout.WIDTH}) and uint16"
            )
        return plane


def find_archives(folder: str | pathlib.Path, z_levels: Iterable[int]) -> dict[int, pathlib.Path]:
    """Finds which of some z-levels a folder holds.

    A zip file goes before a folder of the same name: its planes are listed at its end, so it
    cannot be half there, as a folder can whose extraction was stopped.
    """
    found = {}
    for z_level in z_levels:
        extracted = pathlib.Path(folder).expanduser() / layout.archive_name(z_level)
        zipped = extracted.with_suffix(".zip")
        if zipped.is_file():
            found[z_level] = zipped
        elif extracted.is_dir():
            found[z_level] = extracted
    return found


def open_archives(
    paths: Mapping[int, str | pathlib.Path], z_levels: Sequence[int], where: str
) -> dict[int, Archive]:
    """Opens the archives of all z-levels, in their order.

    Args:
      paths: The archives there are, by z-level.
      z_levels: The z-levels needed.
      where: Where they come from, in words for messages.

    Raises:
      FileNotFoundError: If archives are missing; says how many, and names the first few.
      ValueError: If one is damaged.
    """
    missing = [layout.archive_name(z_level) for z_level in z_levels if z_level not in paths]
    if missing:
        raise FileNotFoundError(
            f"{where}: {len(missing)} of the {len(z_levels)} z-levels are missing:"
            f" {_first_few(missing)}; expected a zip file or a folder of each name"
        )
    return {z_level: Archive(paths[z_level]) for z_level in z_levels}


def complete_slides(
    archives: Mapping[int, Archive], channel: str, where: str, *, whole_collection: bool
) -> tuple[str, ...]:
    """Finds the slides of a channel and checks that each has all its planes.

    Args:
      archives: By z-level.
      channel: ``w1`` or ``w2``.
      where: Where the archives come from, in words for messages.
      whole_collection: Whether all 768 slides must be there, or only those, each at all z-levels,
        that occur at any z-level.

    Returns:
      Their ids, sorted.

    Raises:
      FileNotFoundError: If planes are missing; says how many, and names the first few.
    """
    known = layout.slide_ids(channel)
    there = frozenset().union(*(archive.slide_ids for archive in archives.values()))
    expected = known if whole_collection else tuple(sorted(there.intersection(known)))
    if not expected:
        raise FileNotFoundError(
            f"{where}: no plane of channel {channel}; expected files such as"
            f" {layout.archive_name(next(iter(archives)))}/{layout.plane_pattern(known[0])}"
        )
    missing = [
        f"{layout.archive_name(z_level)}/{layout.plane_pattern(slide_id)}"
        for z_level, archive in archives.items()
        for slide_id in expected
        if slide_id not in archive.slide_ids
    ]
    if missing:
        raise FileNotFoundError(
            f"{where}: {len(missing)} of the {len(expected) * len(archives)} planes of channel"
            f" {channel} are missing: {_first_few(missing)}; expected every slide that occurs at"
            " any z-level to be there at all of them"
        )
    return expected


def _first_few(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


def _open_zip(path: pathlib.Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{path} is no intact zip file ({error}); fetch it again, or give the extracted folder"
        ) from error


def _unpack(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return images.read_image(archive.extract(name, folder))
        except (zipfile.BadZipFile, zlib.error, ValueError) as error:
            raise ValueError(f"{name} in {archive.filename} is damaged: {error}") from error
