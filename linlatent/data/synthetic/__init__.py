"""The embedded data set: synthetic focal stacks, generated once and read through TFDS."""

from __future__ import annotations

import functools

import numpy as np

from linlatent.data.stack import SPLITS, StackSource

__all__ = ["open_source"]


def open_source(*, config: str = "w1", data_dir: str | None = None) -> StackSource:
    """Opens the embedded data set, generating it first if it is not there yet.

    Args:
      config: ``"w1"`` (nuclei) or ``"w2"`` (cell bodies), 64 slides of 696x520 pixels each;
        ``"w1_varied"`` or ``"w2_varied"``, the same with 116 more slides to train on, which differ
        from those of BBBC006; or ``"w1_tiny"``, ``"w2_tiny"``: 8 slides of 160x144 pixels, for
        tests.
      data_dir: Folder that holds TFDS data sets; None is TFDS's own (``TFDS_DATA_DIR`` or
        ``~/tensorflow_datasets``).

    Returns:
      The source; its stacks are ``(9, height, width)`` uint16, levels 4 µm apart. Cells lie
      at several heights; its PSFs are those of a point at height 0, the nominal plane.

    Raises:
      ValueError: If the config is unknown.
    """
    # TFDS is slow to import, and who only deblurs does without it.
    from linlatent.data.defocus import level_psfs
    from linlatent.data.synthetic.slides import LEVEL_SPACING_UM, NUM_LEVELS
    from linlatent.data.synthetic.synthetic import Synthetic

    if config not in Synthetic.builder_configs:
        known = ", ".join(Synthetic.builder_configs)
        raise ValueError(f"unknown config {config!r} of the synthetic data; known are {known}")
    try:
        builder = Synthetic(config=config, data_dir=data_dir, file_format="array_record")
        builder.download_and_prepare()
    except FileExistsError:
        # Another process generated the same data meanwhile and was done first: open its.
        builder = Synthetic(config=config, data_dir=data_dir, file_format="array_record")

    slide_ids = {split: builder.builder_config.slide_ids(split) for split in SPLITS}
    stored = {split: builder.as_data_source(split) for split in SPLITS}
    places = {
        slide_id: (split, index)
        for split in SPLITS
        for index, slide_id in enumerate(slide_ids[split])
    }

    def read_stack(slide_id: str) -> np.ndarray:
        split, index = places[slide_id]
        return stored[split][index]["stack"]

    return StackSource(
        name=f"synthetic/{config} {builder.version}",
        num_levels=NUM_LEVELS,
        slide_ids=slide_ids,
        read_stack=read_stack,
        level_spacing_um=LEVEL_SPACING_UM,
        psfs=functools.partial(level_psfs, NUM_LEVELS, LEVEL_SPACING_UM),
    )
