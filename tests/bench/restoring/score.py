"""How near a restored clip is to what it was made from: PSNR, SSIM, flicker. All take uint8 [T, H, W, 3], RGB.

Written out here, in twenty lines, so that a reader sees which of the many definitions is meant.
"""

import numpy as np

SAME_DB = 100.0  # what identical frames count as
WINDOW, SIGMA = 11, 1.5  # of SSIM
K1, K2, PEAK = 0.01, 0.03, 255.0
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # BT.601, full range


def luma(frames: np.ndarray) -> np.ndarray:
    """float32 [T, H, W], 0..255."""
    return frames.astype(np.float32) @ LUMA


def rgb_psnr(found: np.ndarray, expected: np.ndarray) -> float:
    """dB over all three channels of a frame, averaged over the frames; how papers on colour denoising count."""
    return _psnr(found.astype(np.float32), expected.astype(np.float32))


def luma_psnr(found: np.ndarray, expected: np.ndarray) -> float:
    """dB of luma, averaged over the frames; how papers on upscaling count."""
    return _psnr(luma(found), luma(expected))


def _psnr(found: np.ndarray, expected: np.ndarray) -> float:
    errors = ((found - expected) ** 2).reshape(len(found), -1).mean(axis=1, dtype=np.float64)
    return float(np.minimum(10 * np.log10(PEAK**2 / np.maximum(errors, 1e-12)), SAME_DB).mean())


def ssim(found: np.ndarray, expected: np.ndarray) -> float:
    """Structural similarity of luma, averaged over frames; windows that leave the frame do not count.

    Source: Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment", IEEE TIP 13(4), 2004: 11x11 gaussian window of sigma 1.5.
    """
    return float(np.mean([_ssim(one, other) for one, other in zip(luma(found), luma(expected), strict=True)]))


def _ssim(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one.astype(np.float64), other.astype(np.float64)
    mean_1, mean_2 = _smooth(one), _smooth(other)
    variance_1, variance_2 = _smooth(one * one) - mean_1**2, _smooth(other * other) - mean_2**2
    covariance = _smooth(one * other) - mean_1 * mean_2
    c1, c2 = (K1 * PEAK) ** 2, (K2 * PEAK) ** 2
    likeness = (2 * mean_1 * mean_2 + c1) * (2 * covariance + c2)
    return float((likeness / ((mean_1**2 + mean_2**2 + c1) * (variance_1 + variance_2 + c2))).mean())


def _smooth(plane: np.ndarray) -> np.ndarray:
    weights = np.exp(-((np.arange(WINDOW) - WINDOW // 2) ** 2) / (2 * SIGMA**2))
    weights /= weights.sum()
    rows = sum(weight * plane[k : len(plane) - WINDOW + 1 + k] for k, weight in enumerate(weights))
    return np.asarray(sum(weight * rows[:, k : rows.shape[1] - WINDOW + 1 + k] for k, weight in enumerate(weights)))


def flicker(found: np.ndarray, expected: np.ndarray) -> float:
    """How much luma's error changes from frame to frame, in 8-bit steps: mean |(found_t - expected_t) - (found_t-1 - expected_t-1)|."""
    return float(np.abs(np.diff(luma(found) - luma(expected), axis=0)).mean())
