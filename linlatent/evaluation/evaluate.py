"""Evaluates a workdir on the slides of a split and writes tables, figures and a report.

It needs a trained workdir and data, and knows nothing of training. Slides are streamed: of each
only its figures of merit are kept, and the few slides that are shown are read a second time. Each
member of an ensemble is measured by itself; its member 0 is the one that is shown.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from ml_collections import ConfigDict
from tqdm import tqdm

from linlatent import config as configuration
from linlatent import data, inference
from linlatent.data import StackSource
from linlatent.evaluation import figures, protocol, report, tables
from linlatent.evaluation.members import mean_over_members
from linlatent.evaluation.rows import Row, rows_of, to_csv

_FOLDER = "evaluation"
_RESULTS = "metrics.json"

Predict = Callable[[np.ndarray], protocol.Predictions]


class Measurements(NamedTuple):
    """What is kept of all slides of a split.

    Attributes:
      rows: The table rows.
      contrast: For each slide id the variance of its sharpest crop, which tells how much there is
        to see in it.
    """

    rows: list[Row]
    contrast: dict[str, float]


def evaluate(
    workdir: epath.PathLike, config: ConfigDict | None = None, *, split: str = "test"
) -> dict[str, Any]:
    """Measures reconstruction, blur synthesis, deblurring and linearity of a trained network.

    Args:
      workdir: A folder that training wrote; results go to its folder ``evaluation``.
      config: Where the data come from (the fields of `linlatent.config.DATA`), if not from where
        the workdir's own configuration says. The rest of it must be the network's.
      split: Which slides, one of `linlatent.data.SPLITS`.

    Returns:
      ``{"conditions": {...}, "slides": [id, ...], "rows": [{...}, ...]}``, the content of
      ``metrics.json``; a row is a `rows.Row`. `tables.format_table` makes it readable. Of an
      ensemble the rows are means (`members.mean_over_members`), and ``"members"`` lists the rows of
      each of its networks.

    Raises:
      FileNotFoundError: If the workdir holds no model.
      ValueError: If the data do not fit, or the rest of the configuration is not the network's.
    """
    model = inference.load(workdir)
    settings = model.config if config is None else config
    if config is not None:
        configuration.validate(config)
        configuration.require_same(
            workdir, config, but_for=(*configuration.EXTENDABLE, *configuration.DATA)
        )
    source = _open_source(settings)
    predict = functools.partial(_predict, model.params)
    read = functools.partial(
        data.evaluation_batches,
        split=split,
        crop_size=settings.data.crop_size,
        normalisation=settings.data.normalisation,
        # A training batch counts images; here every slide brings all of its levels.
        batch_size=max(1, settings.batch_size // source.num_levels),
    )

    rows, contrast = measure(source, read, predict, split=split)
    members = [rows]
    for member in range(1, model.config.num_models):
        other = functools.partial(_predict, inference.load(workdir, member=member).params)
        members.append(measure(source, read, other, split=split).rows)
    rows = mean_over_members(members)
    results: dict[str, Any] = {
        "conditions": _conditions(model, settings, source, split),
        "slides": list(contrast),
        "rows": [row._asdict() for row in rows],
    }
    if len(members) > 1:
        results["members"] = [[row._asdict() for row in each] for each in members]
    shown = _with_slides(source, split, choose_slides(contrast))
    examples = [
        example for batch in read(shown) for example in make_examples(shown, batch, predict)
    ]
    _write(epath.Path(workdir) / _FOLDER, results, _draw(rows, examples))
    return results


def read_results(workdir: epath.PathLike) -> dict[str, Any] | None:
    """Reads what ``evaluate(workdir)`` would measure, where it has been measured already.

    Args:
      workdir: A folder that training wrote.

    Returns:
      The results, or None if there are none, or they are of an earlier checkpoint, of other data or
      of another split. Only the hardware may have been another one.

    Raises:
      FileNotFoundError: If the workdir holds no model.
    """
    path = epath.Path(workdir) / _FOLDER / _RESULTS
    if not path.exists():
        return None
    results = json.loads(path.read_text())
    model = inference.load(workdir)
    expected = _conditions(model, model.config, _open_source(model.config), "test")
    current = results["conditions"] | {"hardware": expected["hardware"]} == expected
    return results if current else None


def _open_source(settings: ConfigDict) -> StackSource:
    return data.open_source(settings.data.source, **settings.data[settings.data.source])


def _conditions(
    model: inference.Model, settings: ConfigDict, source: StackSource, split: str
) -> dict[str, Any]:
    return {
        "data": source.name,
        "paper_channel": source.paper_channel,
        "split": split,
        "slides": len(source.slide_ids[split]),
        "num_levels": source.num_levels,
        "level_spacing_um": source.level_spacing_um,
        "crop_size": settings.data.crop_size,
        "normalisation": settings.data.normalisation,
        "objective": model.config.objective,
        "criterion": model.config.criterion,
        "widths": list(model.config.model.widths),
        "num_models": model.config.num_models,
        "checkpoint_step": model.step,
        "hardware": jax.devices()[0].device_kind,
    }


@jax.jit
def _predict(params: Any, planes: jax.Array) -> protocol.Predictions:
    """The protocol of the paper's network; its parameters are an argument, lest XLA fold them."""
    encode = functools.partial(inference.encode, params)
    decode = functools.partial(inference.decode, params)
    return protocol.predict(encode, decode, planes)


