"""Square crops of the planes of a slide, in TensorFlow."""

from __future__ import annotations

import tensorflow as tf

from linlatent.data.stack import CROPS


def ten_crops(planes: tf.Tensor, size: int) -> tf.Tensor:
    """Cuts four corners and the centre, then the same of the horizontally mirrored planes.

    The order is torchvision's ``TenCrop``, which the published code uses: top left, top right,
    bottom left, bottom right, centre.

    Args:
      planes: ``(levels, height, width)``, at least ``size`` high and wide.
      size: Height and width of a crop, in pixels.

    Returns:
      ``(10, levels, size, size)`` of the same type.
    """
    mirrored = tf.reverse(planes, axis=[2])
    return tf.stack([*_five_crops(planes, size), *_five_crops(mirrored, size)])


def random_crops(planes: tf.Tensor, size: int, seed: tuple[int, tf.Tensor]) -> tf.Tensor:
    """Cuts ten crops anywhere, in any of the eight orientations of a square.

    Args:
      planes: ``(levels, height, width)``, at least ``size`` high and wide.
      size: Height and width of a crop, in pixels.
      seed: Two integers that the crops are a function of.

    Returns:
      ``(10, levels, size, size)`` of the same type.
    """
    first, number = seed
    last = tf.shape(planes)[1:] - size
    places = tf.random.stateless_uniform((CROPS, 2), seed)
    corners = tf.cast(places * tf.cast(last + 1, tf.float32), tf.int32)
    turns = tf.random.stateless_uniform((CROPS, 3), (first + 1, number), 0, 2, tf.int32)

    def cut(corner: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
        top, left = tf.unstack(corner)
        crop = planes[:, top : top + size, left : left + size]
        crop = tf.cond(turn[0] == 1, lambda: tf.transpose(crop, (0, 2, 1)), lambda: crop)
        steps = 1 - 2 * turn
        return tf.ensure_shape(crop[:, :: steps[1], :: steps[2]], (None, size, size))

    return tf.stack([cut(corners[number], turns[number]) for number in range(CROPS)])


def centre_crop(planes: tf.Tensor, size: int) -> tf.Tensor:
    """Cuts the centre of ``(levels, height, width)`` planes, rounding as torchvision does."""
    return _five_crops(planes, size)[-1]


def _five_crops(planes: tf.Tensor, size: int) -> list[tf.Tensor]:
    last = tf.shape(planes)[1:] - size
    bottom, right = tf.unstack(last)
    # Like Python's round in torchvision, tf.round takes halves to the even neighbour.
    middle = tf.unstack(tf.cast(tf.round(last / 2), tf.int32))
    corners = [(0, 0), (0, right), (bottom, 0), (bottom, right), middle]
    return [planes[:, top : top + size, left : left + size] for top, left in corners]
