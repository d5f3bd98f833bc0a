import importlib.util
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import types
import zipfile

import bbbc006_dummy_data as dummy
import numpy as np
import pytest
import tensorflow_datasets as tfds
import tifffile

from linlatent.data import bbbc006, open_source
from linlatent.data.bbbc006 import archives, layout
from linlatent.data.bbbc006.bbbc006 import URL, Bbbc006
from linlatent.data.stack import SPLITS

REAL = pathlib.Path(__file__).parents[1] / "../shared/data/bbbc006/BBBC006_v1_images_z_00"
EVEN = range(0, 17, 2)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Four slides of w1 at the paper's z-levels, as folders."""
    return dummy.write_tree(tmp_path_factory.mktemp("tree"), dummy.slide_ids("w1"), EVEN)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture(scope="module")
def source(tree, data_dir):
    return open_source("bbbc006", config="w1", data_dir=data_dir, manual_dir=str(tree))


def all_ids(source):
    return [slide_id for split in SPLITS for slide_id in source.slide_ids[split]]


# The source.


def test_source_keeps_the_contract(source):
    assert source.name == "bbbc006/w1 1.0.0, by_well split, 4 of 768 slides"
    assert source.num_levels == 9
    assert source.level_spacing_um == 4.0
    train_1, train_2, validation, test = dummy.slide_ids("w1")
    assert source.slide_ids == {
        "train": [train_1, train_2],
        "validation": [validation],
        "test": [test],
    }


def test_only_the_whole_of_a_channel_is_the_paper_s(source, data_dir, monkeypatch):
    assert source.paper_channel is None
    monkeypatch.setattr(layout, "slide_ids", dummy.slide_ids)  # as if there were no others
    for split in layout.SPLITTINGS:
        whole = open_source("bbbc006", config="w1", split=split, data_dir=data_dir)
        assert (whole.paper_channel, whole.name) == ("w1", f"bbbc006/w1 1.0.0, {split} split")


def test_stacks_are_the_files_to_the_bit(source, tree):
    for slide_id in dummy.slide_ids("w1"):
        stack = source.read_stack(slide_id)
        assert stack.dtype == np.uint16
        assert stack.shape == (9, 520, 696)
        for blur_level, plane in enumerate(stack):
            folder = tree / f"BBBC006_v1_images_z_{16 - 2 * blur_level:02d}"
            (file,) = folder.glob(f"*_{slide_id}*.tif")
            with tifffile.TiffFile(file) as tiff:
                assert tiff.pages.first.compression == tifffile.COMPRESSION.LZW
                np.testing.assert_array_equal(plane, tiff.asarray())


def test_level_0_is_in_focus(source):
    slide_id = source.slide_ids["test"][0]
    np.testing.assert_array_equal(source.read_stack(slide_id)[0], dummy.plane(slide_id, 16))
    np.testing.assert_array_equal(source.read_stack(slide_id)[8], dummy.plane(slide_id, 0))


def test_both_splits_come_from_one_data_set(source, data_dir, monkeypatch):
    monkeypatch.setattr(archives.Archive, "__init__", None)  # nothing is read again
    published = bbbc006.open_source(split="published", data_dir=data_dir, manual_dir="nowhere")
    assert published.name == "bbbc006/w1 1.0.0, published split, 4 of 768 slides"
    split_of = layout.published_split()
    for split in SPLITS:
        assert all(split_of[slide_id] == split for slide_id in published.slide_ids[split])
    assert sorted(all_ids(published)) == sorted(all_ids(source))
    assert published.slide_ids != source.slide_ids
    for slide_id in all_ids(source):
        np.testing.assert_array_equal(published.read_stack(slide_id), source.read_stack(slide_id))


def test_zip_files_give_the_same_as_folders(source, tree, tmp_path):
    zipped = open_source(
        "bbbc006",
        data_dir=str(tmp_path / "tfds"),
        manual_dir=str(dummy.zip_tree(tree, tmp_path / "zips")),
    )
    assert zipped.slide_ids == source.slide_ids
    for slide_id in all_ids(source):
        np.testing.assert_array_equal(zipped.read_stack(slide_id), source.read_stack(slide_id))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": "w1_all"}, "'w1_all' of bbbc006 cannot be trained on; choose one of w1, w2"),
        ({"config": "w3"}, "'w3' of bbbc006 cannot be trained on; choose one of w1, w2"),
        ({"split": "by_day"}, "'by_day' of bbbc006; choose one of by_well, published"),
    ],
)
def test_unknown_names_are_refused_with_the_choices(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        open_source("bbbc006", data_dir=str(tmp_path), **options)


def test_a_data_set_without_random_access_is_refused(source, tree, tmp_path):
    config = tfds.download.DownloadConfig(manual_dir=str(tree))
    Bbbc006(config="w1", data_dir=tmp_path).download_and_prepare(download_config=config)
    with pytest.raises(ValueError, match=r"TFRECORD.*expected array_record, .*remove"):
        open_source("bbbc006", data_dir=str(tmp_path))


def test_a_zip_file_goes_before_a_folder_that_may_be_half_extracted(tree, tmp_path):
    zips = dummy.zip_tree(tree, tmp_path / "zips")
    (zips / "BBBC006_v1_images_z_02").mkdir()
    found = archives.find_archives(zips, EVEN)
    assert sorted(found) == list(EVEN)
    assert {path.suffix for path in found.values()} == {".zip"}


# What is missing or damaged is said before anything is generated.


def test_a_manual_folder_without_archives_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FileNotFoundError, match=r"no archive of BBBC006 in .*z_00\.zip or a"):
            open_source("bbbc006", data_dir=str(tmp_path / "tfds"), manual_dir=str(folder))


