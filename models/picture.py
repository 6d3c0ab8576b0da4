"""A video picture as restoration sees it: the three planes as they were decoded, never through 8-bit RGB.

Knows shapes and types, nothing of codecs or networks.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

Chroma = Literal["420", "422", "444"]
Matrix = Literal["bt601", "bt709", "bt2020"]


@dataclass(frozen=True, slots=True)
class PictureFormat:
    """What all pictures of one clip share."""

    width: int  # pixels as stored, before rotation
    height: int
    bits: Literal[8, 10]
    chroma: Chroma
    matrix: Matrix
    full_range: bool

    @property
    def chroma_shape(self) -> tuple[int, int]:
        """Height and width of the u and v planes; odd sizes round up."""
        down_y, down_x = {"420": (2, 2), "422": (1, 2), "444": (1, 1)}[self.chroma]
        return -(-self.height // down_y), -(-self.width // down_x)


@dataclass(frozen=True, slots=True)
class Picture:
    """One decoded picture."""

    planes: tuple[np.ndarray, np.ndarray, np.ndarray]  # y, u, v; uint8, or uint16 for 10 bits; [H, W] and twice PictureFormat.chroma_shape
    pts: int  # in the clip's time base
