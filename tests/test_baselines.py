"""What deblurring is compared with does its best."""

import numpy as np
import pytest
from scipy import ndimage

from linlatent import latent, metrics, optics
from linlatent.evaluation import baselines, deconvolution

SIZE = 64
SIGMAS = (0.0, 2.0, 4.0, 6.0)
"""Of the Gaussian that blurs each level, in pixels."""
GAUSSIAN = ("Wiener, Gaussian PSF", "Richardson-Lucy, Gaussian PSF")
TRUE = ("Wiener, true PSF", "Richardson-Lucy, true PSF")


def blobs(size=SIZE, seed=0):
    """Spots of some pixels on a dark background, in [0, 1]."""
    points = np.random.default_rng(seed).random((size, size)) > 0.99
    image = ndimage.gaussian_filter(points.astype(np.float32), 1.5, mode="nearest")
    return image / image.max()


def stacks(number=2, noise=0.005, first=0):
    """Blobs blurred by Gaussians, each plane normalised by itself, ``(number, L, S, S, 1)``."""
    rng = np.random.default_rng(first)
    planes = np.empty((number, len(SIGMAS), SIZE, SIZE, 1), np.float32)
    for index in range(number):
        # The surroundings blur into the crop.
        sharp = blobs(SIZE + 48, seed=first + index)
        for level, sigma in enumerate(SIGMAS):
            plane = ndimage.gaussian_filter(sharp, sigma)[24:-24, 24:-24]
            plane = plane + noise * plane.max() * rng.standard_normal(plane.shape)
            planes[index, level, ..., 0] = (plane - plane.min()) / np.ptp(plane)
    return planes


def true_psfs():
    return [np.ones((1, 1), np.float32), *map(deconvolution.gaussian_psf, SIGMAS[1:])]


@pytest.fixture(scope="module")
def tuned():
    return baselines.tuned(stacks(), true_psfs())


def psnr(estimate, planes):
    return metrics.psnr(estimate, planes[:, 0], data_range=1.0).mean()


def test_those_without_settings():
    sharp, blurry = np.random.default_rng(0).uniform(size=(2, 3, 16, 16, 1)).astype(np.float32)
    planes = np.stack(
        [sharp, *(latent.interpolate(sharp, blurry, alpha) for alpha in (0.75, 0.5, 0.25)), blurry],
        axis=1,
    )
    for level in (1, 2, 3):
        np.testing.assert_array_equal(baselines.untouched(planes, level), planes[:, level])
        extrapolated = baselines.pixel_extrapolation(planes, level)
        np.testing.assert_allclose(extrapolated, sharp, atol=1e-5)
    planes[:, 1] = sharp + (sharp - blurry)
    beyond = baselines.pixel_extrapolation(planes, 1)
    assert beyond.min() == 0
    assert beyond.max() == 1


