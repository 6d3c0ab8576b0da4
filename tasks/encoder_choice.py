"""The encoder for a codec: what is at hand, and its options.

    h264   libx264   or h264_nvenc        hevc   libx265   or hevc_nvenc        av1   libsvtav1   or av1_nvenc

Equal pictures give equal bytes on every machine with the same encoder: threads are fixed in number and work on whole frames (libx264's
other kind, slices, was seen to give other bytes each time). Knows PyAV's encoders and nothing of files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from av.codec import CodecContext
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from models.picture import PictureFormat
from tasks.encoding import PRESETS, Codec, Encoding
from tasks.planes import pixel_format
from tasks.track import picture_bytes

THREADS = 4  # of libx264 and libx265: their number is part of the result, so it does not follow the machine
LOOKAHEAD_BYTES = 192 << 20  # of pictures that an encoder may hold to look ahead; libx264 takes about twice as much, and as much again for the rest
_SHORTEST_LOOKAHEAD = 10  # pictures
_LOOKAHEADS: Mapping[Codec, tuple[int, ...]] = {  # of the presets, as the encoders document them
    "h264": (0, 0, 10, 20, 30, 40, 50, 60, 60, 60),
    "hevc": (5, 10, 15, 15, 15, 20, 25, 40, 40, 60),
}
_SOFTWARE: Mapping[Codec, str] = {"h264": "libx264", "hevc": "libx265", "av1": "libsvtav1"}
_HARDWARE: Mapping[Codec, str] = {"h264": "h264_nvenc", "hevc": "hevc_nvenc", "av1": "av1_nvenc"}
_TAGS: Mapping[Codec, str] = {"h264": "avc1", "hevc": "hvc1", "av1": "av01"}
_SVT_PRESETS = ("10", "10", "9", "9", "8", "7", "6", "5", "4", "3")  # in the same order of speed; beyond 10 SVT-AV1 itself warns of the result
_SVT_PARALLELISM = 2  # of SVT-AV1's six steps: 0.8 GB at 2560x1440, where the last takes 1.9 GB; the bytes are the same
_NVENC_PRESETS = ("p1", "p1", "p2", "p3", "p3", "p4", "p5", "p6", "p7", "p7")
_TRIAL_SIDE = 256  # pixels; NVENC refuses less than 145


@dataclass(frozen=True, slots=True)
class Encoder:
    """What is done."""

    name: str  # libav's
    pixel_format: str
    tag: str  # of the sample entry, ISO/IEC 14496-15
    options: Mapping[str, str]
    threads: int


def encoder_for(encoding: Encoding, form: PictureFormat) -> Encoder:
    """The encoder for pictures of a format: NVENC where it is present and takes them, else the CPU."""
    hardware = _hardware(encoding, form)
    if hardware and _opens(hardware.name, hardware.pixel_format):
        return hardware
    return _software(encoding, form)


def _software(encoding: Encoding, form: PictureFormat) -> Encoder:
    name, preset = _SOFTWARE[encoding.codec], encoding.preset
    options = {"preset": preset, "crf": str(encoding.crf)}
    if encoding.codec == "h264":
        options |= _lookahead(encoding, form)
    elif encoding.codec == "hevc":
        own = {"log-level": "none", "frame-threads": str(THREADS), "pools": str(THREADS), "lookahead-slices": "1"}
        options["x265-params"] = ":".join(f"{key}={value}" for key, value in (own | _lookahead(encoding, form)).items())
    else:
        options["preset"] = _SVT_PRESETS[PRESETS.index(preset)] if preset in PRESETS else preset
        options["svtav1-params"] = f"lp={_SVT_PARALLELISM}"
    return Encoder(name, _layout(encoding.codec, form), _TAGS[encoding.codec], options, 0 if encoding.codec == "av1" else THREADS)


def _lookahead(encoding: Encoding, form: PictureFormat) -> dict[str, str]:
    """A shorter one than the preset's where the pictures are large."""
    most = max(LOOKAHEAD_BYTES // picture_bytes(form), _SHORTEST_LOOKAHEAD)
    return {"rc-lookahead": str(most)} if most < _LOOKAHEADS[encoding.codec][PRESETS.index(encoding.preset)] else {}


def _layout(codec: Codec, form: PictureFormat) -> str:
    """H.264 and HEVC crop by whole chroma samples, so an odd size needs chroma in every pixel; SVT-AV1 knows 420 alone, of any size."""
    if codec == "av1":
        return pixel_format(form).replace(form.chroma, "420")
    odd_width, odd_height = form.width % 2 == 1, form.height % 2 == 1
    needs_all = (form.chroma != "444" and odd_width) or (form.chroma == "420" and odd_height)
    return pixel_format(form).replace(form.chroma, "444") if needs_all else pixel_format(form)


def _hardware(encoding: Encoding, form: PictureFormat) -> Encoder | None:
    if form.chroma != "420" or form.width % 2 or form.height % 2 or (form.bits == 10 and encoding.codec == "h264"):
        return None
    preset = encoding.preset if encoding.preset in PRESETS else "medium"
    options = {"preset": _NVENC_PRESETS[PRESETS.index(preset)], "rc": "vbr", "cq": str(max(encoding.crf, 1)), "b": "0"}
    layout = "p010le" if form.bits == 10 else "yuv420p"
    return Encoder(_HARDWARE[encoding.codec], layout, _TAGS[encoding.codec], options, 1)


@cache
def _opens(name: str, layout: str) -> bool:
    """Whether an encoder works here, which only opening it tells."""
    try:
        trial = CodecContext.create(name, "w")
        assert isinstance(trial, VideoCodecContext)
        trial.width, trial.height, trial.pix_fmt, trial.time_base = _TRIAL_SIDE, _TRIAL_SIDE, layout, Fraction(1, 25)
        trial.open()
    except (FFmpegError, ValueError):
        return False
    return True
