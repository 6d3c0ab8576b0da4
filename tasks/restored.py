"""What the ledger asks of the restoration of one clip, and what it gets: the seam between tables and codecs.

Knows the shapes of both sides; the networks are loaded by whoever enhances.
"""

from collections.abc import Mapping
from typing import BinaryIO, Protocol

from infra.settings import RunConfig
from models.recipe import recipe_of
from tasks.clip import Window


class Quality(Protocol):
    """What was measured on source and result; `models.quality.Quality` is one."""

    @property
    def noise_before(self) -> float | None: ...
    @property
    def noise_after(self) -> float | None: ...
    @property
    def psnr_down_db(self) -> float | None: ...
    @property
    def flicker_before(self) -> float | None: ...
    @property
    def flicker_after(self) -> float | None: ...
    @property
    def sample_time_s(self) -> float | None: ...
    @property
    def before_jpeg(self) -> bytes | None: ...
    @property
    def after_jpeg(self) -> bytes | None: ...


class Enhanced(Protocol):
    """What became of a clip; `tasks.enhance.Enhanced` is one."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def fps(self) -> float | None: ...
    @property
    def frames(self) -> int: ...
    @property
    def duration_s(self) -> float: ...
    @property
    def codec(self) -> str: ...
    @property
    def has_audio(self) -> bool: ...
    @property
    def quality(self) -> Quality: ...
    @property
    def elapsed_s(self) -> float: ...
    @property
    def gpu_s(self) -> float: ...


class Enhances(Protocol):
    """Restores clips by one recipe."""

    def enhance(self, file: BinaryIO, *, window: Window | None, sink: BinaryIO) -> Enhanced:
        """Write the restored clip to `sink`, a seekable file.

        Raises:
            ClipError: the clip cannot be restored.
            ModelError: the network cannot take it.
        """
        ...


def restorers(config: RunConfig) -> Mapping[str, Enhances]:
    """What restores clips, by the name of each recipe of a run; networks are loaded.

    Raises:
        Problem, ModelError: a network cannot be run.
    """
    raise NotImplementedError(recipe_of)
