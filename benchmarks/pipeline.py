"""The input pipeline by itself: how many patches it makes in a second."""

from __future__ import annotations

from benchmarks.workload import Workload
from linlatent.data import midpoint_triplets, open_source, train_batches


def stream(
    *,
    batching: str,
    batch: int,
    num_batches: int,
    size: int,
    config: str,
    data_dir: str | None,
) -> Workload:
    """Batches of the embedded data from the first on, so that a run has its start in it."""
    source = open_source("synthetic", config=config, data_dir=data_dir)

    def run() -> None:
        batches = train_batches(
            source,
            triplets=midpoint_triplets(source.num_levels),
            batching=batching,
            crop_size=size,
            normalisation="plane",
            batch_size=batch,
            seed=0,
        )
        for _ in range(num_batches):
            next(batches)

    return Workload(run, {"data": source.name})
