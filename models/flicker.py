"""How much what stands still changes from picture to picture.

    |x[t-1] - 2 x[t] + x[t+1]|, mean over blocks that stand still in the source, before and after

Blocks that stand still, chosen in the source alone: X. Fan, W. Gao, Y. Lu and D. Zhao, "Flicking reduction in all intra frame coding", JVT-E070
(2002). The second difference leaves out slow change of light, which is no flicker. White noise of sigma s gives 1.95 s (sqrt(6) * sqrt(2 / pi)).
Knows arrays and nothing of videos.
"""

from collections import deque
from math import sqrt

import numpy as np

from models.noise import block_means

BLOCK = 8  # pixels of a side
STILL = 2.0  # 8-bit steps a block's mean may change from picture to picture, beside what its noise explains
DEVIATIONS = 3.0  # of the noise


class Flicker:
    """Streaming; remembers two pictures."""

    def __init__(self) -> None:
        self._recent: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=2)
        self._sums = np.zeros(2)
        self._blocks = 0

    def add(self, before: np.ndarray, after: np.ndarray, *, noise: float) -> None:
        """Add the next picture.

        Args:
            before: float32 [N, H, W] squares of the source's luma, 0..255.
            after: the same squares of what was made of it, on the source's grid.
            noise: sigma of the source.
        """
        if len(self._recent) == 2:
            (first, first_after), (second, second_after) = self._recent
            earlier, later = second - first, before - second
            limit = STILL + DEVIATIONS * noise * sqrt(2) / BLOCK
            still = (np.abs(block_means(earlier, BLOCK)) < limit) & (np.abs(block_means(later, BLOCK)) < limit)
            for i, change in enumerate((later - earlier, after - 2 * second_after + first_after)):
                self._sums[i] += block_means(np.abs(change), BLOCK)[still].sum(dtype=np.float64)
            self._blocks += int(still.sum())
        self._recent.append((before, after))

    @property
    def before(self) -> float | None:
        """Of the source, in 8-bit steps; None where nothing stood still for three pictures."""
        return float(self._sums[0]) / self._blocks if self._blocks else None

    @property
    def after(self) -> float | None:
        """Of what was made of it."""
        return float(self._sums[1]) / self._blocks if self._blocks else None
