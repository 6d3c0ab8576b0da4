"""Learning of a restoring network: clean sequences are degraded, the network is asked for the clean ones.

    takes -> Director -> clean sequences -> degraded -> network -> distance to the clean -> Muon

The rate falls to zero in a straight line. With a `fall` of less than 1 it stays first, and a longer training may begin with the weights that
this one had before its fall. Where several processes learn, their gradients are averaged. Knows nothing of files; `tasks.train_restorer` feeds it.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor, nn

from infra.training import RestorerConfig, RestorerTask
from models.denoiser import AHEAD, Denoiser
from models.network import has_bfloat16
from models.upscaler import Upscaler
from tasks.degrade import Draw, halved, noisy_pair
from tasks.footage import Take
from tasks.motion import Director
from tasks.muon import ConvolutionMuon
from tasks.training import average_gradients

VERSION = 3  # of everything that is learned from and how; a higher one makes other weights of the same recipe

EPSILON = 1e-3  # of the Charbonnier distance
MOST_NORM = 1.0  # of the gradients
CARRIED = 3  # stretches of a sequence that the state is carried over, after the first
WARM_UP = 100  # steps in which the rate rises


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and on what a network learns; all that changes its weights besides the corpus and the weights it begins with."""

    task: RestorerTask
    steps: int
    batch: int  # sequences, of each worker
    side: int  # pixels of a clean patch
    stretch: int  # frames that one step learns from
    rate: float
    fall: float  # share of the steps in which the rate falls
    seed: int
    workers: int = 1

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Recipe":
        """Out of its fields; raises TypeError, KeyError, ValueError."""
        return cls(**{**fields, "task": RestorerTask(fields["task"])})

    @property
    def batch_steps(self) -> int:
        """Steps that one batch is good for."""
        return 1 + CARRIED if self.task is RestorerTask.DENOISE else 1

    @property
    def frames(self) -> int:
        """Frames of one sequence."""
        return self.stretch * (1 + CARRIED) + AHEAD if self.task is RestorerTask.DENOISE else self.stretch

    def rate_at(self, step: int) -> float:
        """The rate rises, stays, falls to zero."""
        return self.rate * min(1.0, (self.steps - step) / (self.fall * self.steps), (step + 1) / WARM_UP)


DEFAULTS = {
    RestorerTask.DENOISE: Recipe(RestorerTask.DENOISE, steps=7_500, batch=4, side=64, stretch=5, rate=6e-3, fall=1.0, seed=1),
    RestorerTask.UPSCALE_X2: Recipe(RestorerTask.UPSCALE_X2, steps=8_000, batch=16, side=96, stretch=1, rate=8e-3, fall=1.0, seed=1),
}
QUICK = {  # minutes on two cores
    RestorerTask.DENOISE: replace(DEFAULTS[RestorerTask.DENOISE], steps=400, side=48, stretch=4),
    RestorerTask.UPSCALE_X2: replace(DEFAULTS[RestorerTask.UPSCALE_X2], steps=1_500, batch=4, side=64),
}


def recipe_of(config: RestorerConfig, *, workers: int) -> Recipe:
    """The recipe that a configuration asks for."""
    usual = (QUICK if config.quick else DEFAULTS)[config.task]
    return Recipe(
        task=config.task,
        steps=config.steps or usual.steps,
        batch=config.batch or usual.batch,
        side=config.side or usual.side,
        stretch=config.stretch or usual.stretch,
        rate=config.rate or usual.rate,
        fall=config.fall,
        seed=config.seed,
        workers=workers,
    )


@dataclass(frozen=True, slots=True)
class Batch:
    """Clean sequences and what became of them."""

    clean: Tensor  # float [B, T, 3, side, side], 0..1
    given: Tensor  # the same shape for the denoiser, half the sides for the upscaler


def batch_of(recipe: Recipe, takes: list[Take], *, step: int, rank: int) -> Batch:
    """The batch that begins with a step; nothing but the arguments decides about it."""
    random = seeded(recipe, step, rank)
    director, draw = Director(takes, side=recipe.side, frames=recipe.frames, random=random), Draw(random)
    clean = [director.sequence() for _ in range(recipe.batch)]
    if recipe.task is RestorerTask.DENOISE:
        return Batch(*map(torch.stack, zip(*(noisy_pair(sequence, draw) for sequence in clean), strict=True)))
    return Batch(torch.stack(clean), torch.stack([halved(sequence, draw) for sequence in clean]))


def network_of(task: RestorerTask) -> nn.Module:
    """A network that has not learned yet."""
    return Denoiser() if task is RestorerTask.DENOISE else Upscaler()


def distance(found: Tensor, clean: Tensor) -> Tensor:
    """Charbonnier's: like the absolute difference, smooth at zero (Lai et al. 2017)."""
    return ((found - clean).square() + EPSILON**2).sqrt().mean()


class Learner:
    """A network, its optimiser, and how far they are."""

    def __init__(self, network: nn.Module, recipe: Recipe, device: torch.device) -> None:
        self.network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.recipe, self.device = recipe, device
        self.optimiser = ConvolutionMuon(self.network)
        self.half = has_bfloat16(device)
        self.step = 0
        self.distance = torch.zeros(())  # of the last step

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self.step >= self.recipe.steps

    def learn(self, batch: Batch) -> Iterator[Tensor]:
        """Learn from one batch; a distance for each step. The state of a denoiser is carried from stretch to stretch of it."""
        clean, given = self._moved(batch.clean), self._moved(batch.given)
        if self.recipe.task is RestorerTask.DENOISE:
            yield from self._learn_denoising(clean, given)
        else:
            yield self._descended(lambda: distance(self._asked(given.flatten(0, 1)), clean.flatten(0, 1)))

    def _learn_denoising(self, clean: Tensor, spoiled: Tensor) -> Iterator[Tensor]:
        state = spoiled.new_zeros(len(spoiled), Denoiser.STATE_CHANNELS, spoiled.shape[3] // 2, spoiled.shape[4] // 2)
        for start in range(0, spoiled.shape[1] - AHEAD, self.recipe.stretch):
            if self.done:
                return
            kept = [state]

            def error(start: int = start, kept: list[Tensor] = kept) -> Tensor:
                found = []
                for now in range(start, start + self.recipe.stretch):
                    frame, kept[0] = self._asked(spoiled[:, now : now + 1 + AHEAD], kept[0])
                    found.append(frame)
                return distance(torch.stack(found, 1), clean[:, start : start + self.recipe.stretch])

            yield self._descended(error)
            state = kept[0].detach()

    def _asked(self, *inputs: Tensor) -> Any:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            return self.network(*inputs)

    def _descended(self, error: Callable[[], Tensor]) -> Tensor:
        loss = error()
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.network)
        nn.utils.clip_grad_norm_(self.network.parameters(), MOST_NORM)
        self.optimiser.step(self.recipe.rate_at(self.step))
        self.step += 1
        self.distance = loss.detach()
        return self.distance

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
