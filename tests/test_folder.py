"""Folders of TIFF stacks: order, focus, levels and splits; every broken one is named."""

import pathlib

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from linlatent import images
from linlatent.data import SPLITS, open_source
from linlatent.data.folder import _split_sizes

IMAGEXPRESS = pathlib.Path(__file__).parents[2] / "shared" / "data" / "imagexpress"
SHAPE = (24, 30)


def stack_in_focus_at(focus, planes=12, seed=0, dtype=np.uint16):
    scene = 140.0 * (np.random.default_rng(seed).random(SHAPE) > 0.9) + 100
    blurred = [ndimage.gaussian_filter(scene, abs(z - focus) / 2) for z in range(planes)]
    return np.round(blurred).astype(dtype)


def write_planes(folder, stack, name="z_{}.tif"):
    folder.mkdir()
    for z, plane in enumerate(stack):
        images.write_image(folder / name.format(z), plane)


def open_folder(path, **options):
    return open_source("folder", path=str(path), **options)


def all_slides(source):
    return sorted(slide_id for split in SPLITS for slide_id in source.slide_ids[split])


def make_planes(root, count=1, **options):
    root.mkdir(exist_ok=True)
    for seed in range(count):
        write_planes(root / f"s{seed}", stack_in_focus_at(7, seed=seed, **options))
    return root


def make_pages(root, count=1, **options):
    root.mkdir(exist_ok=True)
    for seed in range(count):
        stack = stack_in_focus_at(7, seed=seed, **options)
        tifffile.imwrite(root / f"s{seed}.tif", stack, photometric="minisblack", compression="lzw")
    return root


@pytest.mark.parametrize("make", [make_planes, make_pages])
@pytest.mark.parametrize("in_focus", [7, None])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_levels_run_from_the_plane_in_focus(tmp_path, make, in_focus, dtype):
    root = make(tmp_path / "slides", dtype=dtype)
    stack = stack_in_focus_at(7, dtype=dtype)
    for direction, step, expected in [
        ("below", 1, stack[7::-1]),
        ("above", 1, stack[7:]),
        ("below", 3, stack[[7, 4, 1]]),
        ("above", 2, stack[[7, 9, 11]]),
    ]:
        source = open_folder(root, in_focus=in_focus, direction=direction, level_step=step)
        assert source.num_levels == len(expected)
        read = source.read_stack(all_slides(source)[0])
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, expected)


def test_a_plane_is_named_by_its_file(tmp_path):
    source = open_folder(make_planes(tmp_path / "slides"), in_focus="z_4", num_levels=3)
    np.testing.assert_array_equal(source.read_stack("s0"), stack_in_focus_at(7)[[4, 3, 2]])


def test_levels_are_as_many_as_every_slide_has(tmp_path):
    for seed, focus in enumerate((9, 5, 7)):
        write_planes(tmp_path / f"s{seed}", stack_in_focus_at(focus, seed=seed))
    source = open_folder(tmp_path)
    assert source.num_levels == 6
    np.testing.assert_array_equal(source.read_stack("s0"), stack_in_focus_at(9)[9:3:-1])


def test_what_is_said_of_the_data_is_passed_on(tmp_path):
    source = open_folder(make_planes(tmp_path / "slides"), level_spacing_um=5.0)
    assert source.level_spacing_um == 5.0
    assert source.name == "folder/slides"


def test_other_files_are_left_aside(tmp_path):
    root = make_planes(tmp_path / "slides")
    (root / "notes.txt").write_text("20x")
    (root / ".DS_Store").write_text("")
    (root / "s0" / "metadata.xml").write_text("")
    (root / "s0" / "._z_0.tif").write_text("")
    assert all_slides(open_folder(root)) == ["s0"]


@pytest.mark.parametrize("seed", range(5))
def test_fields_are_never_parted(tmp_path, seed):
    for field in "ABCDEF":
        for channel in (1, 2):
            stack = stack_in_focus_at(4, planes=5, seed=ord(field))
            tifffile.imwrite(tmp_path / f"{field}_w{channel}.tif", stack, photometric="minisblack")
    source = open_folder(tmp_path, field_pattern=r"(.*)_w\d", in_focus=4, seed=seed)
    fields = [{slide_id[0] for slide_id in source.slide_ids[split]} for split in SPLITS]
    assert [len(members) for members in fields] == [4, 1, 1]
    assert set.union(*fields) == set("ABCDEF")
    assert len(all_slides(source)) == 12
    again = open_folder(tmp_path, field_pattern=r"(.*)_w\d", in_focus=4, seed=seed)
    assert again.slide_ids == source.slide_ids


def test_the_seed_chooses_the_split(tmp_path):
    root = make_pages(tmp_path / "slides", count=8)
    splits = {str(open_folder(root, in_focus=7, seed=seed).slide_ids) for seed in range(4)}
    assert len(splits) > 1


@pytest.mark.parametrize(
    ("count", "split", "sizes"),
    [
        (1, (0.7, 0.1, 0.2), [1, 0, 0]),
        (2, (0.7, 0.1, 0.2), [1, 0, 1]),
        (3, (0.7, 0.1, 0.2), [1, 1, 1]),
        (4, (0.7, 0.1, 0.2), [2, 1, 1]),
        (10, (0.7, 0.1, 0.2), [7, 1, 2]),
        (768, (0.7, 0.1, 0.2), [537, 77, 154]),
        (5, (0.0, 0.0, 1.0), [0, 0, 5]),
        (5, (0.5, 0.5, 0.0), [3, 2, 0]),
        (100, (0.98, 0.001, 0.019), [97, 1, 2]),
    ],
)
def test_every_split_gets_what_is_possible(count, split, sizes):
    assert _split_sizes(count, split) == sizes


