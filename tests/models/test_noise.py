"""The noise of real frames is found, whatever is on them."""

import numpy as np
import pytest

from models.noise import noise_sigma


def noisy(luma: np.ndarray, sigma: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, sigma, luma.shape)
    return np.clip(np.round(luma + noise), 0, 255).astype(np.float32)[None]


@pytest.mark.parametrize("sigma", [2, 5, 15, 25, 50])
def test_white_noise_on_grey_is_found(sigma):
    found = noise_sigma(noisy(np.full((512, 512), 120.0), sigma))
    assert abs(found - sigma) < 0.02 * sigma + 0.05


@pytest.mark.parametrize(("sigma", "least", "most"), [(0, 0, 1.2), (5, 4.7, 5.6), (15, 14, 15.6), (25, 22.5, 25.5)])
def test_noise_on_real_frames_is_found_and_texture_is_not(films, sigma, least, most):
    for frames in films.values():
        for frame in frames[1::2]:
            luma = frame @ np.array([0.299, 0.587, 0.114])
            assert least <= noise_sigma(noisy(luma, sigma)) <= most


def test_bars_of_black_do_not_hide_the_noise():
    luma = np.full((256, 256), 120.0)
    luma[:100] = 16
    found = noise_sigma(np.where(luma == 16, np.float32(16), noisy(luma, 10)[0])[None])
    assert 9.5 < found < 10.5


@pytest.mark.parametrize("patches", [np.full((1, 64, 64), 16.0), np.full((2, 64, 64), 255.0), np.full((1, 8, 64), 120.0), np.full((1, 1, 1), 120.0)])
def test_what_does_not_tell_is_none(patches):
    assert noise_sigma(patches.astype(np.float32)) is None
