"""Small networks for the tests of inference: values that are easy to recompute, and one that fails on certain pictures."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from safetensors.torch import save_file

from tests.media import Recipe, encode

RATE = 10
DARK, MEDIUM, LIGHT = 60, 128, 220  # grey levels; Picky raises on DARK, gives not-a-number on LIGHT


class Grey(torch.nn.Module):
    """Embedding: mean of each channel, 0..1. Logits: dark and light."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = x.mean((2, 3)) * self.weight
        return mean, torch.stack([1 - mean[:, 0], mean[:, 0]], dim=1) * 4


class Picky(Grey):
    """Fails on some pictures, as a user's network may."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean, logits = super().forward(x)
        if ((mean[:, 0] > 0.15) & (mean[:, 0] < 0.35)).any():
            raise RuntimeError("too dark for me")
        return torch.where(mean > 0.75, float("nan"), mean), logits


def entry(folder: Path, network: str = "Grey", **more: Any) -> dict[str, Any]:
    """A user's entry for one of these networks, named like it in small letters."""
    weights, labels = folder / "weights.safetensors", folder / "labels.txt"
    save_file({"weight": torch.ones(3)}, weights)
    labels.write_text("dark\nlight\n")
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    fields = {"name": network.lower(), "factory": f"tests.tasks.networks:{network}", "weights": f"file:{weights}", "sha256": digest}
    return {**fields, "task": ["embed", "tag"], "labels": str(labels), "resize": 32, "crop": 32, "mean": [0, 0, 0], "std": [255, 255, 255], **more}


@cache
def grey(level: int, *, seconds: int = 1) -> bytes:
    """An mp4 of one grey."""
    picture = np.full((64, 64, 3), level, np.uint8)
    frames = [av.VideoFrame.from_ndarray(picture, format="rgb24") for _ in range(seconds * RATE)]
    return encode(frames, Recipe(rate=RATE, muxer={"movflags": "faststart"}))
