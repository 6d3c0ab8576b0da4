"""Learning of a restoring network: clean sequences are degraded, the network is asked for the clean ones.

    takes -> Director -> clean sequences -> degraded -> network -> distance to the clean -> Adam

The rate stays and then falls to zero in a straight line, so that a longer training may go on from where an earlier one stood before
its fall. Knows one process; `tasks.train_restorer` runs many.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn

from models.denoiser import AHEAD, Denoiser
from models.upscaler import Upscaler
from tasks.degrade import Draw, halved, noisy
from tasks.motion import Director

RestorerTask = Literal["denoise", "upscale-x2"]

EPSILON = 1e-3  # of the Charbonnier distance
MOST_NORM = 1.0  # of the gradients
CARRIED = 3  # stretches of a sequence that the state is carried over, after the first


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and on what a network learns; all that changes its weights besides the corpus."""

    task: RestorerTask
    steps: int
    batch: int
    side: int  # pixels of a clean patch
    stretch: int  # frames that one step learns from
    rate: float
    fall: float  # share of the steps in which the rate falls
    seed: int


def network_of(task: RestorerTask) -> nn.Module:
    """A network that has not learned yet."""
    return Denoiser() if task == "denoise" else Upscaler()


def distance(found: Tensor, clean: Tensor) -> Tensor:
    """Charbonnier's: like the absolute difference, smooth at zero (Lai et al. 2017)."""
    return ((found - clean).square() + EPSILON**2).sqrt().mean()


def frames_needed(recipe: Recipe) -> int:
    """Frames of one sequence."""
    return recipe.stretch * (1 + CARRIED) + AHEAD if recipe.task == "denoise" else recipe.stretch


class Learner:
    """A network, its optimiser, and how far they are."""

    def __init__(self, network: nn.Module, recipe: Recipe, device: torch.device) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe, self.device = recipe, device
        self.optimiser = torch.optim.Adam(network.parameters(), recipe.rate, betas=(0.9, 0.99))
        self.step = 0

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self.step >= self.recipe.steps

    def learn(self, director: Director, draw: Draw) -> Iterator[float]:
        """One batch; a distance for each step. The state of a denoiser is carried from stretch to stretch of it."""
        clean = torch.stack([director.sequence() for _ in range(self.recipe.batch)])
        if self.recipe.task == "denoise":
            yield from self._learn_denoising(clean, torch.stack([noisy(sequence, draw) for sequence in clean]))
        else:
            small = torch.stack([halved(sequence, draw) for sequence in clean])
            yield self._descended(lambda: distance(self._asked(self.network, small.flatten(0, 1)), self._moved(clean.flatten(0, 1))))

    def _learn_denoising(self, clean: Tensor, spoiled: Tensor) -> Iterator[float]:
        clean, spoiled = self._moved(clean), self._moved(spoiled)
        state = spoiled.new_zeros(len(spoiled), Denoiser.STATE_CHANNELS, spoiled.shape[3] // 2, spoiled.shape[4] // 2)
        for start in range(0, spoiled.shape[1] - AHEAD, self.recipe.stretch):
            kept = [state]

            def error(start: int = start, kept: list[Tensor] = kept) -> Tensor:
                found = []
                for now in range(start, start + self.recipe.stretch):
                    frame, kept[0] = self._asked(self.network, spoiled[:, now : now + 1 + AHEAD], kept[0])
                    found.append(frame)
                return distance(torch.stack(found, 1), clean[:, start : start + self.recipe.stretch])

            yield self._descended(error)
            state = kept[0].detach()

    def _asked(self, network: nn.Module, *inputs: Tensor) -> Any:
        with torch.autocast(self.device.type, torch.bfloat16):
            return network(*(self._moved(tensor) for tensor in inputs))

    def _descended(self, error: Any) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate * min(1.0, (self.recipe.steps - self.step) / (self.recipe.fall * self.recipe.steps), (self.step + 1) / 100)
        self.optimiser.zero_grad(set_to_none=True)
        loss: Tensor = error()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), MOST_NORM)
        self.optimiser.step()
        self.step += 1
        return float(loss.detach())

    def _moved(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, non_blocking=True)

    def state(self) -> dict[str, Any]:
        """All that going on needs."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def seeded(recipe: Recipe, step: int, rank: int) -> Generator:
    """Randomness of a batch: of the seed, the step and the worker alone, so that going on is as not having stopped."""
    return Generator().manual_seed((recipe.seed * 1_000_003 + rank) * 1_000_003 + step)
