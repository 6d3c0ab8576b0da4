"""Tiles cover a frame once, weigh 1 everywhere, fit their area and keep to the stride."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.tiles import BLEND, CORE_FLOOR, plan

STRIDES = st.sampled_from([8, 16, 24])
SIDES = st.integers(1, 25)
AREAS = st.integers(1, 200_000)


@given(SIDES, SIDES, AREAS, st.integers(BLEND, 130), STRIDES)
@settings(max_examples=30)
def test_tiles_cover_a_frame_once(rows, columns, area, halo, stride):
    height, width = rows * stride, columns * stride
    tiles = plan(height, width, area=area, halo=halo, stride=stride)
    covered, whole = torch.zeros(height, width, dtype=torch.int32), torch.zeros(height, width)
    for tile in tiles:
        core = tile.rows.core_end - tile.rows.core_start, tile.columns.core_end - tile.columns.core_start
        covered[tile.rows.core_start : tile.rows.core_end, tile.columns.core_start : tile.columns.core_end] += 1
        tile.add(torch.ones(tile.rows.seen, tile.columns.seen), whole, scale=1)
        for span, size in ((tile.rows, height), (tile.columns, width)):
            assert span.start % stride == span.end % stride == span.core_start % stride == 0
            assert span.core_start - span.start >= min(halo, span.core_start)
            assert span.end - span.core_end >= min(halo, size - span.core_end)
        at_floor = max(core) <= -(-CORE_FLOOR // stride) * stride
        assert tile.area <= area or at_floor
    assert covered.eq(1).all()
    assert torch.allclose(whole, torch.ones_like(whole), atol=1e-6)


@given(SIDES, SIDES, st.integers(1, 4))
@settings(max_examples=15)
def test_weights_add_up_at_any_scale(rows, columns, scale):
    height, width = rows * 8, columns * 8
    whole = torch.zeros(height * scale, width * scale)
    for tile in plan(height, width, area=20_000, halo=16, stride=8):
        tile.add(torch.ones(tile.rows.seen * scale, tile.columns.seen * scale), whole, scale=scale)
    assert torch.allclose(whole, torch.ones_like(whole), atol=1e-6)


def test_a_frame_that_fits_is_one_tile():
    assert len(plan(720, 1280, area=720 * 1280, halo=120, stride=8)) == 1


def test_the_cut_costs_little_where_it_can():
    """4K in tiles of a megapixel with a halo of 24: at most a fifth more than the frame itself."""
    tiles = plan(2160, 3840, area=1 << 20, halo=24, stride=8)
    assert sum(tile.area for tile in tiles) < 1.2 * 2160 * 3840
