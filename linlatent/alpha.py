"""Focus measures."""

from __future__ import annotations

import numpy as np


def focus_measure(image: np.ndarray) -> float:
    """Measures how sharp an image is: the variance of its Laplacian over its squared mean.

    Defocus takes away high spatial frequencies, which the Laplacian weighs most (J. L. Pech-Pacheco
    et al., "Diatom autofocusing in brightfield microscopy", ICPR 2000). Dividing by the squared
    mean makes the measure independent of the unit of intensity, so that bleaching from plane to
    plane does not pass for defocus.

    Args:
      image: ``(height, width)``, at least 3 pixels each, in counts of any type.

    Returns:
      The measure, at least 0, without a unit; a constant image has 0.

    Raises:
      ValueError: If the image has another shape.
    """
    if image.ndim != 2 or min(image.shape) < 3:
        raise ValueError(
            "expected an image of shape (height, width), at least 3 x 3 pixels; got the shape"
            f" {image.shape}"
        )
    counts = image.astype(np.float64)
    neighbours = counts[:-2, 1:-1] + counts[2:, 1:-1] + counts[1:-1, :-2] + counts[1:-1, 2:]
    variance = (neighbours - 4 * counts[1:-1, 1:-1]).var()
    return float(variance / counts.mean() ** 2) if variance > 0 else 0.0
