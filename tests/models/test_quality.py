"""Measures of a clip: true to what was put in, and a crop of where it matters."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from models.picture import Picture
from models.quality import Meter
from models.sample import MOST_BYTES
from tests.models.pictures import form, kind, shapes

SIZE = (320, 192)
TEXTURE = np.random.default_rng(5).integers(60, 190, (SIZE[1] // 16, SIZE[0] // 16)).repeat(16, 0).repeat(16, 1).astype(float)


def picture(of, luma: np.ndarray, *, pts: int = 0) -> Picture:
    step = 1 << (of.bits - 8)
    y = np.clip((luma * step).round(), 0, 255 * step).astype(kind(of))
    return Picture((y, *(np.full(shape, 128 * step, kind(of)) for shape in shapes(of)[1:])), pts)


def still(count: int, sigma: float, *, seed: int = 0, of=None) -> list[Picture]:
    random = np.random.default_rng(seed)
    return [picture(of or form(*SIZE), TEXTURE + random.normal(0, sigma, TEXTURE.shape), pts=10 * i) for i in range(count)]


def measured(before, after, of=None, output=None):
    of = of or form(*SIZE)
    meter = Meter(of, output or of)
    for pair in zip(before, after, strict=True):
        meter.add(*pair)
    return meter.quality()


@pytest.mark.parametrize("bits", [8, 10])
def test_noise_flicker_and_faithfulness_are_what_was_put_in(bits):
    of = form(*SIZE, bits=bits)
    found = measured(still(6, 12, of=of), still(6, 3, seed=1, of=of), of)
    assert found.noise_before == pytest.approx(12, rel=0.06)
    assert found.noise_after == pytest.approx(3, rel=0.1)
    assert found.flicker_before == pytest.approx(12 * math.sqrt(12 / math.pi), rel=0.05)  # mean magnitude of x - 2x + x of white noise
    assert found.flicker_after == pytest.approx(3 * math.sqrt(12 / math.pi), rel=0.08)
    assert found.psnr_down_db == pytest.approx(10 * math.log10(255**2 / (12**2 + 3**2)), abs=0.1)


def test_what_is_left_alone_is_identical():
    pictures = still(4, 5)
    found = measured(pictures, pictures)
    assert found.psnr_down_db == 100
    assert (found.noise_after, found.flicker_after) == (found.noise_before, found.flicker_before)


def test_what_moves_is_no_flicker():
    of = form(*SIZE)
    board = 60 + 130.0 * (np.indices(TEXTURE.shape) // 16).sum(0) % 260
    moving = [picture(of, np.roll(board, 16 * i, 1)) for i in range(8)]
    smooth = [picture(of, TEXTURE + i) for i in range(8)]  # light that rises evenly
    assert measured(moving, moving).flicker_before is None
    assert measured(smooth, smooth).flicker_before == 0
    pumping = [picture(of, TEXTURE + 2 * (i % 2)) for i in range(8)]
    assert measured(still(8, 0), pumping).flicker_after == pytest.approx(4)


def test_a_larger_picture_is_measured_at_the_size_of_the_source():
    of, double = form(*SIZE), form(2 * SIZE[0], 2 * SIZE[1])

    def grown(source: Picture) -> Picture:
        luma = Image.fromarray(source.planes[0]).resize((double.width, double.height), Image.Resampling.BICUBIC)
        return picture(double, np.asarray(luma, float))

    pictures = still(4, 6)
    found = measured(pictures, [grown(p) for p in pictures], of, double)
    assert found.psnr_down_db > 36
    assert found.noise_before / 3 < found.noise_after < found.noise_before  # bicubic loses the finest half of white noise on its way up and down
    assert found.flicker_before / 2 < found.flicker_after < found.flicker_before
    shifted = [grown(picture(of, np.roll(p.planes[0], 1, 1))) for p in pictures]
    assert measured(pictures, shifted, of, double).psnr_down_db < found.psnr_down_db - 6


def test_the_sample_shows_where_and_when_it_changed_most():
    of = form(*SIZE)
    before = still(60, 0)
    after = [Picture((p.planes[0].copy(), *p.planes[1:]), p.pts) for p in before]
    after[20].planes[0][:60, 250:310] += 40  # one that is looked at: 0, 8, 20, 38
    after[8].planes[0][100:160, 20:80] += 20
    found = measured(before, after)
    assert found.sample_pts == 200
    shown = [np.asarray(Image.open(io.BytesIO(jpeg)).convert("L"), float) for jpeg in (found.before_jpeg, found.after_jpeg)]
    assert shown[0].shape == shown[1].shape == (192, 256)
    change = np.abs(shown[1] - shown[0])
    assert change.max() > 30
    assert change[100:].max() < 15
    assert len(of.chroma_shape) == 2


@pytest.mark.parametrize("of", [form(1000, 700), form(37, 21), form(2, 2, bits=10), form(1, 1)], ids=str)
@pytest.mark.parametrize("scale", [1, 2, 4])
def test_any_size_is_measured_and_samples_are_small(of, scale):
    larger = form(of.width * scale, of.height * scale, bits=of.bits)
    random = np.random.default_rng(0)
    before, after = (
        [picture(f, random.normal(120, 60, (f.height, f.width)), pts=i) for i in range(2 if of.width == 1000 else 4)] for f in (of, larger)
    )
    found = measured(before, after, of, larger)
    assert found.psnr_down_db is not None
    assert 0 < len(found.before_jpeg) <= MOST_BYTES
    assert 0 < len(found.after_jpeg) <= MOST_BYTES
    sizes = {Image.open(io.BytesIO(jpeg)).size for jpeg in (found.before_jpeg, found.after_jpeg)}
    assert len(sizes) == 1
    assert max(sizes.pop()) <= 256


def test_a_clip_without_pictures_tells_nothing():
    found = measured([], [])
    assert (found.noise_before, found.psnr_down_db, found.flicker_after, found.sample_pts, found.after_jpeg) == (None, None, None, None, b"")


def test_nothing_grows_with_the_clip():
    of = form(64, 48)
    meter = Meter(of, of)
    pictures = [picture(of, np.full((48, 64), 100.0), pts=i) for i in range(3)]
    sizes = []
    for count in (50, 500):
        for i in range(count):
            meter.add(pictures[i % 3], pictures[i % 3])
        sizes.append(len(meter._flicker._recent))
    assert sizes == [2, 2]
