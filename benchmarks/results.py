"""What follows from the measurements: rates, ratios and how quiet the machine was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.plan import (
    LINEN,
    STACKS,
    TORCH_BF16,
    TORCH_F32,
    TORCH_F32_HUGE_PAGES,
    TRIPLETS,
    title,
)

RATIOS = {
    "triplet_vs_torch_f32": "triplets/s in batches of triplets, to the fastest float32 PyTorch",
    "stack_vs_torch_f32": "triplets/s in batches of stacks, to the fastest float32 PyTorch",
    "triplet_vs_torch_f32_huge_pages": "triplets/s in batches of triplets, to the fastest float32"
    " PyTorch with huge pages",
    "stack_vs_torch_f32_huge_pages": "triplets/s in batches of stacks, to the same",
    "stack_vs_torch_bf16": "triplets/s in batches of stacks, to the fastest bfloat16 PyTorch",
    "triplet_vs_plain_linen": "triplets/s in batches of triplets, to plain linen",
    "frame_vs_torch_f32": "speed of deblurring a frame, to the fastest float32 PyTorch",
    "frame_vs_torch_f32_huge_pages": "the same, to the fastest float32 PyTorch with huge pages",
    "share_of_matmul_peak": "floating-point operations per second of a training step on triplets,"
    " to those of the fastest float32 matrix product",
    "peak_memory_vs_torch": "peak memory of training on triplets, to that of the fastest float32"
    " PyTorch (less is better)",
}
"""What the ratios say, all for the indirect objective and the larger batch."""

COMPARED = ("training", "deblurring", "matrix product")
"""The sections that ratios come from."""

NOISY = 0.1
"""Range of their repeats, relative to the median, from which on the machine was not quiet."""

Row = Mapping[str, Any]


def of_rows(rows: Sequence[Row], conditions: Mapping[str, Any]) -> dict[str, Any]:
    """Puts together what ``results.json`` holds.

    Args:
      rows: As measured.
      conditions: What they depend on.

    Returns:
      ``conditions``, ``ratios`` with the keys of `RATIOS` (None where a competitor could not be
      measured) and ``measurements``, the rows with what follows from them.
    """
    completed = _with_pipeline_shares([_with_rates(row) for row in rows])
    compared = [row for row in _measured(completed) if row["section"] in COMPARED]
    spreads = {title(row): _spread(row) for row in compared}
    widest = max(spreads, key=spreads.__getitem__)
    observed = {
        "torch_threads": next((row["threads"] for row in rows if "threads" in row), None),
        "largest_spread": round(spreads[widest], 3),
        "largest_spread_of": widest,
        "noisy": spreads[widest] > NOISY,
    }
    return {
        "conditions": {**conditions, **observed},
        "ratios": _ratios(completed),
        "measurements": completed,
    }


def _with_rates(row: Row) -> Row:
    if "seconds" not in row:
        return row
    seconds = row["seconds"]
    rates = {
        f"{name}_per_second": {
            "median": row[name] / seconds["median"],
            "low": row[name] / seconds["high"],
            "high": row[name] / seconds["low"],
        }
        for name in ("triplets", "patches", "flops")
        if name in row
    }
    per_triplet = {
        f"{name}_per_triplet": row[name] / row["triplets"]
        for name in ("flops", "xla_flops", "xla_bytes")
        if name in row and "triplets" in row
    }
    return {**row, **rates, **per_triplet}


def _with_pipeline_shares(rows: Sequence[Row]) -> list[Row]:
    """Sets what the pipeline makes against what the fastest training with its batches takes."""

    def share(row: Row) -> dict[str, float]:
        stacked = row["competitor"] == STACKS
        taken = max(
            (
                other["patches_per_second"]["median"]
                for other in _measured(rows, section="training")
                if (other["competitor"] == STACKS) == stacked
            ),
            default=0.0,
        )
        made = row["patches_per_second"]["median"]
        return {"patches_taken_per_second": taken, "share_of_a_step": taken / made}

    return [
        {**row, **share(row)} if row["section"] == "pipeline" and "seconds" in row else row
        for row in rows
    ]


def _ratios(rows: Sequence[Row]) -> dict[str, float | None]:
    larger = max(row["batch"] for row in rows if row["section"] == "training")
    training = _measured(rows, section="training", objective="indirect", batch=larger)
    frames = [row["images"] for row in rows if row["section"] == "deblurring"][:1]
    deblurring = [row for row in _measured(rows, section="deblurring") if row["images"] in frames]
    ours, stacks = _fastest(training, [TRIPLETS]), _fastest(training, [STACKS])
    torch, bfloat16 = _fastest(training, TORCH_F32), _fastest(training, TORCH_BF16)
    torch_huge = _fastest(training, TORCH_F32_HUGE_PAGES)
    frame = _fastest(deblurring, ["linlatent"])
    product = _fastest(_measured(rows, section="matrix product"), None)

    def rate(key: str) -> Callable[[Row], float]:
        return lambda row: row[f"{key}_per_second"]["median"]

    def peak_memory(row: Row) -> float:
        return row["peak_bytes"]

    triplets, flops = rate("triplets"), rate("flops")
    values = {
        "triplet_vs_torch_f32": _ratio(ours, torch, triplets),
        "stack_vs_torch_f32": _ratio(stacks, torch, triplets),
        "triplet_vs_torch_f32_huge_pages": _ratio(ours, torch_huge, triplets),
        "stack_vs_torch_f32_huge_pages": _ratio(stacks, torch_huge, triplets),
        "stack_vs_torch_bf16": _ratio(stacks, bfloat16, triplets),
        "triplet_vs_plain_linen": _ratio(ours, _fastest(training, [LINEN]), triplets),
        "frame_vs_torch_f32": _ratio(frame, _fastest(deblurring, TORCH_F32), _speed),
        "frame_vs_torch_f32_huge_pages": _ratio(
            frame, _fastest(deblurring, TORCH_F32_HUGE_PAGES), _speed
        ),
        "share_of_matmul_peak": _ratio(ours, product, flops),
        "peak_memory_vs_torch": _ratio(ours, torch, peak_memory),
    }
    return {name: values[name] for name in RATIOS}


def _measured(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    return [
        row
        for row in rows
        if "seconds" in row and all(row.get(key) == value for key, value in wanted.items())
    ]


def _fastest(rows: Iterable[Row], competitors: Iterable[str] | None) -> Row | None:
    """The row with the most operations, triplets or images per second, if there is any."""
    candidates = [row for row in rows if competitors is None or row["competitor"] in competitors]
    return max(candidates, key=_speed, default=None)


def _speed(row: Row) -> float:
    """Operations per second; where they were not counted, repeats."""
    return row.get("flops", 1) / row["seconds"]["median"]


def _ratio(ours: Row | None, theirs: Row | None, value: Callable[[Row], float]) -> float | None:
    return round(value(ours) / value(theirs), 3) if ours and theirs else None


def _spread(row: Row) -> float:
    seconds = row["seconds"]
    return (seconds["high"] - seconds["low"]) / seconds["median"]
