"""The machine: what it is, and how fast it multiplies matrices."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import pathlib
import platform
import re
from typing import Any

from benchmarks.workload import Workload

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "torch", "numpy", "tensorflow_cpu")


def product(*, side: int) -> Workload:
    """The product of two square float32 matrices."""
    import jax
    import jax.numpy as jnp

    x, y = (jax.random.normal(jax.random.key(i), (side, side)) for i in (0, 1))
    multiply = jax.jit(jnp.matmul)
    return Workload(lambda: multiply(x, y).block_until_ready(), {})


def conditions() -> dict[str, Any]:
    """What the numbers depend on, besides the code: the date, the hardware and the versions."""
    cpu = re.findall(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    flags = re.findall(r"flags\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = re.findall(r"MemTotal:\s*(\d+) kB", pathlib.Path("/proc/meminfo").read_text())
    vectors = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="minutes"),
        "cpu": cpu[0] if cpu else platform.machine(),
        "vector_instructions": [name for name in vectors if name in " ".join(flags[:1]).split()],
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory[0]) / 2**20, 1),
        "load_before": round(os.getloadavg()[0], 2),
        "platform": platform.platform(terse=True),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
