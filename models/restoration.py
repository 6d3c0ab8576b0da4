"""A recipe at work: decoded pictures in, restored pictures out, one at a time and in order.

    pictures -> rgb on the device -> network -> network -> planes
                                     (each sees now, next, after next; at the end the last picture repeats)

Between networks pictures stay float32 RGB on the device, nothing is rounded. What keeps its size gets the change of its RGB added to its own planes,
so what a network leaves alone comes out as it came in, bit for bit. At most `ahead` pictures of every network, and one on its way back, are held,
however long the clip. Knows recipes, colours and windows and nothing of codecs, files or Ray.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from models.colour import Arriving, Codes, Colour
from models.gpu_clock import GpuClock
from models.heap import keep_large_blocks
from models.picture import Picture, PictureFormat
from models.prediction import ModelError
from models.recipe import Recipe
from models.restorer import Restorer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Frame:
    """One picture between networks."""

    source: Picture
    codes: Codes
    seen: Tensor | None  # rgb as decoded, where a difference to it is wanted
    rgb: Tensor  # as the last network left it


class Restoration:
    """The networks of a recipe, loaded."""

    def __init__(self, recipe: Recipe, device: str | None = None, *, tile_area: int | None = None) -> None:
        """Load them.

        Args:
            device: "cpu", "cuda" or "cuda:1"; a GPU if there is one by default.
            tile_area: pixels of a frame in a network at once; by default what suits the device.

        Raises:
            Problem: weights are not usable.
            ModelError: a network does something else than its spec says.
        """
        self.recipe = recipe
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.device.type == "cpu":
            keep_large_blocks()
        self.restorers = tuple(Restorer(spec, device=self.device, tile_area=tile_area) for spec in recipe.restorers)
        self._clock = GpuClock(self.device)

    @property
    def gpu_s(self) -> float:
        """Seconds that the GPU was at work for all pictures so far; waits for it. 0.0 on a CPU."""
        return self._clock.elapsed_s

    def output_format(self, form: PictureFormat) -> PictureFormat:
        """The format of what comes out for pictures of `form`."""
        return replace(form, width=form.width * self.recipe.scale, height=form.height * self.recipe.scale)

    def restore(self, pictures: Iterable[Picture], form: PictureFormat) -> Iterator[tuple[Picture, Picture]]:
        """Every picture with its restored one, in order.

        Args:
            pictures: of one clip; they are taken as they are needed.

        Raises:
            ModelMemoryError: not even the smallest tile fits the device's memory.
            ModelError: a network gave not-a-number.
            ValueError: a picture is not of the format.
        """
        frames = self._decoded(pictures, Colour(form, self.device))
        for restorer in self.restorers:
            frames = self._restored(restorer, frames)
        waiting: deque[tuple[Picture, Arriving]] = deque()
        for frame in frames:
            waiting.append((frame.source, self._planes(frame, form)))
            if len(waiting) > self._in_flight:
                yield self._arrived(waiting)
        while waiting:
            yield self._arrived(waiting)

    @property
    def _in_flight(self) -> int:
        """Pictures whose way back from the device is not waited for while the next is begun."""
        return 1 if self.device.type == "cuda" else 0

    def _restored(self, restorer: Restorer, frames: Iterable[_Frame]) -> Iterator[_Frame]:
        """Frames through one network."""
        state: Tensor | None = None
        for window in windows(frames, ahead=restorer.spec.ahead):
            with self._clock.running():
                rgb, state = restorer.restore([frame.rgb for frame in window], state)
            yield replace(window[0], rgb=rgb)

    def _decoded(self, pictures: Iterable[Picture], colour: Colour) -> Iterator[_Frame]:
        for picture in pictures:
            with torch.inference_mode(), self._clock.running():
                codes = colour.codes(picture)
                rgb = colour.rgb(codes)
            yield _Frame(picture, codes, rgb if self.recipe.scale == 1 else None, rgb)

    @torch.inference_mode()
    def _planes(self, frame: _Frame, form: PictureFormat) -> Arriving:
        colour = Colour(self.output_format(form), self.device)
        with self._clock.running():
            codes = colour.converted(frame.rgb) if frame.seen is None else colour.corrected(frame.codes, frame.rgb - frame.seen)
            return Arriving(codes, pts=frame.source.pts, total=frame.rgb.sum())

    def _arrived(self, waiting: deque[tuple[Picture, Arriving]]) -> tuple[Picture, Picture]:
        source, arriving = waiting.popleft()
        picture = arriving.picture()
        if not arriving.finite:
            raise ModelError(f"recipe {self.recipe.name}: gave not-a-number or infinity for the picture at pts {source.pts}; check the weights")
        return source, picture


def windows(items: Iterable[T], *, ahead: int) -> Iterator[tuple[T, ...]]:
    """For every item the item and the `ahead` ones after it; at the end the last one repeats."""
    window: deque[T] = deque()
    for item in items:
        window.append(item)
        if len(window) > ahead:
            yield tuple(window)
            window.popleft()
    while window:
        yield (*window, *[window[-1]] * (1 + ahead - len(window)))
        window.popleft()