def test_missing_archives_are_listed(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "tree")
    for z_level in (0, 6, 8, 14):
        shutil.rmtree(tmp_path / f"tree/BBBC006_v1_images_z_{z_level:02d}")
    with pytest.raises(FileNotFoundError) as error:
        open_source("bbbc006", data_dir=str(tmp_path / "tfds"), manual_dir=f"{tmp_path}/tree")
    names = "BBBC006_v1_images_z_14, BBBC006_v1_images_z_08, BBBC006_v1_images_z_06, ..."
    assert f"4 of the 9 z-levels are missing: {names}; expected" in str(error.value)


def test_missing_planes_are_listed(tree, tmp_path):
    shutil.copytree(tree, tmp_path / "tree")
    first = dummy.slide_ids("w1")[0]
    lost = [*tmp_path.glob("tree/*_z_10/*"), *tmp_path.glob(f"tree/*_z_04/*_{first}*")]
    for file in lost:
        file.unlink()
    with pytest.raises(FileNotFoundError) as error:
        open_source("bbbc006", data_dir=str(tmp_path / "tfds"), manual_dir=f"{tmp_path}/tree")
    assert "5 of the 36 planes of channel w1 are missing" in str(error.value)
    assert f"BBBC006_v1_images_z_10/mcf-z-stacks-03212011_{first}*.tif, " in str(error.value)
    assert "_z_04" not in str(error.value)  # only the first few are named
    assert not [*tmp_path.glob("tfds/**/*record*")]


