"""Batches against a plain NumPy oracle: every example once per epoch, the same from any step."""

import dataclasses
import functools
import itertools
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest
from memory_slides import (
    CROP,
    LEVELS,
    TRIPLETS,
    evaluation_batches,
    fingerprint,
    memory_source,
    numpy_five_crops,
    numpy_normalised,
    numpy_ten_crops,
    stack_of,
    train_batches,
)

from linlatent import data, images
from linlatent.data.plan import GROUP_SIZE


@pytest.mark.parametrize(
    ("normalisation", "dtype"),
    [*((name, np.uint16) for name in images.NORMALISATIONS), ("plane", np.uint8)],
)
def test_an_epoch_holds_every_triplet_of_every_crop_once(normalisation, dtype):
    source = memory_source(read_stack=functools.partial(stack_of, dtype=dtype))
    expected = Counter(
        fingerprint(crop[list(triplet)])
        for slide_id in source.slide_ids["train"]
        for crop in numpy_ten_crops(
            numpy_normalised(slide_id, normalisation, source.read_stack), CROP
        )
        for triplet in TRIPLETS
    )
    steps = data.steps_per_epoch(source, triplets=TRIPLETS, batching="triplet", batch_size=40)
    assert steps == len(source.slide_ids["train"]) * 10 * len(TRIPLETS) / 40
    found = Counter()
    batches = train_batches(source, normalisation=normalisation)
    for batch in itertools.islice(batches, steps):
        assert batch["planes"].shape == (40, 3, CROP, CROP, 1)
        assert batch["planes"].dtype == batch["alpha"].dtype == np.float32
        np.testing.assert_array_equal(batch["alpha"], np.full((40, 1), 0.5))
        found.update(fingerprint(planes[..., 0]) for planes in batch["planes"])
    assert found == expected


def test_stack_batching_holds_every_crop_once_with_all_triplets():
    source = memory_source()
    triplets = [*TRIPLETS, data.Triplet(0, 1, 4)]
    expected = Counter(
        fingerprint(crop)
        for slide_id in source.slide_ids["train"]
        for crop in numpy_ten_crops(numpy_normalised(slide_id, "plane"), CROP)
    )
    batches = train_batches(source, batching="stack", batch_size=10, triplets=triplets)
    found = Counter()
    for batch in itertools.islice(batches, len(source.slide_ids["train"])):
        assert batch["planes"].shape == (10, LEVELS, CROP, CROP, 1)
        np.testing.assert_array_equal(batch["alpha"], [[0.5, 0.5, 0.5, 0.5, 0.75]] * 10)
        found.update(fingerprint(planes[..., 0]) for planes in batch["planes"])
    assert found == expected


def test_alpha_belongs_to_its_triplet():
    triplets = [data.Triplet(0, 1, 4), data.Triplet(1, 2, 4)]
    source = memory_source(num_train=2)
    alpha_of = {
        fingerprint(crop[list(triplet)]): triplet.alpha
        for slide_id in source.slide_ids["train"]
        for crop in numpy_ten_crops(numpy_normalised(slide_id, "plane"), CROP)
        for triplet in triplets
    }
    batch = next(train_batches(source, triplets=triplets))
    expected = [[alpha_of[fingerprint(planes[..., 0])]] for planes in batch["planes"]]
    np.testing.assert_allclose(batch["alpha"], expected, rtol=1e-6)


@pytest.mark.parametrize("batch_size", [10, 20])
def test_ten_crops_of_a_slide_and_triplet_follow_each_other(batch_size):
    source = memory_source(num_train=4)
    triplets = [*TRIPLETS, data.Triplet(0, 1, 4)]
    items = {
        fingerprint(np.stack(numpy_ten_crops(stack[list(triplet)], CROP))): (slide_id, triplet)
        for slide_id in source.slide_ids["train"]
        for stack in [numpy_normalised(slide_id, "plane")]
        for triplet in triplets
    }
    options = {"batching": "ten-crop", "batch_size": batch_size, "triplets": triplets}
    steps = data.steps_per_epoch(
        source, triplets=triplets, batching="ten-crop", batch_size=batch_size
    )
    assert steps == len(items) * 10 // batch_size
    found = []
    for batch in itertools.islice(train_batches(source, **options), steps):
        assert batch["planes"].shape == (batch_size, 3, CROP, CROP, 1)
        for first in range(0, batch_size, 10):
            item = items[fingerprint(batch["planes"][first : first + 10, ..., 0])]
            found.append(item)
            np.testing.assert_allclose(
                batch["alpha"][first : first + 10], [[item[1].alpha]] * 10, rtol=1e-6
            )
    assert Counter(found) == Counter(items.values())
    # Shuffled: the slides of neighbours differ more often than not.
    assert sum(a[0] != b[0] for a, b in itertools.pairwise(found)) > len(found) / 2


