"""The denoiser's shapes, its memory, and how far it sees: what tiles and windows rely on."""

import pytest
import torch
from torch import Tensor, nn

from models.denoiser import AHEAD, REACH, STRIDE, Denoiser

pytestmark = pytest.mark.usefixtures("one_core")
MOST_BYTES = 6_000_000  # of the weights in the repository


def shaken(network: nn.Module) -> nn.Module:
    """With every weight at work, for blocks begin as nothing."""
    torch.manual_seed(1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.05)
    return network.eval()


def asked(frames: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
    network = shaken(Denoiser())
    if state is None:
        state = torch.zeros(len(frames), Denoiser.STATE_CHANNELS, frames.shape[3] // 2, frames.shape[4] // 2)
    with torch.inference_mode():
        found: tuple[Tensor, Tensor] = network(frames, state)
    return found


@pytest.mark.parametrize(("height", "width"), [(8, 8), (24, 40)])
def test_a_frame_of_the_same_size_and_the_state_for_the_next_come_out(height: int, width: int) -> None:
    clean, state = asked(torch.rand(2, 1 + AHEAD, 3, height, width))
    assert clean.shape == (2, 3, height, width)
    assert state.shape == (2, Denoiser.STATE_CHANNELS, height // 2, width // 2)


def test_the_frames_ahead_and_the_memory_are_looked_at() -> None:
    frames = torch.rand(1, 1 + AHEAD, 3, 16, 16)
    clean, state = asked(frames)
    for changed in range(1 + AHEAD):
        other = frames.clone()
        other[:, changed] += 0.1
        assert not torch.equal(asked(other)[0], clean)
    assert not torch.equal(asked(frames, state)[0], clean)


def test_a_pixel_reaches_no_further_than_it_says() -> None:
    """A tile with a margin of REACH is the same as the whole picture only if this holds, of both outputs."""
    side, at = 2 * REACH + 9 * STRIDE, REACH + 4 * STRIDE + 3
    frames = torch.rand(1, 1 + AHEAD, 3, side, side)
    state = torch.rand(1, Denoiser.STATE_CHANNELS, side // 2, side // 2)
    other, other_state = frames.clone(), state.clone()
    other[..., at, at] += 10
    other_state[..., at // 2, at // 2] += 10
    for before, after, factor in zip(asked(frames, state), asked(other, other_state), (1, 2), strict=True):
        changed = (before != after).any(1)[0].nonzero() * factor
        assert len(changed) > 100
        assert int((changed - at).abs().max()) <= REACH
    assert REACH % STRIDE == 0


def test_it_can_learn_to_leave_everything_as_it_is_and_fits_the_repository() -> None:
    network = Denoiser()
    nn.init.zeros_(network.leave.weight)
    nn.init.zeros_(network.leave.bias)  # type: ignore[arg-type]
    frames = torch.rand(1, 1 + AHEAD, 3, 16, 16)
    clean, _ = network(frames, torch.zeros(1, Denoiser.STATE_CHANNELS, 8, 8))
    assert torch.equal(clean, frames[:, 0])
    assert sum(4 * parameter.numel() for parameter in network.parameters()) < MOST_BYTES
