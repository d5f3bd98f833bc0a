"""Images in and out of files, and between camera counts and the network's [0, 1].

Files are grey, 8 or 16 bit: TIFF (one page or many, compressed or not) and PNG. Whatever else a
file holds is refused by name, never converted silently.

A *normalisation* says which minimum and maximum become 0 and 1; it travels with a trained model.

* ``plane``: each plane by its own minimum and maximum, ``(I - min) / (max - min)``.
* ``plane-8bit``: as the published code, ``round((I - min) * 255 / (max - min)) / 255``.
* ``stack``: one minimum and maximum for all planes of a stack, which keeps the relation of
  brightness between them.
"""

from __future__ import annotations

import pathlib
from typing import NamedTuple

import imageio.v3 as iio
import numpy as np
import tifffile

NORMALISATIONS = ("plane", "plane-8bit", "stack")
TIFF_SUFFIXES = (".tif", ".tiff")
SUFFIXES = (*TIFF_SUFFIXES, ".png")
"""Endings of the files that can be read and written, in lower case."""

_EXPECTED = "expected a grey 8- or 16-bit TIFF or PNG image"


class ImageHeader(NamedTuple):
    """What a file says of its image before any pixel is read.

    Attributes:
      shape: ``(height, width)``, or ``(pages, height, width)`` of a TIFF with several pages.
      dtype: uint8 or uint16.
    """

    shape: tuple[int, ...]
    dtype: np.dtype


def read_header(path: str | pathlib.Path) -> ImageHeader:
    """Reads the shape and type of an image without its pixels.

    Args:
      path: A TIFF or PNG file.

    Returns:
      The header of an image that `read_image` accepts.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If the file is no grey 8- or 16-bit TIFF or PNG image.
    """
    path = _existing(path)
    try:
        is_grey, header = _read_header(path)
    except Exception as error:  # the decoders raise many types for a file that is broken
        raise ValueError(f"{path} cannot be read ({error}); {_EXPECTED}") from error
    if not is_grey:
        raise ValueError(f"{path} is a colour or an inverted image; {_EXPECTED}")
    if header.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path} has pixels of type {header.dtype}; {_EXPECTED}")
    if len(header.shape) not in (2, 3):
        raise ValueError(
            f"{path} has the shape {header.shape}; {_EXPECTED} of shape (height, width) or"
            " (pages, height, width)"
        )
    return header


def read_image(path: str | pathlib.Path) -> np.ndarray:
    """Reads an image as it is, in camera counts.

    Args:
      path: A TIFF or PNG file.

    Returns:
      ``(height, width)``, or ``(pages, height, width)`` of a TIFF with several pages; uint8 or
      uint16.

    Raises:
      FileNotFoundError: If there is no such file.
      ValueError: If the file is no grey 8- or 16-bit TIFF or PNG image, or is damaged.
    """
    path = pathlib.Path(path)
    header = read_header(path)
    try:
        image = _read_tiff(path) if _is_tiff(path) else iio.imread(path, plugin="pillow")
    except Exception as error:  # as above
        raise ValueError(f"{path} is damaged ({error}); {_EXPECTED}") from error
    if image.shape != header.shape:
        raise ValueError(
            f"{path} is damaged: its header promises the shape {header.shape}, its pixels give"
            f" {image.shape}"
        )
    return image


