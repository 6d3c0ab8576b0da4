"""vidmill's own networks on whole clips.

Knows how a clip is walked through: the denoiser with two frames ahead and its memory, the upscaler frame by frame.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.functional import pad

from models.denoiser import AHEAD, STRIDE, Denoiser
from models.upscaler import Upscaler
from tests.bench.restoring.machine import Machine, OnClips, framewise

WEIGHTS = Path(__file__).parents[3] / "models" / "trained"
DENOISER, UPSCALER = WEIGHTS / "denoise-v1.safetensors", WEIGHTS / "upscale-x2-v1.safetensors"


def denoiser(weights: Path, machine: Machine) -> OnClips:
    """Denoises [T, H, W, 3] of 0..255, blindly."""
    network = machine.ready(_filled(Denoiser(), weights))

    def denoised(frames: np.ndarray) -> np.ndarray:
        height, width = frames.shape[1:3]
        rgb = pad(machine.tensor(frames), (0, -width % STRIDE, 0, -height % STRIDE), mode="replicate")
        with machine.computing():
            return machine.frames(walked(network, rgb)[..., :height, :width])

    return denoised


def walked(network: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], rgb: Tensor) -> Tensor:
    """What a denoiser makes of a clip, float [T, 3, H, W], from its first frame to its last."""
    count, _, height, width = rgb.shape
    state, clean = rgb.new_zeros((1, Denoiser.STATE_CHANNELS, height // 2, width // 2)), []
    for now in range(count):
        window = rgb[[min(now + ahead, count - 1) for ahead in range(1 + AHEAD)]]
        one, state = network(window[None], state)
        clean.append(one)
    return torch.cat(clean).float()


def upscaler(weights: Path, machine: Machine) -> OnClips:
    """Doubles [T, H, W, 3] of 0..255."""
    return framewise(machine.ready(_filled(Upscaler(), weights)), machine)


def _filled(network: nn.Module, weights: Path) -> nn.Module:
    network.load_state_dict(load_file(weights))
    return network.eval()
