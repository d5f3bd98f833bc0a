"""The checkpoints of a workdir, on Orbax.

``WORKDIR/checkpoints/STEP`` holds two items: ``params``, the variables that inference and
evaluation need, and ``train``, what only further training needs (the step and the optimiser's
state). Kept are the latest, to resume from, and the one with the lowest validation loss, to use.

Training looks for its start in this order: the latest checkpoint of its own workdir, then the best
one of ``config.init_from``, then scratch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
from etils import epath
from orbax import checkpoint as ocp

from linlatent import model

FOLDER = "checkpoints"
_METRIC = "validation_loss"


class Checkpoints:
    """The checkpoints of one workdir, opened for training; use as a context manager.

    Saving is asynchronous: its errors surface at the next save or when the context ends, which
    waits for what is being written.
    """

    def __init__(self, workdir: epath.PathLike):
        self._manager = _open(workdir, create=True)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self._manager.close()

    def latest_step(self) -> int | None:
        """Step of the latest checkpoint, or None if there is none."""
        return self._manager.latest_step()

    def save(
        self, step: int, variables: model.Variables, train: Any, validation_loss: float
    ) -> None:
        """Starts to save the state after `step` steps."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(variables), train=ocp.args.StandardSave(train)
            ),
            metrics={_METRIC: validation_loss},
        )

    def restore(self, variables: model.Variables, train: Any) -> tuple[model.Variables, Any]:
        """Restores the latest checkpoint.

        Args:
          variables: A pytree of arrays like what was saved; what is read takes on their shardings,
            so the devices may be others than those that saved.
          train: Likewise, for the item ``train``.

        Raises:
          ValueError: If what was saved has other names or shapes.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, (variables, train))
        restored = self._manager.restore(
            self._manager.latest_step(),
            args=ocp.args.Composite(
                params=ocp.args.StandardRestore(abstract[0]),
                train=ocp.args.StandardRestore(abstract[1]),
            ),
        )
        return restored["params"], restored["train"]


def read_best(workdir: epath.PathLike, widths: Sequence[int]) -> tuple[model.Variables, int]:
    """Reads the parameters of the checkpoint that was best on validation.

    Args:
      workdir: The folder that training wrote, local or ``gs://``.
      widths: The encoder widths of its configuration.

    Returns:
      The variables, on the default device, and the number of training steps behind them.

    Raises:
      FileNotFoundError: If the workdir holds no checkpoint.
      ValueError: If the checkpoint holds other names or shapes than a network of these widths.
    """
    folder = epath.Path(workdir) / FOLDER
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no checkpoints here; expected a workdir of training")
    with _open(workdir, create=False) as manager:
        step = manager.best_step()
        if step is None:
            raise FileNotFoundError(f"{folder}: the folder holds no finished checkpoint")
        device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device),
            jax.eval_shape(lambda: model.init(jax.random.key(0), widths)),
        )
        try:
            restored = manager.restore(
                step, args=ocp.args.Composite(params=ocp.args.StandardRestore(abstract))
            )
        except ValueError as error:
            raise ValueError(
                f"{folder / str(step)}: not the parameters of a network of widths {tuple(widths)}"
            ) from error
    return restored["params"], step


def _open(workdir: epath.PathLike, *, create: bool) -> ocp.CheckpointManager:
    folder = epath.Path(workdir) / FOLDER
    if "://" not in str(workdir):  # Orbax wants local paths absolute and remote ones untouched.
        folder = folder.resolve()
    policies = ocp.checkpoint_managers
    return ocp.CheckpointManager(
        folder,
        item_names=("params", "train"),
        options=ocp.CheckpointManagerOptions(
            best_fn=lambda metrics: metrics[_METRIC] if metrics else math.inf,
            best_mode="min",
            preservation_policy=policies.AnyPreservationPolicy(
                [
                    policies.LatestN(n=1),
                    policies.BestN(
                        n=1, get_metric_fn=lambda metrics: metrics[_METRIC], reverse=True
                    ),
                ]
            ),
            create=create,
        ),
    )
