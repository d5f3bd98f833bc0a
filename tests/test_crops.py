"""Where crops lie, and in what order they come."""

import itertools

import numpy as np
import pytest
from memory_slides import (
    CROP,
    HEIGHT,
    WIDTH,
    fingerprint,
    memory_source,
    numpy_normalised,
    numpy_ten_crops,
    stack_of,
    train_batches,
)

from linlatent.data import pipeline


def orientations(crop):
    """A square in all eight orientations."""
    for turned in (crop, crop.swapaxes(-1, -2)):
        for rows in (1, -1):
            for columns in (1, -1):
                yield turned[..., ::rows, ::columns]


def test_random_crops_lie_anywhere_in_any_orientation_and_differ_from_epoch_to_epoch():
    source = memory_source(num_train=1)
    stack = numpy_normalised("slide0", "plane")
    known = {
        fingerprint(oriented): (top, left, number)
        for top in range(HEIGHT - CROP + 1)
        for left in range(WIDTH - CROP + 1)
        for number, oriented in enumerate(
            orientations(stack[:, top : top + CROP, left : left + CROP])
        )
    }
    options = {"batching": "stack", "batch_size": 10, "crops": "random"}
    epochs = [
        [known[fingerprint(planes[..., 0])] for planes in batch["planes"]]
        for batch in itertools.islice(train_batches(source, **options), 20)
    ]
    tops, lefts, numbers = (set(column) for column in zip(*itertools.chain(*epochs), strict=True))
    assert tops == set(range(HEIGHT - CROP + 1))
    assert lefts == set(range(WIDTH - CROP + 1))
    assert numbers == set(range(8))
    assert len({tuple(sorted(epoch)) for epoch in epochs}) == 20
    later = next(iter(train_batches(source, **options, first_step=7)))
    assert [known[fingerprint(planes[..., 0])] for planes in later["planes"]] == epochs[7]


def test_unknown_crops_are_refused():
    with pytest.raises(ValueError, match="unknown crops 'five'; choose one of ten, random"):
        train_batches(memory_source(), crops="five")


@pytest.mark.parametrize("size", [30, 31, 32, 37])
def test_ten_crops_are_torchvisions(size):
    planes = stack_of("slide1")
    crops = pipeline.ten_crops(planes, size).numpy()
    np.testing.assert_array_equal(crops, numpy_ten_crops(planes, size))
    assert crops.dtype == np.uint16
