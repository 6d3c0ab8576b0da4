"""A kernel moves by a nearly orthogonal matrix, a bias by Adam's step, wherever the kernel lies in memory."""

import pytest
import torch
from torch import nn

from tasks.muon import ADAM_SHARE, ConvolutionMuon

RATE = 0.02


def learning(*, out: int = 8, inside: int = 4, size: int = 3) -> nn.Conv2d:
    torch.manual_seed(1)
    layer = nn.Conv2d(inside, out, size, padding=size // 2).to(memory_format=torch.channels_last)
    layer(torch.rand(2, inside, 6, 6)).square().sum().backward()
    return layer


@pytest.mark.parametrize(("out", "inside", "size"), [(8, 4, 3), (4, 8, 1), (6, 3, 2), (48, 2, 1), (1, 1, 3)])
def test_a_kernel_moves_by_a_matrix_whose_singular_values_are_near_the_rate(out: int, inside: int, size: int) -> None:
    layer = learning(out=out, inside=inside, size=size)
    before = layer.weight.detach().clone()
    ConvolutionMuon(layer).step(RATE)
    moved = torch.linalg.svdvals((before - layer.weight.detach()).permute(0, 2, 3, 1).flatten(1))
    scale = RATE * max(1.0, (out / (inside * size**2)) ** 0.5)
    assert moved.max() < 1.3 * scale
    assert moved.median() > 0.5 * scale


def test_a_kernel_goes_against_its_gradient_and_a_bias_by_adams_share() -> None:
    layer = learning()
    assert layer.weight.grad is not None
    kernel, bias, slope = layer.weight.detach().clone(), layer.bias.detach().clone(), layer.weight.grad.clone()
    ConvolutionMuon(layer).step(RATE)
    assert ((layer.weight.detach() - kernel) * slope).sum() < 0
    assert (layer.bias.detach() - bias).abs() == pytest.approx(RATE * ADAM_SHARE, rel=1e-3)


def test_a_step_uses_the_gradients_up() -> None:
    layer = learning()
    optimiser = ConvolutionMuon(layer)
    optimiser.step(RATE)
    assert layer.weight.grad is layer.bias.grad is None
    before = layer.weight.detach().clone()
    optimiser.step(RATE)
    assert torch.equal(layer.weight.detach(), before)
