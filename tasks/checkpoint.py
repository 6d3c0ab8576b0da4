"""Where a training stands, kept in its output so that a killed one goes on, and the weights that come of it.

    OUT/checkpoints/<name>.json                      what is learned, from what
    OUT/checkpoints/<name>.pt                        network, optimiser, step: replaced as a whole
    OUT/checkpoints/<name>-before-fall.safetensors   weights before the rate fell, to begin a longer training with
    OUT/<name>.safetensors, OUT/<name>.md            the weights and their card; the name is a restorer's task or a tagger's

Knows storage and formats, nothing of learning.
"""

import io
import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn

from infra import storage
from infra.problem import Problem


def manifest_uri(output: str, name: str) -> str:
    """What a training in this output is about."""
    return f"{output.rstrip('/')}/checkpoints/{name}.json"


def checkpoint_uri(output: str, name: str) -> str:
    """Where it stands."""
    return f"{output.rstrip('/')}/checkpoints/{name}.pt"


def before_fall_uri(output: str, name: str) -> str:
    """Its weights before the rate fell."""
    return f"{output.rstrip('/')}/checkpoints/{name}-before-fall.safetensors"


def weights_uri(output: str, name: str) -> str:
    """Its result."""
    return f"{output.rstrip('/')}/{name}.safetensors"


def card_uri(output: str, name: str) -> str:
    """What its result is."""
    return f"{output.rstrip('/')}/{name}.md"


def save_checkpoint(uri: str, state: Mapping[str, Any]) -> None:
    """Publish tensors, numbers and text in nested dictionaries."""
    buffer = io.BytesIO()
    torch.save(dict(state), buffer)
    storage.write_bytes(uri, buffer.getvalue())


def load_checkpoint(uri: str) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote; None where there is none yet. Runs no code that may lie in the file.

    Raises:
        Problem: it is something else.
    """
    try:
        data = storage.read_bytes(uri)
    except storage.NotFound:
        return None
    try:
        found: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
        return found
    except Exception as error:  # torch raises RuntimeError, UnpicklingError, EOFError, KeyError ...
        raise Problem(f"{uri}: is no checkpoint of a training; remove it to begin anew, or name another --output") from error


def save_weights(uri: str, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Publish weights in float32."""
    plain = {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in weights.items()}
    storage.write_bytes(uri, _ordered(save_safetensors(plain, dict(metadata))))


def _ordered(data: bytes) -> bytes:
    """The same file with its header in order, for safetensors writes metadata in another order each time, and equal weights shall be equal files."""
    header, tensors = _parts(data)
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + tensors


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors: 8 bytes of length, little-endian, JSON, then the data (safetensors' format description)."""
    end = 8 + int.from_bytes(data[:8], "little")
    return dict(json.loads(data[8:end])), data[end:]


def begin_with(network: nn.Module, uri: str) -> None:
    """Give a network the weights of an earlier training.

    Raises:
        Problem: they are no weights, or another network's.
    """
    fix = "give the safetensors of an earlier training of the same task"
    try:
        network.load_state_dict(load_safetensors(storage.read_bytes(uri)))
    except SafetensorError as error:
        raise Problem(f"start {uri}: is not safetensors ({error}); {fix}") from error
    except RuntimeError as error:
        raise Problem(f"start {uri}: these are weights of another network; {fix}") from error


def metadata_of(uri: str) -> dict[str, str] | None:
    """What was written beside the weights; None where there are none.

    Raises:
        Problem: no safetensors are there.
    """
    try:
        data = storage.read_bytes(uri)
    except storage.NotFound:
        return None
    try:
        return dict(_parts(data)[0].get("__metadata__", {}))
    except (ValueError, TypeError) as error:
        raise Problem(f"{uri}: is not safetensors; remove it, or name another --output") from error
