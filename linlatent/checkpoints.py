"""The checkpoints of a workdir, on Orbax.

``WORKDIR/checkpoints/STEP`` holds two items: ``params``, the variables that inference and
evaluation need, and ``train``, what only further training needs (the step and the optimiser's
state). In those of an ensemble every array has a leading axis over the members. Kept are the
latest, to resume from, and the one with the lowest validation loss, to use; of an ensemble that is
the mean over its members.

Training looks for its start in this order: the latest checkpoint of its own workdir, then the best
one of ``config.init_from``, then scratch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from etils import epath
from orbax import checkpoint as ocp

from linlatent import networks

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
        self, step: int, variables: networks.Variables, train: Any, validation_loss: float
    ) -> None:
        """Starts to save the state after `step` steps."""
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(variables), train=ocp.args.StandardSave(train)
            ),
            metrics={_METRIC: validation_loss},
        )

    def restore(self, variables: networks.Variables, train: Any) -> tuple[networks.Variables, Any]:
        """Restores the latest checkpoint.

        Args:
          variables: A pytree of arrays like what was saved; what is read takes on their shardings,
            so the devices may be others than those that saved.
          train: Likewise, for the item ``train``.

        Raises:
          ValueError: If what was saved has other names or shapes.
        """
        items = {"params": variables, "train": train}
        restored = _restore(self._manager, self._manager.latest_step(), items)
        return restored["params"], restored["train"]


def read_best(
    workdir: epath.PathLike, *, network: str, widths: Sequence[int], num_models: int = 1
) -> tuple[networks.Variables, int]:
    """Reads the parameters of the checkpoint that was best on validation.

    Args:
      workdir: The folder that training wrote, local or ``gs://``.
      network: The network of its configuration, a key of `networks.NETWORKS`.
      widths: The encoder widths of its configuration.
      num_models: How many networks it trained.

    Returns:
      The variables, on the default device, and the number of training steps behind them. Those of
      several networks have a leading axis over them.

    Raises:
      FileNotFoundError: If the workdir holds no checkpoint.
      ValueError: If the checkpoint holds other names or shapes than such networks.
    """
    folder = epath.Path(workdir) / FOLDER
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no checkpoints here; expected a workdir of training")
    with _open(workdir, create=False) as manager:
        step = manager.best_step()
        if step is None:
            raise FileNotFoundError(f"{folder}: the folder holds no finished checkpoint")
        device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        members = (num_models,) if num_models > 1 else ()
        abstract = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(members + leaf.shape, leaf.dtype, sharding=device),
            jax.eval_shape(
                lambda: networks.init(jax.random.key(0), network=network, widths=widths)
            ),
        )
        return _restore(manager, step, {"params": abstract})["params"], step


def _restore(manager: ocp.CheckpointManager, step: int, items: Mapping[str, Any]) -> Any:
    """Restores items in the shapes, types and shardings of the given pytrees."""
    abstract = {
        name: jax.tree.map(ocp.utils.to_shape_dtype_struct, tree) for name, tree in items.items()
    }
    # Compared beforehand, since Orbax notices halfway and leaves half-begun reads behind.
    saved = manager.item_metadata(step)
    for name, tree in abstract.items():
        if saved[name] is None:
            raise ValueError(
                f"{manager.directory / str(step)}: the item {name!r} is missing; weights without"
                " their optimiser can be trained on in another workdir, by config.init_from"
            )
        if _shapes(saved[name].tree) != _shapes(tree):
            raise ValueError(
                f"{manager.directory / str(step)}: the item {name!r} has other names or shapes than"
                " this configuration makes (config.model.network, config.model.widths,"
                " config.num_models)"
            )
    arguments = {name: ocp.args.StandardRestore(tree) for name, tree in abstract.items()}
    return manager.restore(step, args=ocp.args.Composite(**arguments))


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    """Shapes by path; the path is text, since Orbax reads named tuples back as dictionaries."""
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape)
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _open(workdir: epath.PathLike, *, create: bool) -> ocp.CheckpointManager:
    folder = epath.Path(workdir) / FOLDER
    if "://" not in str(workdir):  # Orbax wants local paths absolute and remote ones untouched.
        folder = folder.resolve()
    policies = ocp.checkpoint_managers
    return ocp.CheckpointManager(
        folder,
        item_handlers={name: ocp.StandardCheckpointHandler() for name in ("params", "train")},
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
