"""A folder of TIFF or PNG focal stacks as a source.

Every entry of the folder is a slide: a folder of plane files, in the natural order of their names
(``z_2`` before ``z_10``), or one TIFF whose pages are the planes. Files that are neither TIFF nor
PNG, and hidden ones, are left aside.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from linlatent import images
from linlatent.alpha import focus_measure
from linlatent.data.stack import SPLITS, StackSource

DIRECTIONS = ("below", "above")
MIN_LEVELS = 3
"""The levels of one triplet."""


def open_source(
    *,
    path: str,
    in_focus: int | str | None = None,
    direction: str = "below",
    num_levels: int | None = None,
    level_step: int = 1,
    level_spacing_um: float | None = None,
    field_pattern: str | None = None,
    split: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> StackSource:
    r"""Opens a folder of slides.

    Only headers are read, unless the planes in focus have to be found: that reads each plane once.

    Args:
      path: The folder.
      in_focus: The plane in focus of every slide: its number in the order of planes, from 0, or
        the name of its file without the ending, such as ``z_05``. None finds it slide by slide,
        as the plane with the greatest `focus_measure`.
      direction: Whether the blur levels run from the plane in focus to the planes ``below`` it,
        the earlier ones in order, or ``above`` it, the later ones.
      num_levels: Number of blur levels, at least 3; None takes as many as every slide has.
      level_step: Planes from one blur level to the next.
      level_spacing_um: Distance between neighbouring blur levels, in µm, where it is known.
      field_pattern: Regular expression for the beginning of slide ids, whose one group names the
        field of view. Slides of one field, such as its channels and repeated exposures, are never
        parted: ``(.*)_w\d`` keeps ``E07_s1_w1`` and ``E07_s1_w2`` together. None takes every slide
        for a field of its own.
      split: Fractions of the fields that go to train, validation and test. They are rounded to
        the largest remainder, then every split that wants fields gets one; where there are too
        few, train comes first, then test.
      seed: Seed of the split. A field's place depends on it and on the fields' names alone.

    Returns:
      The source. Slide ids are the names of the folder's entries.

    Raises:
      FileNotFoundError: If there is no such folder.
      ValueError: If the folder has no slides, a slide has too few planes, planes that differ in
        size or type or cannot be read, or an option is impossible.
    """
    _check_options(direction, num_levels, level_step, split)
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        raise FileNotFoundError(f"there is no folder {path!r}; expected a folder of slides")
    slides = _find_slides(root)
    focus = {slide.slide_id: _focus_index(slide, in_focus) for slide in slides}
    available = {
        slide.slide_id: _levels_beyond(slide, focus[slide.slide_id], direction) // level_step + 1
        for slide in slides
    }
    for slide in slides:
        needed = num_levels or MIN_LEVELS
        if available[slide.slide_id] < needed:
            raise ValueError(
                f"slide {slide.slide_id!r} of {root} has too few planes: {len(slide.planes)}, of"
                f" which {available[slide.slide_id]} serve as blur levels, from"
                f" {slide.planes[focus[slide.slide_id]]!r} in focus to those {direction} it in"
                f" steps of {level_step}; expected at least {needed}"
            )
    levels = num_levels or min(available.values())
    stride = level_step if direction == "above" else -level_step
    chosen = {
        slide.slide_id: (slide, [focus[slide.slide_id] + stride * i for i in range(levels)])
        for slide in slides
    }
    return StackSource(
        name=f"folder/{root.resolve().name}",
        num_levels=levels,
        slide_ids=split_slides(list(chosen), split, seed, field_pattern),
        read_stack=functools.partial(_read_stack, chosen),
        level_spacing_um=level_spacing_um,
    )


@dataclasses.dataclass(frozen=True)
class _Slide:
    """A slide on disk.

    Attributes:
      slide_id: Its name.
      files: One file per plane, or the one file that holds all planes as pages.
      planes: Names of the planes, in order: the stems of their files, or the numbers of pages.
    """

    slide_id: str
    files: tuple[pathlib.Path, ...]
    planes: tuple[str, ...]

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Reads planes by their place in the order: ``(len(indices), height, width)``."""
        if len(self.files) < len(self.planes):
            return images.read_image(self.files[0])[list(indices)]
        return np.stack([images.read_image(self.files[index]) for index in indices])


