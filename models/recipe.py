"""Recipes: what one entry of `enhance:` stands for."""

import json
from dataclasses import dataclass

from infra.settings import EnhanceConfig


@dataclass(frozen=True, slots=True)
class Recipe:
    """One way to restore a clip."""

    config: EnhanceConfig

    @property
    def name(self) -> str:
        """Its name in the output."""
        return self.config.label

    @property
    def scale(self) -> int:
        """How many times wider and higher the result is."""
        return {"denoise": 1, "upscale-x4": 4}.get(self.config.recipe, 2)

    def digest(self) -> str:
        """Everything that changes values."""
        return json.dumps(self.config.model_dump(exclude={"name"}), sort_keys=True)

    def check(self) -> None:
        """Raises Problem before a run that could not succeed."""


def recipe_of(config: EnhanceConfig) -> Recipe:
    """The recipe of an entry."""
    return Recipe(config)
