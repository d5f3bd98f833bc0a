"""Weights to and from the published PyTorch code: names, shapes and checkpoint files.

There a network is a state dict, ``{name: tensor}``. Its blocks are ``encoder.I``, ``decoder.I``
and, as the last of the decoder, ``final_layer``; layer 0 of a block is the (transposed) convolution
and 1 the BatchNorm, and ``final_layer.3`` is the convolution to one channel. `to_variables` and
`to_state_dict` translate NumPy arrays; only what reads or writes a checkpoint file needs torch.

Note:
  BatchNorm counts its passes in ``num_batches_tracked``, which nothing in this architecture uses.
  linlatent keeps no such count: it is dropped on the way in and 0 on the way out.
"""

from __future__ import annotations

import pathlib
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from etils import epath
from flax import traverse_util

from linlatent import config as configuration
from linlatent import inference, model

if TYPE_CHECKING:
    from ml_collections import ConfigDict

StateDict = Mapping[str, np.ndarray]
"""Arrays under the published names: counts are int64, everything else float32."""

_MOST_NAMES = 12
"""How many names of a kind an error lists."""


class _Slot(NamedTuple):
    """Where an array of a state dict belongs: its path in the variables, None for a count."""

    path: tuple[str, ...] | None
    shape: tuple[int, ...]

    @property
    def dtype(self) -> type[np.generic]:
        return np.float32 if self.path else np.int64


def import_torch(
    checkpoint: str | pathlib.Path,
    workdir: epath.PathLike,
    *,
    objective: str,
    normalisation: str = "plane-8bit",
) -> ConfigDict:
    """Makes a workdir of weights that were trained with the published PyTorch code.

    Its only checkpoint is of step 0, as linlatent has not trained it, and without a state of the
    optimiser: to train on from it, name it as ``config.init_from`` of another workdir.

    Args:
      checkpoint: A Lightning checkpoint or a state dict, as `read_state_dict` takes it; the widths
        are read off its shapes.
      workdir: A new folder, local or ``gs://``.
      objective: What the network was trained for, a key of `losses.OBJECTIVES`; the weights do
        not tell.
      normalisation: What its images looked like, one of `images.NORMALISATIONS`; the default is
        that of the published code.

    Returns:
      The configuration that the workdir records: besides the arguments the published recipe, which
      these weights may have been trained by or not.

    Raises:
      FileExistsError: If something is at `workdir` already.
      FileNotFoundError: If there is no such checkpoint.
      ModuleNotFoundError: If torch is not installed.
      ValueError: If the objective or the normalisation is unknown, or the file is no checkpoint of
        this architecture.
    """
    inference.check_new(workdir)
    config = configuration.published()
    config.objective = objective
    config.data.normalisation = normalisation
    configuration.validate(config)  # Before a large file is read.
    state_dict = read_state_dict(checkpoint)
    try:
        variables = to_variables(state_dict)
    except ValueError as error:
        raise ValueError(f"{checkpoint}: {error}") from error
    config.model.widths = model.widths_of(variables)
    config.data.crop_size = max(config.data.crop_size, 2 ** len(config.model.widths))
    inference.save(inference.Model(variables, config, 0), workdir)
    return config


def export_torch(workdir: epath.PathLike, path: str | pathlib.Path, *, member: int = 0) -> None:
    """Writes the network of a workdir as a state dict that the published PyTorch code can load.

    Args:
      workdir: A folder that `linlatent.load` takes.
      path: A new file for ``torch.load``.
      member: Which of the networks of an ensemble, counted from 0.

    Raises:
      FileExistsError: If the file exists.
      FileNotFoundError: If the workdir holds no model, or the file's folder is missing.
      ModuleNotFoundError: If torch is not installed.
      ValueError: If there is no such member, or the network is not the paper's.
    """
    torch = _torch()
    params, config, _ = inference.load(workdir, member=member)
    if config.model.network != "paper":
        raise ValueError(
            f"{workdir}: a network {config.model.network!r} is unknown to the published code;"
            " expected config.model.network='paper'"
        )
    state_dict = to_state_dict(params)
    with pathlib.Path(path).open("xb") as file:
        torch.save({name: torch.from_numpy(array) for name, array in state_dict.items()}, file)


