"""Training: `train(config, workdir)` makes a workdir, which is a model.

Resolved lazily: a step by itself needs no data, hence no tensorflow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linlatent.training.loop import NonFiniteLossError, train

__all__ = ["NonFiniteLossError", "train"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from linlatent.training import loop

    return getattr(loop, name)
