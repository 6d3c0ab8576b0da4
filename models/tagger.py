"""A trained tagger: a safetensors file in, probabilities of labels for sequences of frame vectors out.

    [T, D] float32 per video, T of any length -> at most `frames` of them, evenly spread -> padded batch -> network -> [B, L] in 0..1

The file says in its metadata, as JSON under `vidmill.tagger`, what it eats and what its scores are called. vidmill ships no trained tagger, and none
was ever trained on the real YouTube-8M. Knows torch and safetensors, nothing of tables, Ray or S3.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from models.prediction import ModelError, ModelMemoryError
from models.tagger_networks import Attending, GatedNetVlad, MeanPooling, Recurrent

METADATA = "vidmill.tagger"
Network = Literal["moe", "lstm", "netvlad", "transformer"]
SIZES = ("frames", "hidden", "experts", "clusters", "layers", "heads")
FIX = "name the safetensors file that `vidmill train tagger` wrote"


@dataclass(frozen=True, slots=True)
class TaggerInput:
    """An embeddings table that a tagger reads."""

    model: str  # of the table: yt8m-inception3
    width: int  # numbers of a vector


@dataclass(frozen=True, slots=True)
class TaggerShape:
    """All that makes a tagger but its weights."""

    network: Network
    inputs: tuple[TaggerInput, ...]  # in the order their vectors are joined
    labels: tuple[str, ...]  # in the order of the scores
    frames: int = 300  # most of one sequence; of a longer one so many are taken, evenly spread
    hidden: int = 256  # numbers of an inner vector; moe has none
    experts: int = 2  # for each label, besides the one that always says no
    clusters: int = 16  # of netvlad
    layers: int = 1  # of lstm and transformer
    heads: int = 4  # of transformer

    def __post_init__(self) -> None:
        if self.network not in get_args(Network):
            raise ValueError(f"network {self.network!r}; there are {', '.join(get_args(Network))}")
        if not self.inputs or not self.labels or min(self.width, *(getattr(self, size) for size in SIZES)) < 1:
            raise ValueError("inputs, labels and sizes must not be empty")
        if self.network == "transformer" and (self.hidden % self.heads or self.hidden % 2):
            raise ValueError(f"hidden {self.hidden} is not even, or no multiple of heads {self.heads}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Of the inputs."""
        return tuple(source.width for source in self.inputs)

    @property
    def width(self) -> int:
        """Of a joined vector."""
        return sum(self.widths)

    def encoded(self) -> str:
        """As `decoded` takes it."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def decoded(cls, text: str) -> "TaggerShape":
        """Raises ValueError, KeyError, TypeError: it is something else."""
        found: dict[str, Any] = json.loads(text)
        inputs = tuple(TaggerInput(str(source["model"]), int(source["width"])) for source in found["inputs"])
        sizes = {size: int(found[size]) for size in SIZES}
        return cls(network=found["network"], inputs=inputs, labels=tuple(map(str, found["labels"])), **sizes)


def network_of(shape: TaggerShape) -> nn.Module:
    """A network that has not learned yet."""
    labels = len(shape.labels)
    match shape.network:
        case "moe":
            return MeanPooling(shape.widths, labels, experts=shape.experts)
        case "lstm":
            return Recurrent(shape.widths, labels, hidden=shape.hidden, layers=shape.layers, experts=shape.experts)
        case "netvlad":
            return GatedNetVlad(shape.widths, labels, hidden=shape.hidden, clusters=shape.clusters, experts=shape.experts)
        case "transformer":
            return Attending(shape.widths, labels, hidden=shape.hidden, layers=shape.layers, heads=shape.heads, experts=shape.experts)


def read_shape(path: str | Path) -> TaggerShape:
    """What a tagger is, out of its file's header.

    Raises:
        ModelError: it is no tagger, or there is no such file.
    """
    try:
        with safe_open(path, "np") as file:
            metadata: Mapping[str, str] = file.metadata() or {}
        return TaggerShape.decoded(metadata[METADATA])
    except (SafetensorError, OSError) as error:
        raise ModelError(f"tagger {path}: cannot be read ({_line(error)}); {FIX}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"tagger {path}: says nothing of itself that could be understood ({_line(error)}); {FIX}") from error


def spread(frames: np.ndarray, most: int) -> np.ndarray:
    """All frames, or `most` of them at even distances."""
    return frames if len(frames) <= most else frames[np.arange(most) * len(frames) // most]


class Tagger:
    """A network with its weights, on its device."""

    def __init__(self, path: str | Path, device: str | torch.device | None = None) -> None:
        """Load a tagger.

        Args:
            device: where it computes; a GPU if there is one, else the CPU.

        Raises:
            ModelError: it is no tagger, or its weights do not fit what it says of itself.
        """
        self.shape = read_shape(path)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        network = network_of(self.shape)
        try:
            network.load_state_dict(load_file(path))
        except (RuntimeError, SafetensorError, OSError) as error:
            raise ModelError(f"tagger {path}: its weights are not those of the network it names ({_line(error)[:200]}); {FIX}") from error
        self.network = network.eval().requires_grad_(False).to(self.device)

    def scores(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        """The probability of every label for every sequence, whatever else is in the batch.

        Args:
            frames: float32 [T, D] each, T at least 1, D as the inputs' widths together.

        Returns:
            float32 [B, L] in 0..1.

        Raises:
            ModelError: a sequence has another shape; ModelMemoryError where not even one fits into the device's memory.
        """
        for rows in frames:
            if rows.ndim != 2 or not len(rows) or rows.shape[1] != self.shape.width:
                raise ModelError(f"tagger: takes frames [T, {self.shape.width}], T at least 1, and was given {list(rows.shape)}")
        if not frames:
            return np.empty((0, len(self.shape.labels)), np.float32)
        return self._scores([spread(rows, self.shape.frames) for rows in frames])

    def _scores(self, frames: Sequence[np.ndarray]) -> np.ndarray:
        try:
            return scored(self.network, *padded(frames), device=self.device)
        except torch.OutOfMemoryError as error:
            if len(frames) == 1:
                raise ModelMemoryError(f"tagger: {len(frames[0])} frames do not fit into the memory of {self.device}; free some of it") from error
        torch.cuda.empty_cache()
        half = len(frames) // 2
        return np.concatenate([self._scores(frames[:half]), self._scores(frames[half:])])


def padded(frames: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Sequences [T, D] of one dtype as one tensor [B, longest T, D], and bool [B, T] of what is no padding."""
    longest = max(map(len, frames))
    together = np.zeros((len(frames), longest, frames[0].shape[1]), frames[0].dtype)
    for index, rows in enumerate(frames):
        together[index, : len(rows)] = rows
    lengths = torch.tensor([len(rows) for rows in frames])
    return torch.from_numpy(together), torch.arange(longest) < lengths[:, None]


def scored(network: nn.Module, frames: Tensor, mask: Tensor, *, device: torch.device) -> np.ndarray:
    """float32 [B, L] of a padded batch; in float32, so that nothing but the last digits hangs on what else is in it."""
    with torch.inference_mode():
        logits: Tensor = network(frames.to(device), mask.to(device))
    found: np.ndarray = logits.sigmoid().cpu().numpy()
    return found


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
