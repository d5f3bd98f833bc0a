"""The paper's six networks side by side: two channels by three objectives, in one document."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from etils import epath

from linlatent.evaluation import figures, paper
from linlatent.evaluation.layout import MISSING, Table, markdown_of, number
from linlatent.evaluation.rows import Row, baselines_of, deblurring_row, difference, rows_of
from linlatent.metrics import Summary

RowOf = Callable[[Sequence[Row], paper.Quantity, int], Row]
"""`paper.published_row` or `paper.printed_row`."""

_PICTURE = "linearity.png"


class Training(NamedTuple):
    """What is known of the time that a training took.

    Attributes:
      steps: Steps trained in all.
      timed_steps: Steps of them that were timed; those of a session that was cut off are not.
      seconds: What the timed steps took, with compilation and validation.
      hardware: Where the last of them ran.
    """

    steps: int
    timed_steps: int
    seconds: float
    hardware: str


class Run(NamedTuple):
    """One network.

    Attributes:
      channel: One of `paper.CHANNELS`.
      objective: One of `paper.OBJECTIVES`.
      results: What `evaluate` returns of it.
      training: How long it was trained.
    """

    channel: str
    objective: str
    results: dict[str, Any]
    training: Training


def write(folder: epath.PathLike, runs: Sequence[Run], *, settings: dict[str, str]) -> None:
    """Writes ``results.md`` and its picture.

    Args:
      folder: Where to, local or ``gs://``.
      runs: All six, by channel and then by objective.
      settings: What a reader has to know to repeat it, such as the command; by name.
    """
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    by_run = {(run.channel, run.objective): run for run in runs}
    drawn = {
        quantity.name: {
            channel: [_row(by_run[channel, objective], quantity) for objective in paper.OBJECTIVES]
            for channel in paper.CHANNELS
        }
        for quantity in (paper.LDS, paper.APD)
    }
    picture = figures.to_png(figures.linearity_of_objectives(drawn))
    (folder / _PICTURE).write_bytes(picture)
    (folder / "results.md").write_text(to_markdown(runs, settings=settings))


def to_markdown(runs: Sequence[Run], *, settings: dict[str, str]) -> str:
    """The document that `write` writes."""
    by_run = {(run.channel, run.objective): run for run in runs}
    blocks = [
        "# The paper's tables: two channels, three objectives",
        "\n".join(f"- {name}: {value}" for name, value in (settings | _data_of(runs)).items()),
        "Every number is of test slides that training never saw, each seen once through its centre"
        " crop; ± is the standard error of the mean over slides. There is one training per column:"
        " the errors tell of the slides, not of how another seed would turn out.",
        *_section(_published_table(runs)),
        *_section(_printed_table(runs)),
        "## Does direct regularisation make the latent space more linear?",
        "The paper's claim is that, against the baseline, LDS rises and APD falls. A change counts"
        " here if it is larger than two standard errors, taken slide by slide.",
        f"![LDS and APD of each objective and channel]({_PICTURE})",
        "*LDS and APD as published. Hollow markers are the paper's values; where the data are"
        " others, they are there for orientation only.*",
        "\n".join(
            _claim(by_run[channel, "baseline"], by_run[channel, "direct"], definition, row_of)
            for channel in paper.CHANNELS
            for definition, row_of in (
                ("as published", paper.published_row),
                ("by Eq. 5 and 6", paper.printed_row),
            )
        ),
        *_section(_deblurring_table(runs)),
        *_section(_gains_table(runs)),
        "\n".join(_verdict_on_deblurring(runs, name) for name in _baselines(runs)),
        *_section(_training_table(runs)),
    ]
    return "\n\n".join(blocks) + "\n"


def _section(table: Table) -> list[str]:
    return [f"## {table.title}", table.caption, markdown_of(table)]


def _data_of(runs: Sequence[Run]) -> dict[str, str]:
    every = [run.results["conditions"] for run in runs]
    data = [f"{told['data']}, {told['slides']} {told['split']} slides" for told in every]
    return {
        "data": "; ".join(dict.fromkeys(data)),
        "blur levels": f"{every[0]['num_levels']}, {every[0]['level_spacing_um']} µm apart",
    }


def _training_table(runs: Sequence[Run]) -> Table:
    return Table(
        "Training",
        "Wall time of the training alone, with compilation and validation. Evaluated is the"
        " checkpoint that was best on validation.",
        ["network", "steps", "checkpoint", "time", "hardware"],
        [
            [
                _name(run),
                str(run.training.steps),
                str(run.results["conditions"]["checkpoint_step"]),
                _time(run.training),
                run.training.hardware,
            ]
            for run in runs
        ],
    )


def _published_table(runs: Sequence[Run]) -> Table:
    """Lines are quantities; after the columns of a channel comes what the paper has for them."""
    header, columns = [""], [[quantity.name for quantity in paper.QUANTITIES]]
    for channel in paper.CHANNELS:
        of_channel = [run for run in runs if run.channel == channel]
        for run in of_channel:
            header.append(_name(run))
            columns.append([number(_row(run, quantity)) for quantity in paper.QUANTITIES])
        header.append(f"{channel}, paper")
        columns.append([_paper_cell(of_channel, quantity) for quantity in paper.QUANTITIES])
    return Table(
        "In the definitions of the published code",
        f"{paper.CONDITIONS} A pooled number has no standard error. The paper's values are in the"
        f" order {' / '.join(paper.OBJECTIVES)}.",
        header,
        list(zip(*columns, strict=True)),
    )


def _paper_cell(runs: Sequence[Run], quantity: paper.Quantity) -> str:
    texts = [paper.value_text(run.results["conditions"], quantity) for run in runs]
    return texts[0] if len(set(texts)) == 1 else " / ".join(texts)


def _printed_table(runs: Sequence[Run]) -> Table:
    return Table(
        "As the paper defines them",
        "LDS and APD by Eq. 5 and 6, PSNR by Eq. 7 per image, of the levels between the end points;"
        " mean ± standard error over slides.",
        ["", *map(_name, runs)],
        [
            [
                quantity.name,
                *(number(_row(run, quantity, paper.printed_row)) for run in runs),
            ]
            for quantity in paper.QUANTITIES
        ],
    )


def _claim(baseline: Run, direct: Run, definition: str, row_of: RowOf) -> str:
    """What direct regularisation does to LDS and APD, and whether that is what the paper says."""
    effects, signs = [], []
    for quantity, wanted in ((paper.LDS, 1), (paper.APD, -1)):
        before, after = (_row(run, quantity, row_of) for run in (baseline, direct))
        change = difference(after, before)
        sign = _sign(change)
        signs.append(sign * wanted)
        verb = {1: "raises", 0: "does not clearly change", -1: "lowers"}[sign]
        effects.append(
            f"{verb} {quantity.name} ({number(before)} to {number(after)}: {_signed(change, 4)})"
        )
    if signs == [1, 1]:
        verdict = "the paper's claim holds"
    elif -1 in signs:
        verdict = "the paper's claim does not hold"
    else:
        verdict = "the paper's claim is not decided"
    return f"- {direct.channel}, {definition}: direct {' and '.join(effects)}; {verdict} here."


def _deblurring_table(runs: Sequence[Run]) -> Table:
    return Table(
        "Is deblurring better than doing without a network?",
        "PSNR (dB) per image at range 1 against the plane in focus, averaged over the input levels"
        " between the end points. The average hides from which distance on it pays: the report of"
        " each network has every level.",
        ["", *map(_name, runs)],
        [
            [name, *(number(_deblurring_row(run, name)) for run in runs)]
            for name in (*_baselines(runs), "deblurred")
        ],
    )


def _gains_table(runs: Sequence[Run]) -> Table:
    return Table(
        "By how much is it better?",
        "The same of “deblurred” less that of each baseline, taken slide by slide.",
        ["deblurred less", *map(_name, runs)],
        [[name, *(_signed(_gain(run, name), 2) for run in runs)] for name in _baselines(runs)],
    )


def _baselines(runs: Sequence[Run]) -> list[str]:
    """Those that every network was compared with."""
    of_runs = [baselines_of(rows_of(run.results)) for run in runs]
    return [name for name in of_runs[0] if all(name in others for others in of_runs)]


def _verdict_on_deblurring(runs: Sequence[Run], name: str) -> str:
    signs = [_sign(_gain(run, name)) for run in runs]
    return (
        f"- Against {name}: better in {signs.count(1)} of {len(signs)} networks, worse in"
        f" {signs.count(-1)}, by more than two standard errors."
    )


def _gain(run: Run, name: str) -> Summary:
    return difference(_deblurring_row(run, "deblurred"), _deblurring_row(run, name))


def _deblurring_row(run: Run, estimate: str) -> Row:
    return deblurring_row(rows_of(run.results), estimate, run.results["conditions"]["num_levels"])


def _row(run: Run, quantity: paper.Quantity, row_of: RowOf = paper.published_row) -> Row:
    return row_of(rows_of(run.results), quantity, run.results["conditions"]["num_levels"])


def _sign(change: Summary) -> int:
    """1 or -1 for a change of more than two standard errors, else 0."""
    clear = abs(change.mean) > 2 * change.standard_error  # False where the error is not known
    return int(math.copysign(1, change.mean)) if clear else 0


def _signed(change: Summary, digits: int) -> str:
    if not math.isfinite(change.mean):
        return MISSING
    error = f" ± {change.standard_error:.{digits}f}" if math.isfinite(change.standard_error) else ""
    return f"{change.mean:+.{digits}f}{error}"


def _name(run: Run) -> str:
    return f"{run.channel} {run.objective}"


def _time(training: Training) -> str:
    text = f"{training.seconds / 60:.1f} min"
    if training.timed_steps < training.steps:
        text += f" for {training.timed_steps} steps, the others were not timed"
    return text
