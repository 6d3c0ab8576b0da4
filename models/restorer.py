"""One restoring network, ready to run on frames of any size: as one tile where memory allows it, else as several.

    frame [1,3,H,W] -> padded to the stride -> tiles -> network -> put together -> cut to H x W, times the scale
    state [1,S,H/2,W/2] (padded size)       -> the same tiles   -> cores        -> for the next frame

Half precision inside by autocast where the device is made for it; what a network adds to the frame is added in float32. A tile that does not fit is
halved and the frame done again. Knows torch and one spec and nothing of clips, colours or windows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from models.network import build, has_bfloat16
from models.own_restorer import detected
from models.prediction import ModelError, ModelMemoryError
from models.restorer_spec import RestorerSpec
from models.tiles import BLEND, Tile, plan

CPU_TILE = 1 << 20  # pixels; 1280x720 is one tile
GPU_TILE = 1 << 22
OWN_SHARE = 8  # a checkpoint of the user's may keep hundreds of channels, at the size of what comes out: tiles that many times smaller
PROBE = 64  # pixels of the side of what every network is tried on before the first frame


class Restorer:
    """A spec's network on a device."""

    def __init__(self, spec: RestorerSpec, *, device: torch.device, tile_area: int | None = None) -> None:
        """Fetch the weights, build, and run once, so that a network that does not fit its spec is told here.

        Args:
            device: where it runs.
            tile_area: pixels of a frame in the network at once; by default what fits into 2 GB (CPU) or is fast (GPU).

        Raises:
            Problem: weights or architecture are not usable.
            ModelError: what comes out does not fit the spec.
        """
        self.spec = spec
        self.device = device
        self.tile_area = tile_area or (CPU_TILE if device.type == "cpu" else GPU_TILE) // (OWN_SHARE if spec.own else 1)
        network, self.reach, self.stride = _loaded(spec)
        self.half = None if spec.own else half_of(device)
        self._network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch does not annotate it
        self._try()

    @torch.inference_mode()
    def _try(self) -> None:
        noise = torch.rand((1, 3, PROBE, PROBE), generator=torch.Generator().manual_seed(0)).to(self.device)
        frames = [noise] * (1 + self.spec.ahead)
        if not _finite(self.restore(frames, None)[0]) and self.half is not None:
            self.half = None  # half precision overflowed; this network needs float32
        if not _finite(self.restore(frames, None)[0]):
            raise ModelError(f"restorer {self.spec.name}: gave not-a-number or infinity; check its weights")

    @torch.inference_mode()
    def restore(self, frames: Sequence[Tensor], state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Restore the first of the frames.

        Args:
            frames: 1 + ahead of float32 [1, 3, H, W], RGB 0..1, any H and W.
            state: what the call for the frame before returned; None at a clip's first frame.

        Returns:
            float32 [1, 3, H * scale, W * scale], not clamped, and the state for the next frame (None where the network keeps none).

        Raises:
            ModelMemoryError: not even the smallest tile fits.
        """
        height, width = frames[0].shape[2:]
        padded = [_padded(frame, self.stride) for frame in frames]
        if state is None and self.spec.state_channels:
            state = padded[0].new_zeros((1, self.spec.state_channels, *(side // 2 for side in padded[0].shape[2:])))
        restored, state = self._fitting(padded, state)
        return restored[..., : height * self.spec.scale, : width * self.spec.scale], state

    def _fitting(self, frames: list[Tensor], state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        while True:
            tiles = self._plan(frames[0])
            try:
                return self._tiled(tiles, frames, state)
            except torch.OutOfMemoryError as error:
                self._halve(tiles, frames[0], error)

    def _plan(self, frame: Tensor) -> tuple[Tile, ...]:
        height, width = frame.shape[2:]
        return plan(height, width, area=self.tile_area, halo=self.reach + BLEND, stride=self.stride)

    def _halve(self, tried: tuple[Tile, ...], frame: Tensor, error: torch.OutOfMemoryError) -> None:
        """Remember tiles half as large; what was tried is freed first, also from the error's own frames."""
        largest = max(tried, key=lambda tile: tile.area)
        self.tile_area = largest.area // 2
        if self._plan(frame) == tried:
            size = f"{largest.columns.seen}x{largest.rows.seen}"
            raise ModelMemoryError(f"restorer {self.spec.name}: a tile of {size} does not fit into the memory of {self.device}: {error}") from None
        error.__traceback__ = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _tiled(self, tiles: tuple[Tile, ...], frames: list[Tensor], state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if len(tiles) == 1:
            return self._forward(frames, state)
        scale, (height, width) = self.spec.scale, frames[0].shape[2:]
        whole = frames[0].new_zeros((1, 3, height * scale, width * scale))
        after = None if state is None else torch.empty_like(state)
        for tile in tiles:
            seen, kept = self._forward([tile.cut(frame) for frame in frames], None if state is None else tile.cut(state, shrink=2))
            tile.add(seen, whole, scale=scale)
            if after is not None and kept is not None:
                tile.put_core(kept, after, shrink=2)
        return whole, after

    def _forward(self, frames: Sequence[Tensor], state: Tensor | None) -> tuple[Tensor, Tensor | None]:
        with torch.autocast(self.device.type, dtype=self.half, enabled=self.half is not None):
            result: object = self._network(frames[0]) if state is None else self._network(torch.stack(list(frames), 1), state)
        restored, after = result if isinstance(result, tuple) and state is not None else (result, None)
        self._check(restored, after, frames[0], state)
        return restored.float(), None if after is None else after.float()

    def _check(self, restored: object, after: object, frame: Tensor, state: Tensor | None) -> None:
        """Raises ModelError where the network does not fit its spec."""
        _, _, height, width = frame.shape
        wanted = [(1, 3, height * self.spec.scale, width * self.spec.scale), None if state is None else state.shape]
        found = [part.shape if isinstance(part, Tensor) else None for part in (restored, after)]
        if found != wanted:
            what = " and ".join(str(list(shape)) for shape in found if shape is not None)
            told = " and ".join(str(list(shape)) for shape in wanted if shape is not None)
            raise ModelError(f"restorer {self.spec.name}: made {what or 'no tensor'} of {list(frame.shape)}, expected {told}; correct its weights")


def _loaded(spec: RestorerSpec) -> tuple[nn.Module, int, int]:
    """The network, its reach and its stride."""
    return detected(spec) if spec.own else (build(spec), spec.reach, spec.stride)


def half_of(device: torch.device) -> torch.dtype | None:
    """The precision the device multiplies fastest in: fp16 on GPUs, as it is finer than bf16; bf16 on CPUs with instructions for it."""
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if device.type == "cpu" and has_bfloat16(device) else None


def _padded(frame: Tensor, stride: int) -> Tensor:
    """Sides up to multiples of the stride; the last row and column repeat."""
    down, right = (-side % stride for side in frame.shape[2:])
    return pad(frame, (0, right, 0, down), mode="replicate") if down or right else frame


def _finite(values: Tensor) -> bool:
    return bool(torch.isfinite(values).all())
