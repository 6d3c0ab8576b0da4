"""A network on frames of any size: tiles are not seen, memory that runs out halves them, what does not fit its spec is told."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.denoiser import REACH, STRIDE, Denoiser
from models.prediction import ModelError, ModelMemoryError
from models.restorer import Restorer
from models.restorers import DENOISER, UPSCALER_X2
from models.upscaler import REACH as UPSCALER_REACH
from models.upscaler import Upscaler
from tests.models.tiny_restorers import AlwaysNotANumber, Doubling, Hungry, Nothing, Temporal, spec_of

CPU = torch.device("cpu")
LEAST = 8 * 8  # an area no tile has: cores of the floor then


def frames(height, width, count):
    random = torch.Generator().manual_seed(height * 1000 + width)
    return [torch.rand((1, 3, height, width), generator=random) for _ in range(count)]


def run(restorer, height, width):
    """Three frames through a network, one after the other."""
    shown, state, given = [], None, frames(height, width, 3 + restorer.spec.ahead)
    for i in range(3):
        restored, state = restorer.restore(given[i : i + 1 + restorer.spec.ahead], state)
        shown.append(restored)
    return torch.cat(shown)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Whole and in the smallest tiles, in float32, where a seam cannot hide in rounding."""
    folder = tmp_path_factory.mktemp("tiny")
    pairs = {}
    for network in (Temporal, Doubling):
        whole, tiled = (Restorer(spec_of(folder, network), device=CPU, tile_area=area) for area in (1 << 24, LEAST))
        whole.half = tiled.half = None
        pairs[network] = (whole, tiled)
    return pairs


@given(st.sampled_from([Temporal, Doubling]), st.integers(1, 230), st.integers(1, 150))
@settings(max_examples=10)
def test_tiled_equals_untiled_at_any_size(made, network, height, width):
    whole, tiled = made[network]
    expected, found = run(whole, height, width), run(tiled, height, width)
    assert found.shape == expected.shape == (3, 3, height * whole.spec.scale, width * whole.spec.scale)
    assert (found - expected).abs().max() < 1e-5


def test_a_halo_that_is_too_small_would_be_seen(tmp_path):
    """The test above can fail."""
    whole, tiled = (Restorer(spec_of(tmp_path, Temporal, reach=0), device=CPU, tile_area=area) for area in (1 << 24, LEAST))
    whole.half = tiled.half = None
    assert (run(tiled, 200, 120) - run(whole, 200, 120)).abs().max() > 1e-4


def test_half_precision_is_not_seen_in_8_bits(tmp_path):
    fast, exact = (Restorer(spec_of(tmp_path, Temporal), device=CPU) for _ in range(2))
    fast.half, exact.half = torch.bfloat16, None
    assert (run(fast, 64, 64) - run(exact, 64, 64)).abs().max() < 2 / 255


def test_out_of_memory_halves_the_tile_and_gives_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(Hungry, "seen", [])
    monkeypatch.setattr(Hungry, "fits", 1 << 24)
    roomy, tight = (Restorer(spec_of(tmp_path, Hungry), device=CPU) for _ in range(2))
    roomy.half = tight.half = None
    expected = run(roomy, 320, 240)
    monkeypatch.setattr(Hungry, "fits", 200 * 200)
    assert (run(tight, 320, 240) - expected).abs().max() < 1e-5
    assert tight.tile_area <= 320 * 240 // 2
    Hungry.seen.clear()
    run(tight, 320, 240)
    assert max(height * width for height, width in Hungry.seen) <= 200 * 200  # remembered: nothing too large is tried again


def test_a_smallest_tile_that_does_not_fit_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(Hungry, "fits", 1 << 24)
    restorer = Restorer(spec_of(tmp_path, Hungry), device=CPU)
    monkeypatch.setattr(Hungry, "fits", 0)
    with pytest.raises(ModelMemoryError, match=r"restorer hungry: a tile of 96x96 does not fit into the memory of cpu"):
        restorer.restore(frames(200, 200, 1), None)


@pytest.mark.parametrize(
    ("network", "more", "says"),
    [
        (Doubling, {"scale": 4}, r"made \[1, 3, 128, 128\] of \[1, 3, 64, 64\], expected \[1, 3, 256, 256\]"),
        (Temporal, {"state_channels": 4, "scale": 2}, r"made \[1, 3, 64, 64\] and \[1, 4, 32, 32\] of"),
        (AlwaysNotANumber, {}, "gave not-a-number or infinity; check its weights"),
    ],
)
def test_a_network_that_does_not_fit_its_spec_is_told_at_the_start(tmp_path, network, more, says):
    with pytest.raises(ModelError, match=says):
        Restorer(spec_of(tmp_path, network, **more), device=CPU)


def test_what_a_network_leaves_alone_is_bit_identical_whatever_its_precision(tmp_path):
    restorer = Restorer(spec_of(tmp_path, Nothing), device=CPU)
    (frame,) = frames(37, 21, 1)
    assert torch.equal(restorer.restore([frame] * 3, None)[0], frame)


@pytest.mark.parametrize(("network", "reach"), [(Denoiser, REACH), (Upscaler, UPSCALER_REACH)])
def test_the_shipped_networks_reach_no_further_than_they_say(network, reach):
    """By the gradient of one pixel, with random weights in every layer."""
    torch.manual_seed(0)
    made = network()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    side = 2 * (reach + 2 * STRIDE)
    rgb = torch.rand((1, 3, side, side), requires_grad=True)
    if network is Denoiser:
        out, _ = made(rgb[:, None].expand(1, 3, 3, side, side), torch.zeros(1, Denoiser.STATE_CHANNELS, side // 2, side // 2))
    else:
        out = made(rgb)
    middle = out.shape[-1] // 2
    out[..., middle : middle + STRIDE, middle : middle + STRIDE].abs().sum().backward()
    touched = rgb.grad[0].abs().sum(0).nonzero()
    assert (side // 2 - touched.min(), touched.max() - (side // 2 + STRIDE - 1)) <= (reach, reach)
    assert touched.max() > side // 2 + STRIDE + 8


def test_the_specs_say_what_the_networks_are():
    assert (DENOISER.reach, DENOISER.stride, DENOISER.state_channels) == (REACH, STRIDE, Denoiser.STATE_CHANNELS)
    assert UPSCALER_X2.reach == UPSCALER_REACH