def missing_folder(root):
    return root / "none"


def no_slides(root):
    (root / "notes.txt").write_text("20x")
    return root


def slide_without_images(root):
    (root / "s1").mkdir()
    return root


def planes_of_different_size(root):
    write_planes(root / "s1", stack_in_focus_at(7))
    images.write_image(root / "s1" / "z_5.tif", np.ones((9, 8), np.uint16), overwrite=True)
    return root


def planes_of_different_type(root):
    write_planes(root / "s1", stack_in_focus_at(7))
    images.write_image(root / "s1" / "z_5.tif", np.ones(SHAPE, np.uint8), overwrite=True)
    return root


def corrupt_header(root):
    write_planes(root / "s1", stack_in_focus_at(7))
    (root / "s1" / "z_3.tif").write_bytes(b"II*\0broken")
    return root


def too_few_planes(root):
    write_planes(root / "s1", stack_in_focus_at(1, planes=2))
    return root


def folders_and_stacks(root):
    make_planes(root)
    return make_pages(root)


def planes_and_pages(root):
    write_planes(root / "s1", stack_in_focus_at(7))
    images.write_image(root / "s1" / "z_99.tif", stack_in_focus_at(7))
    return root


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (missing_folder, FileNotFoundError, "there is no folder '.*none'"),
        (no_slides, ValueError, "has no slides; expected a folder of plane files"),
        (slide_without_images, ValueError, r"s1 holds no image; .* \.tif, \.tiff, \.png"),
        (
            planes_of_different_size,
            ValueError,
            r"z_0\.tif is 24 pixels high, 30 wide, uint16, z_5\.tif is 9 pixels high, 8 wide",
        ),
        (planes_of_different_type, ValueError, r"z_0\.tif is .* uint16, z_5\.tif is .* uint8"),
        (corrupt_header, ValueError, r"z_3\.tif cannot be read"),
        (too_few_planes, ValueError, "slide 's1' .* too few planes: 2, .* at least 3"),
        (folders_and_stacks, ValueError, r"mixes folders \(s0, .* image files \(s0\.tif"),
        (planes_and_pages, ValueError, r"s1 mixes plane files with z_99\.tif, which has 12 pages"),
    ],
)
def test_bad_folders_are_refused_by_name(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        open_folder(make(tmp_path))


def test_corrupt_pixels_are_named_when_they_are_read(tmp_path):
    root = make_planes(tmp_path / "slides")
    path = root / "s0" / "z_5.tif"
    path.write_bytes(path.read_bytes()[:-100])
    source = open_folder(root, in_focus=7)
    with pytest.raises(ValueError, match=r"z_5\.tif"):
        source.read_stack("s0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"direction": "down"}, "'down'; choose one of below, above"),
        ({"num_levels": 2}, "num_levels must be at least 3"),
        ({"num_levels": 9, "in_focus": 7}, "slide 's0' .* 12, of which 8 serve .* at least 9"),
        ({"level_step": 0}, "level_step must be at least 1, got 0"),
        ({"level_step": 4, "in_focus": 7}, "of which 2 serve .* in steps of 4; .* at least 3"),
        ({"in_focus": 12}, "in_focus=12 names no plane of slide 's0'; .* from 0 to 11"),
        ({"in_focus": "z_07"}, "in_focus='z_07' .* z_0, z_1,"),
        ({"split": (0.7, 0.2)}, "fractions of train, validation, test"),
        ({"split": (0.7, 0.2, 0.2)}, "with the sum 1"),
        ({"split": (1.2, 0.0, -0.2)}, "none negative"),
        ({"field_pattern": r"(.*)_w\d"}, "does not match the slide 's0'"),
        ({"field_pattern": r".*"}, "has 0 groups; expected one"),
        ({"field_pattern": r"(.*"}, "is no regular expression"),
        ({"colour": "red"}, "data source 'folder': .*'colour'; its options are path, in_focus"),
    ],
)
def test_impossible_options_are_refused(tmp_path, options, message):
    root = make_planes(tmp_path / "slides")
    with pytest.raises(ValueError, match=message):
        open_folder(root, **options)


def test_sources_are_known_by_name():
    with pytest.raises(ValueError, match="'folders'; choose one of synthetic, folder"):
        open_source("folders")
    with pytest.raises(ValueError, match="missing a required argument: 'path'"):
        open_source("folder")


@pytest.mark.skipif(not IMAGEXPRESS.is_dir(), reason="needs ../shared/data/imagexpress")
class TestImageXpress:
    def test_the_plane_in_focus_is_found_and_has_four_below_it(self):
        found = open_folder(IMAGEXPRESS)
        given = open_folder(IMAGEXPRESS, in_focus="z_05")
        assert found.num_levels == given.num_levels == 5
        assert all_slides(found) == ["E07_s1_w1", "E07_s1_w2", "E07_s2_w1", "E07_s2_w2"]
        for slide_id in all_slides(found):
            stack = found.read_stack(slide_id)
            np.testing.assert_array_equal(stack, given.read_stack(slide_id))
            for level, z in enumerate((5, 4, 3, 2, 1)):
                plane = tifffile.imread(IMAGEXPRESS / slide_id / f"z_{z:02}.tif")
                np.testing.assert_array_equal(stack[level], plane)

    @pytest.mark.parametrize("seed", range(4))
    def test_exposures_of_a_field_stay_together(self, seed):
        source = open_folder(IMAGEXPRESS, in_focus="z_05", field_pattern=r"(.*)_w\d", seed=seed)
        train, test = source.slide_ids["train"], source.slide_ids["test"]
        assert (len(train), len(source.slide_ids["validation"]), len(test)) == (2, 0, 2)
        assert not {slide_id[:6] for slide_id in train} & {slide_id[:6] for slide_id in test}
