"""The contract of the sources, and the paper's triplets."""

import numpy as np
import pytest

from linlatent.data.stack import (
    StackSource,
    Triplet,
    checked_stack,
    dyadic_triplets,
    midpoint_triplets,
)


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


def test_the_dyadic_triplets_are_those_of_the_published_code():
    # As listed there: two z-levels and the target between them; z_16 is in focus.
    listed = [(0, 16, 8), (0, 8, 4), (8, 16, 12), (0, 4, 2), (4, 8, 6), (8, 12, 10), (12, 16, 14)]
    levels = [[(16 - z) // 2 for z in triplet] for triplet in listed]
    assert dyadic_triplets(9) == tuple((a, b, c) for c, a, b in levels)


@pytest.mark.parametrize("num_levels", [3, 5, 9, 17, 33])
def test_dyadic_triplets_are_midpoints_each_level_between_the_ends_once(num_levels):
    triplets = dyadic_triplets(num_levels)
    assert set(triplets) <= set(midpoint_triplets(num_levels))
    assert sorted(b for _, b, _ in triplets) == list(range(1, num_levels - 1))
    # Bisection: what a triplet needs as endpoints is there before.
    known = {0, num_levels - 1}
    for a, b, c in triplets:
        assert {a, c} <= known
        known.add(b)


@pytest.mark.parametrize("num_levels", [-3, 0, 1, 2, 4, 6, 7, 8, 10, 16, 34])
def test_levels_that_cannot_be_bisected_are_refused(num_levels):
    with pytest.raises(ValueError, match=rf"2\^k \+ 1 blur levels .*, got {num_levels}$"):
        dyadic_triplets(num_levels)


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
