"""A network that takes its time where the environment says so, without using a core: a run that lasts on a machine that has none to spare."""

import os
import time

import torch

from tests.tasks.networks import Grey

PACE = "VIDMILL_TEST_PACE_S"


class Paced(Grey):
    """Grey, after a sleep."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if len(x) and x.isfinite().all():  # what depends on values cannot be traced, and left out
            time.sleep(float(os.environ.get(PACE, "0")))
        return super().forward(x)
