import pathlib

import numpy as np
import pytest
import skimage.metrics

from linlatent import metrics

REFERENCE = np.load(pathlib.Path(__file__).parent / "fixtures" / "reference_metrics.npz")
"""Numbers of the paper's published implementation."""


def images(shape=(3, 2, 16, 24, 1), seed=0):
    return np.random.default_rng(seed).uniform(size=shape).astype(np.float32)


def straight_path(slides=2, levels=5, shape=(2, 2, 3)):
    rng = np.random.default_rng(1)
    start, step = rng.normal(size=(2, slides, 1, *shape))
    return start + step * np.arange(levels).reshape(levels, 1, 1, 1)


@pytest.mark.parametrize("lds", [metrics.lds_paper, metrics.lds_published])
def test_lds_of_collinear_latents_is_1(lds):
    np.testing.assert_allclose(lds(straight_path()), [1, 1], rtol=1e-12)


@pytest.mark.parametrize("apd", [metrics.apd_paper, metrics.apd_published])
def test_apd_of_equidistant_collinear_latents_is_0(apd):
    np.testing.assert_allclose(apd(straight_path()), [0, 0], atol=1e-12)


def test_only_the_papers_lds_sees_a_path_turn_back():
    there_and_back = np.array([[[0.0, 0], [1, 1], [0, 0], [1, 1]]])
    np.testing.assert_allclose(metrics.lds_paper(there_and_back), [-1])
    np.testing.assert_allclose(metrics.lds_published(there_and_back), [1])


@pytest.mark.parametrize("measure", [metrics.lds_paper, metrics.apd_paper, metrics.apd_published])
def test_linearity_does_not_depend_on_scale_or_place(measure):
    latents = REFERENCE["latents"].astype(np.float64)
    np.testing.assert_allclose(measure(3 * latents + 5), measure(latents), rtol=1e-9)


def test_apd_of_uneven_steps_by_hand():
    # Steps of 1 and 3 on a line of length 4: both are 1 away from 2, a quarter of the line; their
    # squares 1 and 9 are 3 and 5 away from 4, of 16.
    uneven = np.array([[[0.0], [1], [4]]])
    np.testing.assert_allclose(metrics.apd_paper(uneven), [0.25])
    np.testing.assert_allclose(metrics.apd_published(uneven), [(3 + 5) / 2 / 16])


def test_a_path_that_does_not_move_has_no_direction():
    still = np.ones((1, 4, 3))
    for measure in (metrics.lds_paper, metrics.lds_published):
        assert np.isnan(measure(still)).all()
    for measure in (metrics.apd_paper, metrics.apd_published):
        assert np.isnan(measure(still)).all()


@pytest.mark.parametrize(
    ("measure", "key"),
    [
        (metrics.lds_paper, "lds_paper_eq5"),
        (metrics.lds_published, "lds_published_code"),
        (metrics.apd_paper, "apd_paper_eq6"),
        (metrics.apd_published, "apd_published_code"),
    ],
)
def test_linearity_agrees_with_the_reference(measure, key):
    np.testing.assert_allclose(measure(REFERENCE["latents"]).mean(), REFERENCE[key], rtol=1e-5)


def test_the_references_path_is_the_straight_line_between_the_end_points():
    """`apd_*` take it from the end points, instead of as an argument."""
    latents = REFERENCE["latents"]
    weights = np.linspace(0, 1, latents.shape[1])[:, None]
    line = (1 - weights) * latents[:, :1] + weights * latents[:, -1:]
    np.testing.assert_allclose(line, REFERENCE["interpolated"], atol=1e-5)


def test_psnr_agrees_with_the_reference():
    target = np.moveaxis(REFERENCE["psnr_target"], 1, -1)
    image = np.moveaxis(REFERENCE["psnr_pred"], 1, -1)
    per_image = metrics.psnr(image, target, data_range=1.0)
    np.testing.assert_allclose(per_image, REFERENCE["psnr_range1_per_image"], rtol=1e-5)
    paper = metrics.psnr_paper(image, target)
    np.testing.assert_allclose(paper, REFERENCE["psnr_paper_eq7_per_image"], rtol=1e-5)
    pooled = metrics.psnr_pooled(image, target)
    np.testing.assert_allclose(pooled, REFERENCE["psnr_published_code"], rtol=1e-5)


