"""Sharp frames with computed blur: level 0 is the file, the rest follows optics and camera."""

import concurrent.futures
import pathlib
import shutil

import bbbc006_dummy_data as dummy
import numpy as np
import pytest
import tifffile
from scipy import ndimage

from linlatent import images, optics
from linlatent.alpha import focus_measure
from linlatent.data import SPLITS, open_source
from linlatent.data.synthetic import slides

REAL = pathlib.Path(__file__).parents[2] / "shared" / "data" / "bbbc006"
SHAPE = (48, 60)


def drawn_frame(seed=0):
    points = np.random.default_rng(seed).random(SHAPE) > 0.97
    light = ndimage.gaussian_filter(points.astype(float), 1.5)
    return np.round(130 + 60000 * light).astype(np.uint16)


def write_frames(root, count=2):
    for seed in range(count):
        images.write_image(root / f"f{seed}.png", drawn_frame(seed))
    return root


def open_frames(path, **options):
    return open_source("in_focus", path=str(path), **options)


def all_slides(source):
    return sorted(slide_id for split in SPLITS for slide_id in source.slide_ids[split])


def test_source_keeps_the_contract(tmp_path):
    root = tmp_path / "frames"
    root.mkdir()
    tall = np.vstack([drawn_frame(1), drawn_frame(2)])
    images.write_image(root / "f0.png", drawn_frame())
    images.write_image(root / "f1.tif", tall)
    (root / "notes.txt").write_text("20x")
    (root / "._f0.png").write_text("")
    source = open_frames(root, num_levels=4, level_spacing_um=6.0)
    assert source.name == "in_focus/frames"
    assert (source.num_levels, source.level_spacing_um) == (4, 6.0)
    assert source.paper_channel is None
    assert all_slides(source) == ["f0.png", "f1.tif"]
    for slide_id, frame in (("f0.png", drawn_frame()), ("f1.tif", tall)):
        stack = source.read_stack(slide_id)
        assert (stack.shape, stack.dtype) == ((4, *frame.shape), np.uint16)
        np.testing.assert_array_equal(stack[0], frame)


def test_the_default_levels_are_those_of_bbbc006(tmp_path):
    source = open_frames(write_frames(tmp_path))
    assert (source.num_levels, source.level_spacing_um) == (9, 4.0)


def test_blur_grows_over_the_levels_and_keeps_the_light(tmp_path):
    source = open_frames(write_frames(tmp_path), level_spacing_um=1.0)
    for slide_id in all_slides(source):
        stack = source.read_stack(slide_id).astype(np.float64)
        assert np.all(np.diff(stack.var(axis=(1, 2))) < 0)
        assert np.all(np.diff([focus_measure(plane) for plane in stack]) < 0)
    flat = np.full(SHAPE, 5110, np.uint16)
    images.write_image(tmp_path / "flat.png", flat)
    stack = open_frames(tmp_path).read_stack("flat.png")
    np.testing.assert_allclose(stack.mean(axis=(1, 2)), 5110, atol=5)


def test_planes_scatter_around_the_blurred_light_as_the_camera_does(tmp_path):
    stack = open_frames(write_frames(tmp_path), level_spacing_um=3.0).read_stack("f0.png")
    camera = optics.Camera()
    light = drawn_frame() - camera.offset_counts
    for level in (1, 4):
        psf = optics.defocus_psf(optics.BBBC006, 3.0 * level)
        expected = ndimage.convolve(light, psf.astype(np.float64), mode="nearest")
        variance = camera.counts_per_photon * expected + camera.read_noise_counts**2
        scatter = (stack[level] - camera.offset_counts - expected) / np.sqrt(variance)
        assert scatter.mean() == pytest.approx(0, abs=0.1)
        assert scatter.std() == pytest.approx(1, abs=0.1)


def test_pixels_below_the_offset_hold_no_light(tmp_path):
    frame = np.full(SHAPE, 90, np.uint16)
    images.write_image(tmp_path / "dark.png", frame)
    stack = open_frames(tmp_path).read_stack("dark.png")
    np.testing.assert_array_equal(stack[0], frame)
    assert stack[1:].mean() == pytest.approx(optics.Camera().offset_counts, abs=0.5)


