"""How noisy luma is, from itself alone.

    luma * [[1 -2 1] [-2 4 -2] [1 -2 1]] -> mean magnitude in every block -> that of the quieter blocks -> sigma

The mask is blind to flat areas, slopes and edges: J. Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64 (1996).
Texture it sees, so only the more homogeneous blocks count: A. Amer and E. Dubois, "Fast and reliable structure-oriented video noise estimation",
IEEE Transactions on Circuits and Systems for Video Technology 15 (2005). Blocks at black or white are clipped, tell nothing and are left out.
Knows arrays and nothing of videos.
"""

from math import pi, sqrt

import numpy as np

BLOCK = 14  # pixels of a side
QUIETER = 0.25  # quantile of the blocks
OF_MEAN = 0.933  # that quantile of white noise, in its mean (tests/models/test_noise.py measures it)
CLIPPED = (20.0, 231.0)  # mean luma beyond which noise of any strength is cut off


def noise_sigma(patches: np.ndarray) -> float | None:
    """Standard deviation of the noise in 8-bit steps; None where everything is clipped or too small to tell.

    Args:
        patches: float32 [N, H, W], luma 0..255.
    """
    rows = patches[:, :-2] - 2 * patches[:, 1:-1] + patches[:, 2:]
    response = np.abs(rows[..., :-2] - 2 * rows[..., 1:-1] + rows[..., 2:])
    level = block_means(patches[:, 1:-1, 1:-1], BLOCK)
    quiet = block_means(response, BLOCK)[(level > CLIPPED[0]) & (level < CLIPPED[1])]
    return float(np.quantile(quiet, QUIETER)) * sqrt(pi / 2) / 6 / OF_MEAN if quiet.size else None


def block_means(patches: np.ndarray, side: int) -> np.ndarray:
    """[N, H, W] -> [N, H // side, W // side]; what is left over at the right and the bottom is left out."""
    count, height, width = patches.shape
    rows, columns = height // side, width // side
    blocks = patches[:, : rows * side, : columns * side].reshape(count, rows, side, columns, side)
    means: np.ndarray = blocks.mean((2, 4))
    return means
