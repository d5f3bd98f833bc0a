"""Floating-point operations of the network, counted from its architecture."""

from __future__ import annotations

from collections.abc import Sequence


def training_flops(
    widths: Sequence[int], size: int, *, encoded: int, decoded: int, decoded_only: int = 0
) -> int:
    """Counts the operations of the convolutions in one training step.

    A 3x3 convolution takes 9 multiplications and additions for every pixel on its smaller side,
    input channel and output channel (also where a tap meets padding). Each is done three times, for
    the output and the gradients of input and weights, but images need no gradient. The rest of the
    network is left out: it is less than a hundredth of the paper's.

    Args:
      widths: Channels after each encoder layer.
      size: Height and width of the planes, in pixels.
      encoded: Planes that are encoded, with gradients.
      decoded: Planes that are decoded, with gradients.
      decoded_only: Planes that are decoded without gradients.

    Returns:
      The number of operations, a multiplication and an addition being two.
    """
    encoder = _convolutions((1, *widths), [size >> (i + 1) for i in range(len(widths))])
    # A transposed convolution does the work of the convolution that it transposes.
    sides = [size >> (i + 1) for i in reversed(range(len(widths)))]
    decoder = _convolutions((*reversed(widths), widths[0]), sides)
    decoder += _convolutions((widths[0], 1), [size])
    return (
        encoded * (3 * sum(encoder) - encoder[0])
        + decoded * 3 * sum(decoder)
        + decoded_only * sum(decoder)
    )


def _convolutions(channels: Sequence[int], sides: Sequence[int]) -> list[int]:
    """Operations of each convolution in a row, given the side of its smaller image."""
    pairs = zip(channels, channels[1:], sides, strict=False)
    return [2 * 9 * inputs * outputs * side**2 for inputs, outputs, side in pairs]
