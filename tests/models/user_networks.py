"""Networks as users write them, good and bad."""

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH_THAT_FITS = 3
WIDTH, CLASSES = 8, 4


class Embedder(nn.Module):
    """Returns a plain tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, WIDTH, 3, stride=4, padding=1), nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.norm(self.conv(x))).mean((2, 3))


class Both(Embedder):
    """Returns a plain pair."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        embedding = super().forward(x)
        return embedding, self.head(embedding)


class Hungry(Embedder):
    """Runs out of memory above a batch size, which also makes its forward one that torch.fx cannot follow."""

    fits = BATCH_THAT_FITS

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(len(x))
        if len(x) > self.fits:
            raise torch.OutOfMemoryError("pretended")
        return super().forward(x)


class Insatiable(Hungry):
    """Does not fit with one frame."""

    fits = 0


class Unpooled(Embedder):
    """Forgets to pool."""

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x))


class NotANumber(Embedder):
    """Divides by zero."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) / 0.0


def number() -> int:
    """Not a network."""
    return 1


def broken() -> nn.Module:
    """A factory that fails."""
    raise RuntimeError("no such layer")


constant = 3
