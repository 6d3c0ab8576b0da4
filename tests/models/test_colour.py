"""Planes to RGB and back: standard colours, no shift, nothing changed where nothing was asked for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.colour import Arriving, Colour
from models.picture import Picture
from tests.models.pictures import flat, form, noise, wave

CPU = torch.device("cpu")
FORMS = st.builds(
    form,
    st.integers(1, 37),
    st.integers(1, 37),
    bits=st.sampled_from([8, 10]),
    chroma=st.sampled_from(["420", "422", "444"]),
    matrix=st.sampled_from(["bt601", "bt709", "bt2020"]),
    full_range=st.booleans(),
)


def back(codes) -> Picture:
    return Arriving(codes, pts=0, total=torch.zeros(())).picture()


def same(a: Picture, b: Picture) -> bool:
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(a.planes, b.planes, strict=True))


@given(FORMS, st.integers(0, 99))
@settings(max_examples=60)
def test_no_change_leaves_every_code_as_it_was(of, seed):
    colour, picture = Colour(of, CPU), noise(of, pts=seed)
    codes = colour.codes(picture)
    assert same(back(colour.corrected(codes, torch.zeros_like(colour.rgb(codes)))), picture)


@given(FORMS, st.integers(0, 99))
@settings(max_examples=60)
def test_luma_survives_the_way_through_rgb_and_444_wholly(of, seed):
    colour, picture = Colour(of, CPU), noise(of, pts=seed)
    found = back(colour.converted(colour.rgb(colour.codes(picture))))
    assert np.array_equal(found.planes[0], picture.planes[0])
    if of.chroma == "444":
        assert same(found, picture)


@given(FORMS, st.tuples(*[st.integers(0, 255)] * 3))
@settings(max_examples=60)
def test_flat_pictures_of_any_colour_stay_flat_and_the_same(of, codes):
    colour, picture = Colour(of, CPU), flat(of, *(code << (of.bits - 8) for code in codes))
    assert same(back(colour.converted(colour.rgb(colour.codes(picture)))), picture)


@pytest.mark.parametrize(
    ("matrix", "full_range", "bits", "codes", "rgb"),
    [  # ITU-R BT.601-7, BT.709-6, BT.2020-2: colour bars
        ("bt601", False, 8, (81, 90, 240), (1, 0, 0)),
        ("bt601", False, 8, (145, 54, 34), (0, 1, 0)),
        ("bt709", False, 8, (63, 102, 240), (1, 0, 0)),
        ("bt709", False, 8, (32, 240, 118), (0, 0, 1)),
        ("bt709", False, 10, (250, 409, 960), (1, 0, 0)),
        ("bt2020", False, 10, (294, 387, 960), (1, 0, 0)),
        ("bt709", False, 8, (235, 128, 128), (1, 1, 1)),
        ("bt709", True, 8, (255, 128, 128), (1, 1, 1)),
        ("bt601", True, 8, (76, 85, 255), (1, 0, 0)),
    ],
)
def test_standard_colours(matrix, full_range, bits, codes, rgb):
    of = form(16, 8, bits=bits, matrix=matrix, full_range=full_range)
    colour = Colour(of, CPU)
    found = colour.rgb(colour.codes(flat(of, *codes)))[0, :, 4, 8]
    assert torch.allclose(found, torch.tensor(rgb, dtype=torch.float32), atol=0.012 if bits == 8 else 0.003)
    wanted = torch.tensor(rgb, dtype=torch.float32)[None, :, None, None].expand(1, 3, 8, 16)
    given = back(colour.converted(wanted))
    assert all(np.abs(plane.astype(int) - code).max() <= 1 for plane, code in zip(given.planes, codes, strict=True))


@pytest.mark.parametrize("chroma", ["420", "422", "444"])
@pytest.mark.parametrize("bits", [8, 10])
def test_chroma_lies_where_the_format_says(chroma, bits):
    """Waves sampled at the chroma's places agree with waves sampled at the luma's, and come back: half a pixel off would be 6 codes."""
    of, full = form(96, 64, bits=bits, chroma=chroma), form(96, 64, bits=bits, chroma="444")
    subsampled = Colour(of, CPU).rgb(Colour(of, CPU).codes(wave(of)))
    direct = Colour(full, CPU).rgb(Colour(full, CPU).codes(wave(full)))
    inner = (..., slice(4, -4), slice(4, -4))
    assert (subsampled - direct)[inner].abs().max() < 2.2 / 219
    given = back(Colour(of, CPU).converted(direct))
    error = [np.abs(a.astype(int) - b)[4:-4, 4:-4].max() for a, b in zip(given.planes, wave(of).planes, strict=True)]
    assert max(error) <= (1 if bits == 8 else 2)


def test_values_beyond_the_range_are_clipped_not_wrapped():
    of = form(8, 8)
    colour = Colour(of, CPU)
    for value, y in ((5.0, 255), (-5.0, 0)):
        assert set(back(colour.converted(torch.full((1, 3, 8, 8), value))).planes[0].flatten()) == {y}
        codes = colour.codes(flat(of, 128, 128, 128))
        assert set(back(colour.corrected(codes, torch.full((1, 3, 8, 8), value))).planes[0].flatten()) == {y}


def test_rounding_is_to_the_nearest_code():
    of = form(8, 8, chroma="444")
    colour = Colour(of, CPU)
    codes = colour.codes(flat(of, 100, 128, 128))
    for part, y in ((0.45, 100), (0.55, 101), (-0.45, 100), (-0.55, 99)):
        assert back(colour.corrected(codes, torch.full((1, 3, 8, 8), part / 219))).planes[0][0, 0] == y


def test_read_only_and_strided_planes_are_taken():
    of = form(8, 8)
    picture = noise(form(16, 16))
    planes = tuple(plane[::2, ::2] for plane in picture.planes)
    for plane in planes:
        plane.flags.writeable = False
    assert same(back(Colour(of, CPU).codes(Picture(planes, 0))), Picture(planes, 0))


@pytest.mark.parametrize("other", [form(8, 8, bits=10), form(8, 8, chroma="422"), form(10, 8)])
def test_planes_of_another_format_are_refused(other):
    with pytest.raises(ValueError, match="planes do not fit"):
        Colour(form(8, 8), CPU).codes(noise(other))