def test_a_channel_that_is_not_there_is_named(tree, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no plane of channel w2; .*_a01_s1_w2\*\.tif"):
        open_source("bbbc006", config="w2", data_dir=str(tmp_path / "tfds"), manual_dir=str(tree))


def test_damaged_files_are_named(tmp_path):
    name = dummy.plane_name("a01_s1_w1")
    stopped = tmp_path / "BBBC006_v1_images_z_00.zip"
    stopped.write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(ValueError, match=r"z_00\.zip is no intact zip file .*fetch it again"):
        archives.Archive(stopped)
    with zipfile.ZipFile(tmp_path / "BBBC006_v1_images_z_02.zip", "w") as file:
        file.writestr(name, b"no TIFF")
    with pytest.raises(ValueError, match=f"{name} in .*z_02.zip is damaged"):
        archives.Archive(tmp_path / "BBBC006_v1_images_z_02.zip").read("a01_s1_w1")
    small = dummy.write_tree(tmp_path, ["a01_s1_w1"], [4], lambda *_: np.ones((8, 8), np.uint16))
    with pytest.raises(ValueError, match=r"shape \(8, 8\) .*expected \(520, 696\) and uint16"):
        archives.Archive(small / "BBBC006_v1_images_z_04").read("a01_s1_w1")
    dummy.write_tree(tmp_path, ["a01_s1_w1"], [4])
    with pytest.raises(ValueError, match=r"two planes of slide a01_s1_w1: .* and .*expected one"):
        archives.Archive(tmp_path / "BBBC006_v1_images_z_04")


# Downloading, with a manager that writes what is asked of it.


def fake_manager(folder, slide_ids):
    """A download manager without a manual folder whose archives hold names alone."""
    asked = []

    def download(urls):
        asked.extend(urls.values())
        for url in urls.values():
            with zipfile.ZipFile(folder / pathlib.PurePosixPath(url).name, "w") as file:
                for slide_id in slide_ids:
                    file.writestr(dummy.plane_name(slide_id), b"")
        return {z_level: folder / f"BBBC006_v1_images_z_{z_level:02d}.zip" for z_level in urls}

    class Manager:
        @property
        def manual_dir(self):
            raise AssertionError("Manual directory does not exist or is empty.")

    manager = Manager()
    manager.download = download
    return manager, asked


@pytest.mark.parametrize(("config", "z_levels"), [("w2", range(16, -1, -2)), ("w1_all", range(34))])
def test_only_the_needed_archives_are_fetched(config, z_levels, tmp_path):
    manager, asked = fake_manager(tmp_path, layout.slide_ids(config[:2]))
    builder = Bbbc006(config=config, data_dir=tmp_path / "tfds")
    splits = builder._split_generators(manager)
    assert asked == [f"{URL}BBBC006_v1_images_z_{z:02d}.zip" for z in z_levels]
    sizes = {split: len(ids) for split, ids in builder.info.metadata["slide_ids"].items()}
    assert sizes == {"train": 538, "validation": 76, "test": 154}
    assert splits.keys() == sizes.keys()


def test_a_download_must_hold_all_slides(tmp_path):
    manager, _ = fake_manager(tmp_path, layout.slide_ids("w1")[:-1])
    message = r"9 of the 6912 planes of channel w1 are missing: .*z_16/mcf.*_p24_s2_w1"
    with pytest.raises(FileNotFoundError, match=message):
        Bbbc006(config="w1", data_dir=tmp_path / "tfds")._split_generators(manager)


def test_a_failed_download_points_at_the_manual_folder(tmp_path):
    manager, _ = fake_manager(tmp_path, [])

    def offline(urls):
        raise tfds.download.DownloadError("no route to host")

    manager.download = offline
    with pytest.raises(ConnectionError, match=r"no route to host.* into the manual folder"):
        Bbbc006(config="w1", data_dir=tmp_path / "tfds")._split_generators(manager)


# The ways of TFDS.


def builder_test_case():
    """TFDS's own test case. It imports dill, which TFDS does not require, for other tests."""
    with pytest.MonkeyPatch.context() as patch:
        if importlib.util.find_spec("dill") is None:
            patch.setitem(sys.modules, "dill", types.ModuleType("dill"))
        return tfds.testing.DatasetBuilderTestCase


class TestBuilder(builder_test_case()):
    DATASET_CLASS = Bbbc006
    BUILDER_CONFIG_NAMES_TO_TEST = ["w1", "w2_all"]  # noqa: RUF012
    SPLITS = {"train": 2, "validation": 1, "test": 1}  # noqa: RUF012
    SKIP_CHECKSUMS = True  # those of the archives are not known

    @classmethod
    def setUpClass(cls):
        cls.EXAMPLE_DIR = cls.enterClassContext(tempfile.TemporaryDirectory())
        dummy.write_tree(cls.EXAMPLE_DIR, dummy.slide_ids("w1"), EVEN)
        dummy.write_tree(cls.EXAMPLE_DIR, dummy.slide_ids("w2"), range(34))
        super().setUpClass()


def test_tfds_build(tree, tmp_path):
    """The command itself starts only with apache_beam and mlcroissant there; this is its work."""
    from tensorflow_datasets.scripts.cli import build, cli_utils

    build.Args(
        datasets=["bbbc006/w1"],
        paths=cli_utils.PathOptions(data_dir=tmp_path, manual_dir=tree),
        generation=cli_utils.GenerationOptions(
            imports="linlatent.data.bbbc006.bbbc006", file_format="array_record"
        ),
    ).execute()
    source = open_source("bbbc006", data_dir=str(tmp_path))
    assert all_ids(source) == dummy.slide_ids("w1")


def test_all_z_levels_come_in_their_own_order(tmp_path):
    slide_id = dummy.slide_ids("w2")[0]
    dummy.write_tree(tmp_path / "tree", [slide_id], range(34))
    builder = tfds.builder_cls("bbbc006")(
        config="w2_all", data_dir=tmp_path, file_format="array_record"
    )
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=tmp_path / "tree")
    )
    (example,) = builder.as_data_source("train")
    assert example["slide_id"] == slide_id.encode()
    for z_level, plane in enumerate(example["stack"]):
        np.testing.assert_array_equal(plane, dummy.plane(slide_id, z_level))


def test_real_planes(tmp_path):
    if not REAL.is_dir():
        pytest.skip("the real frames of ../shared are not here")
    real = sorted(REAL.iterdir())[:3]
    ids = [layout.parse_plane_name(file.name).slide_id for file in real]
    dummy.write_tree(tmp_path / "tree", ids, EVEN[1:])
    (tmp_path / "tree" / REAL.name).mkdir()
    for file in real:
        shutil.copy(file, tmp_path / "tree" / REAL.name)
    source = open_source("bbbc006", data_dir=str(tmp_path), manual_dir=f"{tmp_path}/tree")
    assert sorted(all_ids(source)) == ids
    for file, slide_id in zip(real, ids, strict=True):
        stack = source.read_stack(slide_id)
        np.testing.assert_array_equal(stack[8], tifffile.imread(file))
        np.testing.assert_array_equal(stack[0], dummy.plane(slide_id, 16))


def test_importing_the_door_loads_no_tensorflow():
    program = (
        "import json, sys; import linlatent.data.bbbc006;"
        "print(json.dumps([m for m in sys.modules if m.startswith('tensorflow')]))"
    )
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert json.loads(output.stdout) == []
