"""Sharp frames as a source: level 0 is real, the blur of the others is computed.

Every image of a folder is a slide of its own. Its other levels are what the objective and the
camera of BBBC006 (20x, 0.645 µm per pixel) would take of it out of focus.
"""

from __future__ import annotations

import functools
import math
import pathlib
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from linlatent import images, optics
from linlatent.data.defocus import level_psfs
from linlatent.data.folder import MIN_LEVELS, check_split, image_files, split_slides
from linlatent.data.stack import StackSource


def open_source(
    *,
    path: str,
    num_levels: int = 9,
    level_spacing_um: float = 4.0,
    split: Sequence[float] = (0.7, 0.1, 0.2),
    seed: int = 0,
) -> StackSource:
    """Opens a folder of sharp frames.

    Only headers are read. A plane out of focus is made when its stack is read: the frame less the
    camera's offset, blurred by the PSF of its distance (beyond the border the outermost pixels go
    on), is exposed again by `optics.Camera`. Level 0 is the frame as it was recorded.

    Args:
      path: The folder: grey 16-bit TIFF or PNG files, one frame each, not necessarily of one size.
      num_levels: Number of blur levels, at least 3.
      level_spacing_um: Distance between neighbouring blur levels, in µm.
      split: Fractions of the frames that go to train, validation and test, dealt out as those of
        `folder.open_source`; ``(0, 0, 1)`` keeps all for testing.
      seed: Seed of the split and of the camera's noise. A stack depends on its frame, its slide
        id, the seed and the two options of the levels alone.

    Returns:
      The source. Slide ids are the names of the files. Its PSFs are those between a frame and its
      blurred planes: that of level 0, which is the frame itself, is a single 1.

    Raises:
      FileNotFoundError: If there is no such folder.
      ValueError: If the folder has no images, a file is no grey 16-bit image of one plane, or an
        option is impossible.
    """
    _check_options(num_levels, level_spacing_um, seed)
    check_split(split)
    root = pathlib.Path(path).expanduser()
    if not path or not root.is_dir():
        raise FileNotFoundError(f"there is no folder {path!r}; expected a folder of sharp frames")
    frames = _find_frames(root)
    psfs = functools.partial(_psfs, num_levels, level_spacing_um)

    def read_stack(slide_id: str) -> np.ndarray:
        rng = np.random.default_rng([seed, zlib.crc32(slide_id.encode())])
        return _render(images.read_image(frames[slide_id]), psfs(), rng)

    return StackSource(
        name=f"in_focus/{root.resolve().name}",
        num_levels=num_levels,
        slide_ids=split_slides(list(frames), split, seed),
        read_stack=read_stack,
        level_spacing_um=level_spacing_um,
        psfs=psfs,
    )


def _check_options(num_levels: int, level_spacing_um: float, seed: int) -> None:
    if num_levels < MIN_LEVELS:
        raise ValueError(f"num_levels must be at least {MIN_LEVELS}, a triplet's; got {num_levels}")
    if not 0 < level_spacing_um < math.inf:
        raise ValueError(f"level_spacing_um must be a positive number, got {level_spacing_um}")
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")


def _find_frames(root: pathlib.Path) -> Mapping[str, pathlib.Path]:
    files = image_files(root)
    if not files:
        raise ValueError(
            f"{root} holds no image; expected sharp frames ending in one of"
            f" {', '.join(images.SUFFIXES)}"
        )
    for file in files:
        header = images.read_header(file)
        if len(header.shape) != 2 or header.dtype != np.uint16:
            raise ValueError(
                f"{file} has the shape {header.shape} and pixels of type {header.dtype}; expected"
                " one frame, (height, width), of uint16 counts: the model of the camera is one of"
                f" 16 bits with an offset of {optics.Camera().offset_counts:g} counts"
            )
    return {file.name: file for file in files}


def _psfs(num_levels: int, level_spacing_um: float) -> tuple[np.ndarray, ...]:
    return (np.ones((1, 1), np.float32), *level_psfs(num_levels, level_spacing_um)[1:])


def _render(frame: np.ndarray, psfs: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    camera = optics.Camera()
    light = np.maximum(frame - np.float32(camera.offset_counts), 0)
    stack = np.empty((len(psfs), *frame.shape), np.uint16)
    stack[0] = frame
    for level, psf in enumerate(psfs[1:], start=1):
        # Rounding in the Fourier transform leaves a little less than no light in places.
        photons = np.maximum(optics.blur(light, psf), 0) / camera.counts_per_photon
        stack[level] = camera.expose(photons, rng)
    return stack