def test_a_batch_that_parts_ten_crops_is_refused():
    with pytest.raises(ValueError, match=r"multiple of 10 with batching 'ten-crop', got 12"):
        train_batches(memory_source(), batching="ten-crop", batch_size=12)


# 30 examples leave a remainder of an epoch. A group holds 640 examples and an epoch 25 batches, or
# with stacks 160 and 6.
@pytest.mark.parametrize("batching", data.BATCHINGS)
@pytest.mark.parametrize("first_step", [1, 5, 6, 21, 25, 60])
def test_a_resumed_stream_goes_on_as_if_never_interrupted(batching, first_step):
    source, options = memory_source(), {"batching": batching, "batch_size": 30}
    whole = itertools.islice(train_batches(source, **options), first_step, first_step + 3)
    resumed = train_batches(source, **options, first_step=first_step)
    for expected, batch in zip(whole, resumed, strict=False):
        np.testing.assert_array_equal(batch["planes"], expected["planes"])
        np.testing.assert_array_equal(batch["alpha"], expected["alpha"])


@pytest.mark.parametrize("batching", ["triplet", "ten-crop"])
def test_the_shares_of_a_batch_joined_are_the_batch(batching):
    """Over the end of a group, after batch 8, and of an epoch, after batch 9."""
    source = memory_source()
    stream = functools.partial(train_batches, source, batching=batching, first_step=7)
    whole = itertools.islice(stream(batch_size=80), 4)
    shares = [stream(batch_size=80, share=(part, 4)) for part in range(4)]
    for batch, *parts in zip(whole, *shares, strict=False):
        for name, values in batch.items():
            np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), values)
            assert {len(part[name]) for part in parts} == {20}


def test_the_shares_of_an_evaluation_joined_are_the_evaluation():
    """Of three slides, the last batch of the second share holds none."""
    source = memory_source(num_test=3)
    whole = list(evaluation_batches(source, batch_size=2))
    shares = [evaluation_batches(source, batch_size=2, share=(part, 2)) for part in range(2)]
    for batch, *parts in zip(whole, *shares, strict=True):
        joined = {name: np.concatenate([part[name] for part in parts]) for name in batch}
        np.testing.assert_array_equal(joined["mask"], batch["mask"])
        np.testing.assert_array_equal(joined["slide_id"], batch["slide_id"])
        real = batch["mask"] == 1
        np.testing.assert_array_equal(joined["planes"][real], batch["planes"][real])
        assert joined["planes"].shape == batch["planes"].shape
    assert joined["mask"].tolist() == [1, 0]


@pytest.mark.parametrize("share", [(2, 2), (-1, 2), (0, 3)])
@pytest.mark.parametrize("stream", [train_batches, evaluation_batches])
def test_impossible_shares_are_refused(stream, share):
    with pytest.raises(
        ValueError, match=r"share \(.*\) is none of a batch of 40; expected \(p, n\)"
    ):
        stream(memory_source(), batch_size=40, share=share)


def test_seeds_and_epochs_have_their_own_order():
    source = memory_source(num_train=2)
    steps = data.steps_per_epoch(source, triplets=TRIPLETS, batching="triplet", batch_size=40)
    first = next(train_batches(source))["planes"]
    assert not np.array_equal(first, next(train_batches(source, seed=1))["planes"])
    assert not np.array_equal(first, next(train_batches(source, first_step=steps))["planes"])
    np.testing.assert_array_equal(first, next(train_batches(source))["planes"])


def test_the_remainder_of_an_epoch_is_dropped():
    source = memory_source(num_train=2)  # 80 examples: 2 batches of 30
    examples = Counter(
        fingerprint(planes)
        for batch in itertools.islice(train_batches(source, batch_size=30), 2)
        for planes in batch["planes"]
    )
    assert len(examples) == 60
    assert data.steps_per_epoch(source, triplets=TRIPLETS, batching="triplet", batch_size=30) == 2


