"""The order of the training examples: arithmetic alone, so that it can begin anywhere.

* The slides of an epoch are permuted and taken in groups of ``GROUP_SIZE``.
* All examples of a group are permuted, or, where blocks of them must follow each other, its blocks.
* Batches run on across groups; what is left of an epoch after its last full batch is dropped.
* Of every batch, a process takes the rows of its share.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

GROUP_SIZE = 16
"""Slides whose examples are shuffled together: 2560 triplets of the paper's kind."""


class Share(NamedTuple):
    """One of several equal parts of every batch, consecutive rows, as a process reads it.

    Attributes:
      part: Its number, from 0.
      parts: Into how many parts a batch is divided.
    """

    part: int = 0
    parts: int = 1

    def holds(self, rows: np.ndarray, batch_size: int) -> np.ndarray:
        """Tells which rows of a batch of ``batch_size``, a multiple of ``parts``, belong to it."""
        return rows * self.parts // batch_size == self.part


class Plan(NamedTuple):
    """The order of all examples of a training, computed anew wherever it is asked for.

    Example n belongs to epoch ``n // per_epoch``; the groups of all epochs are counted through.

    Attributes:
      num_slides: Slides in the split.
      per_slide: Examples of every slide, a multiple of ``block``.
      block: Examples that follow each other in the order of their numbers.
      per_epoch: Examples of an epoch, full batches only: at most ``num_slides * per_slide``.
      batch_size: Examples in a batch, of all shares together.
      share: Which of them are taken.
      seed: Seed of the order.
      first_example: The example to begin with.
    """

    num_slides: int
    per_slide: int
    block: int
    per_epoch: int
    batch_size: int
    share: Share
    seed: int
    first_example: int

    @property
    def per_group(self) -> int:
        """Examples of a full group."""
        return GROUP_SIZE * self.per_slide

    @property
    def groups_per_epoch(self) -> int:
        """Groups that an epoch takes examples from."""
        return -(-self.per_epoch // self.per_group)

    @property
    def first_group(self) -> int:
        """The group that holds the first example."""
        epoch, example = divmod(self.first_example, self.per_epoch)
        return epoch * self.groups_per_epoch + example // self.per_group

    def group(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Plans a group.

        Args:
          number: Its number, counted from the beginning of the training.

        Returns:
          The indices of its slides, and the numbers of the share's examples in their order, both
          int64. The examples of the slide in place p of the group have the numbers from
          ``p * per_slide`` on.
        """
        epoch, group = divmod(int(number), self.groups_per_epoch)
        slides = self._permutation(self.num_slides, epoch, 0)
        members = slides[group * GROUP_SIZE : (group + 1) * GROUP_SIZE]
        blocks = self._permutation(len(members) * self.per_slide // self.block, epoch, 1 + group)
        order = (blocks[:, None] * self.block + np.arange(self.block)).ravel()
        start = group * self.per_group
        skipped = max(self.first_example - epoch * self.per_epoch - start, 0)
        order = order[skipped : self.per_epoch - start]
        rows = (start + skipped + np.arange(len(order))) % self.batch_size
        return members, order[self.share.holds(rows, self.batch_size)]

    def _permutation(self, length: int, epoch: int, purpose: int) -> np.ndarray:
        return np.random.default_rng((self.seed, epoch, purpose)).permutation(length)
