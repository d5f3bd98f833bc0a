"""Nuclei as a biologist would count them: found in an image, and compared with those of another.

They are found without a network: what Otsu's threshold takes for bright is split by a watershed of
its distance to the dark. In a channel that shows other things, bright objects stand for nuclei.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage
from skimage import feature, filters, segmentation

_SMOOTHING = 1.0
"""Standard deviation of the Gaussian that noise is smoothed with, in pixels."""

_MIN_DISTANCE = 7
"""Pixels between the centres of two nuclei, at least."""

_MIN_AREA = 50
"""Pixels of a nucleus, at least; what is smaller is noise or debris."""


def find_nuclei(image: np.ndarray) -> np.ndarray:
    """Finds the nuclei of an image.

    Args:
      image: ``(height, width)``, in any unit of intensity.

    Returns:
      ``(height, width)`` integers: 0 is background, 1 ... n are the nuclei; all 0 for a flat image.
    """
    smooth = filters.gaussian(np.asarray(image, np.float32), _SMOOTHING)
    bright = smooth > filters.threshold_otsu(smooth)
    distance = filters.gaussian(ndimage.distance_transform_edt(bright), _SMOOTHING)
    areas, _ = ndimage.label(bright)
    centres = feature.peak_local_max(
        distance, min_distance=_MIN_DISTANCE, labels=areas, exclude_border=False
    )
    markers = np.zeros(bright.shape, np.int32)
    markers[tuple(centres.T)] = np.arange(1, len(centres) + 1)
    return _without_small_ones(segmentation.watershed(-distance, markers, mask=bright))


def f1_score(found: np.ndarray, expected: np.ndarray) -> float:
    """How many nuclei were found again: ``2 matches / (nuclei found + nuclei expected)``.

    Two nuclei match if their intersection is more than half of their union, which is true of one
    partner at most.

    Args:
      found: Nuclei of an estimate, as `find_nuclei` returns them.
      expected: Those of the truth, of the same shape.

    Returns:
      Between 0 and 1; 1 if there are none in either.
    """
    sizes = found.max() + 1, expected.max() + 1
    pairs = np.ravel_multi_index((found.ravel(), expected.ravel()), sizes)
    shared = np.bincount(pairs, minlength=sizes[0] * sizes[1]).reshape(sizes)
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    matches = np.count_nonzero(2 * shared[1:, 1:] > union[1:, 1:])
    nuclei = found.max() + expected.max()
    return float(2 * matches / nuclei) if nuclei else 1.0


def area_error(found: np.ndarray, expected: np.ndarray) -> float:
    """How far the area that all nuclei cover together is off, relative to the larger of the two.

    Args:
      found: Nuclei of an estimate, as `find_nuclei` returns them.
      expected: Those of the truth.

    Returns:
      ``|area - expected area| / max(area, expected area)``, between 0 and 1; 0 if there are no
      nuclei in either, 1 if in one of them.
    """
    area, expected_area = int(np.count_nonzero(found)), int(np.count_nonzero(expected))
    return abs(area - expected_area) / max(area, expected_area, 1)


def _without_small_ones(labels: np.ndarray) -> np.ndarray:
    kept = np.bincount(labels.ravel()) >= _MIN_AREA
    kept[0] = False
    return np.where(kept, np.cumsum(kept), 0)[labels]
