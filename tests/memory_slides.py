"""Slides of random counts in memory, their batches, and a plain NumPy oracle of their crops."""

import numpy as np

from linlatent import data, images
from linlatent.data.plan import GROUP_SIZE
from linlatent.data.stack import StackSource, midpoint_triplets

LEVELS, HEIGHT, WIDTH, CROP = 5, 37, 42, 32
TRIPLETS = midpoint_triplets(LEVELS)


def stack_of(slide_id, dtype=np.uint16):
    seed = int(slide_id.removeprefix("slide"))
    counts = np.random.default_rng(seed).integers(100, 60000, (LEVELS, HEIGHT, WIDTH))
    counts //= np.arange(1, LEVELS + 1)[:, None, None]
    return (counts if dtype == np.uint16 else counts >> 8).astype(dtype)


def memory_source(num_train=GROUP_SIZE + 3, num_test=3, read_stack=stack_of):
    ids = {
        "train": [f"slide{i}" for i in range(num_train)],
        "validation": [],
        "test": [f"slide{1000 + i}" for i in range(num_test)],
    }
    return StackSource("memory", LEVELS, ids, read_stack)


def train_batches(source, *, batch_size=40, batching="triplet", seed=0, first_step=0, **options):
    options = {"crop_size": CROP, "normalisation": "plane", "triplets": TRIPLETS} | options
    return data.train_batches(
        source,
        batching=batching,
        batch_size=batch_size,
        seed=seed,
        first_step=first_step,
        **options,
    )


def evaluation_batches(source, split="test", *, batch_size=2, crop_size=CROP, **options):
    options = {"normalisation": "stack"} | options
    return data.evaluation_batches(
        source, split, crop_size=crop_size, batch_size=batch_size, **options
    )


def numpy_five_crops(planes, size):
    """As torchvision.transforms.functional.five_crop."""
    height, width = planes.shape[-2:]
    top, left = round((height - size) / 2.0), round((width - size) / 2.0)
    return [
        planes[..., :size, :size],
        planes[..., :size, width - size :],
        planes[..., height - size :, :size],
        planes[..., height - size :, width - size :],
        planes[..., top : top + size, left : left + size],
    ]


def numpy_ten_crops(planes, size):
    """As torchvision.transforms.functional.ten_crop."""
    return numpy_five_crops(planes, size) + numpy_five_crops(planes[..., ::-1], size)


def numpy_normalised(slide_id, normalisation, read_stack=stack_of):
    stack = read_stack(slide_id)
    low, high = images.intensity_range(stack, normalisation)
    return images.normalise(stack, low, high, normalisation)


def fingerprint(planes):
    """Rounded, so that the last bit of a float32 does not matter."""
    return np.round(planes * 1e4).astype(np.int32).tobytes()
