"""How gradients move the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import optax
from optax import contrib

MUON_SCALE = 0.8
"""Root mean square of the change of a kernel by Muon, as a multiple of the learning rate."""

SCHEDULES = ("constant", "cosine")
"""How the learning rate goes on; ``cosine`` ends with the training, so a longer one is another."""


def _muon(rate: optax.ScalarOrSchedule) -> optax.GradientTransformation:
    """Muon (Jordan et al., 2024) for the 3x3 kernels of a network, Adam for all else.

    The momentum of a kernel, seen as a matrix ``(9 I, O)``, is replaced by the nearest one whose
    singular values are all alike: directions in which gradients are small move as far as others.
    """
    return contrib.muon(
        rate, consistent_rms=MUON_SCALE, muon_weight_dimension_numbers=_kernels_as_matrices
    )


def _kernels_as_matrices(params: optax.Params) -> Any:
    as_matrix = contrib.MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    return jax.tree.map(lambda leaf: as_matrix if leaf.ndim == 4 else None, params)


OPTIMISERS: Mapping[str, Callable[[optax.ScalarOrSchedule], optax.GradientTransformation]] = {
    "adam": optax.adam,
    "muon": _muon,
}
"""Optimisers by the learning rate, or its schedule; ``adam`` is the paper's."""
