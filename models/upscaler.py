"""A compact x2 upscaler: one picture in, one of twice the size out. Plain torch; knows no video.

picture --> convolutions at its own size --> four pixels for each, as a correction of the pixel repeated
"""

from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pixel_shuffle

from models.denoiser import LEAK, MEAN, SPREAD, Block

SCALE = 2
WIDTH = 48
BLOCKS = 6
REACH = 16  # pixels of the input around a pixel that can change it


class Upscaler(nn.Module):
    """Doubles a picture's size."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(3, WIDTH, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(WIDTH) for _ in range(BLOCKS)))
        self.leave = nn.Conv2d(WIDTH, 3 * SCALE**2, 3, padding=1)

    def forward(self, rgb: Tensor) -> Tensor:
        """Double the size.

        Args:
            rgb: float [B, 3, H, W], 0..1.

        Returns:
            float [B, 3, 2H, 2W], not clamped.
        """
        left = self.leave(leaky_relu(self.blocks(self.enter((rgb - MEAN) / SPREAD)), LEAK))
        repeated = rgb.repeat_interleave(SCALE**2, dim=1)
        return pixel_shuffle(repeated + left.to(rgb.dtype) * SPREAD, SCALE)
