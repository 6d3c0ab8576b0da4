"""Where and in which precision the networks run: the same for all of them.

Knows torch and 8-bit frames, and of vidmill only which precision it chooses.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from models.restorer import half_of

OnClips = Callable[[np.ndarray], np.ndarray]  # [T, H, W, 3] of 0..255 -> uint8 of the same
Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, slots=True)
class Machine:
    """A device and a precision."""

    device: torch.device
    half: torch.dtype | None = None  # of autocast; float32 without

    @property
    def precision(self) -> str:
        """In the table's words."""
        return {None: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}[self.half]

    def ready(self, network: Network) -> Network:
        """The network on the device, laid out as torch computes it fastest (measured: a tenth to a fifth faster for each of them)."""
        return network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    def tensor(self, frames: np.ndarray) -> Tensor:
        """float32 [T, 3, H, W] of 0..1 from 0..255 [T, H, W, 3]."""
        sent = torch.from_numpy(np.ascontiguousarray(frames)).to(self.device)
        return sent.permute(0, 3, 1, 2).float().div(255).contiguous(memory_format=torch.channels_last)

    def frames(self, rgb: Tensor) -> np.ndarray:
        """uint8 [T, H, W, 3], rounded and clipped, as a video would keep it."""
        return rgb.mul(255).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    @contextmanager
    def computing(self) -> Iterator[None]:
        """No gradients, and the precision."""
        with torch.inference_mode(), torch.autocast(self.device.type, self.half, enabled=self.half is not None):
            yield


def shipped(device: torch.device) -> Machine:
    """What vidmill runs in by itself."""
    return Machine(device, half_of(device))


def framewise(network: Callable[[Tensor], Tensor], machine: Machine) -> OnClips:
    """Any network that takes a frame [1, 3, H, W] of 0..1 and gives one."""

    def restored(frames: np.ndarray) -> np.ndarray:
        with machine.computing():
            return np.concatenate([machine.frames(network(machine.tensor(frame[None])).float()) for frame in frames])

    return restored
