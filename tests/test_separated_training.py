"""The network that keeps content and blur apart, trained and evaluated from a configuration."""

import numpy as np
import pytest
from flax import traverse_util

import linlatent
from linlatent import separated
from linlatent.evaluation import evaluate, figures
from linlatent.evaluation.rows import Row, sharp_estimates
from linlatent.training import train

WIDTHS = (4, 4, 6, 8)

TRAINING = {
    **{"model.network": "separated", "objective": "separated", "triplets": "spanning"},
    **{"model.widths": WIDTHS, "criterion": "log", "schedule": "cosine"},
    **{"data.crops": "random", "batch_size": 8, "whole_every": 2},
    **{"num_steps": 30, "validate_every_steps": 15},
}


@pytest.fixture(scope="module")
def workdir(tiny_config, tmp_path_factory):
    """A tiny network that was trained on a folder."""
    folder = tmp_path_factory.mktemp("separated")
    train(tiny_config(TRAINING), folder)
    return folder


def test_it_is_trained_and_evaluated_like_the_paper_s(workdir):
    params, config, step = linlatent.load(workdir)
    assert (config.model.network, separated.widths_of(params)) == ("separated", WIDTHS)
    assert step in (15, 30)
    rows = [Row(**row) for row in evaluate(workdir)["rows"]]
    estimates = {row.estimate for row in rows}
    assert {"deblurred", "reconstruction", "synthesised"} <= estimates
    assert {"deblurred, anchored", "deblurred, b alone", "deblurred, b and its blur"} <= estimates
    assert curves_of(rows) == sharp_estimates(rows)
    # Far below, as of a network that loses much, the reconstruction in focus is a curve, too.
    low = [row._replace(mean=1.0) if row.section == "reconstruction" else row for row in rows]
    assert len(curves_of(low)) == 1 + len(sharp_estimates(rows))


def curves_of(rows):
    """The names of the curves of deblurring, of which no two look the same."""
    (axes,) = figures.psnr_of_deblurring(rows, None).axes
    looks = [(line.get_color(), line.get_marker()) for line in axes.lines]
    assert len(set(looks)) == len(looks)
    return [line.get_label() for line in axes.lines]


def test_the_reading_of_blur_is_trained_by_itself(workdir, tiny_config, tmp_path):
    fields = {"objective": "separated_blur", "batching": "stack", "batch_size": 4, "whole_every": 1}
    config = tiny_config({**TRAINING, **fields, "num_steps": 10, "validate_every_steps": 10})
    with pytest.raises(ValueError, match=r"init_from is not given; .* expected the workdir or"):
        train(config, tmp_path / "none")
    config.init_from = str(workdir)
    train(config, tmp_path / "blur")
    before, after = (
        traverse_util.flatten_dict(linlatent.load(folder).params, sep="/")
        for folder in (workdir, tmp_path / "blur")
    )
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("params/encoder/blur/")}
