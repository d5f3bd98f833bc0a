"""The image set BBBC006: real focal stacks, downloaded or read from a folder through TFDS."""

from __future__ import annotations

import functools

import numpy as np

from linlatent.data.stack import SPLITS, StackSource

__all__ = ["open_source"]


def open_source(
    *,
    config: str = "w1",
    split: str = "by_well",
    data_dir: str | None = None,
    manual_dir: str | None = None,
) -> StackSource:
    """Opens BBBC006, generating the TFDS data set first if it is not there yet.

    Args:
      config: ``"w1"`` (nuclei) or ``"w2"`` (cell bodies): z-levels 16, 14, ..., 0.
      split: ``"by_well"``, 70/10/20 with no well in two splits, or ``"published"``, that of the
        published code, which parts one well of w2. A slide's place depends on its name alone.
      data_dir: Folder that holds TFDS data sets; None is TFDS's own (``TFDS_DATA_DIR`` or
        ``~/tensorflow_datasets``).
      manual_dir: Folder with the archives ``BBBC006_v1_images_z_NN``, zip files or folders; None
        downloads them, unless they are in TFDS's own manual folder. A data set that has been
        generated is opened as it is, without a look at this folder.

    Returns:
      The source; its stacks are ``(9, 520, 696)`` uint16, levels 4 µm apart. Where the data set
      holds a part of the 768 slides, its name says so, and it is no longer the paper's channel.
      Its PSFs are those of `optics.BBBC006`, fitted to nuclei, for both channels.

    Raises:
      ValueError: If the config or split is unknown, the config cannot be trained on, the data set
        is there in a file format without random access, or a file is damaged.
      FileNotFoundError: If ``manual_dir`` holds none of the archives, or planes are missing there.
      ConnectionError: If the archives have to be downloaded and cannot be.
    """
    # TFDS is slow to import, and who only deblurs does without it.
    import tensorflow_datasets as tfds

    from linlatent.data.bbbc006 import archives, layout
    from linlatent.data.bbbc006.bbbc006 import Bbbc006
    from linlatent.data.defocus import level_psfs

    if config not in layout.CHANNELS:
        raise ValueError(
            f"config {config!r} of bbbc006 cannot be trained on; choose one of"
            f" {', '.join(layout.CHANNELS)}. The configs w1_all and w2_all hold z-levels on both"
            " sides of the focus, so that blur does not grow along the stack: read them with TFDS"
        )
    if split not in layout.SPLITTINGS:
        raise ValueError(
            f"unknown split {split!r} of bbbc006; choose one of {', '.join(layout.SPLITTINGS)}"
        )

    def make_builder() -> Bbbc006:
        try:
            return Bbbc006(config=config, data_dir=data_dir, file_format="array_record")
        except ValueError as error:
            raise ValueError(
                f"bbbc006/{config} is there already and cannot be opened ({error}); expected"
                " array_record, the format with random access: remove the data set, or give"
                " another data_dir"
            ) from error

    builder = make_builder()
    z_levels = builder.builder_config.z_levels
    generated = builder.is_prepared()
    if manual_dir and not generated and not archives.find_archives(manual_dir, z_levels):
        raise FileNotFoundError(
            f"there is no archive of BBBC006 in {manual_dir!r}; expected"
            f" {layout.archive_name(0)}.zip or a folder {layout.archive_name(0)}, and so on"
        )
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=manual_dir)
        )
    except FileExistsError:
        # Another process generated the same data meanwhile and was done first: open its.
        builder = make_builder()

    stored_ids = builder.info.metadata["slide_ids"]
    stored = {part: builder.as_data_source(part) for part in stored_ids}
    places = {
        slide_id: (part, index)
        for part, slide_ids in stored_ids.items()
        for index, slide_id in enumerate(slide_ids)
    }
    split_of = layout.SPLITTINGS[split]()

    def read_stack(slide_id: str) -> np.ndarray:
        part, index = places[slide_id]
        return stored[part][index]["stack"]

    expected = len(layout.slide_ids(config))
    complete = len(places) == expected
    share = "" if complete else f", {len(places)} of {expected} slides"
    return StackSource(
        name=f"bbbc006/{config} {builder.version}, {split} split{share}",
        num_levels=len(z_levels),
        slide_ids={
            part: [slide_id for slide_id in sorted(places) if split_of[slide_id] == part]
            for part in SPLITS
        },
        read_stack=read_stack,
        level_spacing_um=layout.PAPER_LEVEL_SPACING_UM,
        paper_channel=config if complete else None,
        psfs=functools.partial(level_psfs, len(z_levels), layout.PAPER_LEVEL_SPACING_UM),
    )