def _find_slides(root: pathlib.Path) -> list[_Slide]:
    folders = _natural_order(entry for entry in _visible(root) if entry.is_dir())
    stacks = image_files(root)
    if folders and stacks:
        raise ValueError(
            f"{root} mixes folders ({folders[0].name}, ...) with image files ({stacks[0].name},"
            " ...); expected a folder of plane files per slide, or one multi-page TIFF per slide"
        )
    slides = [_describe(folder, image_files(folder)) for folder in folders]
    slides += [_describe(stack, [stack]) for stack in stacks]
    if not slides:
        raise ValueError(
            f"{root} has no slides; expected a folder of plane files or a multi-page TIFF for each"
        )
    return slides


def _describe(entry: pathlib.Path, files: Sequence[pathlib.Path]) -> _Slide:
    """Reads the headers of a slide and checks that its planes are alike."""
    if not files:
        raise ValueError(
            f"slide folder {entry} holds no image; expected plane files ending in one of"
            f" {', '.join(images.SUFFIXES)}"
        )
    headers = [images.read_header(file) for file in files]
    if len(files) == 1 and len(headers[0].shape) == 3:
        return _Slide(entry.name, tuple(files), tuple(map(str, range(headers[0].shape[0]))))
    for file, header in zip(files, headers, strict=True):
        if len(header.shape) == 3:
            raise ValueError(
                f"slide {entry} mixes plane files with {file.name}, which has {header.shape[0]}"
                " pages; expected one plane per file, or a single multi-page TIFF"
            )
        if header != headers[0]:
            raise ValueError(
                f"planes of slide {entry} differ: {files[0].name} is {_in_words(headers[0])},"
                f" {file.name} is {_in_words(header)}; expected the same of all planes"
            )
    return _Slide(entry.name, tuple(files), tuple(file.stem for file in files))


def _focus_index(slide: _Slide, in_focus: int | str | None) -> int:
    count = len(slide.planes)
    if in_focus is None:
        planes = slide.read(range(count))
        return int(np.argmax([focus_measure(plane) for plane in planes]))
    if isinstance(in_focus, int) and 0 <= in_focus < count:
        return in_focus
    if isinstance(in_focus, str) and slide.planes.count(in_focus) == 1:
        return slide.planes.index(in_focus)
    raise ValueError(
        f"in_focus={in_focus!r} names no plane of slide {slide.slide_id!r}; expected a number from"
        f" 0 to {count - 1}, or one of {', '.join(slide.planes)}"
    )


def _levels_beyond(slide: _Slide, focus: int, direction: str) -> int:
    """Number of planes on the chosen side of the plane in focus."""
    return focus if direction == "below" else len(slide.planes) - 1 - focus


def _read_stack(chosen: Mapping[str, tuple[_Slide, Sequence[int]]], slide_id: str) -> np.ndarray:
    slide, indices = chosen[slide_id]
    return slide.read(indices)


def split_slides(
    slide_ids: Sequence[str], split: Sequence[float], seed: int, field_pattern: str | None = None
) -> dict[str, tuple[str, ...]]:
    """Splits slides by field: fields are ordered by a hash of seed and name, then dealt out.

    Args:
      slide_ids: The slides.
      split: Fractions of the fields, as `open_source` explains them; `check_split` passes them.
      seed: Seed of the split.
      field_pattern: What names the field of a slide, see `open_source`.

    Returns:
      For each of ``SPLITS`` its slides, in the order given.

    Raises:
      ValueError: If the pattern is impossible or does not match a slide.
    """
    field_of = {slide_id: _field(slide_id, field_pattern) for slide_id in slide_ids}
    fields = sorted(
        set(field_of.values()),
        key=lambda field: hashlib.sha256(f"{seed}/{field}".encode()).digest(),
    )
    split_of = dict(
        zip(fields, np.repeat(SPLITS, _split_sizes(len(fields), split)).tolist(), strict=True)
    )
    return {
        name: tuple(slide_id for slide_id in slide_ids if split_of[field_of[slide_id]] == name)
        for name in SPLITS
    }


