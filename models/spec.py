"""What a model is: where its weights come from, what it eats, what it gives.

    frame [H,W,3] -> shorter side to `resize` -> centre `crop` -> (x - mean) / std -> network -> embedding, tags

Knows nothing of torch, Ray or storage, so a plan can name versions without loading a network.
"""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Literal, Protocol

Task = Literal["embed", "tag"]

NUMERICS = 1  # raised by hand whenever prepare, predictor or a built-in network gives other values for the same weights


class NetworkSpec(Protocol):
    """What it takes to build a network with its weights."""

    @property
    def name(self) -> str: ...
    @property
    def factory(self) -> str:
        """ "package.module:callable" that returns the torch.nn.Module."""

    @property
    def weights(self) -> str:
        """package:NAME/FILE, file:, s3:, https:."""

    @property
    def sha256(self) -> str:
        """Of the weights file."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a frame becomes the square a network eats: bicubic (antialiased) resize of the shorter side, centre crop."""

    resize: int  # pixels of the shorter side
    crop: int  # pixels of the square's side

    def __post_init__(self) -> None:
        if not 0 < self.crop <= self.resize:
            raise ValueError(f"the crop lies inside the resized frame: {self.crop = } {self.resize = }")


@dataclass(frozen=True, slots=True)
class FrameInput:
    """What a network eats: float [N, 3, crop, crop], (rgb - mean) / std with rgb in 0..255."""

    geometry: Geometry
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def __post_init__(self) -> None:
        if min(self.std) <= 0:
            raise ValueError(f"std divides, so it is above 0: {self.std = }")


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model, by name; complete in itself, so it can travel to any node."""

    name: str
    task: tuple[Task, ...]  # what one forward pass gives
    factory: str  # "package.module:callable" that returns the torch.nn.Module
    weights: str  # package:NAME/FILE, file:, s3:, https:
    sha256: str  # of the weights file
    licence: str
    trained_on: str
    input: FrameInput
    labels: tuple[str, ...] = field(repr=False)  # class names in the order of the logits; empty where the model does not tag

    def __post_init__(self) -> None:
        if ("tag" in self.task) != bool(self.labels):
            raise ValueError(f"model {self.name}: a tagging model has labels, any other none: {self.task = } {len(self.labels) = }")

    def digest(self) -> str:
        """Sha256, 64 hex digits, of all that can change the model's values: weights, factory, geometry, normalisation, labels, `NUMERICS`.

        The source text of a user's factory is not seen: changed code wants a new model name.
        """
        geometry = self.input.geometry
        parts = [NUMERICS, self.sha256, self.factory, geometry.resize, geometry.crop, self.input.mean, self.input.std, self.labels]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
