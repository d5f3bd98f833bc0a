"""A sample's brightness in thin layers of height, drawn object by object in local windows."""

from __future__ import annotations

import dataclasses

import numpy as np

from linlatent.data.synthetic.cells import HEIGHTS_UM

_THICKNESS = ((-1, 0.35), (0, 0.3), (1, 0.35))
"""Share of an object's light in its own layer and in the two beside it: it is some µm thick."""


@dataclasses.dataclass(frozen=True)
class Window:
    """The pixels around one object, in the object's own coordinates.

    Attributes:
      slices: Where they are on the canvas.
      u: Along the object's long axis, 1 at its end.
      v: Along its short axis, 1 at its end.
      aspect: Long over short axis.
    """

    slices: tuple[slice, slice]
    u: np.ndarray
    v: np.ndarray
    aspect: float

    @property
    def r(self) -> np.ndarray:
        """Distance from the centre, 1 on the ellipse."""
        return np.hypot(self.u, self.v)

    @property
    def theta(self) -> np.ndarray:
        """Direction from the centre, in radians."""
        return np.arctan2(self.v, self.u)


class Canvas:
    """Brightness per layer of height and pixel.

    Attributes:
      shape: Height and width in pixels.
      layers: ``(len(HEIGHTS_UM), height, width)`` float32, counts that a camera would count of
        each layer if it were in focus.
    """

    def __init__(self, shape: tuple[int, int]):
        self.shape = shape
        self.layers = np.zeros((len(HEIGHTS_UM), *shape), np.float32)

    def window(
        self,
        centre: tuple[float, ...],
        semi_axes: tuple[float, float],
        angle: float,
        *,
        reach: float,
    ) -> Window | None:
        """The window around an ellipse, or None if it lies outside the canvas.

        Args:
          centre: Row and column.
          semi_axes: Long and short, in pixels.
          angle: Of the long axis, in radians from the column axis.
          reach: Half width of the window, in long semi-axes.
        """
        half = reach * semi_axes[0]
        low = [max(0, int(c - half)) for c in centre]
        high = [min(n, int(c + half) + 2) for c, n in zip(centre, self.shape, strict=True)]
        if high[0] <= low[0] or high[1] <= low[1]:
            return None
        rows = np.arange(low[0], high[0], dtype=np.float32)[:, None] - np.float32(centre[0])
        columns = np.arange(low[1], high[1], dtype=np.float32)[None, :] - np.float32(centre[1])
        cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return Window(
            slices=(slice(low[0], high[0]), slice(low[1], high[1])),
            u=(columns * cosine + rows * sine) / np.float32(semi_axes[0]),
            v=(rows * cosine - columns * sine) / np.float32(semi_axes[1]),
            aspect=semi_axes[0] / semi_axes[1],
        )

    def add(self, window: Window, image: np.ndarray, height: int) -> None:
        """Adds an object's light, spread over its own layer and the two beside it."""
        for step, share in _THICKNESS:
            layer = min(max(height + step, 0), len(self.layers) - 1)
            self.layers[layer][window.slices] += np.float32(share) * image

    def merge(self, window: Window, image: np.ndarray, height: int) -> None:
        """Like `add`, but where there is light already the brighter one stays."""
        present = self.layers[:, *window.slices].sum(axis=0)
        self.add(window, np.maximum(image - present, 0), height)
