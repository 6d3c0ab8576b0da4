"""What a network gives for a batch of frames, both from one forward pass."""

from typing import NamedTuple

from torch import Tensor


class ModelOutput(NamedTuple):
    """Result of one forward pass; a part the network does not have is None."""

    embedding: Tensor | None  # [N, D], pooled over pixels, before dropout and classifier
    logits: Tensor | None  # [N, K], before softmax
