"""What is done to every clip: networks one after the other, and how the result is encoded.

    denoise              denoiser
    upscale-x2           upscaler
    upscale-x4           upscaler, upscaler          or one checkpoint of the user's
    denoise+upscale-x2   denoiser, upscaler

Knows specs and nothing of torch, so a plan can name versions without loading a network.
"""

import hashlib
import json
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING

from infra.problem import Problem
from models import weights
from models.restorer_spec import BY_ITS_WEIGHTS, RestorerSpec, check_installed
from models.restorers import DENOISER, UPSCALER_X2

if TYPE_CHECKING:
    from infra.settings import EnhanceConfig

RESTORATION = 1  # raised by hand whenever colour, tiles, restorer or restoration give other pictures for the same weights

NETWORKS: dict[str, tuple[RestorerSpec, ...]] = {
    "denoise": (DENOISER,),
    "upscale-x2": (UPSCALER_X2,),
    "upscale-x4": (UPSCALER_X2, UPSCALER_X2),
    "denoise+upscale-x2": (DENOISER, UPSCALER_X2),
}
OWN_SCALE = {"denoise": 1, "upscale-x2": 2, "upscale-x4": 4}  # recipes that one network of the user's can be


@dataclass(frozen=True, slots=True)
class Recipe:
    """One restoration, by name; complete in itself, so it can travel to any node."""

    name: str  # in the output
    restorers: tuple[RestorerSpec, ...] = field(repr=False)  # in the order they work
    codec: str
    crf: int
    preset: str

    @property
    def scale(self) -> int:
        """Sides of what comes out, in sides of what goes in."""
        return prod(spec.scale for spec in self.restorers)

    def digest(self) -> str:
        """Sha256, 64 hex digits, of all that can change the video: weights, networks, `RESTORATION`, the encoder's settings."""
        parts = [RESTORATION, [spec.digest() for spec in self.restorers], self.codec, self.crf, self.preset]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def check(self) -> None:
        """All that can be known here before a run, without torch, the network or a download.

        Raises:
            Problem: weights that lie here are missing or of another digest, an address is of an unknown kind, an extra is not installed.
        """
        for spec in self.restorers:
            check_installed(spec)
            weights.check(spec)


def recipe_of(config: "EnhanceConfig") -> Recipe:
    """The recipe of one entry of `enhance`.

    Raises:
        Problem: the entry contradicts itself.
    """
    name = config.name or config.recipe
    restorers = NETWORKS[config.recipe] if config.weights is None else (_own(config, name),)
    if config.weights is None and config.sha256 is not None:
        raise Problem(f"enhance: {name}: sha256 is given without weights; set weights to the checkpoint's address, or take sha256 out")
    return Recipe(name, restorers, config.codec, config.crf, config.preset)


def _own(config: "EnhanceConfig", name: str) -> RestorerSpec:
    assert config.weights is not None
    if config.recipe not in OWN_SCALE:
        fix = f"give them to a recipe of one network: {', '.join(OWN_SCALE)}"
        raise Problem(f"enhance: {name}: weights are given, but {config.recipe} is of several networks; {fix}")
    if config.sha256 is None:
        raise Problem(f"enhance: {name}: weights are given without sha256; set it to what sha256sum prints for the file")
    return RestorerSpec(
        name=name,
        factory=BY_ITS_WEIGHTS,
        weights=weights.absolute(config.weights),
        sha256=config.sha256,
        licence="unknown",
        trained_on="unknown",
        scale=OWN_SCALE[config.recipe],
    )
