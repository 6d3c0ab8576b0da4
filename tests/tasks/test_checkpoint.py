"""Equal weights are equal files; what was saved is loaded; what is something else is a Problem and runs no code."""

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from infra import storage
from infra.problem import Problem
from tasks import checkpoint

WEIGHTS = {"b.weight": torch.arange(12.0).view(3, 2, 2, 1).to(memory_format=torch.channels_last), "a": torch.ones(3, dtype=torch.bfloat16)}
METADATA = {name: name * 3 for name in "zyxwvutsrqponm"}


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    """Without _ordered safetensors writes its metadata in another order each time, and the card's SHA-256 could not be made again."""
    for name in ("a", "b", "c"):
        checkpoint.save_weights(str(tmp_path / name), WEIGHTS, METADATA)
    assert len({(tmp_path / name).read_bytes() for name in ("a", "b", "c")}) == 1


def test_weights_are_float32_and_metadata_is_kept(tmp_path: Path) -> None:
    uri = str(tmp_path / "w.safetensors")
    checkpoint.save_weights(uri, WEIGHTS, METADATA)
    found = load_file(uri)
    assert {name: tensor.dtype for name, tensor in found.items()} == dict.fromkeys(WEIGHTS, torch.float32)
    assert all(torch.equal(found[name], weight.float()) for name, weight in WEIGHTS.items())
    assert checkpoint.metadata_of(uri) == METADATA
    assert checkpoint.metadata_of(str(tmp_path / "none")) is None


@pytest.mark.parametrize("data", [b"", b"12345678", b"\x03\0\0\0\0\0\0\0[1]", b"\xff" * 8])
def test_what_is_no_safetensors_is_told(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(data)
    with pytest.raises(Problem, match="is not safetensors"):
        checkpoint.metadata_of(str(tmp_path / "w"))


class Bomb:
    """Pickled code."""

    def __init__(self, fuse: Path) -> None:
        self.fuse = fuse

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.fuse,)


def test_a_checkpoint_runs_no_code(tmp_path: Path) -> None:
    """P12: without weights_only=True a checkpoint in a shared output is a program."""
    uri = str(tmp_path / "c.pt")
    checkpoint.save_checkpoint(uri, {"step": 3, "weight": torch.ones(2), "betas": (0.9, 0.99)})
    found = checkpoint.load_checkpoint(uri)
    assert found is not None
    assert (found["step"], found["betas"]) == (3, (0.9, 0.99))
    checkpoint.save_checkpoint(uri, {"bomb": Bomb(tmp_path / "was here")})
    with pytest.raises(Problem, match="is no checkpoint"):
        checkpoint.load_checkpoint(uri)
    storage.write_bytes(uri, pickle.dumps(Bomb(tmp_path / "was here")))
    with pytest.raises(Problem, match="is no checkpoint"):
        checkpoint.load_checkpoint(uri)
    assert not (tmp_path / "was here").exists()
    assert checkpoint.load_checkpoint(str(tmp_path / "none")) is None
