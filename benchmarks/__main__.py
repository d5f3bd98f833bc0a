"""Runs the benchmarks: ``python -m benchmarks [--quick] [--output FOLDER]``."""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

from benchmarks import machine, measure, plan, report, results


def main() -> None:
    """Measures everything and writes ``results.json``, ``results.md`` and ``results.png``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="a narrow network, to see that everything runs"
    )
    parser.add_argument("--output", type=pathlib.Path, help="folder for the results")
    arguments = parser.parse_args()
    if sys.platform != "linux":
        parser.error(f"runs on Linux only, this is {sys.platform}: memory is read from /proc")
    scale = plan.QUICK if arguments.quick else plan.FULL
    default = "build/bench-quick" if arguments.quick else "benchmarks"
    output = arguments.output or measure.ROOT / default
    output.mkdir(parents=True, exist_ok=True)

    conditions = machine.conditions()
    groups = plan.groups(scale, data_dir=str(output / "data") if arguments.quick else None)
    first_step = plan.first_step(scale)
    progress = measure.Progress(
        sum(map(measure.seconds_of, groups)) + 2 * first_step.repeats * first_step.seconds_to_ready
    )
    rows = [row for jobs in groups for row in measure.take_turns(jobs, progress)]
    rows += measure.first_steps(first_step, progress)

    found = results.of_rows(rows, {**conditions, "widths": scale.widths, "crop": scale.crop})
    (output / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    (output / "results.md").write_text(report.as_markdown(found))
    report.plot(found, output / "results.png")
    print(report.as_markdown(found))
    print(f"results: {output / 'results.md'}")


if __name__ == "__main__":
    main()
