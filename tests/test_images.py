"""Files keep their counts; normalisations have an inverse; whatever else is refused by name."""

import imageio.v3 as iio
import numpy as np
import pytest
import tifffile

from linlatent import images


def counts(shape, dtype=np.uint16, seed=0):
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize(
    ("name", "shape"),
    [("plane.tif", (20, 30)), ("three.tiff", (3, 20, 30)), ("x.TIF", (5, 9, 4)), ("x.png", (7, 6))],
)
def test_what_is_written_is_read(tmp_path, name, shape, dtype):
    image = counts(shape, dtype)
    images.write_image(tmp_path / name, image)
    assert images.read_header(tmp_path / name) == (shape, dtype)
    read = images.read_image(tmp_path / name)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize("predictor", [False, True])
def test_reads_lzw(tmp_path, predictor):
    image = counts((40, 50)) // 100
    tifffile.imwrite(tmp_path / "a.tif", image, compression="lzw", predictor=predictor)
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.tif"), image)


def test_a_file_of_an_ome_set_is_its_own_pages(tmp_path):
    image = counts((5, 8, 9))
    tifffile.imwrite(tmp_path / "a.ome.tif", image, metadata={"axes": "ZYX"})
    np.testing.assert_array_equal(images.read_image(tmp_path / "a.ome.tif"), image)


def test_an_existing_file_is_kept_unless_asked(tmp_path):
    path = tmp_path / "a.tif"
    images.write_image(path, counts((4, 5)))
    with pytest.raises(FileExistsError, match=r"a\.tif"):
        images.write_image(path, counts((4, 5), seed=1))
    np.testing.assert_array_equal(images.read_image(path), counts((4, 5)))
    images.write_image(path, counts((4, 5), seed=1), overwrite=True)
    np.testing.assert_array_equal(images.read_image(path), counts((4, 5), seed=1))


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("a.jpg", counts((4, 5)), r"ends in none of \.tif, \.tiff, \.png"),
        ("a.png", counts((3, 4, 5)), "height, width"),
        ("a.tif", counts((4,)), "height, width"),
        ("a.tif", np.zeros((4, 5)), "float64"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path, name, image, message):
    with pytest.raises(ValueError, match=message):
        images.write_image(tmp_path / name, image)
    assert not list(tmp_path.iterdir())


def test_writing_needs_the_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="create it"):
        images.write_image(tmp_path / "none" / "a.tif", counts((4, 5)))


def write_truncated(path):
    tifffile.imwrite(path, counts((5, 64, 70)), photometric="minisblack")
    path.write_bytes(path.read_bytes()[:9000])


def write_truncated_lzw(path):
    tifffile.imwrite(path, counts((64, 70)), compression="lzw")
    path.write_bytes(path.read_bytes()[:5000])


def write_damaged_lzw(path):
    tifffile.imwrite(path, counts((64, 70)), compression="lzw")
    content = bytearray(path.read_bytes())
    content[1000:5000] = bytes(4000)
    path.write_bytes(content)


def write_truncated_png(path):
    iio.imwrite(path, counts((64, 70)))
    path.write_bytes(path.read_bytes()[:5000])


def write_two_series(path):
    with tifffile.TiffWriter(path) as file:
        file.write(counts((8, 9)))
        file.write(counts((4, 5)))


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("truncated.tif", write_truncated, "is damaged|cannot be read"),
        ("truncated_lzw.tif", write_truncated_lzw, "is damaged|cannot be read"),
        ("damaged_lzw.tif", write_damaged_lzw, "is damaged|cannot be read"),
        ("truncated.png", write_truncated_png, "is damaged|cannot be read"),
        ("series.tif", write_two_series, "2 series"),
        ("text.tif", lambda path: path.write_text("text"), "cannot be read"),
        ("text.png", lambda path: path.write_text("text"), "cannot be read"),
        ("empty.tif", lambda path: path.touch(), "empty"),
        ("image.jpg", lambda path: path.write_text("text"), r"\.png"),
        ("float.tif", lambda path: tifffile.imwrite(path, np.zeros((8, 8), np.float32)), "float32"),
        ("bool.png", lambda path: iio.imwrite(path, np.eye(8, dtype=bool)), "bool"),
        ("rgb.png", lambda path: iio.imwrite(path, np.zeros((8, 8, 3), np.uint8)), "colour"),
        (
            "rgb.tif",
            lambda path: tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), photometric="rgb"),
            "colour",
        ),
        (
            "white.tif",
            lambda path: tifffile.imwrite(path, counts((8, 8)), photometric="miniswhite"),
            "inverted",
        ),
        (
            "hyperstack.tif",
            lambda path: tifffile.imwrite(path, counts((2, 3, 8, 9)), photometric="minisblack"),
            r"\(2, 3, 8, 9\)",
        ),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(ValueError, match=message) as error:
        images.read_image(tmp_path / name)
    assert name in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.tif"):
        images.read_image(tmp_path / "none.tif")


@pytest.mark.parametrize("normalisation", images.NORMALISATIONS)
def test_normalise_spans_0_to_1_and_has_an_inverse(normalisation):
    # Planes of different brightness, the range of 16 bit included.
    stack = counts((3, 20, 30)) // np.array([1, 3, 40], np.uint16)[:, None, None]
    low, high = images.intensity_range(stack, normalisation)
    normalised = images.normalise(stack, low, high, normalisation)
    assert normalised.dtype == np.float32
    axes = None if normalisation == "stack" else (1, 2)
    np.testing.assert_array_equal(normalised.min(axes), 0)
    np.testing.assert_array_equal(normalised.max(axes), 1)
    half_step = (high - low)[:, None, None] / 510 if normalisation == "plane-8bit" else 0
    error = np.abs(images.denormalise(normalised, low, high) - stack)
    assert np.all(error <= half_step + 0.01)


def test_8_bit_steps_are_the_published_ones():
    # float64 has no rounding trouble here and np.round takes ties to even, as the formula in tf.
    plane = np.arange(0, 2551, dtype=np.uint16)[None, None]
    low, high = images.intensity_range(plane, "plane-8bit")
    steps = images.normalise(plane, low, high, "plane-8bit") * 255
    np.testing.assert_array_equal(np.round(steps), np.round(np.arange(2551) / 10)[None, None])
    assert len(np.unique(steps)) == 256


def test_only_stack_keeps_the_relation_of_brightness():
    bright = counts((1, 20, 30))
    stack = np.concatenate([bright, bright // 4])
    ratios = {}
    for normalisation in images.NORMALISATIONS:
        low, high = images.intensity_range(stack, normalisation)
        first, second = images.normalise(stack, low, high, normalisation)
        ratios[normalisation] = second.mean() / first.mean()
    assert ratios["stack"] == pytest.approx(0.25, abs=1e-3)
    assert ratios["plane"] == pytest.approx(1, abs=1e-3)
    assert ratios["plane-8bit"] == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("normalisation", ["plane", "plane-8bit"])
def test_a_constant_plane_is_refused(normalisation):
    stack = np.concatenate([counts((2, 8, 9)), np.full((1, 8, 9), 7, np.uint16)])
    with pytest.raises(ValueError, match=r"plane 2 of 3 is constant \(7 counts"):
        images.intensity_range(stack, normalisation)
    images.intensity_range(stack, "stack")
    with pytest.raises(ValueError, match="constant"):
        images.intensity_range(stack[2:], "stack")


def test_an_unknown_normalisation_is_refused():
    with pytest.raises(ValueError, match="'minmax'; choose one of plane, plane-8bit, stack"):
        images.intensity_range(counts((2, 8, 9)), "minmax")