def _split_sizes(count: int, split: Sequence[float]) -> list[int]:
    """Rounds fractions of a count, in the order of ``SPLITS``; see `open_source`."""
    train, validation, test = range(len(SPLITS))
    wanting = [index for index in (train, test, validation) if split[index] > 0]
    if count <= len(wanting):
        return [int(index in wanting[:count]) for index in range(len(SPLITS))]
    shares = [count * fraction for fraction in split]
    sizes = [int(share) for share in shares]
    by_remainder = sorted(wanting, key=lambda index: sizes[index] - shares[index])
    for index in by_remainder[: count - sum(sizes)]:
        sizes[index] += 1
    for index in wanting:
        if not sizes[index]:
            sizes[sizes.index(max(sizes))] -= 1
            sizes[index] = 1
    return sizes


def _field(slide_id: str, field_pattern: str | None) -> str:
    if field_pattern is None:
        return slide_id
    try:
        pattern = re.compile(field_pattern)
    except re.error as error:
        raise ValueError(
            f"field_pattern={field_pattern!r} is no regular expression: {error}"
        ) from error
    if pattern.groups != 1:
        raise ValueError(
            f"field_pattern={field_pattern!r} has {pattern.groups} groups; expected one, which"
            r" names the field of view, as in (.*)_w\d"
        )
    match = pattern.match(slide_id)
    if match is None:
        raise ValueError(f"field_pattern={field_pattern!r} does not match the slide {slide_id!r}")
    return match[1]


def _check_options(
    direction: str, num_levels: int | None, level_step: int, split: Sequence[float]
) -> None:
    if direction not in DIRECTIONS:
        raise ValueError(f"unknown direction {direction!r}; choose one of {', '.join(DIRECTIONS)}")
    if num_levels is not None and num_levels < MIN_LEVELS:
        raise ValueError(
            f"num_levels must be at least {MIN_LEVELS}, a triplet's, or None for as many as every"
            f" slide has; got {num_levels}"
        )
    if level_step < 1:
        raise ValueError(f"level_step must be at least 1, got {level_step}")
    check_split(split)


def check_split(split: Sequence[float]) -> None:
    """Raises `ValueError` unless these are fractions of ``SPLITS``, with the sum 1."""
    if len(split) != len(SPLITS) or min(split) < 0 or abs(sum(split) - 1) > 1e-6:
        raise ValueError(
            f"split must be the fractions of {', '.join(SPLITS)}, none negative, with the sum 1;"
            f" got {tuple(split)}"
        )


def _visible(folder: pathlib.Path) -> list[pathlib.Path]:
    return [entry for entry in folder.iterdir() if not entry.name.startswith(".")]


def image_files(folder: pathlib.Path) -> list[pathlib.Path]:
    """The TIFF and PNG files of a folder, hidden ones left aside, in the natural order of names."""
    return _natural_order(
        entry
        for entry in _visible(folder)
        if entry.is_file() and entry.suffix.lower() in images.SUFFIXES
    )


def _natural_order(entries: Iterable[pathlib.Path]) -> list[pathlib.Path]:
    """Sorts by name, numbers in it by their value: ``z_2`` before ``z_10``."""

    def key(entry: pathlib.Path) -> list[tuple[int, str]]:
        # Alternating text and digits, so that only like is compared with like.
        parts = re.split(r"(\d+)", entry.name)
        return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]

    return sorted(entries, key=key)


def _in_words(header: images.ImageHeader) -> str:
    height, width = header.shape
    return f"{height} pixels high, {width} wide, {header.dtype}"
