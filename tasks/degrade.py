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

from models.chroma import on_chroma_grid, on_luma_grid
from models.colour import RED_BLUE

Range = tuple[float, float]
Kinds = tuple[tuple[str, float], ...]

# Kinds of noise and of reduction: each takes the draws, uniform in 0..1, from the kind before it up to its own number.
NOISES = (("none", 0.06), ("gaussian", 0.64), ("photons", 0.76), ("coarse", 0.82), ("compression", 1.0))
REDUCTIONS = (("bicubic", 0.8), ("area", 0.87), ("bilinear", 0.94), ("gaussian blur", 1.0))

# Sigmas are in 8-bit steps.
GAUSSIAN_SIGMA: Range = (0, 60)
PHOTON_GAIN: Range = (0.0005, 0.03)  # variance over brightness, both in 0..1; drawn evenly in its logarithm
READING_SIGMA: Range = (0, 10)  # gaussian, beside the photons
COARSE_SIGMA: Range = (5, 40)
CRF: Range = (20, 42)
GRAIN_SIGMA: Range = (0, 15)  # gaussian, before compression
GRAINED = 0.4  # share of the compressed
SUBSAMPLED = 0.5  # share of the sequences that go through 4:2:0, as files have it, with their noise
ROUNDED = 0.75  # share of the noisy that is rounded and clipped to 8 bits
BLUR_SIGMA: Range = (0.5, 1.2)  # pixels of the larger picture
SPOILED = 0.08  # share of the reduced with noise
SPOILED_SIGMA: Range = (0, 4)

RED, BLUE = RED_BLUE["bt601"]

# Without cpu-independent x264's macroblock tree gives other bytes each time on CPUs with AVX-512.
X264 = {"preset": "veryfast", "threads": "1", "x264-params": "cpu-independent=1"}


@dataclass(frozen=True, slots=True)
class Draw:
    """Random choices, the same ones for the same seed."""

    random: Generator

    def real(self, low: float, high: float) -> float:
        """Uniform between the two."""
        return low + (high - low) * float(torch.rand((), generator=self.random))

    def sigma(self, steps: Range) -> float:
        """Uniform, of 8-bit steps, in 0..1."""
        return self.real(*steps) / 255

    def kind(self, kinds: Kinds) -> str:
        """One of the names, as often as its numbers say."""
        at = self.real(0, 1)
        return next(name for name, end in kinds if at < end)

    def noise(self, like: Tensor) -> Tensor:
        """Standard normal, shaped as `like`."""
        return torch.randn(like.shape, generator=self.random)


def noisy_pair(clean: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """A sequence and the same with noise, both as RGB or both as they come out of 4:2:0, where what colours lose is no noise.

    In a file's 4:2:0 noise has grains of two pixels in colour and is the stronger in brightness: a network that has only seen it in RGB takes
    that for texture, and left half of it.
    """
    given = noisy(clean, draw)
    if draw.real(0, 1) < SUBSAMPLED:
        return subsampled(clean), subsampled(given, rounded=True)
    return clean, given


def noisy(clean: Tensor, draw: Draw) -> Tensor:
    """A sequence with noise of a random kind: gaussian, of photons, coarse-grained, of compression, of both, or none.

    Args:
        clean: float [T, 3, H, W], 0..1.

    Returns:
        the same shape; mostly rounded and clipped to 8 bits, as files are.
    """
    match draw.kind(NOISES):
        case "none":
            return clean
        case "gaussian":
            found = clean + draw.noise(clean) * draw.sigma(GAUSSIAN_SIGMA)
        case "photons":
            found = _photons(clean, draw)
        case "coarse":
            found = clean + _coarse(clean, draw) * draw.sigma(COARSE_SIGMA)
        case _:
            grain = draw.noise(clean) * draw.sigma(GRAIN_SIGMA) if draw.real(0, 1) < GRAINED else 0.0
            found = compressed(clean + grain, crf=int(draw.real(*CRF)))
    return to_8_bits(found) if draw.real(0, 1) < ROUNDED else found


def subsampled(frames: Tensor, *, rounded: bool = False) -> Tensor:
    """What 4:2:0 leaves of RGB: BT.601 of limited range, colours at half the size.

    Args:
        frames: float [T, 3, H, W].
        rounded: to 8-bit codes, and clipped to them.
    """
    red, green, blue = frames.unbind(1)
    luma = RED * red + (1 - RED - BLUE) * green + BLUE * blue
    chroma = on_chroma_grid(torch.stack([(blue - luma) / (2 * (1 - BLUE)), (red - luma) / (2 * (1 - RED))], 1), "420")
    if rounded:
        luma, chroma = ((luma * 219 + 16).round().clamp(0, 255) - 16) / 219, ((chroma * 224 + 128).round().clamp(0, 255) - 128) / 224
    cb, cr = on_luma_grid(chroma, "420", height=frames.shape[2], width=frames.shape[3]).unbind(1)
    red, blue = luma + 2 * (1 - RED) * cr, luma + 2 * (1 - BLUE) * cb
    return torch.stack([red, (luma - RED * red - BLUE * blue) / (1 - RED - BLUE), blue], 1)


def to_8_bits(frames: Tensor) -> Tensor:
    """Rounded to steps of 1/255 and clipped to 0..1."""
    return (frames.clamp(0, 1) * 255).round() / 255


def _photons(clean: Tensor, draw: Draw) -> Tensor:
    """Poisson noise, whose variance grows with brightness, over the gaussian noise of reading (Foi et al. 2008, its gaussian approximation)."""
    gain, reading = math.exp(draw.real(*map(math.log, PHOTON_GAIN))), draw.sigma(READING_SIGMA)
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
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), **X264})
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
    kind, spoiled = draw.kind(REDUCTIONS), draw.real(0, 1)
    match kind:
        case "bicubic":
            small = interpolate(sharp, scale_factor=0.5, mode="bicubic", antialias=True)
        case "area":
            small = interpolate(sharp, scale_factor=0.5, mode="area")
        case "bilinear":
            small = interpolate(sharp, scale_factor=0.5, mode="bilinear", antialias=True)
        case _:
            small = _gaussian_halved(sharp, draw.real(*BLUR_SIGMA))
    if spoiled < SPOILED:
        small = small + draw.noise(small) * draw.sigma(SPOILED_SIGMA)
    return to_8_bits(small)


def _gaussian_halved(sharp: Tensor, sigma: float) -> Tensor:
    """Blurred by a gaussian, centred between the four pixels that become one."""
    at = torch.arange(8) - 3.5
    line = torch.exp(-(at**2) / (2 * sigma**2))
    kernel = torch.outer(line, line)
    kernel = (kernel / kernel.sum()).expand(3, 1, 8, 8)
    return conv2d(pad(sharp, (3, 3, 3, 3), mode="reflect"), kernel, stride=2, groups=3)
