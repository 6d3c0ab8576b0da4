"""One network, ready to run: squares of pixels in, embeddings and probabilities out.

    uint8 [N,S,S,3] -> device -> (x - mean) / std -> network, at most `batch_size` frames at once -> softmax -> numpy

GPU: half precision by autocast, pinned copies that do not wait, and a batch that halves when memory runs out. CPU: float32, a frame's values depend
only on the frames of the same call. Knows torch and one spec and nothing of clips, Ray or Parquet.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from models.network import build, fastest
from models.output import ModelOutput
from models.prediction import ModelError, ModelMemoryError, Prediction
from models.spec import FrameInput, ModelSpec

CPU_BATCH = 5  # measured: from 7 frames on activations pass 32 MB, malloc maps them anew for every layer, and a frame costs 20 % more
GPU_BATCH = 256


class Predictor:
    """A spec's network on a device."""

    def __init__(
        self, spec: ModelSpec, *, device: str | None = None, batch_size: int | None = None, half: torch.dtype | None = torch.float16
    ) -> None:
        """Fetch the weights, build, fold, and run once, so that a network that does not fit its spec is told here.

        Args:
            device: "cpu", "cuda" or "cuda:1"; a GPU if there is one by default.
            batch_size: frames in memory at once; by default what was measured to be fastest on the kind of device.
            half: GPU precision, torch.float16 (8 times finer steps), torch.bfloat16, or None for float32.

        Raises:
            Problem: weights or factory are not usable.
            ModelError: the network's output does not fit the spec.
        """
        self.spec = spec
        self.labels = spec.labels
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.batch_size = batch_size or (CPU_BATCH if self.device.type == "cpu" else GPU_BATCH)
        self.half: torch.dtype | None = half if self.device.type == "cuda" else None
        self._normalise = _Normalise(spec.input, self.device)
        self._network = fastest(build(spec), crop=spec.input.geometry.crop, device=self.device)
        side = spec.input.geometry.crop
        self.predict(np.zeros((self.batch_size, side, side, 3), np.uint8))

    def predict(self, frames: np.ndarray) -> Prediction:
        """Run every frame through the network.

        Args:
            frames: uint8 [N, crop, crop, 3], as `prepare` gives them; N may be 0.

        Raises:
            ModelError: the network gave another shape than the spec says, or not-a-number.
            ModelMemoryError: one frame alone does not fit.
            ValueError: frames of another shape or type.
        """
        side = self.spec.input.geometry.crop
        if frames.dtype != np.uint8 or frames.shape[1:] != (side, side, 3):
            raise ValueError(f"model {self.spec.name}: frames are uint8 [N, {side}, {side}, 3], not {frames.dtype} {list(frames.shape)}")
        prediction = self._run(frames)
        if not _finite(prediction) and self.half is not None:
            self.half = None  # half precision overflowed; this network needs float32
            prediction = self._run(frames)
        if not _finite(prediction):
            raise ModelError(f"model {self.spec.name}: gave not-a-number or infinity; check its weights and its mean and std")
        return prediction

    @torch.inference_mode()
    def _run(self, frames: np.ndarray) -> Prediction:
        outputs = list(self._outputs(frames)) or [self._forward(np.zeros((1, *frames.shape[1:]), np.uint8))]
        embedding, probabilities = (_joined(parts, rows=len(frames)) for parts in zip(*outputs, strict=True))
        return Prediction(embedding, probabilities)

    def _outputs(self, frames: np.ndarray) -> Iterator[ModelOutput]:
        start = 0
        while start < len(frames):
            chunk = frames[start : start + self.batch_size]
            try:
                output = self._forward(chunk)
            except torch.OutOfMemoryError as error:
                self._halve(len(chunk), error)
                continue
            yield output
            start += len(chunk)

    def _halve(self, tried: int, error: torch.OutOfMemoryError) -> None:
        """Remember a batch half as large; what was tried is freed first, also from the error's own frames."""
        if tried == 1:
            raise ModelMemoryError(f"model {self.spec.name}: one frame does not fit into the memory of {self.device}: {error}") from None
        error.__traceback__ = None
        self.batch_size = tried // 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _forward(self, chunk: np.ndarray) -> ModelOutput:
        """Embedding and probabilities of one batch, float32, still on the device."""
        x = self._normalise(chunk)
        with torch.autocast("cuda", dtype=self.half, enabled=self.half is not None):
            output = self._checked(self._network(x), len(chunk))
        probabilities = None if output.logits is None else output.logits.float().softmax(1)
        return ModelOutput(None if output.embedding is None else output.embedding.float(), probabilities)

    def _checked(self, result: object, frames: int) -> ModelOutput:
        """What the spec asks for out of what the module returned."""
        output = _as_output(result, self.spec)
        embedding = self._part("embedding", output.embedding, (frames, None)) if "embed" in self.spec.task else None
        logits = self._part("logits", output.logits, (frames, len(self.labels))) if "tag" in self.spec.task else None
        return ModelOutput(embedding, logits)

    def _part(self, name: str, value: object, shape: tuple[int, int | None]) -> Tensor:
        rows, columns = shape
        fits = isinstance(value, Tensor) and value.ndim == 2 and value.shape[0] == rows and columns in (None, value.shape[1])
        if fits and isinstance(value, Tensor) and value.is_floating_point():
            return value
        found = f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        wanted = f"float [{rows}, {columns or 'D'}]"
        raise ModelError(f"model {self.spec.name}: {name} is {found}, expected {wanted}; correct what {self.spec.factory} returns, or its labels")


class _Normalise:
    """Pixels to what a network eats, on the device.

    Row-wise: mean and std are repeated over a row of pixels, which vectorises where a trailing axis of 3 does not (0.035 ms a frame, not 0.26).
    Not folded into the first convolution: that one pads with zeros of the normalised values, which no fixed pixel stands for.
    """

    def __init__(self, eats: FrameInput, device: torch.device) -> None:
        self.device = device
        self.mean, self.std = (torch.tensor(values, device=device).repeat(eats.geometry.crop) for values in (eats.mean, eats.std))

    def __call__(self, frames: np.ndarray) -> Tensor:
        """uint8 [N,S,S,3] -> float32 [N,3,S,S], channels last."""
        pinned = torch.empty(frames.shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        pinned.numpy()[...] = frames  # a copy of our own, as Ray's arrays are read-only, which torch does not know
        rows = pinned.to(self.device, non_blocking=True).view(*frames.shape[:2], -1)
        return rows.float().sub_(self.mean).div_(self.std).view(frames.shape).permute(0, 3, 1, 2)


def _as_output(result: object, spec: ModelSpec) -> ModelOutput:
    """A plain tensor is the one thing the spec's task names; a pair is embedding and logits."""
    if isinstance(result, Tensor) and len(spec.task) == 1:
        return ModelOutput(result, None) if spec.task == ("embed",) else ModelOutput(None, result)
    if isinstance(result, tuple) and len(result) == 2:
        return ModelOutput(*result)
    raise ModelError(
        f"model {spec.name}: {spec.factory} returned {type(result).__name__}; a forward pass gives (embedding, logits), or one tensor for one task"
    )


def _joined(parts: tuple[Tensor | None, ...], *, rows: int) -> np.ndarray | None:
    present = [part for part in parts if part is not None]
    joined: np.ndarray | None = torch.cat(present)[:rows].cpu().numpy() if present else None
    return joined


def _finite(prediction: Prediction) -> bool:
    return all(part is None or bool(np.isfinite(part).all()) for part in (prediction.embedding, prediction.probabilities))
