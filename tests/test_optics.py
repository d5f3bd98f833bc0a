import dataclasses
import pathlib

import imageio.v3 as iio
import numpy as np
import pytest
import scipy.special
import tifffile
from scipy import ndimage

from linlatent import optics

REAL = pathlib.Path(__file__).parents[1] / "../shared/data/bbbc006"
IDEAL = dataclasses.replace(optics.BBBC006, apodisation=0.0)


def radii_um(psf, objective):
    offset = (np.arange(psf.shape[0]) - psf.shape[0] // 2) * objective.pixel_size_um
    return np.hypot(offset[:, None], offset[None, :])


def encircled_radius_um(psf, objective, share):
    """Radius of the circle around the centre that holds a share of the light."""
    radius = radii_um(psf, objective).ravel()
    order = np.argsort(radius)
    return radius[order][np.searchsorted(np.cumsum(psf.ravel()[order]), share)]


@pytest.mark.parametrize("defocus_um", [0.0, 3.0, -16.0, 32.0])
def test_psf_is_a_centred_distribution_of_light(defocus_um):
    psf = optics.defocus_psf(optics.BBBC006, defocus_um)
    assert psf.shape[0] == psf.shape[1]
    assert psf.shape[0] % 2 == 1
    assert psf.dtype == np.float32
    assert psf.min() >= 0
    assert psf.sum() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(psf, psf[::-1], atol=1e-7)
    np.testing.assert_allclose(psf, psf[:, ::-1], atol=1e-7)
    np.testing.assert_allclose(psf, psf.T, atol=1e-7)


def test_width_grows_with_defocus_of_either_sign():
    for sign in (1, -1):
        widths = []
        for distance in (0, 4, 8, 16, 32):
            psf = optics.defocus_psf(optics.BBBC006, float(sign * distance))
            widths.append(np.sqrt(np.sum(psf * radii_um(psf, optics.BBBC006) ** 2)))
        # In focus the width is that of the tails; from there on, of the disc.
        assert np.all(np.diff(widths) > 0.5)


def test_the_support_holds_the_light_at_32_um():
    # Rays end at 26 µm; if light had wrapped around, the border would not be dark.
    psf = optics.defocus_psf(optics.BBBC006, 32.0)
    inside = radii_um(psf, optics.BBBC006) <= optics.ray_radius_um(optics.BBBC006, 32.0)
    assert psf[inside].sum() > 0.98
    assert psf[0].max() < 5e-3 * psf.max()


def test_in_focus_it_is_the_airy_pattern():
    fine = dataclasses.replace(IDEAL, pixel_size_um=0.03)
    psf = optics.defocus_psf(fine, 0.0, oversampling=1)
    radius = radii_um(psf, fine)
    v = 2 * np.pi * fine.numerical_aperture / fine.wavelength_um * np.maximum(radius, 1e-9)
    airy = (2 * scipy.special.j1(v) / v) ** 2
    near = radius < 2  # to beyond the third dark ring
    np.testing.assert_allclose((psf / psf.max())[near], airy[near], atol=2e-3)

    profile = psf[psf.shape[0] // 2] / psf.max()
    position = radius[psf.shape[0] // 2]
    outwards = slice(psf.shape[0] // 2, psf.shape[0] // 2 + 20)
    half_width = np.interp(-0.5, -profile[outwards], position[outwards])
    expected = 0.514 * fine.wavelength_um / fine.numerical_aperture
    assert 2 * half_width == pytest.approx(expected, rel=0.01)


def test_far_from_focus_it_fills_the_geometric_disc():
    radius = optics.ray_radius_um(IDEAL, 32.0)
    assert radius == pytest.approx(32 * np.tan(np.arcsin(IDEAL.numerical_aperture)), rel=1e-3)
    psf = optics.defocus_psf(IDEAL, 32.0)
    assert encircled_radius_um(psf, IDEAL, 0.98) == pytest.approx(radius, rel=0.05)


def test_spherical_aberration_alone_spreads_rays_by_its_slope():
    aberrated = dataclasses.replace(IDEAL, spherical_aberration_waves=3.0)
    expected = 4 * 3.0 * IDEAL.wavelength_um / IDEAL.numerical_aperture
    assert optics.ray_radius_um(aberrated, 0.0) == pytest.approx(expected, rel=1e-3)


def test_without_spherical_aberration_both_sides_of_focus_look_alike():
    np.testing.assert_allclose(
        optics.defocus_psf(optics.BBBC006, 12.0),
        optics.defocus_psf(optics.BBBC006, -12.0),
        atol=1e-8,
    )
    aberrated = dataclasses.replace(optics.BBBC006, spherical_aberration_waves=1.0)
    above = encircled_radius_um(optics.defocus_psf(aberrated, 12.0), aberrated, 0.5)
    below = encircled_radius_um(optics.defocus_psf(aberrated, -12.0), aberrated, 0.5)
    assert abs(above - below) > 0.5


def test_apodisation_gathers_the_blurred_light():
    ideal, apodised = (
        encircled_radius_um(optics.defocus_psf(o, 24.0), o, 0.5) for o in (IDEAL, optics.BBBC006)
    )
    assert apodised < 0.95 * ideal


@pytest.mark.parametrize("defocus_um", [0.0, 10.0])
def test_oversampling_converges(defocus_um):
    finest = optics.defocus_psf(optics.BBBC006, defocus_um, oversampling=13)
    errors = [
        np.abs(optics.defocus_psf(optics.BBBC006, defocus_um, oversampling=n) - finest).sum()
        for n in (1, 3, 5)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.05


def test_blur_of_a_point_is_the_psf():
    psf = optics.defocus_psf(optics.BBBC006, 8.0)
    half = psf.shape[0] // 2
    image = np.zeros((121, 140), np.uint16)
    image[60, 70] = 1000
    blurred = optics.blur(image, psf)
    assert blurred.dtype == np.float32
    np.testing.assert_allclose(
        blurred[60 - half : 61 + half, 70 - half : 71 + half], 1000 * psf, atol=1e-3
    )


def test_blur_agrees_with_direct_convolution_and_keeps_a_flat_image():
    image = np.random.default_rng(0).uniform(100, 900, (40, 52)).astype(np.float32)
    psf = optics.defocus_psf(optics.BBBC006, 6.0)
    expected = ndimage.convolve(image.astype(np.float64), psf.astype(np.float64), mode="nearest")
    np.testing.assert_allclose(optics.blur(image, psf), expected, rtol=1e-4)
    np.testing.assert_allclose(optics.blur(np.full((40, 52), 7.0), psf), 7.0, rtol=1e-5)


def test_camera_noise_has_the_moments_of_its_parts():
    camera = optics.Camera(offset_counts=100, counts_per_photon=0.5, read_noise_counts=3)
    counts = camera.expose(np.full((500, 500), 400.0), np.random.default_rng(1)).astype(float)
    assert counts.mean() == pytest.approx(100 + 0.5 * 400, abs=0.1)
    # Shot noise, read noise and rounding.
    assert counts.var() == pytest.approx(0.5**2 * 400 + 3**2 + 1 / 12, rel=0.02)

    photon_counter = optics.Camera(offset_counts=0, counts_per_photon=1, read_noise_counts=0)
    counts = photon_counter.expose(np.full((500, 500), 50.0), np.random.default_rng(2)).astype(
        float
    )
    assert counts.mean() == pytest.approx(50, rel=0.01)
    assert counts.var() == pytest.approx(counts.mean(), rel=0.02)


def test_camera_saturates_at_16_bits_and_repeats_with_its_generator():
    camera = optics.Camera()
    bright = camera.expose(np.full((2, 2), 1e6), np.random.default_rng(0))
    assert bright.dtype == np.uint16
    assert np.all(bright == 65535)
    light = np.full((8, 8), 30.0)
    np.testing.assert_array_equal(
        camera.expose(light, np.random.default_rng(5)),
        camera.expose(light, np.random.default_rng(5)),
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: dataclasses.replace(IDEAL, numerical_aperture=1.2), "refractive index 1.0, got 1"),
        (lambda: dataclasses.replace(IDEAL, pixel_size_um=0), "pixel_size_um must be positive"),
        (lambda: dataclasses.replace(IDEAL, wavelength_um=-1), "wavelength_um must be positive"),
        (lambda: dataclasses.replace(IDEAL, apodisation=-0.1), "apodisation must not be negative"),
        (lambda: optics.defocus_psf(IDEAL, 0.0, oversampling=4), "odd number, got 4"),
        (lambda: optics.transfer_function(np.ones((9, 9)), (8, 16)), "does not fit"),
        (lambda: optics.Camera().expose(np.array([-1.0]), np.random.default_rng(0)), "negative"),
        (lambda: optics.Camera().expose(np.array([np.nan]), np.random.default_rng(0)), "finite"),
    ],
)
def test_impossible_values_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def affine_fit(model, observed):
    """Scale, offset and explained variance of ``observed ~ scale * model + offset``."""
    scale, offset = np.polyfit(model.ravel(), observed.ravel(), 1)
    residual = observed - (scale * model + offset)
    return scale, offset, 1 - residual.var() / observed.var()


@pytest.mark.skipif(not REAL.is_dir(), reason="needs the real frames of ../shared/data/bbbc006")
def test_the_preset_explains_the_real_pair():
    sharp = iio.imread(REAL / "in_focus" / "a01_s1_w1.png").astype(np.float64)
    (path,) = (REAL / "BBBC006_v1_images_z_00").glob("*_a01_s1_w1*.tif")
    observed = tifffile.imread(path).astype(np.float64)
    offset_counts = optics.Camera().offset_counts

    model = optics.blur(sharp - offset_counts, optics.defocus_psf(optics.BBBC006, 32.0))
    scale, offset, explained = affine_fit(model.astype(np.float64), observed)
    print(f"explained variance {explained:.4f}, scale {scale:.3f}, offset {offset:.1f} counts")
    assert explained >= 0.985
    assert scale == pytest.approx(1, abs=0.05)
    assert offset == pytest.approx(offset_counts, abs=5)

    gaussian = ndimage.gaussian_filter(sharp - offset_counts, 18, mode="nearest")
    assert explained > affine_fit(gaussian, observed)[2]
    # Neither without blur nor at half the distance: the test can tell.
    assert affine_fit(sharp, observed)[2] < 0.6
    halfway = optics.blur(sharp - offset_counts, optics.defocus_psf(optics.BBBC006, 16.0))
    assert affine_fit(halfway.astype(np.float64), observed)[2] < 0.96
