"""The networks that come with linlatent: ``weights/NAME`` with ``params.npz`` and ``config.json``.

The README beside them says what each was trained on, how, how long, and where it fails.
"""

from __future__ import annotations

import pathlib

import jax
import numpy as np
from flax import traverse_util

from linlatent import networks

FOLDER = pathlib.Path(__file__).parent / "weights"
_PARAMS = "params.npz"


def names() -> list[str]:
    """Names of the networks, in alphabetical order."""
    return sorted(path.parent.name for path in FOLDER.glob(f"*/{_PARAMS}"))


def folder(name: str) -> pathlib.Path:
    """The folder of a network, which has a ``config.json`` as a workdir has."""
    return FOLDER / name


def read(name: str) -> tuple[networks.Variables, int]:
    """Reads the weights of a network, without unpickling anything.

    Returns:
      Its variables, float32 on the default device, and the number of training steps behind them.
    """
    with np.load(folder(name) / _PARAMS, allow_pickle=False) as file:
        arrays = dict(file)
    step = int(arrays.pop("step"))
    arrays = {name: values.astype(np.float32) for name, values in arrays.items()}
    return jax.device_put(traverse_util.unflatten_dict(arrays, sep="/")), step


def write(name: str, variables: networks.Variables, step: int) -> None:
    """Writes the weights of a network to be shipped; its configuration comes beside them.

    They are rounded to float16, half as large, which moves what it makes of images by less than can
    be measured (docs/ablation.md).

    Args:
      name: Its name.
      variables: Its variables, all within the range of float16.
      step: Number of training steps behind them.

    Raises:
      FloatingPointError: If one of them is not.
    """
    with np.errstate(over="raise"):
        halves = jax.tree.map(lambda leaf: leaf.astype(np.float16), jax.device_get(variables))
    arrays = traverse_util.flatten_dict(halves, sep="/")
    folder(name).mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder(name) / _PARAMS, allow_pickle=False, **arrays, step=np.asarray(step))
