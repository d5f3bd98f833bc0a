"""The paper's numbers, and that ours beside them are the same quantities."""

import numpy as np
import pytest

from linlatent import metrics
from linlatent.evaluation import baselines, paper, protocol, tables
from linlatent.evaluation.layout import number
from linlatent.evaluation.rows import make_row

NAMES = [
    "LDS",
    "APD",
    "PSNR of blur synthesis vs reconstruction (dB)",
    "PSNR of blur synthesis vs ground truth (dB)",
    "PSNR of deblurring vs sharp reconstruction (dB)",
    "PSNR of deblurring vs sharp ground truth (dB)",
]


def random_results(levels=9, slides=3, size=16):
    """Planes, what a network might have made of them, and all rows of its evaluation."""
    rng = np.random.default_rng(0)
    shape = (slides, levels, size, size, 1)
    planes, reconstructions, synthesised = rng.uniform(size=(3, *shape))
    synthesised[:, [0, -1]] = reconstructions[:, [0, -1]]
    deblurred = rng.uniform(size=shape)[:, 1:-1]
    latents = rng.normal(size=(slides, levels, 7))
    made = protocol.Predictions(latents, reconstructions, synthesised, deblurred, further={})
    rows = protocol.linearity_rows(protocol.linearity(latents))
    compared = protocol.compare(planes, made)
    estimates = protocol.baseline_estimates(planes, baselines.UNTUNED)
    compared |= protocol.compare_with_sharp(planes, estimates)
    for pairing, errors in compared.items():
        rows += protocol.image_rows(pairing, errors)
    return planes, made, rows


def conditions(channel, objective):
    return {
        "num_levels": 9,
        "level_spacing_um": 4.0,
        "paper_channel": channel,
        "objective": objective,
    }


def table_of(rows, channel, objective):
    """The cells of the paper's table by the name of the line."""
    tables_by_title = {
        table.title: table for table in tables.reading_tables(rows, conditions(channel, objective))
    }
    return {line[0]: list(line[1:]) for line in tables_by_title["The paper's values"].cells}


@pytest.mark.parametrize(
    ("channel", "objective", "expected"),
    [
        ("w1", "baseline", (0.59, 0.036, 31.97, 29.09, 23.89, 22.55)),
        ("w1", "indirect", (0.62, 0.028, 31.77, 31.03, 23.02, 22.60)),
        ("w1", "direct", (0.76, 0.014, 31.60, 28.30, 23.52, 21.98)),
        ("w2", "baseline", (0.52, 0.037, 32.35, 29.78, 22.47, 24.00)),
        ("w2", "indirect", (0.47, 0.048, 32.48, 29.46, 22.22, 23.49)),
        ("w2", "direct", (0.75, 0.031, 33.05, 29.02, 22.03, 24.46)),
    ],
)
def test_the_paper_s_numbers(channel, objective, expected):
    """Network by network, where the paper and `paper` go quantity by quantity."""
    assert [quantity.name for quantity in paper.QUANTITIES] == NAMES
    told = conditions(channel, objective)
    assert tuple(paper.value(told, quantity) for quantity in paper.QUANTITIES) == expected


def test_ours_as_published_are_what_the_published_code_computes():
    planes, made, rows = random_results()
    sharp = np.broadcast_to(planes[:, :1], made.deblurred.shape)
    sharp_reconstruction = np.broadcast_to(made.reconstructions[:, :1], made.deblurred.shape)
    expected = [
        metrics.lds_published(made.latents).mean(),
        metrics.apd_published(made.latents).mean(),
        metrics.psnr_pooled(made.synthesised, made.reconstructions),
        metrics.psnr_pooled(made.synthesised, planes),
        metrics.psnr_pooled(made.deblurred, sharp_reconstruction),
        metrics.psnr_pooled(made.deblurred, sharp),
    ]
    ours = [paper.published_row(rows, quantity, 9).mean for quantity in paper.QUANTITIES]
    np.testing.assert_allclose(ours, expected, rtol=1e-12)
    assert len(set(np.round(expected, 4))) == len(expected)  # lest a swap go unnoticed


def test_ours_as_printed_are_equations_5_to_7():
    planes, made, rows = random_results()
    sharp = np.broadcast_to(planes[:, :1], made.deblurred.shape)
    sharp_reconstruction = np.broadcast_to(made.reconstructions[:, :1], made.deblurred.shape)
    between = made.synthesised[:, 1:-1]
    expected = [
        metrics.lds_paper(made.latents),
        metrics.apd_paper(made.latents),
        metrics.psnr_paper(between, made.reconstructions[:, 1:-1]).mean(axis=1),
        metrics.psnr_paper(between, planes[:, 1:-1]).mean(axis=1),
        metrics.psnr_paper(made.deblurred, sharp_reconstruction).mean(axis=1),
        metrics.psnr_paper(made.deblurred, sharp).mean(axis=1),
    ]
    ours = [paper.printed_row(rows, quantity, 9) for quantity in paper.QUANTITIES]
    np.testing.assert_allclose([row.per_slide for row in ours], expected, rtol=1e-12)
    assert all(row.standard_error > 0 for row in ours)


def test_the_table_has_the_paper_s_value_ours_and_their_difference():
    _, _, rows = random_results()
    cells = table_of(rows, "w2", "direct")
    assert list(cells) == NAMES
    assert [line[0] for line in cells.values()] == [
        *("0.75", "0.031", "33.05", "29.02", "22.03", "24.46")
    ]
    for quantity in paper.QUANTITIES:
        theirs, published, difference, printed = cells[quantity.name]
        ours = paper.published_row(rows, quantity, 9)
        assert published == number(ours)
        assert difference == f"{ours.mean - float(theirs):+.{quantity.digits}f}"
        assert printed == number(paper.printed_row(rows, quantity, 9))


@pytest.mark.parametrize(
    ("channel", "objective", "reason"),
    [
        (None, "direct", "other data: not comparable"),
        ("w1", "adversarial", "other objective: not comparable"),
    ],
)
def test_what_is_not_the_paper_s_is_not_compared(channel, objective, reason):
    _, _, rows = random_results()
    compared, others = table_of(rows, "w1", "direct"), table_of(rows, channel, objective)
    for name in NAMES:
        assert others[name][:3] == [reason, compared[name][1], "–"]
        assert others[name][3] == compared[name][3]


def test_an_infinite_number_of_ours_has_no_difference():
    _, _, rows = random_results()
    endless = make_row("", "", "", "", "", "", [np.inf, 1.0])
    found = paper.published_row(rows, paper.QUANTITIES[2], 9)
    spoilt = [
        row._replace(mean=endless.mean, standard_error=None) if row is found else row
        for row in rows
    ]
    assert table_of(spoilt, "w1", "direct")[NAMES[2]][:3] == ["31.60", "–", "–"]