def test_psnr_and_ssim_agree_with_scikit_image():
    image, reference = images(seed=0), images(seed=1)
    psnr = metrics.psnr(image, reference, data_range=4.0)
    ssim = metrics.ssim(image, reference)
    assert psnr.shape == ssim.shape == (3, 2)
    x, y = image[2, 1, ..., 0].astype(float), reference[2, 1, ..., 0].astype(float)
    expected = skimage.metrics.peak_signal_noise_ratio(y, x, data_range=4.0)
    np.testing.assert_allclose(psnr[2, 1], expected)
    expected = skimage.metrics.structural_similarity(
        x, y, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0
    )
    np.testing.assert_allclose(ssim[2, 1], expected)


def test_affine_psnr_does_not_see_the_unit_of_intensity():
    image, reference = images(seed=0), images(seed=1)
    image = 0.3 * image + 0.7 * reference
    expected = metrics.psnr_affine(image, reference, data_range=1.0)
    for scale, offset in ((0.1, 0.3), (1.0, -2.0), (40.0, 7.0)):
        other = scale * image.astype(float) + offset
        found = metrics.psnr_affine(other, reference, data_range=1.0)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert np.all(expected >= metrics.psnr(image, reference, data_range=1.0))
    shifted = metrics.psnr_affine(0.5 * reference + 0.2, reference, data_range=1.0)
    assert np.all(shifted > 100)


def test_affine_fit_is_least_squares():
    image, reference = images(seed=0), images(seed=1) + 0.5 * images(seed=0)
    gain, offset = metrics.affine_fit(image, reference)
    assert gain.shape == offset.shape == (3, 2)
    expected = np.polyfit(image[2, 1].ravel().astype(float), reference[2, 1].ravel(), 1)
    np.testing.assert_allclose((gain[2, 1], offset[2, 1]), expected, rtol=1e-6)


@pytest.mark.parametrize("image", [np.full((16, 16, 1), 0.1), -images((16, 16, 1))])
def test_a_flat_or_inverted_image_is_as_good_as_the_mean(image):
    reference = images((16, 16, 1))
    assert metrics.affine_fit(image, reference) == (0, pytest.approx(reference.mean()))
    psnr = metrics.psnr_affine(image, reference, data_range=1.0)
    np.testing.assert_allclose(psnr, -10 * np.log10(reference.astype(float).var()))


def test_identical_images():
    image = images()
    assert np.all(np.isposinf(metrics.psnr(image, image, data_range=1.0)))
    assert np.all(metrics.psnr_affine(image, image, data_range=1.0) > 200)
    np.testing.assert_allclose(metrics.ssim(image, image), np.ones((3, 2)))


def test_a_black_target_has_no_range_of_its_own():
    black = np.zeros((2, 16, 16, 1))
    black[1] = 0.5
    psnr = metrics.psnr_paper(black + 0.1, black)
    assert np.isnan(psnr[0])
    np.testing.assert_allclose(psnr[1], 20 * np.log10(5))


def test_pooling_is_not_the_mean_of_decibels():
    reference = np.ones((2, 12, 12, 1))
    image = reference + np.array([0.1, 0.3]).reshape(2, 1, 1, 1)
    np.testing.assert_allclose(metrics.psnr_pooled(image, reference), -10 * np.log10(0.05))


def test_summary_by_hand():
    assert metrics.summarise([1, 2, 3, 4]) == (2.5, pytest.approx(np.sqrt(5 / 3) / 2), 4)


def test_one_example_has_no_standard_error():
    mean, error, n = metrics.summarise([7])
    assert (mean, n) == (7, 1)
    assert np.isnan(error)


@pytest.mark.parametrize("data_range", [0, -1, np.nan])
def test_psnr_refuses_an_impossible_range(data_range):
    with pytest.raises(ValueError, match="data_range must be positive"):
        metrics.psnr(images(), images(), data_range=data_range)


@pytest.mark.parametrize(
    ("image", "reference"), [((2, 8, 8, 1), (1, 8, 8, 1)), ((2, 8, 8), (2, 8, 8))]
)
def test_psnr_refuses_shapes_that_do_not_fit(image, reference):
    with pytest.raises(ValueError, match=r"shape \(\.\.\., H, W, 1\)"):
        metrics.psnr(np.zeros(image), np.zeros(reference), data_range=1.0)


def test_linearity_refuses_two_levels():
    with pytest.raises(ValueError, match=r"at least 3 levels, got \(3, 2, 5\)"):
        metrics.lds_paper(np.zeros((3, 2, 5)))


def test_a_summary_refuses_nothing():
    with pytest.raises(ValueError, match="non-empty"):
        metrics.summarise([])
