"""Muon for convolutions: torch's own takes matrices only, and a kernel is one of them in a row for each channel out.

What is no kernel (biases) is left to Adam. Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks".
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95  # as its author has it
DECAY = 0.2  # of a kernel in one step of rate 1; without it kernels grow, and after 5,000 steps of 0.01 the denoiser's memory fed on itself
ADAM_SHARE = 0.1  # of the rate, for what is no kernel
ADAM_BETAS = (0.9, 0.99)


class ConvolutionMuon:
    """One step of Muon for the kernels and of Adam for the rest."""

    def __init__(self, network: nn.Module) -> None:
        """Args: network: its convolutions' weights are dense in channels_last; their places must not change from now on."""
        self._kernels = [weight for weight in network.parameters() if weight.ndim == 4]
        # Matrices in the kernels' own memory: a step of one is a step of the other.
        self._matrices = [nn.Parameter(_matrix(weight.detach())) for weight in self._kernels]
        self._muon = torch.optim.Muon(self._matrices, weight_decay=DECAY, momentum=MOMENTUM)
        self._adam = torch.optim.Adam((weight for weight in network.parameters() if weight.ndim != 4), betas=ADAM_BETAS)

    def step(self, rate: float) -> None:
        """Follow the gradients, which are then no more.

        Args:
            rate: how far an orthogonal step of a kernel goes.
        """
        for matrix, kernel in zip(self._matrices, self._kernels, strict=True):
            matrix.grad, kernel.grad = None if kernel.grad is None else _matrix(kernel.grad.contiguous(memory_format=torch.channels_last)), None
        both: tuple[tuple[torch.optim.Optimizer, float], ...] = ((self._muon, rate), (self._adam, ADAM_SHARE * rate))
        for optimiser, its_rate in both:
            for group in optimiser.param_groups:
                group["lr"] = its_rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """All that going on needs."""
        return {"muon": self._muon.state_dict(), "adam": self._adam.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._muon.load_state_dict(state["muon"])
        self._adam.load_state_dict(state["adam"])


def _matrix(kernel: Tensor) -> Tensor:
    """[out, in, h, w] as [out, h*w*in], in the same memory."""
    return kernel.permute(0, 2, 3, 1).view(len(kernel), -1)
