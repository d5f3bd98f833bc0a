"""The point-spread functions of blur levels under the objective of BBBC006."""

from __future__ import annotations

import functools

import numpy as np

from linlatent import optics


@functools.lru_cache
def level_psfs(num_levels: int, level_spacing_um: float) -> tuple[np.ndarray, ...]:
    """Makes the PSF of every blur level; the same arguments give the same arrays.

    Args:
      num_levels: Number of blur levels.
      level_spacing_um: Distance between neighbouring blur levels, in µm; level 0 is in focus.

    Returns:
      Of each level `optics.defocus_psf` of `optics.BBBC006`: ``(size, size)`` float32 of sum 1,
      centred at ``size // 2``, not writable.
    """
    psfs = tuple(
        optics.defocus_psf(optics.BBBC006, level * level_spacing_um) for level in range(num_levels)
    )
    for psf in psfs:
        psf.setflags(write=False)
    return psfs
