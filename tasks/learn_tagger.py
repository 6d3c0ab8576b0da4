"""Learning of a tagger: padded batches of labelled sequences in, a network that gives their labels high scores.

    examples -> Batch (as they are stored) -> device -> values -> network -> cross entropy of each label, summed -> AdamW

Gradients are averaged where several processes learn; on a GPU the network computes in bfloat16. Knows nothing of files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from infra.training import TaggerConfig
from models.network import has_bfloat16
from models.tagger import TaggerInput, TaggerShape, network_of, padded
from models.tagger_networks import Experts
from tasks.frame_features import values_of
from tasks.tagger_corpus import Corpus
from tasks.tagger_stream import Example
from tasks.training import average_gradients
from tasks.youtube8m import LOWEST, STEP

VERSION = 1  # of everything that is learned from and how; a higher one makes other weights of the same recipe

MOST_NORM = 1.0  # of the gradients
WARM_UP = 100  # steps in which the rate rises, of a short training a tenth of them
DECAY = 0.01  # of the weights, in one step of rate 1


@dataclass(frozen=True, slots=True)
class TaggerRecipe:
    """All that changes a tagger's weights besides the corpus."""

    network: str
    inputs: tuple[str, ...]  # MODEL@VERSION
    labels: int
    frames: int
    steps: int
    batch: int  # clips, of each worker
    rate: float
    seed: int
    hidden: int
    experts: int
    clusters: int
    layers: int
    heads: int
    buffer_bytes: int
    held_out_split: str | None
    judged: int
    workers: int = 1

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "TaggerRecipe":
        """Out of its fields; raises TypeError, KeyError, ValueError."""
        return cls(**{**fields, "inputs": tuple(fields["inputs"])})

    def rate_at(self, step: int) -> float:
        """The rate rises, then falls to zero."""
        return self.rate * min((self.steps - step) / self.steps, (step + 1) / min(WARM_UP, max(1, self.steps // 10)))


def recipe_of(config: TaggerConfig, corpus: Corpus, *, workers: int) -> TaggerRecipe:
    """The recipe that a configuration asks for."""
    inputs = tuple(f"{table.model}@{table.version}" for table in corpus.tables)
    same = ("labels", "frames", "steps", "batch", "rate", "seed", "hidden", "experts", "clusters", "layers", "heads", "buffer_bytes",
            "held_out_split", "judged")  # fmt: skip
    return TaggerRecipe(network=str(config.network), inputs=inputs, workers=workers, **{name: getattr(config, name) for name in same})


def shape_of(recipe: TaggerRecipe, corpus: Corpus) -> TaggerShape:
    """The network that is to learn."""
    return TaggerShape(
        network=recipe.network,  # type: ignore[arg-type]  # TaggerShape checks it
        inputs=tuple(TaggerInput(table.model, table.width) for table in corpus.tables),
        labels=tuple(label.name for label in corpus.labels),
        frames=recipe.frames, hidden=recipe.hidden, experts=recipe.experts, clusters=recipe.clusters, layers=recipe.layers, heads=recipe.heads,
    )  # fmt: skip


def prior_of(corpus: Corpus) -> np.ndarray:
    """float64 [L], how frequent each label is among the clips that are learned from."""
    return np.array([label.count for label in corpus.labels]) / corpus.learned


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences, padded at their end."""

    inputs: tuple[Tensor, ...]  # [B, T, width] of each input: uint8 codes, float16 or float32
    mask: Tensor  # bool [B, T], what is no padding
    truth: Tensor  # float32 [B, L]

    def moved(self, device: torch.device) -> "Batch":
        """Where the network is."""
        if device.type != "cuda":
            return self
        tensors = [tensor.pin_memory().to(device, non_blocking=True) for tensor in (*self.inputs, self.mask, self.truth)]
        return Batch(tuple(tensors[:-2]), tensors[-2], tensors[-1])

    def values(self) -> Tensor:
        """float32 [B, T, D]: the inputs side by side, dequantised here and not on the way."""
        return torch.cat([part * STEP + LOWEST if part.dtype == torch.uint8 else part.float() for part in self.inputs], -1)


def batch_of(examples: Sequence[Example], labels: int) -> Batch:
    """Examples as one batch."""
    parts = [_padded([example.inputs[index] for example in examples]) for index in range(len(examples[0].inputs))]
    truth = torch.zeros(len(examples), labels)
    for row, example in enumerate(examples):
        truth[row, torch.from_numpy(example.labels)] = 1.0
    return Batch(tuple(frames for frames, _ in parts), parts[0][1], truth)


def _padded(frames: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """As they are stored, where all are stored alike; a mean among codes makes values of them all."""
    return padded(frames if len({rows.dtype for rows in frames}) == 1 else [values_of(rows) for rows in frames])


class TaggerLearner:
    """A tagger, its optimiser, and how far they are."""

    def __init__(self, shape: TaggerShape, recipe: TaggerRecipe, prior: np.ndarray, device: torch.device) -> None:
        network = network_of(shape)
        _begin_at(network, torch.from_numpy(prior).float())
        self.network, self.recipe, self.device = network.to(device), recipe, device
        self.optimiser = torch.optim.AdamW(self.network.parameters(), weight_decay=DECAY)
        self.half = device.type == "cuda" and has_bfloat16(device)
        self.step = 0
        self.loss = torch.zeros(())  # of the last step

    @property
    def done(self) -> bool:
        """Whether all steps are taken."""
        return self.step >= self.recipe.steps

    def learn(self, batch: Batch) -> Tensor:
        """Learn from one batch; its loss."""
        moved = batch.moved(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
            logits = self.network(moved.values(), moved.mask)
        loss = binary_cross_entropy_with_logits(logits.float(), moved.truth, reduction="sum") / len(moved.truth)
        loss.backward()  # type: ignore[no-untyped-call]
        average_gradients(self.network)
        nn.utils.clip_grad_norm_(self.network.parameters(), MOST_NORM)
        for group in self.optimiser.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self.loss = loss.detach()
        return self.loss

    def state(self) -> dict[str, Any]:
        """All that going on needs."""
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]


def _begin_at(network: nn.Module, prior: Tensor) -> None:
    """Let every label's first score be about its frequency: thousands of rare labels would have to be unlearned else."""
    head = network.get_submodule("head")
    assert isinstance(head, Experts)
    experts = head.shape[1]
    share = (prior * (experts + 1) / experts).clamp(1e-5, 1 - 1e-5)
    with torch.no_grad():
        head.experts.bias.copy_(share.logit().repeat_interleave(experts))
