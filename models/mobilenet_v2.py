"""MobileNetV2: 3.5 M parameters, 0.3 GMAC at 224 px.

    rgb [N,3,H,W] -> stem /2 -> 17 inverted bottlenecks /16 -> head 1280 -> mean over pixels -> embedding -> linear -> logits

Source: M. Sandler et al., "MobileNetV2" (arXiv:1801.04381), table 2. Parameter names are those of torchvision's checkpoint, so it loads strictly.
Knows layers and nothing of weights, files or devices.
"""

from dataclasses import dataclass
from itertools import pairwise

from torch import Tensor, nn

from models.output import ModelOutput


@dataclass(frozen=True, slots=True)
class Stage:
    """Consecutive bottlenecks of one width; only the first strides."""

    expand: int
    width: int
    blocks: int
    stride: int


STAGES = (
    Stage(expand=1, width=16, blocks=1, stride=1),
    Stage(expand=6, width=24, blocks=2, stride=2),
    Stage(expand=6, width=32, blocks=3, stride=2),
    Stage(expand=6, width=64, blocks=4, stride=2),
    Stage(expand=6, width=96, blocks=3, stride=1),
    Stage(expand=6, width=160, blocks=3, stride=2),
    Stage(expand=6, width=320, blocks=1, stride=1),
)
STEM_WIDTH = 32
HEAD_WIDTH = 1280


def _active(width_in: int, width_out: int, *, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(width_in, width_out, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width_out), nn.ReLU6(inplace=True))


class Bottleneck(nn.Module):
    """Widen, filter each channel, narrow; added to its input where the shape allows."""

    def __init__(self, width_in: int, stage: Stage, *, stride: int) -> None:
        super().__init__()
        wide = width_in * stage.expand
        widen = [_active(width_in, wide)] if stage.expand > 1 else []
        narrow = [nn.Conv2d(wide, stage.width, 1, bias=False), nn.BatchNorm2d(stage.width)]
        self.conv = nn.Sequential(*widen, _active(wide, wide, kernel=3, stride=stride, groups=wide), *narrow)
        self.residual = stride == 1 and width_in == stage.width

    def forward(self, x: Tensor) -> Tensor:
        """[N,C,H,W] -> [N,C',H/stride,W/stride]."""
        y: Tensor = self.conv(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """MobileNetV2 of width 1.0 for `classes` classes."""

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        stem, head = _active(3, STEM_WIDTH, kernel=3, stride=2), _active(STAGES[-1].width, HEAD_WIDTH)
        self.features = nn.Sequential(stem, *_bottlenecks(), head)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(HEAD_WIDTH, classes))

    def forward(self, x: Tensor) -> ModelOutput:
        """float [N,3,H,W] -> embedding [N,1280], logits [N,classes]."""
        embedding: Tensor = self.features(x).mean((2, 3))
        return ModelOutput(embedding, self.classifier(embedding))


def _bottlenecks() -> list[Bottleneck]:
    layers = [(stage, stage.stride if index == 0 else 1) for stage in STAGES for index in range(stage.blocks)]
    widths = [STEM_WIDTH, *(stage.width for stage, _ in layers)]
    return [Bottleneck(width_in, stage, stride=stride) for (width_in, _), (stage, stride) in zip(pairwise(widths), layers, strict=True)]


def mobilenet_v2() -> MobileNetV2:
    """The network as published: 1000 ImageNet classes."""
    return MobileNetV2()