def test_a_stack_depends_on_frame_name_and_seed_alone(tmp_path):
    for name in ("a.png", "b.png"):
        images.write_image(tmp_path / name, drawn_frame())
    source = open_frames(tmp_path)
    first, other_name = source.read_stack("a.png"), source.read_stack("b.png")
    other_seed = open_frames(tmp_path, seed=1).read_stack("a.png")
    for other in (other_name, other_seed):
        np.testing.assert_array_equal(other[0], first[0])
        for plane, same_level in zip(other[1:], first[1:], strict=True):
            assert np.mean(plane != same_level) > 0.5

    (tmp_path / "b.png").unlink()
    write_frames(tmp_path)
    again = open_frames(tmp_path, split=(0, 0, 1))
    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        for stack in threads.map(again.read_stack, ["a.png"] * 8):
            np.testing.assert_array_equal(stack, first)


def test_frames_are_split_as_slides_of_a_folder(tmp_path):
    root = write_frames(tmp_path, count=10)
    default = open_frames(root)
    assert [len(default.slide_ids[split]) for split in SPLITS] == [7, 1, 2]
    assert len(set(all_slides(default))) == 10
    assert open_frames(root).slide_ids == default.slide_ids
    assert len({str(open_frames(root, seed=seed).slide_ids) for seed in range(4)}) > 1
    testing = open_frames(root, split=(0, 0, 1))
    assert [len(testing.slide_ids[split]) for split in SPLITS] == [0, 0, 10]


def missing_folder(root):
    return root / "none"


def no_images(root):
    (root / "notes.txt").write_text("20x")
    return root


def slide_folders(root):
    (root / "s0").mkdir()
    write_frames(root / "s0")
    return root


def eight_bits(root):
    images.write_image(root / "f2.png", np.ones(SHAPE, np.uint8))
    return root


def pages(root):
    images.write_image(root / "f2.tif", np.ones((3, *SHAPE), np.uint16))
    return root


def colours(root):
    tifffile.imwrite(root / "f2.tif", np.ones((*SHAPE, 3), np.uint16), photometric="rgb")
    return root


