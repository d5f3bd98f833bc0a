"""TFDS builder of BBBC006: real focal stacks of U2OS cells, 34 z-levels in two channels."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from linlatent.data.bbbc006 import archives, layout
from linlatent.data.stack import SPLITS

URL = "https://data.broadinstitute.org/bbbc/BBBC006/"

_DESCRIPTION = """\
Image set BBBC006v1 of the Broad Bioimage Benchmark Collection: U2OS cells in a 384-well plate, two
sites per well, two channels (w1: Hoechst, nuclei; w2: phalloidin, cell bodies), each at 34 focal
planes 2 µm apart (20x, 0.645 µm per pixel). One example is one slide, that is one site in one
channel, with all its planes. The splits never part the slides of a well.
"""

_CITATION = """\
@article{ljosa2012annotated,
  title = {Annotated high-throughput microscopy image sets for validation},
  author = {Ljosa, Vebjorn and Sokolnicki, Katherine L. and Carpenter, Anne E.},
  journal = {Nature Methods}, volume = {9}, pages = {637}, year = {2012}
}
"""


@dataclasses.dataclass
class Bbbc006Config(tfds.core.BuilderConfig):
    """Channel and z-levels.

    Attributes:
      channel: ``"w1"`` (nuclei) or ``"w2"`` (cell bodies).
      z_levels: Of the planes of a stack, in the order of its first axis.
    """

    channel: str = "w1"
    z_levels: tuple[int, ...] = layout.PAPER_Z_LEVELS


def _configs() -> list[Bbbc006Config]:
    return [
        Bbbc006Config(
            name=f"{channel}{suffix}",
            description=f"{content}, {planes}",
            channel=channel,
            z_levels=z_levels,
        )
        for channel, content in layout.CHANNELS.items()
        for suffix, z_levels, planes in (
            ("", layout.PAPER_Z_LEVELS, "by blur level: z_16 (in focus), z_14, ..., z_00"),
            ("_all", layout.ALL_Z_LEVELS, "by z-level: z_00, z_01, ..., z_33"),
        )
    ]


class Bbbc006(tfds.core.GeneratorBasedBuilder):
    """Reads the archives once; the slides are then read like any other data set.

    The manual folder is used if it holds any of the needed archives, and must then hold all of
    them; otherwise they are downloaded. ``info.metadata["slide_ids"]`` names the slides of each
    split in the order in which they are stored; a split without slides is not there.
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = _configs()
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"The archives are downloaded from {URL} by themselves. Where that address is out of reach,"
        " put the files BBBC006_v1_images_z_NN.zip, or the folders in them, into the manual folder:"
        " NN = 00, 02, ..., 16 for the configs w1 and w2; 00, 01, ..., 33 for w1_all and w2_all."
    )
    builder_config: Bbbc006Config

    def _info(self) -> tfds.core.DatasetInfo:
        shape = (len(self.builder_config.z_levels), layout.HEIGHT, layout.WIDTH)
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            homepage="https://bbbc.broadinstitute.org/BBBC006",
            features=tfds.features.FeaturesDict(
                {
                    "slide_id": tfds.features.Text(),
                    "stack": tfds.features.Tensor(shape=shape, dtype=np.uint16, encoding="zlib"),
                }
            ),
            metadata=tfds.core.MetadataDict(),
            # Slides stay in the order of their ids, so that an id tells where to find it.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        config = self.builder_config
        paths, where = _manual_archives(dl_manager, config.z_levels)
        download = not paths
        if download:
            paths, where = _downloaded_archives(dl_manager, config.z_levels)
        opened = archives.open_archives(paths, config.z_levels, where)
        found = archives.complete_slides(opened, config.channel, where, whole_collection=download)
        expected = len(layout.slide_ids(config.channel))
        if len(found) < expected:
            logging.warning("%s holds %d of %d slides of bbbc006", where, len(found), expected)
        split_of = layout.by_well_split()
        slide_ids = {
            split: [slide_id for slide_id in found if split_of[slide_id] == split]
            for split in SPLITS
        }
        self.info.metadata["slide_ids"] = {split: ids for split, ids in slide_ids.items() if ids}
        return {
            split: self._generate_examples(opened, ids)
            for split, ids in self.info.metadata["slide_ids"].items()
        }

    def _generate_examples(
        self, opened: Mapping[int, archives.Archive], slide_ids: Sequence[str]
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for key, slide_id in enumerate(slide_ids):
            stack = np.stack([archive.read(slide_id) for archive in opened.values()])
            yield key, {"slide_id": slide_id, "stack": stack}


def _manual_archives(
    dl_manager: tfds.download.DownloadManager, z_levels: Sequence[int]
) -> tuple[dict[int, pathlib.Path], str]:
    """The archives in the manual folder, none if there is no such folder, and its name."""
    try:
        folder = dl_manager.manual_dir
    except AssertionError:
        return {}, ""  # how TFDS says that the manual folder does not exist or is empty
    return archives.find_archives(folder, z_levels), str(folder)


def _downloaded_archives(
    dl_manager: tfds.download.DownloadManager, z_levels: Sequence[int]
) -> tuple[dict[int, pathlib.Path], str]:
    """Fetches archives, as zip files: they are read as they are, never extracted."""
    urls = {z_level: f"{URL}{layout.archive_name(z_level)}.zip" for z_level in z_levels}
    try:
        return dl_manager.download(urls), URL
    except (OSError, tfds.download.DownloadError) as error:
        raise ConnectionError(
            f"BBBC006 cannot be downloaded ({error}). {Bbbc006.MANUAL_DOWNLOAD_INSTRUCTIONS}"
        ) from error
