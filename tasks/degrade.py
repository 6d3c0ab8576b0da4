"""What happens to good pictures on their way: noise, compression, reduction. Clean sequences in, what a camera or a site would give out.

Knows tensors, Pillow's way of resampling and PyAV's encoder; nothing of networks.
"""

import io
import math
from dataclasses import dataclass

import av
import numpy as np
import torch
from av.video.frame import VideoFrame
from torch import Generator, Tensor
from torch.nn.functional import conv2d, interpolate, pad

MOST_SIGMA = 60.0  # of gaussian noise, in 8-bit steps


@dataclass(frozen=True, slots=True)
class Draw:
    """Random choices, the same ones for the same seed."""

    random: Generator

    def real(self, low: float, high: float) -> float:
        """Uniform between the two."""
        return low + (high - low) * float(torch.rand((), generator=self.random))

    def noise(self, like: Tensor) -> Tensor:
        """Standard normal, shaped as `like`."""
        return torch.randn(like.shape, generator=self.random)


def noisy(clean: Tensor, draw: Draw) -> Tensor:
    """A sequence with noise of a random kind: gaussian, of photons, coarse-grained, of compression, of both, or none.

    Args:
        clean: float [T, 3, H, W], 0..1.

    Returns:
        the same shape; mostly rounded and clipped to 8 bits, as files are.
    """
    kind = draw.real(0, 1)
    if kind < 0.06:
        return clean
    if kind < 0.64:
        found = clean + draw.noise(clean) * (draw.real(0, MOST_SIGMA) / 255)
    elif kind < 0.76:
        found = _photons(clean, draw)
    elif kind < 0.82:
        found = clean + _coarse(clean, draw) * (draw.real(5, 40) / 255)
    else:
        grain = draw.noise(clean) * (draw.real(0, 15) / 255) if draw.real(0, 1) < 0.4 else 0.0
        found = compressed(clean + grain, crf=int(draw.real(20, 42)))
    return to_8_bits(found) if draw.real(0, 1) < 0.75 else found


def to_8_bits(frames: Tensor) -> Tensor:
    """Rounded to steps of 1/255 and clipped to 0..1."""
    return (frames.clamp(0, 1) * 255).round() / 255


def _photons(clean: Tensor, draw: Draw) -> Tensor:
    """Poisson noise, whose variance grows with brightness, over the gaussian noise of reading (Foi et al. 2008, its gaussian approximation)."""
    gain, reading = math.exp(draw.real(math.log(0.0005), math.log(0.03))), draw.real(0, 10) / 255
    return clean + draw.noise(clean) * (clean.clamp(min=0) * gain + reading**2).sqrt()


def _coarse(clean: Tensor, draw: Draw) -> Tensor:
    """Noise of unit variance whose grains are larger than a pixel, as after demosaicing or enlarging."""
    kernel = torch.tensor([1.0, 2.0, 1.0])
    kernel = torch.outer(kernel, kernel)
    kernel = (kernel / kernel.square().sum().sqrt()).expand(3, 1, 3, 3)
    return conv2d(pad(draw.noise(clean), (1, 1, 1, 1), mode="reflect"), kernel, groups=3)


def compressed(frames: Tensor, *, crf: int) -> Tensor:
    """What x264 leaves of a sequence.

    Args:
        frames: float [T, 3, H, W], 0..1, of even sides.
    """
    target = io.BytesIO()
    rgb = (frames.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    with av.open(target, "w", format="matroska") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = rgb.shape[2], rgb.shape[1], "yuv420p"
        for picture in rgb:
            container.mux(stream.encode(VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    with av.open(io.BytesIO(target.getvalue()), "r") as found:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in found.decode(video=0)])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).float() / 255


def halved(sharp: Tensor, draw: Draw) -> Tensor:
    """Half the size by a random kernel, mostly a common one, now and then with slight compression or noise.

    Args:
        sharp: float [T, 3, 2H, 2W], 0..1.

    Returns:
        [T, 3, H, W], in steps of 1/255.
    """
    kind, spoiled = draw.real(0, 1), draw.real(0, 1)
    if kind < 0.5:
        small = interpolate(sharp, scale_factor=0.5, mode="bicubic", antialias=True)
    elif kind < 0.65:
        small = interpolate(sharp, scale_factor=0.5, mode="area")
    elif kind < 0.8:
        small = interpolate(sharp, scale_factor=0.5, mode="bilinear", antialias=True)
    else:
        small = _gaussian_halved(sharp, draw.real(0.5, 1.2))
    if spoiled < 0.08:
        small = small + draw.noise(small) * (draw.real(0, 4) / 255)
    return to_8_bits(small)


def _gaussian_halved(sharp: Tensor, sigma: float) -> Tensor:
    """Blurred by a gaussian, centred between the four pixels that become one."""
    at = torch.arange(8) - 3.5
    line = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = torch.outer(line, line)
    kernel = (kernel / kernel.sum()).expand(3, 1, 8, 8)
    return conv2d(pad(sharp, (3, 3, 3, 3), mode="reflect"), kernel, stride=2, groups=3)
