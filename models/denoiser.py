"""A blind temporal denoiser: the picture now, the two after it and a memory of all before; the clean picture out.

    next two frames --+
    this frame -------+--> U-Net at half, quarter and eighth size --> correction + this frame = clean frame
    state ------------+                                          \\--> state: the clean frame and hidden features

No noise level is given: it is seen in the frames. The memory averages what stands still over as many frames as there were, at the
cost of one picture. Plain torch; knows no video.
"""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, pixel_shuffle, pixel_unshuffle

AHEAD = 2  # frames after this one that are looked at
STRIDE = 8  # sides must be multiples of it
REACH = 112  # pixels around a pixel that can change it within one step, a multiple of STRIDE
HIDDEN = 28
MEAN, SPREAD = 0.5, 0.25  # of RGB; what goes in is of the order of one, as weights and rates are made for
WIDTHS = (48, 80, 112)
LEAK = 0.1  # with plain ReLUs nearly all units of the lower levels died in the first thousand steps


class Block(nn.Module):
    """Two convolutions beside a skip; the block begins as little."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.kaiming_normal_(self.first.weight, LEAK)
        nn.init.normal_(self.second.weight, std=0.5 / (3 * width**0.5))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, x + self.second(leaky_relu(self.first(x), LEAK, inplace=True)))


class Up(nn.Module):
    """Twice the size."""

    def __init__(self, width: int, to: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(width, 4 * to, 1)

    def forward(self, x: Tensor) -> Tensor:
        return pixel_shuffle(self.mix(x), 2)


class Denoiser(nn.Module):
    """Removes noise of unknown kind and strength from video."""

    STATE_CHANNELS = 12 + HIDDEN

    def __init__(self) -> None:
        super().__init__()
        half, quarter, eighth = WIDTHS
        self.enter = nn.Conv2d(12 * (1 + AHEAD) + self.STATE_CHANNELS, half, 3, padding=1)
        self.half_in = Block(half)
        self.to_quarter = nn.Conv2d(half, quarter, 2, stride=2)
        self.quarter_in = nn.Sequential(Block(quarter), Block(quarter))
        self.to_eighth = nn.Conv2d(quarter, eighth, 2, stride=2)
        self.eighth = nn.Sequential(Block(eighth), Block(eighth))
        self.from_eighth = Up(eighth, quarter)
        self.quarter_out = Block(quarter)
        self.from_quarter = Up(quarter, half)
        self.half_out = Block(half)
        self.leave = nn.Conv2d(half, 12 + HIDDEN, 3, padding=1)
        for layer in (self.enter, self.to_quarter, self.to_eighth, self.from_eighth.mix, self.from_quarter.mix):
            nn.init.normal_(layer.weight, std=layer.weight[0].numel() ** -0.5)
        nn.init.normal_(self.leave.weight, std=0.1 * self.leave.weight[0].numel() ** -0.5)  # or the state grows from frame to frame

    def forward(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Clean one frame.

        Args:
            frames: float [B, 1 + AHEAD, 3, H, W], RGB 0..1: this frame and those after it, the last one again where the clip ends.
                H and W are multiples of STRIDE.
            state: float [B, STATE_CHANNELS, H/2, W/2], of the frame before; zeros at a clip's first frame.

        Returns:
            float [B, 3, H, W], not clamped, and the state for the next frame.
        """
        now = frames[:, 0]
        seen = (pixel_unshuffle(frames.flatten(1, 2), 2) - MEAN) / SPREAD
        half = self.half_in(self.enter(torch.cat([seen, state], 1)))
        quarter = self.quarter_in(self.to_quarter(half))
        quarter = self.quarter_out(quarter + self.from_eighth(self.eighth(self.to_eighth(quarter))))
        left = self.leave(self.half_out(half + self.from_quarter(quarter)))
        clean = now + pixel_shuffle(left[:, :12].to(now.dtype) * SPREAD, 2)
        kept = (pixel_unshuffle(clean, 2).clamp(0, 1) - MEAN) / SPREAD
        return clean, torch.cat([kept, torch.tanh(left[:, 12:].to(now.dtype))], 1)  # bounded, so that no clip is long enough to blow it up
