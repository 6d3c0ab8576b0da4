"""Taggers that have learned nothing, for tests of what is done with their scores."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from models.tagger import METADATA, TaggerInput, TaggerShape, network_of

RECORDS = (("yt8m-inception3", 1024), ("yt8m-vggish", 128))


def tagger(path: Path, *inputs: tuple[str, int], seed: int = 0, labels: int = 7) -> Path:
    """A file with random weights that reads these models' embeddings, of so many numbers each."""
    torch.manual_seed(seed)
    shape = TaggerShape(network="moe", inputs=tuple(TaggerInput(*given) for given in inputs), labels=tuple(f"label {k}" for k in range(labels)))
    save_file(network_of(shape).state_dict(), path, metadata={METADATA: shape.encoded()})
    return path


def entry(path: Path, name: str = "mine", **more: Any) -> dict[str, Any]:
    """A user's entry for it."""
    return {"name": name, "tagger": str(path), **more}
