"""What comes out of a model, and how it can fail; plain numpy, for those who only hand it on.

Knows nothing of torch, so a driver and a reader need not load it.
"""

from dataclasses import dataclass

import numpy as np


class ModelError(ValueError):
    """A network does something else than its spec says; the message names the model and the fix."""


class ModelMemoryError(ModelError):
    """Not even one frame fits into the device's memory."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model found in some frames; a part the model does not have is None."""

    embedding: np.ndarray | None  # float32 [N, D]
    probabilities: np.ndarray | None  # float32 [N, K], each row sums to 1

    def rows(self, start: int, end: int) -> "Prediction":
        """The part for frames start..end, the end exclusive."""
        parts = (self.embedding, self.probabilities)
        return Prediction(*(None if part is None else part[start:end] for part in parts))
