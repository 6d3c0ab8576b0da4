"""Sequences are as asked for, the same for the same seed, within 0..1, and really move."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from tasks.footage import Take
from tasks.motion import Director
from tests.footage import photograph

pytestmark = pytest.mark.usefixtures("one_core")


def still(number: int, width: int = 200, height: int = 170) -> Take:
    picture = photograph(number, side=max(width, height)).crop((0, 0, width, height))
    data = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(height, width, 3)
    return Take(f"{number}", data.permute(2, 0, 1)[None])


def moving(frames: int) -> Take:
    wide = still(9, 170 + frames).frames[0]
    return Take("video", torch.stack([wide[:, :, i : i + 170] for i in range(frames)]))


def directed(takes: list[Take], seed: int, *, side: int = 32, frames: int = 6) -> Tensor:
    return Director(takes, side=side, frames=frames, random=Generator().manual_seed(seed)).sequence()


@settings(max_examples=10)
@given(
    seed=st.integers(0, 2**40),
    side=st.sampled_from([32, 64, 96]),
    frames=st.sampled_from([1, 5]),
    kind=st.sampled_from(["photographs", "videos", "both"]),
)
def test_a_sequence_is_as_asked_for(seed: int, side: int, frames: int, kind: str) -> None:
    takes = {"photographs": [still(1), still(2)], "videos": [moving(20)], "both": [still(1), moving(20)]}[kind]
    first, second = (directed(takes, seed, side=side, frames=frames) for _ in range(2))
    assert first.shape == (frames, 3, side, side)
    assert 0 <= float(first.min()) <= float(first.max()) <= 1
    assert torch.equal(first, second)


def test_views_of_a_photograph_move_and_stand_still_and_differ() -> None:
    found = [directed([still(1), still(2)], seed) for seed in range(16)]
    moved = [bool((sequence[1:] != sequence[:-1]).any()) for sequence in found]
    assert 8 < sum(moved) < 16
    assert len({float(sequence.mean()) for sequence in found}) == 16


def test_a_part_of_a_video_is_its_own_pixels() -> None:
    """Videos are not resampled but by two, so what is learned from them is as sharp as they are."""
    video = moving(20)
    values = {int(value) for value in video.frames.unique()}
    whole = 0
    for seed in range(15):
        steps = (directed([video], seed) * 255).double()
        whole += bool((steps.round() - steps).abs().max() < 1e-3 and {int(value) for value in steps.round().unique()} <= values)
    assert whole >= 3


def test_short_videos_are_not_used() -> None:
    assert Director([still(1), moving(5)], side=32, frames=6, random=Generator()).videos == []
