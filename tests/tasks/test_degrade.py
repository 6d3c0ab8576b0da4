"""Degradations have the strength they name, the same for the same seed, also what x264 does."""

from statistics import fmean

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, Tensor

from tasks import degrade
from tasks.degrade import NOISES, REDUCTIONS, Draw, compressed, halved, noisy, noisy_pair, subsampled, to_8_bits
from tests.footage import photograph
from tests.tasks.test_motion import directed, still

pytestmark = pytest.mark.usefixtures("one_core")


def drawn(seed: int) -> Draw:
    return Draw(Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def clean() -> Tensor:
    """A still picture, six times: [6, 3, 64, 64]."""
    picture = torch.frombuffer(bytearray(photograph(3, side=64).tobytes()), dtype=torch.uint8).view(64, 64, 3)
    return (picture.permute(2, 0, 1).float() / 255).expand(6, -1, -1, -1)


@settings(max_examples=8)
@given(seed=st.integers(0, 2**40))
def test_the_same_seed_gives_the_same_noise_and_reduction(seed: int, clean: Tensor) -> None:
    for spoil, shape in ((noisy, (6, 3, 64, 64)), (halved, (6, 3, 32, 32))):
        first, second = (spoil(clean, drawn(seed)) for _ in range(2))
        assert first.shape == shape
        assert torch.equal(first, second)


def test_kinds_come_as_often_as_their_numbers_say() -> None:
    for kinds in (NOISES, REDUCTIONS):
        draw = drawn(1)
        found = [draw.kind(kinds) for _ in range(4000)]
        for (name, end), begin in zip(kinds, [0.0, *(end for _, end in kinds)], strict=False):
            assert found.count(name) / 4000 == pytest.approx(end - begin, abs=0.03)


@pytest.mark.parametrize("kind", [name for name, _ in NOISES])
def test_every_kind_of_noise_changes_the_picture_as_it_should(kind: str, clean: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degrade, "NOISES", ((kind, 1.0),))
    grey = torch.full_like(clean, 0.5)
    errors = [float((noisy(grey, drawn(seed)) - grey).std()) * 255 for seed in range(24)]
    largest = {"none": 0, "gaussian": 60, "photons": 32, "coarse": 41, "compression": 10}[kind]
    assert 0.6 * largest <= max(errors) <= largest


def test_brightness_survives_4_2_0_and_colour_where_it_is_smooth(clean: Tensor) -> None:
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    assert torch.allclose((subsampled(clean) * luma).sum(1), (clean * luma).sum(1), atol=1e-6)
    smooth = torch.stack(torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(1, 0, 64), indexing="ij"))[[0, 1, 0]].expand(2, -1, -1, -1)
    inner = (..., slice(4, -4), slice(4, -4))
    assert torch.allclose(subsampled(smooth)[inner], smooth[inner], atol=1e-4)
    assert (subsampled(smooth, rounded=True) - subsampled(smooth)).abs().max() < 2.5 / 255


def test_noise_in_4_2_0_is_stronger_in_brightness_than_in_colour() -> None:
    grey = torch.full((4, 3, 64, 64), 0.5)
    found = subsampled(grey + drawn(1).noise(grey) * 0.1, rounded=True) - grey
    luma = 0.299 * found[:, 0] + 0.587 * found[:, 1] + 0.114 * found[:, 2]
    assert float(luma.std()) == pytest.approx(0.1 * (0.299**2 + 0.587**2 + 0.114**2) ** 0.5, rel=0.05)
    colour, before = found[:, 2] - luma, 0.1 * (0.299**2 + 0.587**2 + (1 - 0.114) ** 2) ** 0.5
    assert float(colour.std()) < 0.6 * before


def test_a_sequence_and_its_noisy_one_are_both_of_4_2_0_or_neither(clean: Tensor) -> None:
    pairs = [noisy_pair(clean, drawn(seed)) for seed in range(40)]
    filed = [not torch.equal(kept, clean) for kept, _ in pairs]
    assert 10 < sum(filed) < 30
    for (kept, spoiled), of_420 in zip(pairs, filed, strict=True):
        assert torch.equal(kept, subsampled(clean) if of_420 else clean)
        assert spoiled.shape == clean.shape


def test_coarse_noise_has_unit_variance_and_grains_larger_than_a_pixel() -> None:
    noise = degrade._coarse(torch.zeros(20, 3, 64, 64), drawn(1))
    assert float(noise.std()) == pytest.approx(1, abs=0.02)
    assert float((noise[..., 1:] * noise[..., :-1]).mean()) > 0.5


def test_photons_make_bright_parts_noisier(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(degrade, "READING_SIGMA", (0, 0))
    dark, bright = (
        fmean(float((degrade._photons(torch.full((2, 3, 32, 32), level), drawn(seed)) - level).std()) for seed in range(20)) for level in (0.1, 0.9)
    )
    assert bright / dark == pytest.approx(3, abs=0.1)


def test_x264_gives_the_same_bytes_each_time() -> None:
    """Without cpu-independent in degrade.X264 its macroblock tree reads what lies behind the frame, on CPUs with AVX-512, and no training repeats."""
    for seed in (1, 7, 8):
        clean = directed([still(1), still(2)], seed, side=64, frames=26)
        clean = clean + drawn(1).noise(clean) * 0.03
        first = compressed(clean, crf=24)
        assert all(torch.equal(compressed(clean, crf=24), first) for _ in range(10))


def test_a_higher_crf_loses_more(clean: Tensor) -> None:
    errors = [float((compressed(clean, crf=crf) - clean).square().mean()) for crf in (20, 30, 41)]
    assert errors == sorted(errors)
    assert errors[0] < 0.5 * errors[2]


@pytest.mark.parametrize("kind", [name for name, _ in REDUCTIONS])
def test_every_reduction_keeps_brightness_and_place(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reduction that is off by half a pixel would teach the network to move pictures."""
    monkeypatch.setattr(degrade, "REDUCTIONS", ((kind, 1.0),))
    monkeypatch.setattr(degrade, "SPOILED", 0.0)
    ramp = torch.linspace(0, 1, 64).expand(1, 3, 64, 64)
    small = halved(ramp, drawn(1))[0, 0, 16, 4:-4]
    wanted = ramp[0, 0, 0].view(32, 2).mean(1)[4:-4]
    assert float((small - wanted).abs().max()) < 0.004


def test_8_bits_are_256_steps() -> None:
    found = to_8_bits(torch.tensor([-1.0, 0.5 / 255, 0.49 / 255, 2.0]))
    assert [round(float(value) * 255, 3) for value in found] == [0, 0, 0, 255]
