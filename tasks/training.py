"""What every training does, whatever it learns: its place among the workers, how far it is, the gradients they share.

Knows torch and its processes, nothing of networks, corpora or Ray.
"""

import math
import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tasks.cores import use_cores
from tasks.progress import TrainingProgress

TOLD_EVERY_S = 1.0


class Length(Protocol):
    """How long a recipe is."""

    @property
    def steps(self) -> int:
        """Of the optimiser."""


class Learning(Protocol):
    """What learns."""

    step: int
    half: bool  # whether it computes in bfloat16

    @property
    def recipe(self) -> Length:
        """How long."""

    @property
    def network(self) -> nn.Module:
        """What it learns with."""

    def state(self) -> dict[str, Any]:
        """All that going on needs."""

    def restore(self, state: Any) -> None:
        """Go on from what `state` gave."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where one worker stands among the others."""

    rank: int
    local_workers: int  # on its machine
    device: torch.device


class Onlooker(Protocol):
    """Whoever wants to know how it goes."""

    def progress(self, found: TrainingProgress) -> bool:
        """How far it is; the answer is whether to stop."""

    def note(self, text: str) -> None:
        """Something a person should know."""


def cores_of(threads: int | None, place: Place) -> int:
    """The cores that a worker takes, and has taken now: as many as were asked for, or its part of the machine's."""
    count = threads or max(1, (os.cpu_count() or 1) // place.local_workers)
    use_cores(count)
    return count


def agreed(stop: bool, device: torch.device) -> bool:
    """What the first worker was told, for all of them."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return stop
    told = torch.tensor(float(stop), device=device)
    dist.broadcast(told, 0)
    return bool(told)


def average_gradients(network: nn.Module) -> None:
    """The mean over all processes that learn, in one exchange. A recurrent loop asks its network many times a step, which DDP does not take."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    together = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(together)
    together /= dist.get_world_size()
    for gradient, mean in zip(gradients, torch.split(together, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


class Speed:
    """Counts what is told of a training."""

    def __init__(self, learner: Learning) -> None:
        self.learner = learner
        self.distances: list[Tensor] = []  # since the last telling
        self.told_s = -math.inf
        self.begin()

    def begin(self) -> None:
        """From here on it learns."""
        self.first, self.began_s = self.learner.step, time.monotonic()

    def due(self) -> bool:
        """Whether it is time to tell."""
        return time.monotonic() - self.told_s >= TOLD_EVERY_S

    def now(self, waiting: str | None = None) -> TrainingProgress:
        """How far it is."""
        self.told_s = time.monotonic()
        elapsed_s, learner = self.told_s - self.began_s, self.learner
        per_s = (learner.step - self.first) / elapsed_s if elapsed_s else 0.0
        eta_s = (learner.recipe.steps - learner.step) / per_s if per_s else None
        distance = float(torch.stack(self.distances).mean()) if self.distances else None
        self.distances.clear()
        return TrainingProgress(learner.step, learner.recipe.steps, distance, per_s, elapsed_s, eta_s, waiting)


def machine_of(device: torch.device, threads: int, *, half: bool) -> str:
    """What a training ran on, for its card."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    kind = "bfloat16" if half else "float32"
    return f"{name}, {threads} threads, {kind}, torch {torch.__version__}, Python {platform.python_version()}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
