"""Reads slides inside a tf.data graph, in several threads."""

from __future__ import annotations

import atexit
import weakref
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from linlatent import images
from linlatent.data.stack import StackSource, checked_stack

READERS = 4
"""How many slides to read at once."""

_THREADS = 4

_streams: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()


@atexit.register
def _close_streams() -> None:
    """Ends abandoned streams while their threads can still run Python, lest they wait for ever."""
    for stream in list(_streams):
        stream.close()


class Reader:
    """Reads stacks inside a tf.data graph.

    An exception that passes through tf comes out as another one, with a traceback in its message
    and in the log. So a failure is kept here, the graph only learns that the stack is not readable
    and ends its data set there, and `iterate` raises the failure.
    """

    def __init__(
        self, source: StackSource, slide_ids: Sequence[str], crop_size: int, normalisation: str
    ):
        self._source = source
        self._slide_ids = slide_ids
        self._crop_size = crop_size
        self._normalisation = normalisation
        self._failure: Exception | None = None

    def read(self, slide: tf.Tensor) -> dict[str, tf.Tensor]:
        """Reads the stack of a slide, given by its index.

        Returns:
          ``planes`` (levels, height, width) uint16; ``low`` and ``high``, (levels,) float32, the
          range that its normalisation takes to [0, 1]; ``readable``, () bool.
        """
        planes, low, high, readable = tf.numpy_function(
            self._read, [slide], [tf.uint16, tf.float32, tf.float32, tf.bool], stateful=False
        )
        levels = self._source.num_levels
        return {
            "planes": tf.ensure_shape(planes, (levels, None, None)),
            "low": tf.ensure_shape(low, (levels,)),
            "high": tf.ensure_shape(high, (levels,)),
            "readable": tf.ensure_shape(readable, ()),
        }

    def iterate(self, dataset: tf.data.Dataset) -> Generator[Any, None, None]:
        """Iterates over a data set whose stacks were read here; raises what went wrong."""
        stream = self._iterate(dataset)
        _streams.add(stream)
        return stream

    def _iterate(self, dataset: tf.data.Dataset) -> Generator[Any, None, None]:
        options = tf.data.Options()
        options.deterministic = True
        options.threading.private_threadpool_size = _THREADS
        yield from dataset.with_options(options).as_numpy_iterator()
        if self._failure is not None:
            raise self._failure

    def _read(self, slide: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.bool_]:
        slide_id = self._slide_ids[int(slide)]
        try:
            stack = checked_stack(self._source, slide_id, min_size=self._crop_size)
            try:
                low, high = images.intensity_range(stack, self._normalisation)
            except ValueError as error:
                raise ValueError(f"slide {slide_id!r} of {self._source.name}: {error}") from error
        except Exception as error:  # whatever it is, it is raised again outside tf
            self._failure = error
            levels = self._source.num_levels
            nothing = np.zeros((levels, self._crop_size, self._crop_size), np.uint16)
            return nothing, np.zeros(levels, np.float32), np.ones(levels, np.float32), np.False_
        return stack.astype(np.uint16), low, high, np.True_
