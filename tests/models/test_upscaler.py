"""The upscaler's shapes, and how far it sees: what tiles rely on."""

import pytest
import torch
from torch import Tensor

from models.upscaler import REACH, SCALE, Upscaler
from tests.models.test_denoiser import MOST_BYTES, shaken

pytestmark = pytest.mark.usefixtures("one_core")


def asked(rgb: Tensor) -> Tensor:
    with torch.inference_mode():
        found: Tensor = shaken(Upscaler())(rgb)
    return found


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 12), (33, 5)])
def test_any_size_is_doubled(height: int, width: int) -> None:
    assert asked(torch.rand(2, 3, height, width)).shape == (2, 3, SCALE * height, SCALE * width)


def test_four_pixels_come_out_where_one_was() -> None:
    network = shaken(Upscaler())
    network.leave.weight.data.zero_()  # type: ignore[union-attr, operator]
    network.leave.bias.data.zero_()  # type: ignore[union-attr, operator]
    rgb = torch.rand(1, 3, 5, 6)
    assert torch.equal(network(rgb), rgb.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_a_pixel_reaches_no_further_than_it_says() -> None:
    side = 2 * REACH + 9
    at = side // 2
    rgb = torch.rand(1, 3, side, side)
    other = rgb.clone()
    other[..., at, at] += 10
    changed = (asked(rgb) != asked(other)).any(1)[0].nonzero().div(SCALE, rounding_mode="floor")
    assert len(changed) > 100
    assert int((changed - at).abs().max()) <= REACH


def test_it_fits_the_repository() -> None:
    assert sum(4 * parameter.numel() for parameter in Upscaler().parameters()) < MOST_BYTES