@pytest.mark.parametrize("sigma", [0.5, 1.0, 3.3])
def test_a_gaussian_psf_is_what_a_point_becomes(sigma):
    psf = deconvolution.gaussian_psf(sigma)
    assert psf.dtype == np.float32
    assert psf.sum() == pytest.approx(1)
    point = np.zeros_like(psf, float)
    point[psf.shape[0] // 2, psf.shape[1] // 2] = 1
    np.testing.assert_allclose(
        psf, ndimage.gaussian_filter(point, sigma, truncate=3.1), atol=5e-3 * psf.max()
    )


@pytest.mark.parametrize(
    ("restore", "settings"),
    [
        (deconvolution.wiener, {"balance": 1e-3}),
        (deconvolution.richardson_lucy, {"iterations": 100}),
    ],
)
def test_deconvolution_with_the_true_psf_undoes_blur(restore, settings):
    sharp = blobs()
    psf = optics.defocus_psf(optics.BBBC006, 6.0)
    blurred = optics.blur(sharp, psf)
    restored = restore(blurred, psf, **settings)
    assert restored.shape == sharp.shape
    assert restored.dtype == np.float32
    assert np.mean((restored - sharp) ** 2) < 0.6 * np.mean((blurred - sharp) ** 2)


@pytest.mark.parametrize(
    ("restore", "settings"),
    [
        (deconvolution.wiener, {"balance": 1e-2}),
        (deconvolution.richardson_lucy, {"iterations": 10}),
    ],
)
def test_deconvolution_does_not_ring_at_borders(restore, settings):
    """A ramp that ends in the middle of nowhere stays one."""
    ramp = np.tile(np.linspace(0.2, 0.8, 64, dtype=np.float32), (64, 1))
    restored = restore(ramp, deconvolution.gaussian_psf(3.0), **settings)
    assert np.abs(restored - ramp).max() < 0.15
    assert np.abs(restored - ramp)[:, 16:-16].max() < 0.02


def test_a_dark_image_stays_finite():
    dark = np.zeros((32, 32), np.float32)
    psf = deconvolution.gaussian_psf(2.0)
    for restored in (
        deconvolution.richardson_lucy(dark, psf, iterations=5),
        deconvolution.wiener(dark, psf, balance=0.1),
    ):
        np.testing.assert_allclose(restored, 0, atol=1e-6)


def test_every_baseline_keeps_to_its_contract(tuned):
    found, _ = tuned
    planes = stacks(number=3, first=10)
    assert list(found) == [*baselines.UNTUNED, "unsharp mask", *GAUSSIAN, *TRUE]
    for estimate in found.values():
        for level in (1, 2):
            sharp = estimate(planes, level)
            assert sharp.shape == planes[:, 0].shape
            assert sharp.dtype == np.float32
            assert sharp.min() >= 0
            assert sharp.max() <= 1


def test_tuned_baselines_beat_the_untouched_input_on_other_slides(tuned):
    found, _ = tuned
    planes = stacks(number=3, first=10)
    for level in (1, 2):
        untouched = psnr(found["untouched input"](planes, level), planes)
        for name in ("unsharp mask", *GAUSSIAN, *TRUE):
            assert psnr(found[name](planes, level), planes) > untouched + 1, name


def test_tuning_finds_the_width_of_the_blur(tuned):
    _, choices = tuned
    widths = {
        (choice.baseline, choice.level): choice.settings["sigma_pixels"]
        for choice in choices
        if choice.baseline in GAUSSIAN
    }
    assert len(widths) == 4
    for (_, level), width in widths.items():
        assert SIGMAS[level] / 1.5 < width < SIGMAS[level] * 1.5


def test_what_was_chosen_is_the_best_of_its_kind(tuned):
    """The PSNR of a choice is that of its baseline, and no other tried width has a higher one."""
    found, choices = tuned
    planes = stacks()
    for choice in choices:
        estimate = found[choice.baseline](planes, choice.level)
        assert choice.psnr == pytest.approx(psnr(estimate, planes), abs=1e-3)
    (chosen,) = (
        choice for choice in choices if choice.baseline == GAUSSIAN[0] and choice.level == 1
    )
    sharp = planes[:, 0]
    for sigma in (1.0, 2.0, 4.0):
        settings = chosen.settings | {"sigma_pixels": sigma}
        images = [
            deconvolution.wiener(
                image,
                deconvolution.gaussian_psf(settings["sigma_pixels"]),
                balance=settings["balance"],
            )
            for image in planes[:, 1, ..., 0]
        ]
        gain, offset = np.polyfit(np.ravel(images), sharp.ravel(), 1)
        corrected = np.clip(gain * np.stack(images)[..., None] + offset, 0, 1)
        assert psnr(corrected, planes) <= chosen.psnr + 1e-3


def test_the_gain_makes_up_for_the_normalisation_of_planes(tuned):
    """Blur lowers the maximum that a plane is divided by."""
    _, choices = tuned
    gains = {
        choice.level: choice.gain for choice in choices if choice.baseline == "Wiener, true PSF"
    }
    assert gains[2] < gains[1] < 1


def test_the_true_psf_is_no_worse_than_a_gaussian_of_about_its_width(tuned):
    _, choices = tuned
    reached = {(choice.baseline, choice.level): choice.psnr for choice in choices}
    for gaussian, true in zip(GAUSSIAN, TRUE, strict=True):
        for level in (1, 2):
            assert reached[true, level] > reached[gaussian, level] - 0.5


def test_a_sharp_plane_has_a_psf_of_its_own():
    """What is deconvolved with the whole PSF is as sharp as the sharp plane, and no sharper."""
    sample = blobs(SIZE + 64)
    psfs = [deconvolution.gaussian_psf(sigma) for sigma in (2.0, 4.0, 5.0)]
    planes = np.stack([optics.blur(sample, psf)[32:-32, 32:-32] for psf in psfs])[None, ..., None]
    found, _ = baselines.tuned(planes, psfs)
    wiener, richardson_lucy = (psnr(found[name](planes, 1), planes) for name in TRUE)
    assert wiener > psnr(planes[:, 1], planes) + 5
    assert richardson_lucy > psnr(planes[:, 1], planes) + 2


def test_without_psfs_there_are_gaussians_alone():
    found, choices = baselines.tuned(stacks(number=1)[:, :3, :32, :32], None)
    assert list(found) == [*baselines.UNTUNED, "unsharp mask", *GAUSSIAN]
    assert {choice.level for choice in choices} == {1}
    assert max(choice.settings.get("sigma_pixels", 0) for choice in choices) <= 4


def test_black_slides_do_not_break_tuning():
    planes = stacks(number=2)[:, :3]
    planes[0] = 0
    _, choices = baselines.tuned(planes, true_psfs())
    assert all(np.isfinite(choice.psnr) for choice in choices)
