"""EfficientNet-Lite0: 4.7 M parameters, 0.4 GMAC at 224 px.

    rgb [N,3,H,W] -> stem /2 -> 16 inverted bottlenecks /16 -> head 1280 -> mean over pixels -> embedding -> linear -> logits

Source: M. Tan and Q. Le, "EfficientNet" (arXiv:1905.11946), table 1, and TensorFlow's efficientnet/lite: no squeeze-and-excitation, ReLU6, stem and
head of fixed width. Parameter names are those of the published checkpoint, so it loads strictly.
Knows layers and nothing of weights, files or devices.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from models.output import ModelOutput

EPSILON = 1e-3  # TensorFlow's batch norm, under which the checkpoint was trained


@dataclass(frozen=True, slots=True)
class Stage:
    """Consecutive bottlenecks of one width; only the first strides."""

    kernel: int
    stride: int
    expand: int
    width: int
    blocks: int


STAGES = (
    Stage(kernel=3, stride=1, expand=1, width=16, blocks=1),
    Stage(kernel=3, stride=2, expand=6, width=24, blocks=2),
    Stage(kernel=5, stride=2, expand=6, width=40, blocks=2),
    Stage(kernel=3, stride=2, expand=6, width=80, blocks=3),
    Stage(kernel=5, stride=1, expand=6, width=112, blocks=3),
    Stage(kernel=5, stride=2, expand=6, width=192, blocks=4),
    Stage(kernel=3, stride=1, expand=6, width=320, blocks=1),
)
STEM_WIDTH = 32
HEAD_WIDTH = 1280


class SameConv(nn.Conv2d):
    """Convolution without bias, padded as TensorFlow's SAME pads even sizes: a stride of 2 puts the odd pixel at the right and the bottom.

    Static, so exact for inputs that are multiples of 32 pixels; the reference package pads the same way for its nominal 224.
    """

    def __init__(self, width_in: int, width_out: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__(width_in, width_out, kernel, stride, groups=groups, bias=False, padding=kernel // 2 if stride == 1 else 0)
        before = (kernel - stride) // 2
        self.lopsided = (before, kernel - stride - before) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,C',H/stride,W/stride]."""
        return super().forward(functional.pad(x, self.lopsided * 2) if self.lopsided else x)

    def symmetric(self) -> nn.Conv2d:
        """The same function as one plain convolution: a zero row and column before the kernel make its padding even on both sides."""
        kernel = self.kernel_size[0]
        grown = kernel + 1 if self.lopsided else kernel
        plain = nn.Conv2d(self.in_channels, self.out_channels, grown, self.stride[0], kernel // 2, groups=self.groups, bias=self.bias is not None)
        plain.weight = nn.Parameter(functional.pad(self.weight.detach(), (grown - kernel, 0) * 2))
        plain.bias = self.bias
        return plain


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=EPSILON)


class Bottleneck(nn.Module):
    """Widen, filter each channel, narrow; added to its input where the shape allows."""

    def __init__(self, width_in: int, stage: Stage, *, stride: int) -> None:
        super().__init__()
        wide = width_in * stage.expand
        if stage.expand > 1:
            self._expand_conv, self._bn0 = SameConv(width_in, wide), _norm(wide)
        self._depthwise_conv, self._bn1 = SameConv(wide, wide, kernel=stage.kernel, stride=stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = SameConv(wide, stage.width), _norm(stage.width)
        self.expands = stage.expand > 1
        self.residual = stride == 1 and width_in == stage.width

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,C',H/stride,W/stride]."""
        y: Tensor = functional.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        y = self._bn2(self._project_conv(y))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 for `classes` classes."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = SameConv(3, STEM_WIDTH, kernel=3, stride=2), _norm(STEM_WIDTH)
        self._blocks = nn.ModuleList(_bottlenecks())
        self._conv_head, self._bn1 = SameConv(STAGES[-1].width, HEAD_WIDTH), _norm(HEAD_WIDTH)
        self._fc = nn.Linear(HEAD_WIDTH, classes)

    def forward(self, x: Tensor) -> ModelOutput:
        """float [N,3,H,W] -> embedding [N,1280], logits [N,classes]."""
        x = functional.relu6(self._bn0(self._conv_stem(x)), inplace=True)
        for block in self._blocks:
            x = block(x)
        x = functional.relu6(self._bn1(self._conv_head(x)), inplace=True)
        embedding = x.mean((2, 3))
        return ModelOutput(embedding, self._fc(embedding))


def _bottlenecks() -> list[Bottleneck]:
    layers = [(stage, stage.stride if index == 0 else 1) for stage in STAGES for index in range(stage.blocks)]
    widths = [STEM_WIDTH, *(stage.width for stage, _ in layers)]
    return [Bottleneck(width_in, stage, stride=stride) for (width_in, _), (stage, stride) in zip(pairwise(widths), layers, strict=True)]


def efficientnet_lite0() -> EfficientNetLite0:
    """The network as published: 1000 ImageNet classes."""
    return EfficientNetLite0()