def read_state_dict(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """Reads the arrays of a PyTorch file; nothing in it can run code.

    Args:
      path: A state dict, or a Lightning checkpoint, which has one under ``state_dict``.

    Returns:
      The arrays by name. Half precision becomes float32, which loses nothing.

    Raises:
      FileNotFoundError: If there is no such file.
      ModuleNotFoundError: If torch is not installed.
      ValueError: If the file is damaged or holds anything but tensors and plain containers.
    """
    torch = _torch()
    with pathlib.Path(path).open("rb") as file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:  # The reader raises many types for a file that is no checkpoint.
            # Torch's own words advise to read the file without this protection.
            refused = re.search(r"GLOBAL ([\w.]+)", str(error))
            reason = f"it holds {refused[1]}" if refused else f"{type(error).__name__} in torch"
            raise ValueError(
                f"{path}: cannot be read as tensors in plain containers ({reason}). Other Python"
                " objects could run code and are never loaded; where the file was made, save the"
                " state dict alone: torch.save(model.state_dict(), FILE)"
            ) from error
    state_dict = content.get("state_dict", content) if isinstance(content, dict) else None
    if not isinstance(state_dict, dict) or not all(map(torch.is_tensor, state_dict.values())):
        raise ValueError(
            f"{path}: no state dict; expected a dictionary of tensors by name, or a Lightning"
            " checkpoint with one under 'state_dict'"
        )
    half = (torch.float16, torch.bfloat16)
    return {
        str(name): (tensor.float() if tensor.dtype in half else tensor).numpy()
        for name, tensor in state_dict.items()
    }


def to_variables(state_dict: StateDict) -> model.Variables:
    """Translates a state dict, of any widths and any number of blocks.

    Args:
      state_dict: The arrays; a prefix that all names share, such as ``model.``, is left out.

    Returns:
      The variables, as NumPy arrays.

    Raises:
      ValueError: If names are missing or unknown, or arrays have another shape or type than the
        rest of the network asks for, or are not finite; lists all of it.
    """
    arrays = _without_prefix(state_dict)
    layout = _layout(_widths(arrays))
    _check(arrays, layout)
    return traverse_util.unflatten_dict(
        {
            slot.path: _transposed(arrays[name], (2, 3, 1, 0))
            for name, slot in layout.items()
            if slot.path
        }
    )


def to_state_dict(variables: model.Variables) -> dict[str, np.ndarray]:
    """Translates variables to the published names, in the published order; inverts `to_variables`.

    Returns:
      The arrays, row-major; the counts of passes are 0.
    """
    leaves = traverse_util.flatten_dict(cast(dict[str, Any], variables))
    return {
        name: (
            _transposed(np.asarray(leaves[slot.path]), (3, 2, 0, 1)).copy()
            if slot.path
            else np.zeros(slot.shape, slot.dtype)
        )
        for name, slot in _layout(model.widths_of(variables)).items()
    }


def _torch() -> Any:
    try:
        import torch
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "PyTorch checkpoints need torch, which is not installed; the extra 'torch' of linlatent"
            " brings it: pip install 'linlatent[torch]'"
        ) from error
    return torch


def _layout(widths: tuple[int, ...]) -> dict[str, _Slot]:
    """The published names of a network, in the published order."""
    layout: dict[str, _Slot] = {}
    inputs = 1
    for i, width in enumerate(widths):
        layout |= _block(f"encoder.{i}", "encoder", i, (width, inputs, 3, 3), width)
        inputs = width
    for i, width in enumerate(model.decoder_widths(widths)):
        name = "final_layer" if i == len(widths) - 1 else f"decoder.{i}"
        # A transposed convolution has its inputs first; linlatent keeps the kernel of the
        # convolution that it transposes, so both kinds are transposed alike.
        layout |= _block(name, "decoder", i, (inputs, width, 3, 3), width)
        inputs = width
    to_image = ("params", "decoder", "to_image")
    layout["final_layer.3.weight"] = _Slot((*to_image, "kernel"), (1, inputs, 3, 3))
    layout["final_layer.3.bias"] = _Slot((*to_image, "bias"), (1,))
    return layout


def _block(
    name: str, half: str, index: int, kernel: tuple[int, ...], width: int
) -> dict[str, _Slot]:
    block = (half, f"block_{index}")
    return {
        f"{name}.0.weight": _Slot(("params", *block, "kernel"), kernel),
        f"{name}.0.bias": _Slot(("params", *block, "bias"), (width,)),
        f"{name}.1.weight": _Slot(("params", *block, "norm", "scale"), (width,)),
        f"{name}.1.bias": _Slot(("params", *block, "norm", "bias"), (width,)),
        f"{name}.1.running_mean": _Slot(("batch_stats", *block, "norm", "mean"), (width,)),
        f"{name}.1.running_var": _Slot(("batch_stats", *block, "norm", "var"), (width,)),
        f"{name}.1.num_batches_tracked": _Slot(None, ()),
    }


def _without_prefix(arrays: StateDict) -> StateDict:
    match = re.match(r"(.*?)(encoder|decoder|final_layer)\.", next(iter(arrays), ""))
    prefix = match[1] if match else ""
    if not all(name.startswith(prefix) for name in arrays):
        return arrays
    return {name.removeprefix(prefix): array for name, array in arrays.items()}


def _widths(arrays: StateDict) -> tuple[int, ...]:
    """Reads the widths off all shapes at once, so that one wrong array is known for what it is."""
    blocks = (re.match(r"encoder\.(\d{1,2})\.", name) for name in arrays)
    depth = 1 + max((int(block[1]) for block in blocks if block), default=0)
    unknown = tuple(range(-depth, 0))  # Negative numbers stand for widths in the layout.
    votes: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for name, slot in _layout(unknown).items():
        if name in arrays and arrays[name].ndim == len(slot.shape):
            for symbol, size in zip(slot.shape, arrays[name].shape, strict=True):
                votes[symbol][size] += 1
    # A width without a vote is that of no array, hence in no comparison.
    return tuple(max(votes[symbol], key=votes[symbol].__getitem__, default=0) for symbol in unknown)


def _check(arrays: StateDict, layout: Mapping[str, _Slot]) -> None:
    problems = {
        "missing": [name for name in layout if name not in arrays],
        "unknown": [name for name in arrays if name not in layout],
        "of another shape or type": [
            f"{name} {found}, expected {wanted}"
            for name, slot in layout.items()
            if name in arrays
            and (found := _described(arrays[name].shape, arrays[name].dtype))
            != (wanted := _described(slot.shape, slot.dtype))
        ],
        "not finite": [
            name for name in layout if name in arrays and not np.isfinite(arrays[name]).all()
        ],
    }
    found_problems = [f"  {kind}: {_listed(names)}" for kind, names in problems.items() if names]
    if found_problems:
        raise ValueError(
            "not the weights of the published architecture (blocks encoder.0, ..., decoder.0, ...,"
            " final_layer):\n" + "\n".join(found_problems)
        )


def _described(shape: Iterable[int], dtype: Any) -> str:
    return f"{tuple(shape)} {np.dtype(dtype)}"


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _transposed(array: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """Transposes kernels; vectors stay as they are."""
    return array.transpose(axes) if array.ndim == len(axes) else array
