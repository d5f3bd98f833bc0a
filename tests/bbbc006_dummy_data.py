"""A tiny tree of BBBC006: the real names and sizes, LZW TIFFs of synthetic planes."""

import pathlib
import uuid
import zipfile
import zlib

import numpy as np
import tifffile

from linlatent.data.bbbc006 import layout


def first_well(split):
    """The first well of the plate that `by_well` gives to a split."""
    split_of = layout.by_well_split()
    return next(well for well in layout.WELLS if split_of[f"{well}_s1_w1"] == split)


SITES = [
    *(f"{first_well('train')}_s{site}" for site in (1, 2)),
    f"{first_well('validation')}_s1",
    f"{first_well('test')}_s2",
]


def slide_ids(channel):
    return [f"{site}_{channel}" for site in SITES]


def plane(slide_id, z_level):
    """``(520, 696)`` uint16, another one for every slide and z-level."""
    offset = zlib.crc32(f"{slide_id} {z_level}".encode()) % 50000
    return np.add.outer(np.arange(520), np.arange(696)).astype(np.uint16) // 8 + np.uint16(offset)


def plane_name(slide_id):
    """The name of a plane's file, with an uuid of its own."""
    return f"mcf-z-stacks-03212011_{slide_id}{uuid.uuid4()}.tif"


def write_tree(root, slide_ids, z_levels, make_plane=plane):
    """Writes one folder of LZW TIFFs per z-level; returns the root."""
    for z_level in z_levels:
        folder = pathlib.Path(root) / f"BBBC006_v1_images_z_{z_level:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        for slide_id in slide_ids:
            pixels = make_plane(slide_id, z_level)
            tifffile.imwrite(
                folder / plane_name(slide_id), pixels, compression="lzw", photometric="minisblack"
            )
    return root


def zip_tree(root, target):
    """Packs each folder of a tree into a zip file, as the collection does; returns the target."""
    target.mkdir()
    for folder in root.iterdir():
        with zipfile.ZipFile(target / f"{folder.name}.zip", "w") as archive:
            for file in folder.iterdir():
                archive.write(file, f"{folder.name}/{file.name}")
    return target
