"""What a restoring network is: where its weights come from, how many frames it looks at, how far, and what it does to a frame's size.

Knows nothing of torch or storage, so a plan can name versions without loading a network.
"""

import hashlib
import importlib.util
import json
from dataclasses import dataclass

from infra.problem import Problem

BY_ITS_WEIGHTS = "models.own_restorer:detected"  # the architecture of a published checkpoint follows from its parameters' names


@dataclass(frozen=True, slots=True)
class RestorerSpec:
    """One network that makes a picture from pictures."""

    name: str
    factory: str  # "package.module:callable" that returns the torch.nn.Module, or BY_ITS_WEIGHTS
    weights: str  # package:NAME/FILE, file:, s3:, https:
    sha256: str  # of the weights file
    licence: str
    trained_on: str
    scale: int  # sides of what comes out, in sides of what goes in
    ahead: int = 0  # frames after this one that are looked at
    state_channels: int = 0  # of what is kept from frame to frame, at half the size; 0 where frames stand alone
    reach: int = 0  # pixels around a pixel that can change it within one step
    stride: int = 8  # sides are multiples of it

    @property
    def own(self) -> bool:
        """A checkpoint of the user's."""
        return self.factory == BY_ITS_WEIGHTS

    @property
    def does(self) -> str:
        """What it does, as recipes name it."""
        return "denoise" if self.scale == 1 else f"upscale-x{self.scale}"

    def digest(self) -> str:
        """Sha256, 64 hex digits, of all of it that can change a picture."""
        parts = [self.sha256, self.factory, self.scale, self.ahead, self.state_channels]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def check_installed(spec: RestorerSpec) -> None:
    """Tell what a checkpoint of the user's needs and does not find.

    Raises:
        Problem: spandrel or what it needs is not installed.
    """
    for package in ("spandrel", "einops") if spec.own else ():
        if importlib.util.find_spec(package) is None:
            raise Problem(f"recipe {spec.name}: a checkpoint of your own needs {package}, which is not installed; pip install 'vidmill[restore]'")
