"""The focus measure falls with blur and does not see the unit of intensity."""

import numpy as np
import pytest
from scipy import ndimage

from linlatent.alpha import focus_measure


def spots(seed=0):
    points = np.random.default_rng(seed).random((64, 80)) > 0.97
    return 1000 * ndimage.gaussian_filter(points.astype(float), 1) + 100


def test_it_falls_with_blur():
    measures = [focus_measure(ndimage.gaussian_filter(spots(), sigma)) for sigma in (0, 1, 2, 4)]
    assert measures == sorted(measures, reverse=True)
    assert measures[0] > 2 * measures[1]


def test_it_does_not_see_the_unit_of_intensity():
    assert focus_measure(7 * spots()) == pytest.approx(focus_measure(spots()))


def test_it_is_the_variance_of_the_laplacian():
    image = spots().astype(np.uint16)
    laplacian = ndimage.laplace(image.astype(float))[1:-1, 1:-1]
    assert focus_measure(image) == pytest.approx(laplacian.var() / image.mean() ** 2)


def test_a_constant_image_has_no_focus():
    assert focus_measure(np.zeros((8, 9), np.uint16)) == 0


@pytest.mark.parametrize("shape", [(2, 9), (9,), (3, 9, 9)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="height, width"):
        focus_measure(np.zeros(shape))
