"""What is measured, on planes that are linear in blur and on networks that are not."""

import functools

import jax
import numpy as np
import pytest
import skimage.metrics

from linlatent import inference, metrics
from linlatent.data import StackSource
from linlatent.evaluation import protocol, tables
from linlatent.evaluation.baselines import UNTUNED
from linlatent.evaluation.evaluate import choose_slides
from linlatent.evaluation.measurement import measure
from linlatent.evaluation.rows import EQ_7, POOLED, RANGE_1, difference, make_row, select

LEVELS = 5


def linear_planes(slides=3, levels=LEVELS, size=16, seed=0):
    """Stacks that are linear in blur on the pixels themselves, ``(B, L, S, S, 1)`` in [0, 1]."""
    rng = np.random.default_rng(seed)
    sharp, blurry = rng.uniform(size=(2, slides, 1, size, size, 1))
    weights = np.linspace(1, 0, levels).reshape(levels, 1, 1, 1)
    return (weights * sharp + (1 - weights) * blurry).astype(np.float32)


def identity(x):
    return x


@jax.jit
def predict_identity(planes):
    return protocol.predict(identity, identity, planes)


def source_of(slide_ids):
    return StackSource("memory", LEVELS, {"test": slide_ids}, lambda slide_id: np.zeros(0))


def batches_of(planes, batch_size):
    """A reader of batches as `evaluation_batches` yields them, the last one padded."""

    def read(source):
        slide_ids = source.slide_ids["test"]
        for start in range(0, len(slide_ids), batch_size):
            chosen = np.minimum(np.arange(start, start + batch_size), len(slide_ids) - 1)
            yield {
                "planes": planes[chosen],
                "mask": np.float32(np.arange(start, start + batch_size) < len(slide_ids)),
                "slide_id": [slide_ids[index] for index in chosen],
            }

    return read


def measured(planes, predict=predict_identity, batch_size=2):
    source = source_of([f"slide_{index}" for index in range(len(planes))])
    read = batches_of(planes, batch_size)
    members, contrast = measure(source, read, [predict], UNTUNED, split="test")
    return members[0], contrast


def only(rows, **fields):
    (row,) = select(rows, **fields)
    return row


def test_what_is_linear_in_blur_is_synthesised_and_deblurred_exactly():
    planes = linear_planes()
    made = predict_identity(planes)
    np.testing.assert_array_equal(made.reconstructions, planes)
    np.testing.assert_allclose(made.synthesised, planes, atol=1e-6)
    expected = np.broadcast_to(planes[:, :1], made.deblurred.shape)
    np.testing.assert_allclose(made.deblurred, expected, atol=1e-5)


def test_predictions_agree_with_one_plane_at_a_time(random_network):
    """The vmapped protocol is Eq. 1 and 2 of the public functions, plane by plane."""
    params = random_network((2, 3))
    planes = np.random.default_rng(3).uniform(size=(2, LEVELS, 8, 8, 1)).astype(np.float32)

    @jax.jit
    def one_at_a_time(params, planes):
        z0, z3, z4 = (inference.encode(params, planes[:, level]) for level in (0, 3, 4))
        return inference.synthesize(params, z0, z4, 0.25), inference.deblur(params, z3, z4, 0.25)

    @jax.jit
    def predict(params, planes):
        encode = functools.partial(inference.encode, params)
        return protocol.predict(encode, functools.partial(inference.decode, params), planes)

    synthesised, deblurred = one_at_a_time(params, planes)
    made = predict(params, planes)
    np.testing.assert_allclose(made.synthesised[:, 3], synthesised, atol=1e-5)
    np.testing.assert_allclose(made.deblurred[:, 2], deblurred, atol=1e-5)
    np.testing.assert_array_equal(made.synthesised[:, 0], made.reconstructions[:, 0])
    np.testing.assert_array_equal(made.synthesised[:, -1], made.reconstructions[:, -1])


def test_a_latent_may_be_a_pytree():
    planes = linear_planes()
    made = protocol.predict(lambda x: {"x": x, "y": -x}, lambda z: z["x"], planes)
    np.testing.assert_array_equal(made.reconstructions, planes)
    assert protocol.flatten_latents(made.latents).shape == (3, LEVELS, 2 * 16 * 16)


def test_rows_of_a_linear_world():
    rows, _ = measured(linear_planes())
    lds = only(rows, quantity="LDS", definition="paper, Eq. 5")
    apd = only(rows, quantity="APD", definition="paper, Eq. 6")
    assert lds.mean == pytest.approx(1, abs=1e-4)
    assert apd.mean == pytest.approx(0, abs=1e-4)
    perfect = only(
        rows, section="reconstruction", levels="0-4", quantity="PSNR", definition=RANGE_1
    )
    assert (perfect.mean, perfect.standard_error, perfect.n) == (None, None, 3)
    deblurred = only(
        rows, estimate="deblurred", reference="ground truth", levels="1-3", quantity="SSIM"
    )
    assert deblurred.mean == pytest.approx(1, abs=1e-6)


