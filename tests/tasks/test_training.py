"""Gradients are the mean over processes; a card names the machine."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from tasks.training import average_gradients, machine_of


def _average(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    network = nn.Sequential(nn.Conv2d(3, 2, 3), nn.Conv2d(2, 1, 1)).to(memory_format=torch.channels_last)
    for parameter in network.parameters():
        parameter.grad = torch.arange(parameter.numel()).view_as(parameter).float() * (1 + 2 * rank)
    average_gradients(network)
    for parameter in network.parameters():
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, torch.arange(parameter.numel()).view_as(parameter) * 2.0)
    dist.destroy_process_group()


@pytest.mark.nightly
def test_gradients_are_the_mean_over_all_processes(tmp_path: object) -> None:
    spawn(_average, (str(tmp_path),), nprocs=2)


def test_one_process_keeps_its_gradients() -> None:
    network = nn.Linear(2, 1)
    network(torch.ones(1, 2)).sum().backward()
    average_gradients(network)
    assert network.weight.grad is not None
    assert torch.equal(network.weight.grad, torch.ones(1, 2))


def test_the_card_names_the_machine() -> None:
    told = machine_of(torch.device("cpu"), 3, half=True)
    assert torch.__version__ in told
    assert "3 threads, bfloat16" in told
    assert "float32" in machine_of(torch.device("cpu"), 3, half=False)
