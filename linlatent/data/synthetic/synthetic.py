"""TFDS builder of the embedded data set: synthetic focal stacks that look like BBBC006."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from linlatent.data.synthetic import slides

_DESCRIPTION = """\
Procedural slides of U2OS-like cells, each a stack of nine planes 4 µm apart (blur level 0 is in
focus), seen by a model of the microscope that took BBBC006 (20x, 0.645 µm per pixel). Channel w1
shows Hoechst-stained nuclei, w2 cell bodies. Everything is drawn from (seed, slide id).
"""

_CITATION = """\
@article{ljosa2012annotated,
  title = {Annotated high-throughput microscopy image sets for validation},
  author = {Ljosa, Vebjorn and Sokolnicki, Katherine L. and Carpenter, Anne E.},
  journal = {Nature Methods}, volume = {9}, pages = {637}, year = {2012}
}
"""


_VARIED = "v"
"""What the ids of slides begin with that differ from those of BBBC006."""


@dataclasses.dataclass
class SyntheticConfig(tfds.core.BuilderConfig):
    """Channel and size of the synthetic slides.

    Attributes:
      channel: ``"w1"`` (nuclei) or ``"w2"`` (cell bodies).
      height: Of the planes, in pixels.
      width: Of the planes, in pixels.
      num_slides: Number of slides of each split.
      num_varied: Number of further slides to train on, which differ (`variety.draw_variety`).
    """

    channel: str = "w1"
    height: int = 520
    width: int = 696
    num_slides: dict[str, int] = dataclasses.field(
        default_factory=lambda: {"train": 44, "validation": 8, "test": 12}
    )
    num_varied: int = 0

    def slide_ids(self, split: str) -> list[str]:
        """Ids of the slides of one split, in the order in which they are stored."""
        splits = list(self.num_slides)
        first = sum(self.num_slides[earlier] for earlier in splits[: splits.index(split)])
        usual = [f"s{first + n:03d}_{self.channel}" for n in range(self.num_slides[split])]
        if split != "train":
            return usual
        return usual + [f"{_VARIED}{n:03d}_{self.channel}" for n in range(self.num_varied)]


def _configs() -> list[SyntheticConfig]:
    tiny = {"train": 4, "validation": 2, "test": 2}
    return [
        config
        for channel, content in (("w1", "nuclei"), ("w2", "cell bodies"))
        for config in (
            SyntheticConfig(name=channel, description=content, channel=channel),
            SyntheticConfig(
                name=f"{channel}_varied",
                version="4.0.0",  # 1.0.0 was brighter, 2.0.0 had no grain, 3.0.0 lost light
                description=f"{content}, with more and more varied slides to train on",
                channel=channel,
                num_varied=116,
            ),
            SyntheticConfig(
                name=f"{channel}_tiny",
                description=f"{content}, small and few, for tests",
                channel=channel,
                height=144,
                width=160,
                num_slides=tiny,
            ),
        )
    ]


class Synthetic(tfds.core.GeneratorBasedBuilder):
    """Generates the slides once; they are then read like any other data set."""

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = _configs()
    builder_config: SyntheticConfig

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        shape = (slides.NUM_LEVELS, config.height, config.width)
        return tfds.core.DatasetInfo(
            builder=self,
            description=_DESCRIPTION,
            citation=_CITATION,
            features=tfds.features.FeaturesDict(
                {
                    "slide_id": tfds.features.Text(),
                    "stack": tfds.features.Tensor(shape=shape, dtype=np.uint16, encoding="zlib"),
                }
            ),
            # Slides stay in the order of their ids, so that an id tells where to find it.
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in self.builder_config.num_slides}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        for key, slide_id in enumerate(config.slide_ids(split)):
            stack = slides.render_slide(
                slide_id,
                channel=config.channel,
                height=config.height,
                width=config.width,
                varied=slide_id.startswith(_VARIED),
            )
            yield key, {"slide_id": slide_id, "stack": stack}
