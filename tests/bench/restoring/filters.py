"""ffmpeg's denoisers on whole clips.

    RGB -> full-range YUV 4:4:4 -> ffmpeg -vf FILTER -> RGB

The program is the one that imageio-ffmpeg carries: PyAV's FFmpeg is built without hqdn3d.
"""

import subprocess
from pathlib import Path

import numpy as np

from tests.bench.restoring.clips import to_bytes
from tests.bench.restoring.packages import FFMPEG, member

FROM_RGB = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], np.float32)
TO_RGB = np.linalg.inv(FROM_RGB).astype(np.float32)
MIDDLE = np.array([0, 128, 128], np.float32)
PROGRAM = "imageio_ffmpeg/binaries/ffmpeg-linux-x86_64-v7.0.2"


def program() -> Path:
    """ffmpeg.

    Raises:
        Unavailable: the registry does not have it.
    """
    path = member(FFMPEG, PROGRAM)
    path.chmod(0o755)
    return path


def filtered(frames: np.ndarray, graph: str) -> np.ndarray:
    """What a filter graph makes of a clip, uint8 [T, H, W, 3], in one thread."""
    return to_bytes((run(planes(frames), graph).transpose(0, 2, 3, 1) - MIDDLE) @ TO_RGB.T)


def planes(frames: np.ndarray) -> np.ndarray:
    """Y, U and V of RGB [T, H, W, 3]: uint8 [T, 3, H, W], full range, as the program reads them."""
    return np.ascontiguousarray(to_bytes(frames.astype(np.float32) @ FROM_RGB.T + MIDDLE).transpose(0, 3, 1, 2))


def run(yuv: np.ndarray, graph: str) -> np.ndarray:
    """What a filter graph makes of planes."""
    height, width = yuv.shape[2:]
    raw = ["-f", "rawvideo", "-pix_fmt", "yuv444p"]
    command = [str(program()), "-hide_banner", "-loglevel", "error", "-threads", "1", "-filter_threads", "1"]
    command += [*raw, "-s", f"{width}x{height}", "-i", "pipe:0", "-vf", graph, *raw, "pipe:1"]
    done = subprocess.run(command, input=yuv.tobytes(), capture_output=True, check=True)
    return np.frombuffer(done.stdout, np.uint8).reshape(yuv.shape)
