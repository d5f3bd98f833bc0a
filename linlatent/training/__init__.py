"""Training: `train(config, workdir)` makes a workdir, which is a model."""

from linlatent.training.loop import NonFiniteLossError, train

__all__ = ["NonFiniteLossError", "train"]
