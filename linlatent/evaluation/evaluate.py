"""Evaluates a workdir on the slides of a split and writes tables, figures and a report.

It needs a trained workdir and data, and knows nothing of training. Slides are streamed: of each
only its figures of merit are kept, and the few slides that are shown are read a second time. Each
member of an ensemble is measured by itself; its member 0 is the one that is shown. The settings of
baselines are chosen on slides of another split.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath
from ml_collections import ConfigDict

from linlatent import config as configuration
from linlatent import data, inference, latent, networks, separated
from linlatent.data import StackSource
from linlatent.evaluation import baselines, figures, protocol, report, tables
from linlatent.evaluation.baselines import Baseline
from linlatent.evaluation.measurement import Predict, measure, predictions_of, without_padding
from linlatent.evaluation.members import mean_over_members
from linlatent.evaluation.rows import Row, baselines_of, deblurring_row, rows_of, to_csv

_FOLDER = "evaluation"
_RESULTS = "metrics.json"
_TUNING_SLIDES = 8


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
      ``{"conditions": {...}, "slides": [id, ...], "baseline_settings": [{...}, ...],
      "rows": [{...}, ...]}``, the content of ``metrics.json``; a row is a `rows.Row`, settings are
      a `baselines.Choice`. `tables.format_table` makes it readable. Of an ensemble the rows are
      means (`members.mean_over_members`), and ``"members"`` lists the rows of each of its networks.

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
    predicts = [functools.partial(predict, model.params)]
    for member in range(1, model.config.num_models):
        other = inference.load(workdir, member=member)
        predicts.append(functools.partial(predict, other.params))
    read = functools.partial(
        data.evaluation_batches,
        crop_size=settings.data.crop_size,
        normalisation=settings.data.normalisation,
        # A training batch counts images; here every slide brings all of its levels.
        batch_size=max(1, settings.batch_size // source.num_levels),
    )
    read_split = functools.partial(read, split=split)

    others, choices = _tune(source, read, split)
    members, contrast = measure(source, read_split, predicts, others, split=split)
    rows = mean_over_members(members)
    results: dict[str, Any] = {
        "conditions": _conditions(model, settings, source, split),
        "slides": list(contrast),
        "baseline_settings": [choice._asdict() for choice in choices],
        "rows": [row._asdict() for row in rows],
    }
    if len(members) > 1:
        results["members"] = [[row._asdict() for row in each] for each in members]
    shown = _with_slides(source, split, choose_slides(contrast))
    drawn = {name: others[name] for name in choose_baselines(rows, source.num_levels)}
    examples = [
        example
        for batch in read_split(shown)
        for example in make_examples(shown, batch, predicts[0], drawn)
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


def tuning_slides(source: StackSource, split: str) -> tuple[str, Sequence[str]] | None:
    """The split that baselines are tuned on and its slides for that: not those of `split`."""
    for other in ("validation", "train"):
        if other != split and source.slide_ids.get(other):
            return other, source.slide_ids[other][:_TUNING_SLIDES]
    return None


def _tune(
    source: StackSource, read: Callable[..., Iterator[dict[str, Any]]], split: str
) -> tuple[Mapping[str, Baseline], list[baselines.Choice]]:
    """The baselines for the evaluation of a split; without other slides only the untuned ones."""
    tuning = tuning_slides(source, split)
    if tuning is None:
        return baselines.UNTUNED, []
    other, slide_ids = tuning
    batches = read(_with_slides(source, other, slide_ids), split=other)
    planes = np.concatenate([without_padding(batch)[1] for batch in batches])
    return baselines.tuned(planes, None if source.psfs is None else source.psfs())


def _conditions(
    model: inference.Model, settings: ConfigDict, source: StackSource, split: str
) -> dict[str, Any]:
    tuning = tuning_slides(source, split)
    return {
        "data": source.name,
        "paper_channel": source.paper_channel,
        "split": split,
        "slides": len(source.slide_ids[split]),
        "num_levels": source.num_levels,
        "level_spacing_um": source.level_spacing_um,
        "crop_size": settings.data.crop_size,
        "normalisation": settings.data.normalisation,
        "point_spread_function": "unknown" if source.psfs is None else "known",
        "baselines_tuned_on": tuning and f"{len(tuning[1])} {tuning[0]} slides",
        "objective": model.config.objective,
        "criterion": model.config.criterion,
        "network": model.config.model.network,
        "widths": list(model.config.model.widths),
        "num_models": model.config.num_models,
        "checkpoint_step": model.step,
        "hardware": jax.devices()[0].device_kind,
    }


@jax.jit
def predict(params: Any, planes: jax.Array) -> protocol.Predictions:
    """The protocol of a network, with what it does beyond the paper, as the user would do it.

    Args:
      params: The network; as an argument, lest XLA fold its parameters.
      planes: ``(B, L, S, S, 1)`` float32 in [0, 1], L >= 3.
    """
    encode = functools.partial(inference.encode, params)
    decode = functools.partial(inference.decode, params)
    predictions = protocol.predict(encode, decode, planes)
    return predictions._replace(further=_beyond_the_paper(params, planes, predictions.latents))


def _beyond_the_paper(
    params: Any, planes: jax.Array, latents: latent.Latent
) -> dict[str, jax.Array]:
    """What else the functions of `inference` make of the planes b, ``(B, L - 2, S, S, 1)`` each."""
    alphas = jnp.asarray(protocol.interior_alphas(planes.shape[1]))
    xb, zb = planes[:, 1:-1], protocol.at_levels(latents, slice(1, -1))
    zc = protocol.at_levels(latents, -1)
    over_levels = functools.partial(jax.vmap, out_axes=1)
    further = {}
    if networks.of(params) is separated:
        deblur_single = functools.partial(inference.deblur_single, params)
        blurs = separated.BLURRIEST * (1 - alphas)
        further["deblurred, b alone"] = over_levels(deblur_single, in_axes=1)(xb)
        further["deblurred, b and its blur"] = over_levels(deblur_single, in_axes=(1, 0))(xb, blurs)
        encode_between = functools.partial(inference.encode_between, params, xc=planes[:, -1])
        zb = over_levels(encode_between, in_axes=(1, None, 0))(xb, zc, alphas)

    def deblur(zb: latent.Latent, xb: jax.Array, alpha: jax.Array) -> jax.Array:
        return inference.deblur(params, zb, zc, alpha, anchor=xb)

    anchored = over_levels(deblur, in_axes=(1, 1, 0))(zb, xb, alphas)
    return {"deblurred, anchored": anchored, **further}


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


def choose_baselines(rows: Sequence[Row], num_levels: int) -> list[str]:
    """Baselines worth looking at: those without settings, and the best of the others by PSNR.

    Args:
      rows: The rows of an evaluation.
      num_levels: Blur levels of a slide.
    """

    def psnr(name: str) -> float:
        mean = deblurring_row(rows, name, num_levels).mean
        return math.inf if mean is None else mean

    tuned = [name for name in baselines_of(rows) if name not in baselines.UNTUNED]
    return [*baselines.UNTUNED, *sorted(tuned, key=psnr)[-1:]]


def make_examples(
    source: StackSource,
    batch: dict[str, Any],
    predict: Predict,
    others: Mapping[str, Baseline],
) -> list[figures.Example]:
    """Prepares the slides of a batch for the figures."""
    slide_ids, planes = without_padding(batch)
    predictions = predictions_of(batch, predict)
    vectors = protocol.flatten_latents(predictions.latents)
    estimates = protocol.baseline_estimates(planes, others)
    return [
        figures.Example(
            slide_id,
            source.level_spacing_um,
            planes[index, ..., 0],
            vectors[index],
            predictions.reconstructions[index, ..., 0],
            predictions.synthesised[index, ..., 0],
            {
                name: images[index, ..., 0]
                for name, images in {
                    "deblurred": predictions.deblurred,
                    **predictions.further,
                }.items()
            },
            {name: images[index, ..., 0] for name, images in estimates.items()},
        )
        for index, slide_id in enumerate(slide_ids)
    ]


def _with_slides(source: StackSource, split: str, slide_ids: Sequence[str]) -> StackSource:
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
