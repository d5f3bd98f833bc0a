"""Processes and their devices: how they find each other, and what lies on which of them.

One program runs in every process, and every array is one array to it, wherever its parts lie (JAX's
SPMD): a batch is split over all devices of all processes, by examples, and each keeps the state of
the training, or a part of it. XLA adds the communication. All processes must see the same workdir.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

AXIS = "devices"
MIN_SHARDED_SIZE = 2**16
"""Elements below which sharding an array costs more messages than it saves memory: 256 KiB."""

HUGE_PAGES = "glibc.malloc.hugetlb"
"""What the GNU C library calls asking for them: 1 for yes."""
POLICY = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
"""Where Linux says when it gives them: always, on request (madvise), or never."""


def connect(
    coordinator_address: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
) -> None:
    """Connects the processes of a training; to be called before JAX computes anything.

    Without arguments, JAX finds the other processes in the environment of a Cloud TPU pod (GCE or
    GKE), SLURM, Open MPI (``mpirun``) or an indexed Kubernetes job (``pip install "jax[k8s]"``).
    With SLURM and Open MPI each process takes one GPU of its machine, otherwise all.

    Args:
      coordinator_address: ``HOST:PORT`` of process 0, reachable from all others.
      num_processes: Number of processes.
      process_id: Number of this one, from 0.

    Raises:
      ValueError: If nothing is given and the environment is none of these.
      ConnectionError: If the other processes cannot be reached.
    """
    found = coordinator_address is None
    try:
        jax.distributed.initialize(
            coordinator_address,
            num_processes,
            process_id,
            cluster_detection_method=None if found else "deactivate",
        )
    except ValueError as error:
        if not found:
            raise
        raise ValueError(
            "no other processes are to be found: expected the environment of a TPU pod, SLURM, Open"
            f" MPI or an indexed Kubernetes job with jax[k8s] installed ({error})"
        ) from error
    except RuntimeError as error:
        raise ConnectionError(f"the processes could not be connected: {error}") from error


def keep_compiled() -> None:
    """Keeps compiled programs in the user's cache folder, so that they are compiled only once.

    The folder is ``JAX_COMPILATION_CACHE_DIR``, or else ``linlatent/jax`` in ``XDG_CACHE_HOME`` or
    ``~/.cache``. As JAX has it, programs that compile in less than a second are not kept.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        caches = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        jax.config.update(
            "jax_compilation_cache_dir", str(pathlib.Path(caches, "linlatent", "jax"))
        )


def use_huge_pages() -> None:
    """Starts the process anew with memory in pages of 2 MiB, where Linux gives them on request.

    XLA's CPU backend allocates the temporaries of every step anew, gigabytes in the paper's widths,
    and the system clears them as they are touched: in pages of 4 KiB that takes up to a third of a
    step. The GNU C library (2.35 or newer, others do not mind) asks for larger ones where
    ``glibc.malloc.hugetlb=1`` is among its ``GLIBC_TUNABLES``, which it reads at the start alone.
    Whoever has set that to any value has decided, and nothing is done.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    if HUGE_PAGES in tunables or not POLICY.exists() or "[madvise]" not in POLICY.read_text():
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(filter(None, [tunables, f"{HUGE_PAGES}=1"]))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def is_first_process() -> bool:
    """Whether this is the process that writes what is written once."""
    return jax.process_index() == 0


def share() -> tuple[int, int]:
    """The part of every batch that this process reads: its number, and that of all processes."""
    return jax.process_index(), jax.process_count()


def wait_for_all_processes(place: str) -> None:
    """Returns when all processes have come to the place of this name."""
    multihost_utils.sync_global_devices(place)


@contextlib.contextmanager
def first_process_first(place: str) -> Iterator[None]:
    """Lets the first process go through before the others, which may rely on what it has done.

    They follow even where it fails, to fail in the same way rather than to wait.
    """
    if not is_first_process():
        wait_for_all_processes(place)
    try:
        yield
    finally:
        if is_first_process():
            wait_for_all_processes(place)


def mesh() -> Mesh:
    """All devices of all processes in a row."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    """Keeps a copy on every device."""
    return NamedSharding(mesh, PartitionSpec())


def split(mesh: Mesh) -> NamedSharding:
    """Splits the first axis over the devices."""
    return NamedSharding(mesh, PartitionSpec(AXIS))


def state_shardings(state: Any, mesh: Mesh, *, sharded: bool) -> Any:
    """Says where the arrays of a training state lie.

    Args:
      state: A pytree of arrays, or of their shapes.
      mesh: The devices.
      sharded: Whether large arrays are split along the longest axis that the devices divide. All
        others are replicated.

    Returns:
      A pytree of shardings.
    """

    def sharding(leaf: Any) -> NamedSharding:
        axes = [axis for axis, length in enumerate(leaf.shape) if length % mesh.size == 0]
        if not (sharded and axes and leaf.size >= MIN_SHARDED_SIZE):
            return replicated(mesh)
        longest = max(axes, key=lambda axis: leaf.shape[axis])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, AXIS))

    return jax.tree.map(sharding, state)


def assemble(rows: Any, mesh: Mesh) -> Any:
    """Makes a batch on all devices out of the rows that each process has read.

    Args:
      rows: A pytree of NumPy arrays: of the batch's P equal parts, the one of this process.
      mesh: The devices.

    Returns:
      A pytree of global arrays, split over the devices. The transfer goes on in the background.
    """
    return jax.make_array_from_process_local_data(split(mesh), rows)