def measure(
    source: StackSource,
    read: Callable[[StackSource], Iterator[dict[str, Any]]],
    predict: Predict,
    *,
    split: str,
) -> Measurements:
    """Runs the protocol over all slides of a split.

    Args:
      source: Where the slides come from.
      read: From a source to its batches, as `linlatent.data.evaluation_batches` yields them.
      predict: From planes ``(B, L, S, S, 1)`` to what a model makes of them.
      split: The split that `read` reads, for the length of the progress bar.

    Returns:
      The `Measurements`; rows marked as padding take no part.
    """
    straightness = defaultdict(list)
    errors = defaultdict(list)
    contrast: dict[str, float] = {}
    with tqdm(
        total=len(source.slide_ids[split]), desc="evaluate", unit="slide", delay=2, disable=None
    ) as progress:
        for batch in read(source):
            slide_ids, planes, predictions = _without_padding(batch, predict)
            for key, values in protocol.linearity(predictions.latents).items():
                straightness[key].append(values)
            baselines = protocol.baseline_estimates(planes)
            for pairing, batch_errors in protocol.compare(planes, predictions, baselines).items():
                errors[pairing].append(batch_errors)
            variances = planes[:, 0].var(axis=(1, 2, 3))
            contrast.update(zip(slide_ids, variances.tolist(), strict=True))
            progress.update(len(slide_ids))
    rows = protocol.linearity_rows(
        {key: np.concatenate(values) for key, values in straightness.items()}
    )
    for pairing, batches in errors.items():
        rows += protocol.image_rows(pairing, protocol.concatenate(batches))
    return Measurements(rows, contrast)


def choose_slides(contrast: dict[str, float]) -> list[str]:
    """Slides worth looking at: the one with most to see, and one at the upper quartile of that.

    The median would be a poorer choice where many crops show little but background.

    Args:
      contrast: Variance of the sharpest crop of each slide.

    Returns:
      Two slide ids, or the only one.
    """
    ordered = sorted(contrast, key=contrast.__getitem__)
    return list(dict.fromkeys([ordered[-1], ordered[3 * (len(ordered) - 1) // 4]]))


def make_examples(
    source: StackSource, batch: dict[str, Any], predict: Predict
) -> list[figures.Example]:
    """Prepares the slides of a batch for the figures."""
    slide_ids, planes, predictions = _without_padding(batch, predict)
    vectors = protocol.flatten_latents(predictions.latents)
    baselines = protocol.baseline_estimates(planes)
    return [
        figures.Example(
            slide_id,
            source.level_spacing_um,
            planes[index, ..., 0],
            vectors[index],
            predictions.reconstructions[index, ..., 0],
            predictions.synthesised[index, ..., 0],
            predictions.deblurred[index, ..., 0],
            {name: images[index, ..., 0] for name, images in baselines.items()},
        )
        for index, slide_id in enumerate(slide_ids)
    ]


def _without_padding(
    batch: dict[str, Any], predict: Predict
) -> tuple[list[str], np.ndarray, protocol.Predictions]:
    """Predicts on the whole batch, so that shapes are static, and then drops its padding."""
    kept = np.asarray(batch["mask"]) > 0
    predictions = jax.device_get(predict(batch["planes"]))
    slide_ids = [slide for slide, keep in zip(batch["slide_id"], kept, strict=True) if keep]
    return slide_ids, batch["planes"][kept], jax.tree.map(lambda leaf: leaf[kept], predictions)


def _with_slides(source: StackSource, split: str, slide_ids: list[str]) -> StackSource:
    return dataclasses.replace(source, slide_ids={**source.slide_ids, split: slide_ids})


def _draw(rows: list[Row], examples: list[figures.Example]) -> dict[str, bytes]:
    """All figures as PNG, by file name."""
    spacing_um = examples[0].level_spacing_um
    drawn = {
        "psnr_of_deblurring.png": figures.psnr_of_deblurring(rows, spacing_um),
        "psnr_of_synthesis.png": figures.psnr_of_synthesis(rows, spacing_um),
        "latent_paths.png": figures.latent_paths(examples),
    }
    for number, example in enumerate(examples, start=1):
        drawn[f"deblurring_{number}.png"] = figures.deblurring_strip(example)
        drawn[f"synthesis_{number}.png"] = figures.synthesis_strip(example)
    return {name: figures.to_png(figure) for name, figure in drawn.items()}


def _write(folder: epath.Path, results: dict[str, Any], pictures: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "table.csv").write_text(to_csv(rows_of(results)))
    (folder / "table.md").write_text(tables.to_markdown(results))
    for name, png in pictures.items():
        (folder / name).write_bytes(png)
    (folder / "report.html").write_text(report.to_html(results, pictures))
    # Last: where it is, the rest is.
    (folder / _RESULTS).write_text(json.dumps(results, indent=1, allow_nan=False))