def write_image(path: str | pathlib.Path, image: np.ndarray, *, overwrite: bool = False) -> None:
    """Writes an image losslessly.

    Args:
      path: Where to; its ending says whether TIFF or PNG. The folder must exist.
      image: ``(height, width)``, for TIFF also ``(pages, height, width)``; uint8 or uint16.
      overwrite: Whether a file that is there already may be replaced.

    Raises:
      FileExistsError: If the file exists and may not be replaced.
      FileNotFoundError: If the folder does not exist.
      ValueError: If the ending, the shape or the type cannot be written.
    """
    path = pathlib.Path(path)
    _check_suffix(path)
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{path}: only uint8 and uint16 can be written, not {image.dtype}")
    if image.ndim != 2 and not (image.ndim == 3 and _is_tiff(path)):
        raise ValueError(
            f"{path}: expected the shape (height, width), or (pages, height, width) for TIFF; got"
            f" {image.shape}"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is no folder; create it before writing {path.name}")
    # Mode "x" lets the file system refuse an existing file, so nothing can slip in between.
    with path.open("wb" if overwrite else "xb") as file:
        if _is_tiff(path):
            tifffile.imwrite(file, image, photometric="minisblack", compression="zlib")
        else:
            iio.imwrite(file, image, extension=".png", plugin="pillow")


def intensity_range(stack: np.ndarray, normalisation: str) -> tuple[np.ndarray, np.ndarray]:
    """Finds the counts that a normalisation takes to 0 and 1.

    Args:
      stack: ``(levels, height, width)`` whole planes, in counts: a crop has another range.
      normalisation: One of ``NORMALISATIONS``.

    Returns:
      ``low`` and ``high``, each ``(levels,)`` float32, in counts.

    Raises:
      ValueError: If the normalisation is unknown, or a plane (for ``stack``: the whole stack) is
        constant, so that nothing can be normalised.
    """
    check_normalisation(normalisation)
    low = stack.min(axis=(1, 2)).astype(np.float32)
    high = stack.max(axis=(1, 2)).astype(np.float32)
    if normalisation == "stack":
        low, high = np.full_like(low, low.min()), np.full_like(high, high.max())
    constant = np.flatnonzero(low == high)
    if constant.size:
        raise ValueError(
            f"plane {constant[0]} of {len(stack)} is constant ({low[constant[0]]:g} counts"
            " everywhere), so there is nothing to normalise; is the exposure empty or saturated?"
        )
    return low, high


def normalise(
    stack: np.ndarray, low: np.ndarray, high: np.ndarray, normalisation: str
) -> np.ndarray:
    """Takes counts to [0, 1].

    Args:
      stack: ``(levels, height, width)``, whole planes or a crop of them, in counts.
      low: ``(levels,)``, from `intensity_range` of the whole planes.
      high: ``(levels,)``, likewise.
      normalisation: One of ``NORMALISATIONS``; the one that ``low`` and ``high`` were found with.

    Returns:
      ``(levels, height, width)`` float32 in [0, 1].

    Raises:
      ValueError: If the normalisation is unknown.
    """
    check_normalisation(normalisation)
    low, high = (np.asarray(value, np.float32)[:, None, None] for value in (low, high))
    above = stack.astype(np.float32) - low
    if normalisation == "plane-8bit":
        # Multiplied first: in this order float32 is exact up to the division, ties included.
        return np.round(above * np.float32(255) / (high - low)) / np.float32(255)
    return above / (high - low)


def denormalise(image: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Takes [0, 1] back to counts, the inverse of `normalise`.

    Args:
      image: ``(levels, height, width)`` float, 0 for ``low`` and 1 for ``high``.
      low: ``(levels,)``, in counts.
      high: ``(levels,)``, in counts.

    Returns:
      ``(levels, height, width)`` float32, in counts. What ``plane-8bit`` rounded away stays away:
      its counts come back to within half a step, ``(high - low) / 510``.
    """
    low, high = (np.asarray(value, np.float32)[:, None, None] for value in (low, high))
    return np.asarray(image, np.float32) * (high - low) + low


def check_normalisation(normalisation: str) -> None:
    """Raises `ValueError` unless the normalisation is one of ``NORMALISATIONS``."""
    if normalisation not in NORMALISATIONS:
        raise ValueError(
            f"unknown normalisation {normalisation!r}; choose one of {', '.join(NORMALISATIONS)}"
        )


def _existing(path: str | pathlib.Path) -> pathlib.Path:
    path = pathlib.Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; {_EXPECTED}")
    _check_suffix(path)
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty (0 bytes); {_EXPECTED}")
    return path


def _check_suffix(path: pathlib.Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path} ends in none of {', '.join(SUFFIXES)}")


def _is_tiff(path: str | pathlib.Path) -> bool:
    return pathlib.Path(path).suffix.lower() in TIFF_SUFFIXES


def _read_header(path: pathlib.Path) -> tuple[bool, ImageHeader]:
    """Returns whether the image is grey, black being the least value, and its header."""
    if not _is_tiff(path):
        properties = iio.improps(path, plugin="pillow")
        return len(properties.shape) == 2, ImageHeader(properties.shape, properties.dtype)
    with _open_tiff(path) as file:
        if len(file.series) != 1:
            raise ValueError(f"its pages form {len(file.series)} series of different shape or type")
        series = file.series[0]
        photometric = file.pages.first.photometric
        return (
            photometric == tifffile.PHOTOMETRIC.MINISBLACK,
            ImageHeader(tuple(series.shape), np.dtype(series.dtype)),
        )


def _read_tiff(path: pathlib.Path) -> np.ndarray:
    with _open_tiff(path) as file:
        return file.asarray()


def _open_tiff(path: pathlib.Path) -> tifffile.TiffFile:
    # The OME metadata of a file may describe its neighbours as well; here a file is its own pages.
    return tifffile.TiffFile(path, is_ome=False)