def test_untouched_input_agrees_with_scikit_image_slide_by_slide():
    planes = linear_planes()
    rows, _ = measured(planes)
    row = only(
        rows,
        estimate="untouched input",
        levels="1-3",
        quantity="PSNR",
        definition=RANGE_1,
    )
    slides = [
        np.mean(
            [
                skimage.metrics.peak_signal_noise_ratio(
                    planes[slide, 0].astype(float), planes[slide, level].astype(float), data_range=1
                )
                for level in (1, 2, 3)
            ]
        )
        for slide in range(3)
    ]
    assert row.per_slide == pytest.approx(slides)
    assert row.mean == pytest.approx(np.mean(slides))
    assert row.standard_error == pytest.approx(np.std(slides, ddof=1) / np.sqrt(3))
    assert row.n == 3


def test_the_other_definitions_of_psnr_are_those_of_the_metrics():
    planes = linear_planes()
    rows, _ = measured(planes)
    sharp, level_2 = planes[:, 0], planes[:, 2]
    chosen = {"estimate": "untouched input", "levels": "2", "quantity": "PSNR"}
    pooled = only(rows, **chosen, definition=POOLED)
    assert pooled.mean == pytest.approx(metrics.psnr_pooled(level_2, sharp))
    assert (pooled.standard_error, pooled.n) == (None, 3)
    paper = only(rows, **chosen, definition=EQ_7)
    assert paper.mean == pytest.approx(metrics.psnr_paper(level_2, sharp).mean())


def test_every_deblurring_number_has_its_baselines_beside_it():
    rows, _ = measured(linear_planes())
    model_rows = select(rows, estimate="deblurred", reference="ground truth")
    assert len(model_rows) == 7 * (LEVELS - 2 + 1)
    for row in model_rows:
        for name in UNTUNED:
            beside = row._asdict() | {"estimate": name}
            del beside["mean"], beside["standard_error"], beside["per_slide"]
            only(rows, **beside)


def test_padding_does_not_count():
    planes = linear_planes(slides=5)
    whole, _ = measured(planes, batch_size=5)
    padded, _ = measured(planes, batch_size=3)
    assert [row[:6] for row in whole] == [row[:6] for row in padded]
    assert {row.n for row in whole} == {row.n for row in padded} == {5}
    means = [np.array([row.mean for row in rows], float) for rows in (whole, padded)]
    np.testing.assert_allclose(*means, rtol=1e-4, atol=1e-6)


def test_one_slide_has_no_standard_error_and_can_be_shown():
    planes = linear_planes(slides=1, levels=3)
    source = StackSource("memory", 3, {"test": ["only"]}, lambda slide_id: np.zeros(0))
    read = batches_of(planes, 2)
    (rows,), contrast = measure(source, read, [predict_identity], UNTUNED, split="test")
    assert all(row.standard_error is None and row.n == 1 for row in rows)
    assert choose_slides(contrast) == ["only"]
    conditions = {
        "num_levels": 3,
        "level_spacing_um": None,
        "objective": "direct",
        "paper_channel": None,
    }
    assert "mean of 1-1" in tables.format_table(
        {
            "conditions": conditions,
            "baseline_settings": [],
            "rows": [row._asdict() for row in rows],
        }
    )


def test_a_difference_is_taken_slide_by_slide():
    """Slides that differ much, and a gain that hardly does."""
    before = make_row("", "", "", "", "", "", [10.0, 20.0, 30.0])
    after = make_row("", "", "", "", "", "", [11.0, 21.0, 32.0])
    mean, error, n = difference(after, before)
    assert (mean, n) == (pytest.approx(4 / 3), 3)
    assert error == pytest.approx(np.std([1, 1, 2], ddof=1) / np.sqrt(3))
    endless = make_row("", "", "", "", "", "", [11.0, np.inf, 32.0])
    assert not np.isfinite(difference(endless, before).mean)


def test_a_perfect_estimate_finds_every_nucleus():
    rows, _ = measured(linear_planes())
    deblurred = {"section": "deblurring", "estimate": "deblurred", "reference": "ground truth"}
    assert only(rows, **deblurred, levels="1-3", quantity="nuclei F1").mean == pytest.approx(1)
    error = only(rows, **deblurred, levels="1-3", quantity="nuclei area error")
    assert error.mean == pytest.approx(0, abs=0.01)
    assert error.per_slide is not None