def corrupt_header(root):
    (root / "f2.tif").write_bytes(b"II*\0broken")
    return root


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (missing_folder, FileNotFoundError, "there is no folder '.*none'; .* of sharp frames"),
        (no_images, ValueError, r"holds no image; .* \.tif, \.tiff, \.png"),
        (slide_folders, ValueError, "holds no image"),
        (eight_bits, ValueError, r"f2\.png .* type uint8; expected one frame, .* of uint16"),
        (pages, ValueError, r"f2\.tif has the shape \(3, 48, 60\) .*; expected one frame"),
        (colours, ValueError, r"f2\.tif is a colour"),
        (corrupt_header, ValueError, r"f2\.tif cannot be read"),
    ],
)
def test_bad_folders_are_refused_by_name(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        open_frames(make(tmp_path))


def test_no_folder_given_is_refused():
    with pytest.raises(FileNotFoundError, match="there is no folder ''"):
        open_frames("")


def test_corrupt_pixels_are_named_when_they_are_read(tmp_path):
    path = write_frames(tmp_path) / "f1.png"
    path.write_bytes(path.read_bytes()[:-100])
    source = open_frames(tmp_path)
    with pytest.raises(ValueError, match=r"f1\.png"):
        source.read_stack("f1.png")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_levels": 2}, "num_levels must be at least 3, .* got 2"),
        ({"level_spacing_um": 0.0}, "level_spacing_um must be a positive number, got 0.0"),
        ({"level_spacing_um": -4.0}, "got -4.0"),
        ({"level_spacing_um": float("nan")}, "got nan"),
        ({"seed": -1}, "seed must not be negative, got -1"),
        ({"split": (0.7, 0.2)}, "fractions of train, validation, test"),
        ({"split": (0.7, 0.2, 0.2)}, "with the sum 1"),
        ({"direction": "below"}, "data source 'in_focus': .*'direction'; its options are path"),
    ],
)
def test_impossible_options_are_refused(tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        open_frames(write_frames(tmp_path), **options)


def test_its_options_are_fields_of_the_configuration(tmp_path):
    from configs import default

    options = default.get_config().data.in_focus
    options.path = str(write_frames(tmp_path))
    assert all_slides(open_source("in_focus", **options)) == ["f0.png", "f1.png"]


# The PSFs that sources give.


@pytest.fixture
def open_synthetic(tmp_path, monkeypatch):
    def blank(slide_id, *, channel, height, width, varied):
        return np.zeros((slides.NUM_LEVELS, height, width), np.uint16)

    monkeypatch.setattr(slides, "render_slide", blank)
    return lambda: open_source("synthetic", config="w1_tiny", data_dir=str(tmp_path / "tfds"))


@pytest.fixture
def open_bbbc006(tmp_path):
    tree = dummy.write_tree(tmp_path / "tree", dummy.slide_ids("w1")[:1], range(0, 17, 2))
    return lambda: open_source("bbbc006", data_dir=str(tmp_path / "tfds"), manual_dir=str(tree))


@pytest.fixture
def open_in_focus(tmp_path):
    return lambda: open_frames(write_frames(tmp_path))


@pytest.mark.parametrize("name", ["open_synthetic", "open_bbbc006", "open_in_focus"])
def test_every_level_has_the_psf_of_its_distance(name, request, monkeypatch):
    source = request.getfixturevalue(name)()
    psfs = source.psfs()
    assert len(psfs) == source.num_levels == 9
    for level, psf in enumerate(psfs):
        assert psf.dtype == np.float32
        assert psf.shape == (len(psf), len(psf))
        assert len(psf) % 2 == 1
        assert psf.sum() == pytest.approx(1, abs=1e-5)
        np.testing.assert_allclose(ndimage.center_of_mass(psf), len(psf) // 2, atol=1e-3)
        if level or name != "open_in_focus":
            expected = optics.defocus_psf(optics.BBBC006, 4.0 * level)
            np.testing.assert_array_equal(psf, expected)

    def again(*args, **options):
        raise AssertionError("PSFs are computed once")

    monkeypatch.setattr(optics, "defocus_psf", again)
    for psf, same in zip(psfs, source.psfs(), strict=True):
        np.testing.assert_array_equal(psf, same)


def test_a_sharp_frame_is_its_own_level_0(tmp_path):
    stack = open_frames(write_frames(tmp_path)).read_stack("f0.png")
    psf = open_frames(tmp_path).psfs()[0]
    np.testing.assert_allclose(optics.blur(stack[0], psf), stack[0], atol=0.01)


def test_a_folder_of_stacks_has_no_known_optics(tmp_path):
    stack = np.stack([drawn_frame()] * 3)
    tifffile.imwrite(tmp_path / "s0.tif", stack, photometric="minisblack")
    assert open_source("folder", path=str(tmp_path), in_focus=2).psfs is None


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/data/bbbc006")
def test_the_last_level_of_a_real_frame_resembles_the_real_one(tmp_path):
    shutil.copy(REAL / "in_focus" / "a01_s1_w1.png", tmp_path)
    shutil.copy(REAL / "in_focus" / "a02_s1_w1.png", tmp_path)
    source = open_frames(tmp_path, split=(0, 0, 1))
    (path,) = (REAL / "BBBC006_v1_images_z_00").glob("*_a01_s1_w1*.tif")
    observed = tifffile.imread(path)

    def correlation(slide_id, level):
        computed = source.read_stack(slide_id)[level]
        return np.corrcoef(computed.ravel(), observed.ravel())[0, 1]

    # Of the variance 0.9856 are explained by blur alone; here there is noise in both.
    assert correlation("a01_s1_w1.png", 8) ** 2 > 0.975
    assert correlation("a01_s1_w1.png", 4) ** 2 < 0.96
    assert correlation("a02_s1_w1.png", 8) ** 2 < 0.5
