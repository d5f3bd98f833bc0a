"""The contract of the sources, and the paper's triplets."""

import numpy as np
import pytest

from linlatent.data.stack import StackSource, Triplet, checked_stack, midpoint_triplets


def source(stack, num_levels=3):
    ids = {"train": ("s",), "validation": (), "test": ()}
    return StackSource("memory", num_levels, ids, lambda slide_id: stack)


@pytest.mark.parametrize(("num_levels", "count"), [(3, 1), (4, 2), (5, 4), (9, 16)])
def test_midpoint_triplets_are_all_and_only_those(num_levels, count):
    levels = range(num_levels)
    expected = {
        (a, b, c) for a in levels for b in levels for c in levels if a < b and 2 * b == a + c
    }
    triplets = midpoint_triplets(num_levels)
    assert len(triplets) == count
    assert set(triplets) == expected
    assert {triplet.alpha for triplet in triplets} == {0.5}


def test_alpha_is_the_weight_of_the_sharper_endpoint():
    a, b, c = triplet = Triplet(1, 2, 5)
    assert triplet.alpha * a + (1 - triplet.alpha) * c == b


def test_a_triplet_needs_three_levels():
    with pytest.raises(ValueError, match="at least 3 blur levels, got 2"):
        midpoint_triplets(2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_stack_that_keeps_the_contract_passes(dtype):
    stack = np.ones((3, 32, 40), dtype)
    assert checked_stack(source(stack), "s", min_size=32) is stack


@pytest.mark.parametrize(
    ("stack", "message"),
    [
        (np.ones((4, 40, 40), np.uint8), r"\(4, 40, 40\); expected \(3, height, width\)"),
        (np.ones((40, 40), np.uint8), r"\(40, 40\)"),
        (np.ones((3, 40, 40), np.int32), "int32"),
        (np.ones((3, 40, 31), np.uint16), "40 pixels high and 31 wide, .* crop of 32 x 32"),
    ],
)
def test_a_stack_that_breaks_the_contract_is_refused_by_name(stack, message):
    with pytest.raises(ValueError, match=message) as error:
        checked_stack(source(stack), "s", min_size=32)
    assert "slide 's' of memory" in str(error.value)
