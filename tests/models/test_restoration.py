"""Pictures in, pictures out: every one, in order, held no longer than needed, and nothing moved, rounded or touched that need not be."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.prediction import ModelError
from models.restoration import Restoration, windows
from tests.models.pictures import flat, form, noise, wave
from tests.models.tiny_restorers import Brighter, Darker, Doubling, Linear, NotANumber, Nothing, Temporal, Witness, recipe, spec_of

FORMATS = [
    form(37, 21),
    form(16, 16, bits=10, chroma="422", matrix="bt2020"),
    form(1, 1),
    form(40, 24, chroma="444", matrix="bt601", full_range=True),
]


def restoration(folder, *networks, **more):
    return Restoration(recipe(*(spec_of(folder, network) for network in networks)), "cpu", **more)


def restored(made, pictures, of):
    return [after for _, after in made.restore(pictures, of)]


def equal(a, b):
    return a.pts == b.pts and all(np.array_equal(x, y) and x.dtype == y.dtype for x, y in zip(a.planes, b.planes, strict=True))


@given(st.integers(0, 9), st.integers(0, 4))
def test_windows_look_ahead_and_repeat_the_last(count, ahead):
    found = list(windows(iter(range(count)), ahead=ahead))
    assert found == [tuple(min(i + k, count - 1) for k in range(1 + ahead)) for i in range(count)]


@pytest.mark.parametrize("of", FORMATS, ids=str)
@pytest.mark.parametrize("count", [0, 1, 2, 3, 7])
def test_a_network_that_leaves_pictures_alone_gives_them_back_bit_for_bit(tmp_path, of, count):
    pictures = [noise(of, pts=7 * i) for i in range(count)]
    made = restoration(tmp_path, Nothing)
    pairs = list(made.restore(pictures, of))
    assert made.output_format(of) == of
    assert [source for source, _ in pairs] == pictures
    assert all(equal(before, after) for before, after in pairs)


def test_nothing_is_rounded_between_networks(tmp_path):
    of = form(16, 16)
    (after,) = restored(restoration(tmp_path, Brighter, Darker), [flat(of, 100, 128, 128)], of)
    assert equal(after, flat(of, 100, 128, 128))
    (after,) = restored(restoration(tmp_path, Brighter, Brighter, Brighter), [flat(of, 100, 128, 128)], of)
    assert set(after.planes[0].flatten()) == {102}  # 3 x 0.6 of a code


def test_a_network_sees_now_next_and_after_next_and_remembers(tmp_path):
    of = form(16, 16, chroma="444", full_range=True)
    levels = [10, 20, 30, 40]
    found = restored(restoration(tmp_path, Witness), [flat(of, level, 128, 128, pts=level) for level in levels], of)
    assert [after.pts for after in found] == levels
    for i, after in enumerate(found):
        red, green, blue = (levels[min(i + k, 3)] for k in range(3))
        expected = round(0.2126 * red + 0.7152 * green + 0.0722 * blue)
        assert abs(int(after.planes[0][12, 12]) - expected) <= 1
    assert found[0].planes[0][2, 2] == 0  # nothing is remembered at a clip's start
    assert abs(int(found[3].planes[0][2, 2]) - 0.1 * (10 + 20 + 30)) <= 1


def test_a_clip_knows_nothing_of_the_one_before(tmp_path):
    of, made = form(24, 16), restoration(tmp_path, Temporal)
    pictures = [noise(of, pts=i) for i in range(4)]
    first, second = restored(made, pictures, of), restored(made, pictures, of)
    assert all(equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("networks", "held"), [((Nothing,), 3), ((Nothing, Nothing), 5), ((Temporal, Linear), 3), ((Linear, Linear), 1)])
def test_pictures_are_taken_as_they_are_needed(tmp_path, networks, held):
    of, taken = form(16, 16), []

    def source():
        for i in range(100):
            taken.append(i)
            yield noise(of, pts=i)

    stream = restoration(tmp_path, *networks).restore(source(), of)
    for i in range(5):
        next(stream)
        assert len(taken) == i + held


@pytest.mark.parametrize("of", FORMATS, ids=str)
def test_flat_pictures_stay_flat_when_they_grow(tmp_path, of):
    step = 1 << (of.bits - 8)
    made = restoration(tmp_path, Linear)
    (after,) = restored(made, [flat(of, 90 * step, 100 * step, 160 * step)], of)
    assert equal(after, flat(made.output_format(of), 90 * step, 100 * step, 160 * step))


@pytest.mark.parametrize("of", [form(96, 64), form(96, 64, bits=10, chroma="422"), form(96, 64, chroma="444"), form(95, 63)], ids=str)
@pytest.mark.parametrize("networks", [(Linear,), (Linear, Linear)])
def test_growing_moves_neither_luma_nor_chroma(tmp_path, of, networks):
    """Waves on the finer grid are known; a shift of half a pixel of the result would be 2.5 codes of 8 bits, and twice that of chroma."""
    made = restoration(tmp_path, *networks)
    (after,) = restored(made, [wave(of)], of)
    bigger = made.output_format(of)
    step = 1 << (of.bits - 8)
    for found, expected in zip(after.planes, wave(bigger).planes, strict=True):
        margin = 8 * made.recipe.scale
        error = (found.astype(int) - expected)[margin:-margin, margin:-margin] / step
        assert np.abs(error).mean() < 0.8
        assert np.abs(error).max() < 2.5


def test_tiles_are_not_seen_in_pictures(tmp_path):
    of = form(161, 90)
    pictures = [noise(of, pts=i) for i in range(3)]
    whole, tiled = (restored(restoration(tmp_path, Temporal, Doubling, tile_area=area), pictures, of) for area in (1 << 20, 64))
    for a, b in zip(whole, tiled, strict=True):
        assert all(np.abs(x.astype(int) - y).max() <= 1 for x, y in zip(a.planes, b.planes, strict=True))


def test_not_a_number_is_told_with_its_picture(tmp_path):
    of = form(16, 16, bits=10)
    pictures = [flat(of, 500, 512, 512, pts=3), flat(of, 1023, 1023, 1023, pts=4)]
    with pytest.raises(ModelError, match="recipe tiny: gave not-a-number or infinity for the picture at pts 4"):
        restored(restoration(tmp_path, NotANumber), pictures, of)


def test_a_picture_of_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match="planes do not fit"):
        restored(restoration(tmp_path, Nothing), [noise(form(16, 16))], form(18, 16))


def test_the_device_is_the_cpu_where_there_is_no_gpu(tmp_path):
    found = Restoration(recipe(spec_of(tmp_path, Nothing))).device.type
    assert found == ("cuda" if torch.cuda.is_available() else "cpu")
