"""vidmill's own networks on whole clips, through the code that restores videos.

Knows how a clip is walked through: the denoiser with the frames ahead and its memory, the upscaler frame by frame.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.restorer import Restorer
from models.restorer_spec import RestorerSpec
from models.restorers import DENOISER, UPSCALER_X2
from tests.bench.restoring.machine import Machine, OnClips, framewise
from tests.bench.restoring.packages import digest

Step = Callable[[Sequence[Tensor], Tensor | None], tuple[Tensor, Tensor | None]]
WEIGHTS = Path(__file__).parents[3] / "models" / "trained"
DENOISER_WEIGHTS, UPSCALER_WEIGHTS = (WEIGHTS / f"{spec.name}.safetensors" for spec in (DENOISER, UPSCALER_X2))


def denoiser(weights: Path, machine: Machine) -> OnClips:
    """Denoises [T, H, W, 3] of 0..255, blindly."""
    restorer = _restorer(DENOISER, weights, machine)

    def denoised(frames: np.ndarray) -> np.ndarray:
        return machine.frames(walked(restorer.restore, machine.tensor(frames), ahead=DENOISER.ahead))

    return denoised


def walked(step: Step, rgb: Tensor, *, ahead: int) -> Tensor:
    """What a denoiser makes of a clip, float [T, 3, H, W], from its first frame to its last."""
    state, clean, count = None, [], len(rgb)
    for now in range(count):
        one, state = step([rgb[min(now + k, count - 1)][None] for k in range(1 + ahead)], state)
        clean.append(one)
    return torch.cat(clean)


def upscaler(weights: Path, machine: Machine) -> OnClips:
    """Doubles [T, H, W, 3] of 0..255."""
    restorer = _restorer(UPSCALER_X2, weights, machine)
    return framewise(lambda rgb: restorer.restore([rgb], None)[0], Machine(machine.device))


def with_weights(spec: RestorerSpec, weights: Path) -> RestorerSpec:
    """The network with the weights of this file.

    Raises:
        FileNotFoundError: there is none.
    """
    return replace(spec, weights=f"file:{weights.resolve()}", sha256=digest(weights))


def _restorer(spec: RestorerSpec, weights: Path, machine: Machine) -> Restorer:
    restorer = Restorer(with_weights(spec, weights), device=machine.device)
    restorer.half = machine.half
    return restorer
