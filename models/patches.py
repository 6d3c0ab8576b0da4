"""The same few squares of every picture, so that looking at a picture costs the same whatever its size.

Knows arrays and nothing of what is measured on them.
"""

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np

SIDE = 64  # pixels of a square
MOST = 40  # squares per picture


@dataclass(frozen=True, slots=True)
class Grid:
    """Squares spread evenly over pictures of one size; all of a picture where it is small."""

    tops: tuple[int, ...]
    lefts: tuple[int, ...]
    height: int  # of a square, in pixels
    width: int

    def squares(self, plane: np.ndarray, *, scale: int) -> np.ndarray:
        """[H * scale, W * scale] -> [N, height * scale, width * scale], a copy."""
        tall, wide = self.height * scale, self.width * scale
        return np.stack([plane[y * scale : y * scale + tall, x * scale : x * scale + wide] for y in self.tops for x in self.lefts])

    def centre(self, index: int) -> tuple[int, int]:
        """Row and column of the centre of a square."""
        row, column = divmod(index, len(self.lefts))
        return self.tops[row] + self.height // 2, self.lefts[column] + self.width // 2


def grid(height: int, width: int) -> Grid:
    """Up to about MOST squares of a picture of that many pixels."""
    rows = min(ceil(height / SIDE), max(round(sqrt(MOST * height / width)), 1))
    columns = min(ceil(width / SIDE), max(MOST // rows, 1))
    return Grid(_starts(height, rows), _starts(width, columns), min(SIDE, height), min(SIDE, width))


def _starts(size: int, count: int) -> tuple[int, ...]:
    last = max(size - SIDE, 0)
    return tuple(round(last * i / (count - 1)) for i in range(count)) if count > 1 else (last // 2,)
