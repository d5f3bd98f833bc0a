"""Runs the protocol over the slides of a split, batch by batch; keeps their figures of merit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from tqdm import tqdm

from linlatent.data import StackSource
from linlatent.evaluation import protocol
from linlatent.evaluation.baselines import Baseline
from linlatent.evaluation.rows import Row

Predict = Callable[[np.ndarray], protocol.Predictions]
Read = Callable[[StackSource], Iterator[dict[str, Any]]]
"""From a source to its batches, as `linlatent.data.evaluation_batches` yields them."""
_Batches = defaultdict[Any, list[Any]]


class Measurements(NamedTuple):
    """What is kept of all slides of a split.

    Attributes:
      members: The table rows of each network.
      contrast: For each slide id the variance of its sharpest crop, which tells how much there is
        to see in it.
    """

    members: list[list[Row]]
    contrast: dict[str, float]


def measure(
    source: StackSource,
    read: Read,
    predicts: Sequence[Predict],
    others: Mapping[str, Baseline],
    *,
    split: str,
) -> Measurements:
    """Runs the protocol over all slides of a split.

    Args:
      source: Where the slides come from.
      read: Reads them.
      predicts: Of each network, from planes ``(B, L, S, S, 1)`` to what it makes of them.
      others: The baselines by name.
      split: The split that `read` reads, for the length of the progress bar.

    Returns:
      The `Measurements`; rows marked as padding take no part.
    """
    straightness: list[_Batches] = [defaultdict(list) for _ in predicts]
    errors: list[_Batches] = [defaultdict(list) for _ in predicts]
    errors_of_others: _Batches = defaultdict(list)
    contrast: dict[str, float] = {}
    with tqdm(
        total=len(source.slide_ids[split]), desc="evaluate", unit="slide", delay=2, disable=None
    ) as progress:
        for batch in read(source):
            slide_ids, planes = without_padding(batch)
            for member, predict in enumerate(predicts):
                predictions = predictions_of(batch, predict)
                _append(straightness[member], protocol.linearity(predictions.latents))
                _append(errors[member], protocol.compare(planes, predictions))
            estimates = protocol.baseline_estimates(planes, others)
            _append(errors_of_others, protocol.compare_with_sharp(planes, estimates))
            variances = planes[:, 0].var(axis=(1, 2, 3))
            contrast.update(zip(slide_ids, variances.tolist(), strict=True))
            progress.update(len(slide_ids))
    rows_of_others = _image_rows(errors_of_others)
    members = [
        [
            *protocol.linearity_rows({key: np.concatenate(each) for key, each in paths.items()}),
            *_image_rows(own),
            *rows_of_others,
        ]
        for paths, own in zip(straightness, errors, strict=True)
    ]
    return Measurements(members, contrast)


def without_padding(batch: dict[str, Any]) -> tuple[list[str], np.ndarray]:
    """The slides of a batch and their planes."""
    kept = _kept(batch)
    slide_ids = [slide for slide, keep in zip(batch["slide_id"], kept, strict=True) if keep]
    return slide_ids, batch["planes"][kept]


def predictions_of(batch: dict[str, Any], predict: Predict) -> protocol.Predictions:
    """Predicts on the whole batch, so that shapes are static, and then drops its padding."""
    kept = _kept(batch)
    return jax.tree.map(lambda leaf: leaf[kept], jax.device_get(predict(batch["planes"])))


def _append(batches: _Batches, values: Mapping[Any, Any]) -> None:
    for key, value in values.items():
        batches[key].append(value)


def _image_rows(errors: _Batches) -> list[Row]:
    return [
        row
        for pairing, batches in errors.items()
        for row in protocol.image_rows(pairing, protocol.concatenate(batches))
    ]


def _kept(batch: dict[str, Any]) -> np.ndarray:
    return np.asarray(batch["mask"]) > 0
