"""Focal stacks: their sources, and the pipelines that make batches of them.

The pipelines are resolved lazily: only they need tensorflow.
"""

from typing import TYPE_CHECKING, Any

from linlatent.data.sources import SOURCES, open_source
from linlatent.data.stack import (
    BATCHINGS,
    CROPPINGS,
    SPLITS,
    TRIPLETS,
    StackSource,
    Triplet,
    midpoint_triplets,
)

if TYPE_CHECKING:
    from linlatent.data.pipeline import evaluation_batches, steps_per_epoch, train_batches

__all__ = [
    "BATCHINGS",
    "CROPPINGS",
    "SOURCES",
    "SPLITS",
    "TRIPLETS",
    "StackSource",
    "Triplet",
    "evaluation_batches",
    "midpoint_triplets",
    "open_source",
    "steps_per_epoch",
    "train_batches",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from linlatent.data import pipeline

    return getattr(pipeline, name)
