"""The networks that come with linlatent: ``weights/NAME`` with ``params.npz`` and ``config.json``.

The README beside them says what each was trained on, how, how long, and where it fails.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

import jax
import numpy as np

from linlatent import networks

FOLDER = pathlib.Path(__file__).parent / "weights"
_PARAMS, _CONFIG = "params.npz", "config.json"
_SEPARATOR = "/"


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
    with np.load(folder(name) / _PARAMS, allow_pickle=False) as arrays:
        variables: dict[str, Any] = {}
        for path in arrays.files:
            *parents, leaf = path.split(_SEPARATOR)
            if not parents:
                continue
            place = variables
            for parent in parents:
                place = place.setdefault(parent, {})
            place[leaf] = arrays[path]
        return jax.device_put(variables), int(arrays["step"])


def write(
    name: str, variables: networks.Variables, step: int, config: str, *, into: pathlib.Path = FOLDER
) -> None:
    """Writes a network to be shipped.

    Args:
      name: Its name.
      variables: Its variables.
      step: Number of training steps behind them.
      config: Its configuration, the content of ``config.json``.
      into: The folder of all of them.
    """
    target = into / name
    target.mkdir(parents=True, exist_ok=True)
    arrays = {
        jax.tree_util.keystr(path, simple=True, separator=_SEPARATOR): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    }
    arrays["step"] = np.asarray(step)
    np.savez_compressed(target / _PARAMS, allow_pickle=False, **arrays)
    (target / _CONFIG).write_text(json.dumps(json.loads(config), indent=2, sort_keys=True) + "\n")
