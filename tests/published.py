"""Reads the numbers of the published PyTorch code, for comparisons."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

import linlatent
from linlatent import torch_weights

REFERENCE = Path(__file__).parent / "fixtures" / "reference.npz"


def load_reference() -> dict[str, np.ndarray]:
    with np.load(REFERENCE) as arrays:
        return dict(arrays)


def images(array: np.ndarray) -> np.ndarray:
    """NCHW to NHWC."""
    return np.moveaxis(array, 1, -1)


def under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays ``<prefix>/<published name>`` by their published names."""
    return {
        key.removeprefix(prefix + "/"): array
        for key, array in arrays.items()
        if key.startswith(prefix + "/")
    }


def to_variables(arrays: dict[str, np.ndarray], prefix: str) -> dict:
    """The arrays ``<prefix>/<published name>`` as variables; those it lacks are the weights'."""
    return torch_weights.to_variables(under(arrays, "state_dict") | under(arrays, prefix))


def assert_trees_close(actual, expected, **tolerances) -> None:
    jax.tree.map(
        lambda a, e: np.testing.assert_allclose(a, e, **tolerances), dict(actual), dict(expected)
    )


def assert_same(actual, expected):
    """Equal in names, types and every bit."""
    assert jax.tree.structure(actual) == jax.tree.structure(expected)

    def compare(path, a, e):
        assert a.dtype == e.dtype, path
        np.testing.assert_array_equal(a, e, err_msg=str(path))

    jax.tree.map_with_path(compare, actual, expected)


def assert_deblurs_as_published(params, reference):
    x_b, x_c = (images(reference[f"x_{plane}"]) for plane in "bc")

    @jax.jit
    def run(params):
        z_b, z_c = linlatent.encode(params, x_b), linlatent.encode(params, x_c)
        return linlatent.deblur(params, z_b, z_c, 0.25)

    np.testing.assert_allclose(
        run(params),
        images(reference["eval/deblur_alpha_0.25_from_b_c"]),
        atol=1e-5,
    )
