"""Names and splits of BBBC006: no files."""

import collections
import random

import bbbc006_dummy_data as dummy
import numpy as np
import pytest

from linlatent.data.bbbc006 import layout
from linlatent.data.stack import SPLITS


def test_plane_names_are_read():
    uuid = "2ab2c20a-2393-4718-8f3d-a4b9bb17a47f"  # its first digit is not the channel's
    name = layout.parse_plane_name(f"mcf-z-stacks-03212011_h01_s2_w1{uuid}.tif")
    assert name == ("h01", 2, "w1", uuid)
    assert name.slide_id == "h01_s2_w1"


@pytest.mark.parametrize(
    "name",
    [
        "mcf-z-stacks-03212011_q01_s2_w12ab2c20a-2393-4718-8f3d-a4b9bb17a47f.tif",
        "mcf-z-stacks-03212011_h25_s2_w12ab2c20a-2393-4718-8f3d-a4b9bb17a47f.tif",
        "mcf-z-stacks-03212011_h01_s3_w12ab2c20a-2393-4718-8f3d-a4b9bb17a47f.tif",
        "mcf-z-stacks-03212011_h01_s2_w32ab2c20a-2393-4718-8f3d-a4b9bb17a47f.tif",
        "mcf-z-stacks-03212011_h01_s2_w12ab2c20a.tif",
        "._mcf-z-stacks-03212011_h01_s2_w12ab2c20a-2393-4718-8f3d-a4b9bb17a47f.tif",
        "Thumbs.db",
    ],
)
def test_other_names_are_not_planes(name):
    assert layout.parse_plane_name(name) is None


def test_the_collection_has_768_slides_a_channel():
    for channel in ("w1", "w2"):
        ids = layout.slide_ids(channel)
        assert len(set(ids)) == 384 * 2
        assert (ids[0], ids[-1]) == (f"a01_s1_{channel}", f"p24_s2_{channel}")
        assert list(ids) == sorted(ids)


def test_the_published_split_is_that_of_the_sorted_file_names():
    ids = [*layout.slide_ids("w1"), *layout.slide_ids("w2")]
    random.Random(0).shuffle(ids)
    files = sorted(dummy.plane_name(slide_id) for slide_id in ids)
    parts = {"test": files[:307], "validation": files[307:460], "train": files[460:]}
    expected = {
        layout.parse_plane_name(file).slide_id: split
        for split, part in parts.items()
        for file in part
    }
    split_of = layout.published_split()
    assert split_of == expected
    counts = collections.Counter((slide_id[-2:], split) for slide_id, split in split_of.items())
    assert [counts["w1", split] for split in ("test", "validation", "train")] == [154, 76, 538]
    assert [counts["w2", split] for split in ("test", "validation", "train")] == [153, 77, 538]


def wells_in_two_splits(split_of, channel):
    return [
        well
        for well in layout.WELLS
        if split_of[f"{well}_s1_{channel}"] != split_of[f"{well}_s2_{channel}"]
    ]


def test_the_published_split_parts_one_well_of_w2():
    split_of = layout.published_split()
    assert wells_in_two_splits(split_of, "w1") == []
    assert wells_in_two_splits(split_of, "w2") == ["d05"]
    assert (split_of["d05_s1_w2"], split_of["d05_s2_w2"]) == ("test", "validation")


def test_by_well_parts_no_well():
    split_of = layout.by_well_split()
    assert set(split_of) == {*layout.slide_ids("w1"), *layout.slide_ids("w2")}
    for well in layout.WELLS:
        ids = [f"{well}_s{site}_{channel}" for site in (1, 2) for channel in ("w1", "w2")]
        assert len({split_of[slide_id] for slide_id in ids}) == 1
    counts = collections.Counter(split_of.values())
    shares = [counts[split] / len(split_of) for split in SPLITS]
    np.testing.assert_allclose(shares, (0.7, 0.1, 0.2), atol=0.5 / 384 + 1e-9)


def test_by_well_takes_wells_from_all_over_the_plate():
    """Unlike the published split, whose test set is one end of it."""
    rows = {
        splitting: {slide_id[0] for slide_id, split in split_of().items() if split == "test"}
        for splitting, split_of in layout.SPLITTINGS.items()
    }
    assert rows == {"by_well": set("abcdefghijklmnop"), "published": set("abcd")}


def test_by_well_stays_as_it_is():
    """A change would move slides from training to testing under models that exist."""
    split_of = layout.by_well_split()
    first = [f"{well}_s1_w1" for well in layout.WELLS[:24]]
    assert {slide_id[:3] for slide_id in first if split_of[slide_id] == "test"} == {
        *("a03", "a06", "a11", "a12")
    }
    assert {slide_id[:3] for slide_id in first if split_of[slide_id] == "validation"} == {
        *("a14", "a17", "a24")
    }
