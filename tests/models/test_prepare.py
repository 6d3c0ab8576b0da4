"""A square is what anyone gets from Pillow by the documented recipe."""

import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from models.prepare import prepare, resized_size
from models.spec import Geometry

BICUBIC = Image.Resampling.BICUBIC
IMAGENET = Geometry(256, 224)


def recipe(rgb: np.ndarray, geometry: Geometry) -> np.ndarray:
    """The docstring's recipe, in full and slowly."""
    height, width = rgb.shape[:2]
    long = int(geometry.resize * max(height, width) / min(height, width))
    new_width, new_height = (geometry.resize, long) if width <= height else (long, geometry.resize)
    image = Image.fromarray(rgb).resize((new_width, height), BICUBIC).resize((new_width, new_height), BICUBIC)
    left, top = round((new_width - geometry.crop) / 2), round((new_height - geometry.crop) / 2)
    return np.asarray(image)[top : top + geometry.crop, left : left + geometry.crop]


@settings(max_examples=60)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(8, 80), st.integers(0, 20), st.integers(0, 99))
def test_any_frame_gives_the_recipe_within_two_levels(height, width, crop, margin, seed):
    height, width = max(height, width // 40), max(width, height // 40)
    frame = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    geometry = Geometry(crop + margin, crop)
    square = prepare(frame, geometry)
    assert square.shape == (crop, crop, 3)
    assert square.dtype == np.uint8
    assert np.abs(square.astype(int) - recipe(frame, geometry)).max() <= 2


def test_real_frames_also_give_pillows_one_call(films):
    for frame in (frame for frames in films.values() for upright in frames for frame in (upright, np.rot90(upright))):
        height, width = resized_size(*frame.shape[:2], 256)
        left, top = round((width - 224) / 2), round((height - 224) / 2)
        one_call = np.asarray(Image.fromarray(frame).resize((width, height), BICUBIC))[top : top + 224, left : left + 224]
        difference = np.abs(prepare(frame, IMAGENET).astype(int) - one_call)
        assert difference.mean() < 0.5
        assert np.percentile(difference, 99.9) <= 2


@pytest.mark.parametrize("shape", [(256, 340), (340, 256), (256, 256), (257, 256)])
def test_a_frame_of_the_right_size_is_only_cut(shape):
    frame = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    square = prepare(frame, IMAGENET)
    assert np.shares_memory(square, frame)
    assert np.array_equal(square, recipe(frame, IMAGENET))


@pytest.mark.parametrize("shape", [(2, 4_000_000), (4_000_000, 2)])
def test_a_frame_of_absurd_shape_costs_no_more_than_its_crop(shape):
    frame = np.zeros((*shape, 3), np.uint8)
    tracemalloc.start()
    started = time.perf_counter()
    assert prepare(frame, IMAGENET).shape == (224, 224, 3)
    assert time.perf_counter() - started < 2
    assert tracemalloc.get_traced_memory()[1] < 100 << 20
    tracemalloc.stop()


@pytest.mark.parametrize(("shape", "dtype"), [((8, 8), "u1"), ((8, 8, 4), "u1"), ((8, 8, 3), "f4"), ((0, 8, 3), "u1")])
def test_what_is_not_a_frame_is_refused(shape, dtype):
    with pytest.raises(ValueError, match="a frame is uint8"):
        prepare(np.zeros(shape, dtype), IMAGENET)
