"""Every frame of a file is in one take, in order; what is no picture is a ClipError, whatever its name says."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from infra import storage
from tasks.clip import ClipError, FailureKind
from tasks.footage import LONG_SIDE, TAKE_FRAMES, Take, takes_of
from tests.footage import photograph, write_photographs, write_video
from tests.media import encode, moving_pictures


def takes(path: Path, **more: float) -> list[Take]:
    (found,) = storage.list_objects(str(path))
    return list(takes_of(found, **more))  # type: ignore[arg-type]


def test_a_photograph_is_one_take_of_its_own_pixels(tmp_path: Path) -> None:
    write_photographs(tmp_path, 1)
    (take,) = takes(tmp_path / "photograph-0.png")
    assert not take.moves
    assert np.array_equal(take.frames[0].permute(1, 2, 0).numpy(), np.asarray(photograph(0)))
    assert take.size_bytes == 3 * 176 * 176


def test_a_large_photograph_is_reduced_by_a_whole_factor(tmp_path: Path) -> None:
    Image.new("RGB", (LONG_SIDE["photograph"] + 2, 400)).save(tmp_path / "a.jpg")
    (take,) = takes(tmp_path / "a.jpg")
    assert take.frames.shape == (1, 3, 200, LONG_SIDE["photograph"] // 2 + 1)


def test_no_frame_of_a_video_is_lost_between_its_takes(tmp_path: Path) -> None:
    pictures = moving_pictures(2 * TAKE_FRAMES + 5, 176, 168)
    (tmp_path / "a.mkv").write_bytes(encode(pictures))
    found = takes(tmp_path / "a.mkv")
    assert [len(take.frames) for take in found] == [TAKE_FRAMES, TAKE_FRAMES, 5]
    frames = torch.cat([take.frames for take in found]).float()
    wanted = torch.from_numpy(np.stack([picture.to_ndarray(format="rgb24") for picture in pictures])).permute(0, 3, 1, 2).float()
    frames, wanted = frames[:, :, ::4, ::4].flatten(1), wanted[:, :, ::4, ::4].flatten(1)
    nearest = torch.cdist(frames, wanted).argmin(1)
    assert nearest.tolist() == list(range(len(pictures)))


def test_a_video_can_be_begun_in_its_middle(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", 60)
    (whole,) = takes(tmp_path / "a.mp4")
    assert 0 < sum(len(take.frames) for take in takes(tmp_path / "a.mp4", begin=0.99)) <= len(whole.frames)


def test_what_is_too_small_shows_nothing(tmp_path: Path) -> None:
    write_photographs(tmp_path, 1)
    assert takes(tmp_path / "photograph-0.png", smallest=177) == []


def bomb() -> bytes:
    """A PNG of 200 kB that says it has 20,000 x 20,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(10_000_000))) + chunk(b"IEND", b"")


BAD = {
    "text.jpg": (b"not a picture", FailureKind.CORRUPT),
    "empty.png": (b"", FailureKind.CORRUPT),
    "bomb.png": (bomb(), FailureKind.TOO_LARGE),
    "list.mp4": (b"ffconcat version 1.0\nfile secret.mp4\n", FailureKind.CORRUPT),
    "empty.mp4": (b"", FailureKind.EMPTY),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_what_is_no_picture_is_an_error_with_its_kind(name: str, tmp_path: Path) -> None:
    """P12: without the forced format Pillow would try all its decoders, and libav would open the playlist's file."""
    data, kind = BAD[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ClipError) as error:
        takes(tmp_path / name)
    assert error.value.kind is kind, error.value


def test_a_picture_of_another_format_than_its_name_says_is_refused(tmp_path: Path) -> None:
    photograph(0).save(tmp_path / "a.gif")
    (tmp_path / "a.gif").rename(tmp_path / "a.png")
    with pytest.raises(ClipError, match="not a readable PNG"):
        takes(tmp_path / "a.png")


def test_a_photograph_of_16_bits_is_refused_and_not_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((200, 200), 40_000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(ClipError, match="8 bits") as error:
        takes(tmp_path / "a.png")
    assert error.value.kind is FailureKind.UNSUPPORTED


def test_a_broken_video_gives_the_takes_before_the_damage(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 3 * TAKE_FRAMES)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    found: list[Take] = []
    with pytest.raises(ClipError):
        found.extend(takes(path))
    assert all(len(take.frames) == TAKE_FRAMES for take in found)
