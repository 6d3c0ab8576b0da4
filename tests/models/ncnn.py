"""Networks of convolutions and PReLUs as ncnn packs them, read into a torch state dict.

    NAME.param   text: one layer a line, "Convolution NAME ... 0=outputs 1=kernel 6=weights", in the order of the binary
    NAME.bin     per convolution a tag (0 float32, 0x01306B47 float16), weights, float32 bias; per PReLU float32 slopes

Only tests know ncnn. Source: ncnn's wiki, "param and model file structure".
"""

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HALF = 0x01306B47


def compact_state(param: Path) -> dict[str, Tensor]:
    """The state dict of an SRVGGNetCompact: body.0, body.1, ... are its convolutions and PReLUs in order."""
    blob, at = param.with_suffix(".bin").read_bytes(), 0
    state = {}
    for index, (kind, fields) in enumerate(_layers(param)):
        outputs = fields[0]
        if kind == "Convolution":
            weights, at = _tagged(blob, at, fields[6])
            state[f"body.{index}.weight"] = weights.reshape(outputs, -1, fields[1], fields[1])
        values = np.frombuffer(blob, np.float32, outputs, at)
        state[f"body.{index}.{'bias' if kind == 'Convolution' else 'weight'}"] = torch.tensor(values)
        at += 4 * outputs
    assert at == len(blob)
    return state


def _layers(param: Path) -> Iterator[tuple[str, dict[int, int]]]:
    for line in param.read_text().splitlines():
        kind, *rest = line.split()
        if kind in ("Convolution", "PReLU"):
            yield kind, {int(key): int(value) for key, _, value in (word.partition("=") for word in rest if "=" in word)}


def _tagged(blob: bytes, at: int, count: int) -> tuple[Tensor, int]:
    (tag,) = struct.unpack_from("<I", blob, at)
    assert tag in (0, HALF)
    kind = np.dtype(np.float16 if tag else np.float32)
    values = np.frombuffer(blob, kind, count, at + 4)
    size = count * kind.itemsize
    return torch.tensor(values.astype(np.float32)), at + 4 + size + -size % 4
