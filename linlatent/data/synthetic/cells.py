"""Where the cells of a slide are, and of what kind: common to both channels."""

from __future__ import annotations

import dataclasses
import enum

import numpy as np
from scipy import ndimage

HEIGHTS_UM = np.arange(-4, 9, 2)
"""Heights at which objects may sit, relative to the plane in focus, in µm."""


class Kind(enum.Enum):
    """What state a cell is in, which decides how its nucleus and its body look."""

    INTERPHASE = "interphase"
    LOBED = "lobed"
    MITOTIC = "mitotic"
    CONDENSED = "condensed"


KIND_SHARES = {
    Kind.INTERPHASE: 0.85,
    Kind.LOBED: 0.07,
    Kind.MITOTIC: 0.03,
    Kind.CONDENSED: 0.05,
}


@dataclasses.dataclass(frozen=True)
class Cell:
    """One cell; lengths in pixels.

    Attributes:
      kind: Its state.
      centre: Row and column of its nucleus.
      semi_axes: Long and short semi-axis of its nucleus.
      angle: Direction of the long axis, in radians from the column axis.
      height: Index into `HEIGHTS_UM`.
      room: Distance to the nearest other nucleus.
    """

    kind: Kind
    centre: tuple[float, float]
    semi_axes: tuple[float, float]
    angle: float
    height: int
    room: float


def place_cells(rng: np.random.Generator, shape: tuple[int, int]) -> list[Cell]:
    """Draws the cells of one slide, from a few to a confluent layer.

    Cells crowd in patches, lie roughly parallel to their neighbours, as U2OS cells do, and keep a
    distance that lets some nuclei touch or overlap. One lies near the middle: a centre crop is
    never empty.

    Args:
      rng: Source of the randomness.
      shape: Height and width of the area, in pixels.

    Returns:
      The cells, in no particular order.
    """
    frames = shape[0] * shape[1] / (520 * 696)
    wanted = max(2, round(np.exp(rng.uniform(np.log(16), np.log(260))) * frames))
    crowding = _smooth_field(rng, shape, 110)
    direction = _smooth_field(rng, shape, 160)
    patchiness = rng.uniform(0.5, 3.0)
    spacing = rng.uniform(1.0, 1.35)
    base_angle = rng.uniform(0, np.pi)
    # The autofocus does not hit every slide alike, but level 0 remains the sharpest.
    focus_um = rng.uniform(-0.7, 0.7)

    centres = np.empty((0, 2))
    radii = np.empty(0)
    axes: list[tuple[float, float]] = []
    for _ in range(30 * wanted):
        if len(axes) == wanted:
            break
        if axes:
            point = rng.uniform((0, 0), shape)
            if rng.uniform() > np.exp(patchiness * (_at(crowding, point, 110) - 1)):
                continue
        else:
            point = rng.normal(np.divide(shape, 2), 20)
        long, short = _nuclear_axes(rng)
        radius = np.sqrt(long * short)
        gap = np.hypot(*(centres - point).T) - spacing * rng.uniform(0.75, 1.25) * (radii + radius)
        if np.all(gap > 0):
            centres, radii = np.vstack([centres, point]), np.append(radii, radius)
            axes.append((long, short))

    distances = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    np.fill_diagonal(distances, np.inf)
    kinds = rng.choice(np.array(list(KIND_SHARES)), len(axes), p=list(KIND_SHARES.values()))
    return [
        Cell(
            kind=kind,
            centre=(float(centre[0]), float(centre[1])),
            semi_axes=semi_axes,
            angle=base_angle + 0.8 * _at(direction, centre, 160) + rng.normal(0, 0.35),
            height=_height(rng, kind, focus_um),
            room=float(room),
        )
        for kind, centre, semi_axes, room in zip(
            kinds, centres, axes, distances.min(axis=1, initial=np.inf), strict=True
        )
    ]


def wobbly_outline(rng: np.random.Generator, theta: np.ndarray, irregularity: float) -> np.ndarray:
    """Relative radius, about 1, of an irregular outline in the directions theta (radians)."""
    radius = np.ones_like(theta)
    for order in range(2, 7):
        amplitude = irregularity * rng.normal() / (order - 1) ** 1.5
        radius += amplitude * np.cos(order * theta + rng.uniform(0, 2 * np.pi))
    return np.maximum(radius, 0.3)


def _nuclear_axes(rng: np.random.Generator) -> tuple[float, float]:
    """Long and short semi-axis of a nucleus: mostly 31-45 by 19-27 pixels across, a few giants."""
    area = 240 * np.exp(rng.normal(0, 0.28)) * (2.2 if rng.uniform() < 0.03 else 1)
    elongation = np.clip(1.62 + rng.normal(0, 0.32), 1.02, 2.6)
    return float(np.sqrt(area * elongation)), float(np.sqrt(area / elongation))


def _height(rng: np.random.Generator, kind: Kind, focus_um: float) -> int:
    """Spread cells lie near the glass; rounded-up ones stand a little higher."""
    lift = 0.8 if kind in (Kind.MITOTIC, Kind.CONDENSED) else 0.0
    return int(np.abs(HEIGHTS_UM - rng.normal(focus_um + lift, 1.2)).argmin())


def _smooth_field(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> np.ndarray:
    """Standard normal values on a coarse grid with one node every ``scale`` pixels."""
    return rng.standard_normal([int(np.ceil(n / scale)) + 2 for n in shape])


def _at(field: np.ndarray, point: np.ndarray, scale: float) -> float:
    """Value of a smooth field at one point."""
    return float(ndimage.map_coordinates(field, np.reshape(point, (2, 1)) / scale, order=3)[0])
