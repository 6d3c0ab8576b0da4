"""Networks that tag a sequence of frame vectors; every one of them ends in a mixture of experts for each label.

    moe           frames -> mean                                    -> experts -> logits
    lstm          frames -> LSTM, its last state                    -> experts -> logits
    netvlad       frames -> residuals to soft clusters, gated       -> experts -> logits
    transformer   frames + place in time -> attention, mean         -> experts -> logits

The first and the third see a set of frames and cannot tell an order; the others can. Sequences of a batch are padded at their end, and nothing of the
padding reaches a logit. Sources: Abu-El-Haija et al. 2016 (YouTube-8M: mean and mixture of experts, LSTM), Miech et al. 2017 (gated NetVLAD), Vaswani
et al. 2017. Knows torch, nothing of files or labels' names.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, normalize
from torch.nn.utils.rnn import pack_padded_sequence

SLOWEST = 300.0  # of the waves of a place, frames over 2 pi: with 10,000, as for text, most hardly move over a video and order is learned late


class Normal(nn.Module):
    """Brings each input to mean 0 and variance 1 by itself: widths and ranges of rgb and audio have nothing in common."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.widths = list(widths)
        self.parts = nn.ModuleList(nn.LayerNorm(width) for width in widths)

    def forward(self, values: Tensor) -> Tensor:
        """float [..., D] -> [..., D]."""
        return torch.cat([part(value) for part, value in zip(self.parts, torch.split(values, self.widths, -1), strict=True)], -1)


class Experts(nn.Module):
    """A mixture of logistic experts for each label, one more of which always says no."""

    def __init__(self, width: int, labels: int, experts: int) -> None:
        super().__init__()
        self.shape = (labels, experts)
        self.gates = nn.Linear(width, labels * (experts + 1))
        self.experts = nn.Linear(width, labels * experts)

    def forward(self, values: Tensor) -> Tensor:
        """float [B, width] -> float32 logits [B, L] of sum(gate * expert), computed by logarithms so that none overflows."""
        labels, experts = self.shape
        gates = self.gates(values).float().view(-1, labels, experts + 1).log_softmax(-1)
        found = self.experts(values).float().view(-1, labels, experts)
        yes = torch.logsumexp(gates[..., :-1] + logsigmoid(found), -1)
        no = torch.logsumexp(torch.cat([gates[..., :-1] + logsigmoid(-found), gates[..., -1:]], -1), -1)
        return yes - no


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the frames that are there: [B, T, W] and bool [B, T] -> [B, W]."""
    kept = values.masked_fill(~mask[..., None], 0.0)
    return kept.sum(1, dtype=torch.float32) / mask.sum(1, keepdim=True)


class MeanPooling(nn.Module):
    """The mean of the frames as it is stored, so that a video of which only the mean is known gets the same scores."""

    def __init__(self, widths: tuple[int, ...], labels: int, *, experts: int) -> None:
        super().__init__()
        self.normal = Normal(widths)
        self.head = Experts(sum(widths), labels, experts)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """float [B, T, D], bool [B, T] -> logits [B, L]."""
        logits: Tensor = self.head(self.normal(masked_mean(frames, mask)))
        return logits


class Recurrent(nn.Module):
    """What an LSTM remembers after the last frame."""

    def __init__(self, widths: tuple[int, ...], labels: int, *, hidden: int, layers: int, experts: int) -> None:
        super().__init__()
        self.normal = Normal(widths)
        self.project = nn.Linear(sum(widths), hidden)
        self.memory = nn.LSTM(hidden, hidden, layers, batch_first=True)
        self.head = Experts(hidden, labels, experts)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """float [B, T, D], bool [B, T] -> logits [B, L]."""
        packed = pack_padded_sequence(self.project(self.normal(frames)), mask.sum(1).cpu(), batch_first=True, enforce_sorted=False)
        _, (state, _) = self.memory(packed)
        logits: Tensor = self.head(state[-1])
        return logits


class GatedNetVlad(nn.Module):
    """How the frames of each soft cluster lie around its centre, and a gate that decides what of it matters."""

    def __init__(self, widths: tuple[int, ...], labels: int, *, hidden: int, clusters: int, experts: int) -> None:
        super().__init__()
        self.normal = Normal(widths)
        self.project = nn.Linear(sum(widths), hidden)
        self.assign = nn.Linear(hidden, clusters)
        self.centres = nn.Parameter(torch.randn(clusters, hidden) / math.sqrt(hidden))
        self.reduce = nn.Linear(clusters * hidden, hidden)
        self.ready = nn.LayerNorm(hidden)
        self.gate = nn.Linear(hidden, hidden)
        self.head = Experts(hidden, labels, experts)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """float [B, T, D], bool [B, T] -> logits [B, L]."""
        vectors = self.project(self.normal(frames))
        shares = self.assign(vectors).softmax(-1).masked_fill(~mask[..., None], 0.0)
        residuals = shares.transpose(1, 2) @ vectors - shares.sum(1)[..., None] * self.centres
        described = normalize(normalize(residuals, dim=-1).flatten(1), dim=-1)
        ready = self.ready(self.reduce(described))
        logits: Tensor = self.head(ready * self.gate(ready).sigmoid())
        return logits


class Attending(nn.Module):
    """A Transformer that knows every frame's place, and the mean of what it makes of them."""

    def __init__(self, widths: tuple[int, ...], labels: int, *, hidden: int, layers: int, heads: int, experts: int) -> None:
        super().__init__()
        self.normal = Normal(widths)
        self.project = nn.Linear(sum(widths), hidden)
        layer = nn.TransformerEncoderLayer(hidden, heads, 2 * hidden, dropout=0.0, activation="gelu", batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, norm=nn.LayerNorm(hidden), enable_nested_tensor=False)
        self.head = Experts(hidden, labels, experts)

    def forward(self, frames: Tensor, mask: Tensor) -> Tensor:
        """float [B, T, D], bool [B, T] -> logits [B, L]."""
        vectors = self.project(self.normal(frames))
        vectors = vectors + places(vectors.shape[1], vectors.shape[2], vectors.device)
        found = self.encoder(vectors, src_key_padding_mask=~mask)
        logits: Tensor = self.head(masked_mean(found, mask))
        return logits


def places(frames: int, width: int, device: torch.device) -> Tensor:
    """float32 [frames, width]: sines and cosines of each frame's number, of any length; width is even (Vaswani et al. 2017)."""
    rates = torch.exp(torch.arange(0, width, 2, device=device) * (-math.log(SLOWEST) / width))
    angles = torch.arange(frames, device=device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
