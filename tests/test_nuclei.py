"""Nuclei are found, counted and compared as one would by eye."""

import numpy as np
import pytest
from skimage import draw

from linlatent.evaluation.nuclei import area_error, f1_score, find_nuclei

SIZE = 96
CENTRES = [(20, 20), (20, 70), (48, 44), (75, 22), (74, 75)]


def discs(centres, radius=9, background=0.1, noise=0.0):
    """Bright discs on a dark background."""
    image = np.full((SIZE, SIZE), background, np.float32)
    for centre in centres:
        image[draw.disk(centre, radius, shape=image.shape)] = 0.8
    return image + noise * np.random.default_rng(0).standard_normal(image.shape, np.float32)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_every_disc_is_a_nucleus(noise):
    labels = find_nuclei(discs(CENTRES, noise=noise))
    assert labels.shape == (SIZE, SIZE)
    assert labels.max() == len(CENTRES)
    assert len({labels[centre] for centre in CENTRES}) == len(CENTRES)
    assert labels[0, 0] == 0
    for label in range(1, len(CENTRES) + 1):
        assert np.count_nonzero(labels == label) == pytest.approx(np.pi * 9**2, rel=0.1)


def test_touching_nuclei_are_two():
    labels = find_nuclei(discs([(40, 34), (40, 50)]))
    assert labels.max() == 2
    assert labels[40, 34] != labels[40, 50]


def test_the_unit_of_intensity_makes_no_difference():
    image = discs(CENTRES)
    np.testing.assert_array_equal(find_nuclei(image), find_nuclei(5000 * image + 110))


@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_flat_image_has_none(value):
    assert not find_nuclei(np.full((32, 40), value)).any()


def test_specks_are_no_nuclei():
    image = discs(CENTRES[:2])
    image[60:64, 60:64] = 1
    assert find_nuclei(image).max() == 2


def test_identical_images_agree():
    labels = find_nuclei(discs(CENTRES))
    assert f1_score(labels, labels) == 1
    assert area_error(labels, labels) == 0


@pytest.mark.parametrize(
    ("centres", "expected"),
    [
        (CENTRES[:4], 2 * 4 / (4 + 5)),  # One is missing,
        ([*CENTRES, (47, 84)], 2 * 5 / (6 + 5)),  # one is too many,
        ([*CENTRES[:4], (78, 79)], 2 * 4 / (5 + 5)),  # and one is elsewhere.
    ],
)
def test_f1_of_what_is_missing_and_made_up(centres, expected):
    truth = find_nuclei(discs(CENTRES, radius=8))
    assert f1_score(find_nuclei(discs(centres, radius=8)), truth) == pytest.approx(expected)


def test_a_merger_and_a_split_both_lose():
    halves = np.zeros((40, 60), int)
    halves[10:30, 10:30], halves[10:30, 30:50] = 1, 2
    whole = np.minimum(halves, 1)
    # Each half is exactly one half of the union, which is not more than half.
    assert f1_score(whole, halves) == 0
    assert f1_score(halves, whole) == 0
    assert area_error(whole, halves) == 0
    # With unequal parts the larger one still matches.
    uneven = np.where(halves > 0, 1 + (np.arange(60) >= 40), 0)
    assert f1_score(uneven, whole) == f1_score(whole, uneven) == pytest.approx(2 / 3)


def test_the_order_of_labels_makes_no_difference():
    labels = find_nuclei(discs(CENTRES))
    other = np.where(labels > 0, labels.max() + 1 - labels, 0)
    assert f1_score(other, labels) == 1


def test_area_error_by_hand():
    small, large = np.zeros((2, 20, 20), int)
    small[:10, :6], large[:10, :8] = 1, 1
    assert area_error(small, large) == area_error(large, small) == pytest.approx(0.25)


def test_images_without_nuclei():
    none, some = np.zeros((SIZE, SIZE), int), find_nuclei(discs(CENTRES))
    assert (f1_score(none, none), area_error(none, none)) == (1, 0)
    assert (f1_score(none, some), area_error(none, some)) == (0, 1)
    assert (f1_score(some, none), area_error(some, none)) == (0, 1)
