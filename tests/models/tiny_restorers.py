"""Small networks of the restorers' signatures, whose results are known, and specs for them."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models.recipe import Recipe
from models.restorer_spec import RestorerSpec

STATE = 4


class _Plain(nn.Module):
    """Has a parameter, as weights are never empty."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(1))


class Nothing(_Plain):
    """Leaves every picture as it is."""

    def forward(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return frames[:, 0] * self.one, state


class Brighter(_Plain):
    """Adds a hundredth of a code of 8 bits times 60."""

    def forward(self, rgb: Tensor) -> Tensor:
        return rgb + self.one * 0.6 / 219


class Darker(_Plain):
    """Takes away what Brighter adds."""

    def forward(self, rgb: Tensor) -> Tensor:
        return rgb - self.one * 0.6 / 219


class Witness(_Plain):
    """Shows its window as red, green and blue, and adds up a tenth of what it has seen so far in its state."""

    def forward(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        seen = frames[:, 0, :1, ::2, ::2]
        shown = torch.cat([frames[:, i, :1] for i in range(3)], 1) * self.one
        shown[..., :8, :8] = state[:, :1, :1, :1]
        return shown, state + 0.1 * seen


class Temporal(nn.Module):
    """A small U-Net over three frames and a state, with odd weights everywhere; reaches 20 pixels."""

    REACH = 24

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(9 * 4 + STATE, 8, 3, padding=1)
        self.down = nn.Conv2d(8, 8, 2, stride=2)
        self.deep = nn.Conv2d(8, 8, 3, padding=1)
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.leave = nn.Conv2d(8, 12 + STATE, 3, padding=1)

    def forward(self, frames: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.relu(self.enter(torch.cat([nn.functional.pixel_unshuffle(frames.flatten(1, 2), 2), state], 1)))
        x = self.leave(x + self.up(torch.relu(self.deep(self.down(x)))))
        return frames[:, 0] + nn.functional.pixel_shuffle(x[:, :12], 2).float(), torch.tanh(x[:, 12:])


class Doubling(nn.Module):
    """Three convolutions and a shuffle; reaches 5 pixels."""

    REACH = 5

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 12, 3, padding=1)
        )

    def forward(self, rgb: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(rgb.repeat_interleave(4, 1) + self.layers(rgb).float(), 2)


class Linear(_Plain):
    """Doubles as bilinear interpolation does, every pixel at its centre."""

    def forward(self, rgb: Tensor) -> Tensor:
        return nn.functional.interpolate(rgb, scale_factor=2, mode="bilinear") * self.one


class Hungry(Doubling):
    """Takes `fits` pixels at once; tells what it was given."""

    fits = 200 * 200
    seen: list[tuple[int, int]] = []  # noqa: RUF012  # one list for the class is what is wanted

    def forward(self, rgb: Tensor) -> Tensor:
        height, width = rgb.shape[2:]
        if height * width > type(self).fits:
            raise torch.OutOfMemoryError(f"{height}x{width}")
        self.seen.append((height, width))
        return super().forward(rgb)


class NotANumber(_Plain):
    """Gives nonsense, from the second half of the brightness on."""

    def forward(self, rgb: Tensor) -> Tensor:
        return torch.where(rgb.amax() > 2, rgb * float("nan"), rgb) * self.one


class AlwaysNotANumber(_Plain):
    def forward(self, rgb: Tensor) -> Tensor:
        return rgb * float("inf") * self.one


def spec_of(folder: Path, network: type[nn.Module], **more: Any) -> RestorerSpec:
    """A spec whose weights, the same every time, are saved in `folder`."""
    torch.manual_seed(7)
    file = folder / f"{network.__name__}.safetensors"
    save_file(network().state_dict(), file)
    temporal = network in (Nothing, Witness, Temporal)
    fields = {
        "name": network.__name__.lower(),
        "factory": f"{__name__}:{network.__name__}",
        "weights": f"file:{file}",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "licence": "none",
        "trained_on": "nothing",
        "scale": 2 if issubclass(network, Doubling | Linear) else 1,
        "ahead": 2 if temporal else 0,
        "state_channels": STATE if temporal else 0,
        "reach": getattr(network, "REACH", 8),
    }
    return RestorerSpec(**{**fields, **more})


def recipe(*restorers: RestorerSpec) -> Recipe:
    """A recipe of these networks."""
    return Recipe("tiny", restorers, "h264", 18, "medium")
