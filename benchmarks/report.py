"""The results for a reader: tables in Markdown, and a plot."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

from benchmarks.results import RATIOS, Row

matplotlib.use("Agg")

GIB = 2**30
COLOURS = {"bfloat16": "C8", "linlatent": "C0", "PyTorch": "C1", "linen": "C7"}
"""Of the competitors with this in their name; the first that is found counts."""

COMPETITORS = """\
* **linlatent, triplets**: the paper's batches, in which every triplet has its own three planes.
* **linlatent, stacks**: batches of whole stacks. Nine planes, each encoded once, serve sixteen
  triplets; there are as many stacks as take about the passes of the batch of triplets.
* **PyTorch**: the same network and step on batches of triplets, with Adam in its fused form; as it
  comes, in the memory format channels_last, compiled (`torch.compile`, channels_last), and under
  bfloat16 autocast.
* **plain linen**: the same in `nn.Conv`, `nn.ConvTranspose` and `nn.BatchNorm`, differentiated by
  JAX as they come.

linlatent's memory comes in pages of 2 MiB where Linux has them, for which `main.py` asks; the row
*small pages* is without. PyTorch does not ask for them; in the rows *huge pages* it is made to.
Before every repeat a step is taken that does not count.

Peak memory is that of the whole process, libraries and all, from after compilation. GFLOP/s count
the convolutions that the objective needs, whatever a competitor does to compute them."""


def as_markdown(results: Mapping[str, Any]) -> str:
    """Writes all results as tables.

    Args:
      results: As `results.of_rows` gives them.

    Returns:
      A document.
    """
    rows = results["measurements"]
    sections = [
        ("Ratios", "All of the indirect objective and the larger batch.", _ratios(results)),
        ("Competitors", "", COMPETITORS),
        *(
            (
                f"Training, {objective} objective, batch {batch}",
                "",
                _training(_of(rows, "training", objective=objective, batch=batch)),
            )
            for objective, batch in _tasks(rows)
        ),
        (
            "Deblurring",
            "Encoding b and c together, extrapolating and decoding, in evaluation mode.",
            _deblurring(_of(rows, "deblurring")),
        ),
        (
            "Work and peak",
            "Convolutions counted from the architecture, to set beside what this machine does in"
            " the product of two float32 matrices; and what XLA's cost analysis of the compiled"
            " step says (fused and unfused operations, so its bytes are no memory traffic).",
            _peak(_of(rows, "matrix product")) + "\n\n" + _work(_of(rows, "training")),
        ),
        (
            "Input pipeline",
            "Patches made without any training beside, to set beside what the fastest training"
            " above takes of them.",
            _pipeline(_of(rows, "pipeline")),
        ),
        (
            "Time to the first step",
            "From starting Python to the end of the first step, on the smaller batch of triplets:"
            " with an empty compilation cache, and with that of an earlier process.",
            _first_step(_of(rows, "first step")),
        ),
    ]
    parts = ["# Benchmarks", _conditions(results["conditions"])]
    for heading, text, table in sections:
        parts += [f"## {heading}", *([text] if text else []), table]
    return "\n\n".join(parts) + "\n"


def plot(results: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws the triplets per second of every competitor, a panel for each task.

    Args:
      results: As `results.of_rows` gives them.
      path: A PNG file.
    """
    rows, conditions = results["measurements"], results["conditions"]
    tasks = _tasks(rows)
    lines = len({objective for objective, _ in tasks})
    columns = len(tasks) // lines
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.4 * columns + 1.8, 3.0 * lines), sharey=True, squeeze=False
    )
    for axis, (objective, batch) in zip(axes.flat, tasks, strict=True):
        bars = _of(rows, "training", objective=objective, batch=batch)
        names = [row["competitor"] for row in bars]
        rates = [row.get("triplets_per_second", {"median": 0, "low": 0, "high": 0}) for row in bars]
        medians = [rate["median"] for rate in rates]
        errors = [
            [rate["median"] - rate["low"] for rate in rates],
            [rate["high"] - rate["median"] for rate in rates],
        ]
        colours = [next(COLOURS[part] for part in COLOURS if part in name) for name in names]
        axis.barh(names, medians, xerr=errors, color=colours, ecolor="0.3", capsize=2)
        for name, median, rate in zip(names, medians, rates, strict=True):
            text = _number(median, 3) if median else "not available"
            axis.annotate(
                f" {text}",
                (rate["high"], name),
                va="center",
                fontsize=7,
                xytext=(2, 0),
                textcoords="offset points",
            )
        axis.set_title(f"{objective} objective, batch {batch}", fontsize=9)
        axis.set_xlabel("triplets per second (more is better)", fontsize=8)
        axis.set_xlim(0, 1.3 * max(rate["high"] for rate in rates))
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].invert_yaxis()
    figure.suptitle(
        f"Training speed on {conditions['cores']} cores of {conditions['cpu']}, "
        f"{conditions['date'][:10]}: median and range of the repeats",
        fontsize=10,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _conditions(conditions: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {v}" for name, v in conditions["versions"].items() if v)
    vectors = ", ".join(conditions["vector_instructions"]) or "no AVX2"
    quiet = (
        ": **the machine was not quiet, so take the numbers with caution.**"
        if conditions["noisy"]
        else "."
    )
    return (
        f"{conditions['date']}, on {conditions['cores']} cores of {conditions['cpu']} ({vectors})"
        f" with {conditions['memory_gib']} GiB, load {conditions['load_before']} before the start;"
        f" XLA with a thread per core, PyTorch with {conditions['torch_threads']}; Python"
        f" {conditions['python']}, {versions}. Widths"
        f" {', '.join(map(str, conditions['widths']))}, crops of"
        f" {conditions['crop']}x{conditions['crop']}, L1, Adam, float32 unless a row says"
        " otherwise. All in one run: the competitors of a table took turns, one repeat each, in"
        " processes of their own. Numbers are medians, with the range of the repeats in brackets."
        f" The repeats of one competitor differ by up to {conditions['largest_spread']:.0%} of"
        f" their median ({conditions['largest_spread_of']}){quiet}"
    )


def _tasks(rows: Sequence[Row]) -> list[tuple[str, int]]:
    tasks = [(row["objective"], row["batch"]) for row in rows if row["section"] == "training"]
    return list(dict.fromkeys(tasks))


def _of(rows: Iterable[Row], section: str, **wanted: Any) -> list[Row]:
    return [
        row
        for row in rows
        if row["section"] == section and all(row[key] == value for key, value in wanted.items())
    ]


def _ratios(results: Mapping[str, Any]) -> str:
    return _table(
        ("ratio", "value", "what"),
        [
            (f"`{name}`", "not available" if value is None else f"{value:.2f}", RATIOS[name])
            for name, value in results["ratios"].items()
        ],
    )


def _training(rows: Sequence[Row]) -> str:
    return _measurements(
        ("competitor", "triplets a step", "triplets/s", "s a step", "GFLOP/s", "peak memory, GiB"),
        rows,
        lambda row: (
            str(row["triplets"]),
            _range(row["triplets_per_second"]),
            _range(row["seconds"]),
            _range(row["flops_per_second"], 1e-9),
            f"{row['peak_bytes'] / GIB:.2f}",
        ),
    )


def _deblurring(rows: Sequence[Row]) -> str:
    return _measurements(
        ("competitor", "images", "ms", "peak memory, GiB"),
        rows,
        lambda row: (
            row["images"],
            _range(row["seconds"], 1e3),
            f"{row['peak_bytes'] / GIB:.2f}",
        ),
    )


def _peak(rows: Sequence[Row]) -> str:
    return _measurements(
        ("matrix product", "GFLOP/s"), rows, lambda row: (_range(row["flops_per_second"], 1e-9),)
    )


def _work(rows: Sequence[Row]) -> str:
    return _table(
        ("step", "GFLOP per triplet", "by XLA", "GB per triplet by XLA"),
        [
            (
                f"{row['competitor']}; {row['objective']}, batch {row['batch']}",
                f"{row['flops_per_triplet'] / 1e9:.3g}",
                f"{row['xla_flops_per_triplet'] / 1e9:.3g}",
                f"{row['xla_bytes_per_triplet'] / 1e9:.3g}",
            )
            for row in rows
            if "xla_flops_per_triplet" in row
        ],
    )


def _pipeline(rows: Sequence[Row]) -> str:
    return _measurements(
        ("batches of", "patches/s made", "patches/s taken", "taken / made"),
        rows,
        lambda row: (
            _range(row["patches_per_second"]),
            _number(row["patches_taken_per_second"], 4),
            f"{row['share_of_a_step']:.1%}",
        ),
    )


def _first_step(rows: Sequence[Row]) -> str:
    return _measurements(("compilation cache", "s"), rows, lambda row: (_range(row["seconds"]),))


def _measurements(
    header: Sequence[str], rows: Iterable[Row], cells: Callable[[Row], Sequence[str]]
) -> str:
    """A table of competitors: the cells of those that were measured, why the others were not."""

    def line(row: Row) -> Sequence[str]:
        if "seconds" in row:
            return (row["competitor"], *cells(row))
        reason = f"not available: {row['not_available']}"
        return (row["competitor"], reason, *[""] * (len(header) - 2))

    return _table(header, map(line, rows))


def _range(values: Mapping[str, float], factor: float = 1.0) -> str:
    median, low, high = (_number(factor * values[key], 4) for key in ("median", "low", "high"))
    return f"{median} [{low}, {high}]"


def _number(value: float, digits: int) -> str:
    return f"{value:.0f}" if value >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
