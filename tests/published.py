"""Reads weights with the names of the published PyTorch code, for comparisons."""

from __future__ import annotations

import re
from pathlib import Path

import jax
import numpy as np

REFERENCE = Path(__file__).parent / "fixtures" / "reference.npz"

_LEAVES = {
    "weight": ("params", "scale"),
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


def load_reference() -> dict[str, np.ndarray]:
    with np.load(REFERENCE) as arrays:
        return dict(arrays)


def images(array: np.ndarray) -> np.ndarray:
    """NCHW to NHWC."""
    return np.moveaxis(array, 1, -1)


def to_variables(arrays: dict[str, np.ndarray], prefix: str) -> dict:
    """Collects the arrays ``<prefix>/<published name>`` into the tree of linlatent's variables."""
    tree: dict = {"params": {}, "batch_stats": {}}
    for key, array in arrays.items():
        if not key.startswith(prefix + "/") or key.endswith("num_batches_tracked"):
            continue
        path, leaf = _place(key.removeprefix(prefix + "/"), array)
        node = tree
        for name in path[:-1]:
            node = node.setdefault(name, {})
        node[path[-1]] = leaf
    return tree


def _place(name: str, array: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    half, index, layer, leaf = re.fullmatch(
        r"(encoder|decoder|final_layer)(?:\.(\d))?\.(\d)\.(\w+)", name
    ).groups()
    block = f"block_{index}" if half != "final_layer" else "block_4"
    half = "encoder" if half == "encoder" else "decoder"
    if layer == "1":
        collection, our_leaf = _LEAVES[leaf]
        return (collection, half, block, "norm", our_leaf), array
    if layer == "3":
        block = "to_image"
    if leaf == "bias":
        return ("params", half, block, "bias"), array
    # (O, I, 3, 3), or (I, O, 3, 3) of a transposed convolution, which we keep as the kernel of the
    # convolution that it transposes: (3, 3, out, in).
    return ("params", half, block, "kernel"), np.transpose(array, (2, 3, 1, 0))


def assert_trees_close(actual, expected, **tolerances) -> None:
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, **tolerances), dict(actual), dict(expected)
    )
