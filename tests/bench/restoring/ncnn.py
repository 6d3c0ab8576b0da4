"""Networks in ncnn's two files, a text of layers and a binary of weights, as plain torch: what a chain of convolutions needs, and no more.

    .param   7767517 / counts / one layer a line: type name inputs outputs blobs... key=value...
    .bin     per layer: flag, weights (float16 where the flag says so, padded to 4 bytes), bias float32

Source of the format: ncnn's wiki, "param and model file structure".
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

MAGIC = "7767517"
FLOAT32, FLOAT16 = 0, 0x01306B47
LEAKY_RELU = 2
OUT, KERNEL, STRIDE, PADDING, HAS_BIAS, WEIGHTS, ACTIVATION, SLOPE = 0, 1, 3, 4, 5, 6, 9, -23310


class Unreadable(Exception):
    """Not a chain of convolutions as ncnn writes it; the message says what is there instead."""


@dataclass(frozen=True, slots=True)
class Layer:
    """A line of the text."""

    kind: str
    name: str
    values: dict[int, str]

    def whole(self, key: int, default: int = 0) -> int:
        return int(self.values.get(key, default))


def network(param: Path, weights: Path) -> nn.Sequential:
    """The network, in float32.

    Raises:
        Unreadable: it is something else, or the two files do not fit.
    """
    data, offset, modules, channels = weights.read_bytes(), 0, [], 3
    for layer in _layers(param.read_text(encoding="utf-8")):
        module = _module(layer, channels)
        offset = _fill(module, data, offset)
        channels = layer.whole(OUT)
        modules += [module, *_activation(layer)]
    if offset != len(data):
        raise Unreadable(f"{weights.name}: {len(data)} bytes, the layers take {offset}")
    return nn.Sequential(*modules).eval()


def _layers(text: str) -> Iterator[Layer]:
    magic, _counts, *lines = text.split("\n")
    if magic.strip() != MAGIC:
        raise Unreadable(f"begins with {magic!r}, not {MAGIC}")
    for line in filter(None, map(str.strip, lines)):
        kind, name, inputs, outputs, *rest = line.split()
        pairs = (pair.partition("=") for pair in rest[int(inputs) + int(outputs) :])
        if kind != "Input":
            yield Layer(kind, name, {int(key): value for key, _, value in pairs})


def _module(layer: Layer, channels: int) -> nn.Conv2d | nn.ConvTranspose2d:
    kinds = {"Convolution": nn.Conv2d, "Deconvolution": nn.ConvTranspose2d}
    if layer.kind not in kinds:
        raise Unreadable(f"layer {layer.name} is {layer.kind}; known are {', '.join(kinds)}")
    out, kernel = layer.whole(OUT), layer.whole(KERNEL)
    if layer.whole(WEIGHTS) != out * channels * kernel * kernel:
        raise Unreadable(f"layer {layer.name}: {layer.whole(WEIGHTS)} weights, {out} x {channels} x {kernel} x {kernel} expected")
    bias = bool(layer.whole(HAS_BIAS))
    return kinds[layer.kind](channels, out, kernel, stride=layer.whole(STRIDE, 1), padding=layer.whole(PADDING), bias=bias)


def _activation(layer: Layer) -> list[nn.Module]:
    kind = layer.whole(ACTIVATION)
    if not kind:
        return []
    if kind != LEAKY_RELU:
        raise Unreadable(f"layer {layer.name}: activation {kind}; known is {LEAKY_RELU}, a leaky ReLU")
    return [nn.LeakyReLU(float(layer.values[SLOPE].split(",")[1]), inplace=True)]


def _fill(module: nn.Conv2d | nn.ConvTranspose2d, data: bytes, offset: int) -> int:
    """Put the weights at `offset` into a layer; the offset after them."""
    (flag,) = struct.unpack_from("<I", data, offset)
    if flag not in (FLOAT32, FLOAT16):
        raise Unreadable(f"weights in a form of their own, {flag:#x}")
    kind, count = np.dtype("<f2" if flag == FLOAT16 else "<f4"), module.weight.numel()
    values = torch.from_numpy(np.frombuffer(data, kind, count, offset + 4).astype(np.float32))
    offset += 4 + -(-count * kind.itemsize // 4) * 4
    out, into = module.out_channels, module.in_channels
    shaped = values.view(out, into, *module.kernel_size)  # for both kinds; torch turns the first two around in a transposed convolution
    with torch.no_grad():
        module.weight.copy_(shaped if isinstance(module, nn.Conv2d) else shaped.transpose(0, 1))
        if module.bias is not None:
            module.bias.copy_(torch.from_numpy(np.frombuffer(data, "<f4", out, offset).copy()))
            offset += 4 * out
    return offset
