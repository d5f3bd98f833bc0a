"""From a source of stacks to batches: tf.data pipelines for training and evaluation.

Randomness is stateless: batch n of the training is a function of (seed, n) alone. Slides are read
in groups whose examples, ten crops of every slide times the triplets, are shuffled together
(`plan.Plan`). At most two groups are held in memory, as 16-bit crops, whatever the data set's size.

Several processes may read a batch together, a `plan.Share` of its rows each. Joined, their rows are
the batch of a single process, and so the training is the same. The price is that each of them reads
nearly all slides of a group, all over which its examples lie; gathering and normalising are shared.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence

import numpy as np
import tensorflow as tf

from linlatent import images
from linlatent.data.crops import centre_crop, random_crops, ten_crops
from linlatent.data.plan import GROUP_SIZE, Plan, Share
from linlatent.data.reader import READERS, Reader
from linlatent.data.stack import BATCHINGS, CROPPINGS, CROPS, SPLITS, StackSource, Triplet

tf.config.set_visible_devices([], "GPU")  # accelerators belong to JAX


def steps_per_epoch(
    source: StackSource, *, triplets: Sequence[Triplet], batching: str, batch_size: int
) -> int:
    """Number of full batches in an epoch of the training split.

    Args:
      source: Where the slides come from.
      triplets: Triplets of blur levels.
      batching: One of ``stack.BATCHINGS``, see `train_batches`.
      batch_size: Examples in a batch.

    Returns:
      The number of full batches, at least 1; the remainder of an epoch is dropped.

    Raises:
      ValueError: If an epoch has no full batch, or an argument is impossible.
    """
    num_slides = len(source.slide_ids["train"])
    per_slide = CROPS * len(_plane_table(source, triplets, batching))
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if batch_size % BATCHINGS[batching]:
        raise ValueError(
            f"batch_size must be a multiple of {BATCHINGS[batching]} with batching {batching!r},"
            f" got {batch_size}"
        )
    steps = num_slides * per_slide // batch_size
    if not steps:
        raise ValueError(
            f"an epoch has no full batch: {num_slides} training slides of {source.name} make"
            f" {num_slides * per_slide} examples of batching {batching!r}, fewer than the"
            f" batch_size {batch_size}"
        )
    return steps


def train_batches(
    source: StackSource,
    *,
    triplets: Sequence[Triplet],
    batching: str,
    crop_size: int,
    normalisation: str,
    batch_size: int,
    seed: int,
    crops: str = "ten",
    first_step: int = 0,
    share: tuple[int, int] = Share(),
) -> Generator[dict[str, np.ndarray], None, None]:
    """Streams shuffled batches of the training split, epoch after epoch, without end.

    Args:
      source: Where the slides come from.
      triplets: Triplets of blur levels.
      batching: ``triplet``: an example is one crop of one triplet, P = 3 planes (a, b, c) and
        T = 1; ``ten-crop``: likewise, and the ten crops of one triplet of one slide follow each
        other, in the order of `ten_crops`; ``stack``: an example is one crop of all planes,
        P = ``num_levels`` and T = ``len(triplets)``, every row of alpha being the same.
      crop_size: Height and width of the square crops, in pixels.
      normalisation: One of ``images.NORMALISATIONS``, by the range of the whole plane or stack.
      batch_size: Examples in a batch, a multiple of 10 with ``ten-crop``.
      seed: Seed of the order, and of the places of random crops, at least 0.
      crops: One of ``stack.CROPPINGS``: ``ten`` takes the `ten_crops` of every slide; ``random``
        ten `random_crops`, in every epoch others.
      first_step: Number of the first batch, at least 0; batch n is the same wherever the stream
        begins.
      share: ``(p, n)`` for the p-th of n parts of every batch, from 0: a `plan.Share`.

    Returns:
      An iterator over ``{"planes": (B, P, crop_size, crop_size, 1) float32 in [0, 1],
      "alpha": (B, T) float32}``, B being the rows of the share. It raises `ValueError` or
      `FileNotFoundError` where a slide cannot be read, is smaller than the crop, or has a constant
      plane.

    Raises:
      ValueError: If an epoch has no full batch, or an argument is impossible.
    """
    images.check_normalisation(normalisation)
    if seed < 0 or first_step < 0:
        raise ValueError(f"seed {seed} and first_step {first_step} must be at least 0")
    if crops not in CROPPINGS:
        raise ValueError(f"unknown crops {crops!r}; choose one of {', '.join(CROPPINGS)}")
    steps = steps_per_epoch(source, triplets=triplets, batching=batching, batch_size=batch_size)
    share = _checked_share(share, batch_size)
    slide_ids = source.slide_ids["train"]
    table = _plane_table(source, triplets, batching)
    alphas = np.array([[triplet.alpha for triplet in triplets]], np.float32)
    alphas = alphas if batching == "stack" else alphas.T
    reader = Reader(source, slide_ids, crop_size, normalisation)
    levels = source.num_levels
    plan = Plan(
        num_slides=len(slide_ids),
        per_slide=len(table) * CROPS,
        block=BATCHINGS[batching],
        per_epoch=steps * batch_size,
        batch_size=batch_size,
        share=share,
        seed=seed,
        first_example=first_step * batch_size,
    )

    def read_group(group: tf.Tensor) -> tf.data.Dataset:
        slides, order = tf.numpy_function(plan.group, [group], [tf.int64, tf.int64], stateful=False)
        slides.set_shape((None,))
        order.set_shape((None,))
        number = GROUP_SIZE * group + tf.range(tf.size(slides, tf.int64))
        stacks = tf.data.Dataset.from_tensor_slices((slides, number))
        stacks = stacks.map(read_crops, num_parallel_calls=READERS).batch(GROUP_SIZE)
        return stacks.map(lambda stack: stack | {"order": order})

    def read_crops(slide: tf.Tensor, number: tf.Tensor) -> dict[str, tf.Tensor]:
        stack = reader.read(slide)
        if crops == "random":
            cut = random_crops(stack["planes"], crop_size, (seed, number))
        else:
            cut = ten_crops(stack["planes"], crop_size)
        return stack | {"planes": cut}

    def examples(group: dict[str, tf.Tensor]) -> tf.data.Dataset:
        # Rows of all planes of the group, so that an example is gathered with a single copy.
        rows = tf.reshape(group["planes"], (-1, crop_size, crop_size))
        low, high = tf.reshape(group["low"], (-1,)), tf.reshape(group["high"], (-1,))

        def example(number: tf.Tensor) -> dict[str, tf.Tensor]:
            item, crop = number // CROPS, number % CROPS
            slide, entry = item // len(table), item % len(table)
            members = tf.gather(table, entry)
            return {
                "planes": tf.gather(rows, (slide * CROPS + crop) * levels + members),
                "low": tf.gather(low, slide * levels + members),
                "high": tf.gather(high, slide * levels + members),
                "alpha": tf.gather(alphas, entry),
            }

        return tf.data.Dataset.from_tensor_slices(group["order"]).map(example)

    def finish(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        planes = normalise(batch["planes"], batch["low"], batch["high"], normalisation)
        return {"planes": planes[..., None], "alpha": batch["alpha"]}

    dataset = (
        tf.data.Dataset.range(plan.first_group, np.iinfo(np.int64).max)
        .flat_map(read_group)
        .take_while(lambda group: tf.reduce_all(group["readable"]))
        .prefetch(1)
        .flat_map(examples)
        .batch(batch_size // share.parts, drop_remainder=True)
        .map(finish)
        .prefetch(2)
    )
    return reader.iterate(dataset)


def evaluation_batches(
    source: StackSource,
    split: str,
    *,
    crop_size: int,
    normalisation: str,
    batch_size: int,
    share: tuple[int, int] = Share(),
) -> Iterator[dict[str, np.ndarray | Sequence[str]]]:
    """Streams the centre crop of every slide of a split once, in the order of its slide ids.

    Args:
      source: Where the slides come from.
      split: One of ``stack.SPLITS``.
      crop_size: Height and width of the square crop, in pixels.
      normalisation: One of ``images.NORMALISATIONS``, by the range of the whole plane or stack.
      batch_size: Slides in a batch.
      share: As in `train_batches`.

    Returns:
      An iterator over ``{"planes": (B, num_levels, crop_size, crop_size, 1) float32 in [0, 1],
      "mask": (B,) float32, "slide_id": B strings}``, B being the rows of the share. The last batch
      is filled up with copies of its last slide whose mask is 0, or with black planes in a share
      that has none of its slides; all other masks are 1. Errors as in `train_batches`.

    Raises:
      ValueError: If the split is empty or an argument is impossible.
    """
    images.check_normalisation(normalisation)
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; choose one of {', '.join(SPLITS)}")
    slide_ids = source.slide_ids[split]
    if not slide_ids:
        sizes = ", ".join(f"{len(ids)} {name}" for name, ids in source.slide_ids.items())
        raise ValueError(f"{source.name} has no slide in its {split} split (slides: {sizes})")
    share = _checked_share(share, batch_size)
    own = np.arange(len(slide_ids))
    own = own[share.holds(own % batch_size, batch_size)]
    rows = batch_size // share.parts
    reader = Reader(source, slide_ids, crop_size, normalisation)

    def read_crop(slide: tf.Tensor) -> dict[str, tf.Tensor]:
        stack = reader.read(slide)
        planes = centre_crop(stack["planes"], crop_size)
        planes = normalise(planes, stack["low"], stack["high"], normalisation)
        return {"planes": planes[..., None], "readable": stack["readable"]}

    dataset = (
        tf.data.Dataset.from_tensor_slices(own)
        .map(read_crop, num_parallel_calls=READERS)
        .batch(rows)
        .take_while(lambda batch: tf.reduce_all(batch["readable"]))
        .map(lambda batch: batch["planes"])
        .prefetch(1)
    )

    def padded() -> Iterator[dict[str, np.ndarray | Sequence[str]]]:
        read = reader.iterate(dataset)
        black = np.zeros((1, source.num_levels, crop_size, crop_size, 1), np.float32)
        for start in range(share.part * rows, len(slide_ids) + share.part * rows, batch_size):
            ids = slide_ids[start : start + rows]
            planes = next(read) if ids else black
            yield {
                "planes": np.pad(planes, [(0, rows - len(planes))] + [(0, 0)] * 4, mode="edge"),
                "mask": (np.arange(rows) < len(ids)).astype(np.float32),
                "slide_id": (*ids, *[slide_ids[-1]] * (rows - len(ids))),
            }

    return padded()


def normalise(planes: tf.Tensor, low: tf.Tensor, high: tf.Tensor, normalisation: str) -> tf.Tensor:
    """`images.normalise` of crops, in tf.

    Args:
      planes: ``(..., P, height, width)``, in counts.
      low: ``(..., P)`` float32, in counts, of the whole planes.
      high: ``(..., P)`` float32, likewise.
      normalisation: One of ``images.NORMALISATIONS``.

    Returns:
      The planes as float32 in [0, 1].
    """
    low, high = low[..., None, None], high[..., None, None]
    above = tf.cast(planes, tf.float32) - low
    if normalisation == "plane-8bit":
        return tf.round(above * 255.0 / (high - low)) / 255.0
    return above / (high - low)


def _checked_share(share: tuple[int, int], batch_size: int) -> Share:
    part, parts = share
    if not 0 <= part < parts or batch_size % parts:
        raise ValueError(
            f"share {(part, parts)} is none of a batch of {batch_size}; expected (p, n) with"
            " 0 <= p < n, and n dividing the batch"
        )
    return Share(part, parts)


def _plane_table(source: StackSource, triplets: Sequence[Triplet], batching: str) -> np.ndarray:
    """The blur levels of an example's planes, ``(kinds of example, P)`` int64."""
    if not triplets or any(not 0 <= t.a < t.b < t.c < source.num_levels for t in triplets):
        raise ValueError(
            f"expected triplets of blur levels 0 <= a < b < c < {source.num_levels}, the number of"
            f" levels of {source.name}; got {[tuple(triplet) for triplet in triplets]}"
        )
    if batching not in BATCHINGS:
        raise ValueError(f"unknown batching {batching!r}; choose one of {', '.join(BATCHINGS)}")
    if batching == "stack":
        return np.arange(source.num_levels)[None]
    return np.array(triplets, np.int64)