def test_it_reads_no_more_than_it_needs():
    lock, reads = threading.Lock(), []

    def read_stack(slide_id):
        with lock:
            reads.append(slide_id)
        return stack_of(slide_id)

    source = memory_source(num_train=20 * GROUP_SIZE, read_stack=read_stack)
    next(train_batches(source, first_step=10**9 + 70))
    assert len(reads) <= 3 * GROUP_SIZE


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_evaluation_gives_every_slide_once_and_masks_the_rest(batch_size):
    source = memory_source()
    seen = []
    for batch in evaluation_batches(source, batch_size=batch_size):
        assert batch["planes"].shape == (batch_size, LEVELS, CROP, CROP, 1)
        assert batch["mask"].shape == (batch_size,)
        assert batch["mask"].dtype == batch["planes"].dtype == np.float32
        assert len(batch["slide_id"]) == batch_size
        assert np.isfinite(batch["planes"]).all()
        rows = zip(batch["slide_id"], batch["planes"], batch["mask"], strict=True)
        seen += [(slide_id, planes) for slide_id, planes, mask in rows if mask]
    assert [slide_id for slide_id, _ in seen] == source.slide_ids["test"]
    for slide_id, planes in seen:
        expected = numpy_five_crops(numpy_normalised(slide_id, "stack"), CROP)[-1]
        np.testing.assert_allclose(planes[..., 0], expected, rtol=1e-6)


def test_a_masked_mean_is_the_mean_for_any_batch_size():
    def masked_mean(batch_size):
        batches = list(evaluation_batches(memory_source(num_test=5), batch_size=batch_size))
        values = np.concatenate([batch["planes"].mean((1, 2, 3, 4)) for batch in batches])
        mask = np.concatenate([batch["mask"] for batch in batches])
        return (values * mask).sum() / mask.sum()

    np.testing.assert_allclose([masked_mean(n) for n in (2, 3, 4, 7)], masked_mean(1), rtol=1e-6)


def test_an_empty_split_is_refused():
    with pytest.raises(ValueError, match="memory has no slide in its validation split"):
        evaluation_batches(memory_source(), "validation")


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="'tset'; choose one of train, validation, test"):
        evaluation_batches(memory_source(), "tset")


def test_an_epoch_without_a_full_batch_is_refused():
    with pytest.raises(ValueError, match=r"1 training slides .* 40 examples .* batch_size 41"):
        train_batches(memory_source(num_train=1), batch_size=41)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batching": "pairs"}, "'pairs'; choose one of triplet, ten-crop, stack"),
        ({"normalisation": "minmax"}, "'minmax'; choose one of"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"seed": -1}, "seed -1"),
        ({"first_step": -1}, "first_step -1"),
        ({"triplets": []}, "expected triplets"),
        ({"triplets": [data.Triplet(0, 3, 5)]}, r"c < 5, .* got \[\(0, 3, 5\)\]"),
    ],
)
def test_impossible_arguments_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        train_batches(memory_source(), **options)


@pytest.mark.parametrize("stream", [train_batches, evaluation_batches])
class TestBadSlides:
    def test_a_slide_smaller_than_the_crop_is_named(self, stream, capfd):
        with pytest.raises(
            ValueError, match=r"^slide '.*' of memory is 37 pixels high and 42 wide"
        ):
            next(stream(memory_source(), crop_size=64))
        assert "Traceback" not in capfd.readouterr().err

    def test_a_failure_to_read_comes_through_as_it_is(self, stream):
        def fail(slide_id):
            raise FileNotFoundError(f"{slide_id}.tif is gone")

        with pytest.raises(FileNotFoundError, match=r"^slide\d+\.tif is gone$"):
            next(stream(dataclasses.replace(memory_source(), read_stack=fail)))

    def test_a_constant_plane_is_named(self, stream):
        constant = dataclasses.replace(
            memory_source(), read_stack=lambda slide_id: stack_of(slide_id) * np.uint16(0) + 7
        )
        with pytest.raises(ValueError, match=r"^slide '.*' of memory: plane 0 of 5 is constant"):
            next(stream(constant))


def test_what_lies_before_a_bad_slide_is_delivered():
    def read_stack(slide_id):
        if slide_id == "slide1002":
            raise ValueError("broken")
        return stack_of(slide_id)

    source = memory_source(read_stack=read_stack)
    batches = evaluation_batches(source, batch_size=1)
    assert [next(batches)["slide_id"], next(batches)["slide_id"]] == [
        ("slide1000",),
        ("slide1001",),
    ]
    with pytest.raises(ValueError, match="broken"):
        next(batches)
    with pytest.raises(ValueError, match="broken"):
        next(evaluation_batches(source, batch_size=3))


def test_sources_are_opened_without_tensorflow():
    script = (
        "import sys; from linlatent import data; data.SOURCES, data.open_source;"
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_an_abandoned_stream_ends_quietly():
    script = """
import numpy as np
from linlatent import data
source = data.StackSource("memory", 3, {"train": ["s"]},
                          lambda _: np.arange(3072, dtype=np.uint16).reshape(3, 32, 32))
batches = data.train_batches(source, triplets=data.midpoint_triplets(3), batching="triplet",
                             crop_size=32, normalisation="plane", batch_size=2, seed=0)
next(batches)
"""
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120
    )
    assert result.returncode == 0
    assert "Traceback" not in result.stderr
    assert "Error" not in result.stderr
