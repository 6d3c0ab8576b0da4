"""Restorers of clips by recipe: networks, codecs and measures put together.

Knows who does what and nothing of tables; networks are only loaded by whoever asks for them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

from infra.settings import EnhanceConfig, RunConfig
from models.recipe import recipe_of
from tasks.clip import Window
from tasks.enhance import Encoding, Enhanced, Enhancer, Restoration

if TYPE_CHECKING:
    from models.quality import Quality


class Enhances(Protocol):
    """Restores clips by one recipe."""

    def enhance(self, file: BinaryIO, *, window: Window | None, sink: BinaryIO) -> "Enhanced[Quality]":
        """As `tasks.enhance.Enhancer.enhance`; also ModelError of a network that cannot take the clip."""


@dataclass(frozen=True, slots=True)
class RecipeRestorer:
    """One recipe of a run, ready to work."""

    enhancer: Enhancer
    restoration: Restoration
    encoding: Encoding

    def enhance(self, file: BinaryIO, *, window: Window | None, sink: BinaryIO) -> "Enhanced[Quality]":
        """As `tasks.enhance.Enhancer.enhance`."""
        from models.quality import Meter  # torch, as above

        return self.enhancer.enhance(file, window=window, restoration=self.restoration, encoding=self.encoding, meter=Meter, sink=sink)


def restorer_of(entry: EnhanceConfig, enhancer: Enhancer) -> Enhances:
    """What restores clips by one recipe.

    Raises:
        Problem, ModelError: a network cannot be run.
    """
    from models.restoration import Restoration as Networks  # torch, which only the processes that enhance need

    return RecipeRestorer(enhancer, Networks(recipe_of(entry)), Encoding.of(entry))


def restorers(config: RunConfig) -> Mapping[str, Enhances]:
    """What restores clips, by the name of each recipe of a run; raises as `restorer_of`."""
    enhancer = Enhancer(config.limits)
    return {entry.label: restorer_of(entry, enhancer) for entry in config.enhance}
