"""Fewer, faster layers give the same values."""

import pytest
import torch
from torch import fx, nn

from models.catalog import resolve
from models.fuse import OneDnnConv, folded, onednn
from models.network import build, fastest

CPU = torch.device("cpu")


def cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(torch.cosine_similarity(a.double(), b.double(), dim=1).min())


def counted(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(layer, kind) for layer in network.modules())


@pytest.mark.parametrize(("name", "convolutions"), [("efficientnet-lite0", 49), ("mobilenet-v2", 52)])
def test_every_batch_norm_and_activation_goes_into_its_convolution(name, convolutions, squares):
    network = build(resolve(name))
    x = torch.from_numpy(squares[:2].astype("float32") / 128 - 1).permute(0, 3, 1, 2)
    with torch.inference_mode():
        expected = network(x)
        fold = folded(network)
        assert counted(fold, nn.BatchNorm2d) == 0
        assert cosine(fold(x).embedding, expected.embedding) > 0.99999
        fast = onednn(fold)
        assert counted(fast, OneDnnConv) == convolutions
        assert counted(fast, nn.ReLU6) == 0
        assert cosine(fast(x).embedding, expected.embedding) > 0.99999
        assert cosine(fast(x).logits, expected.logits) > 0.99999


def made(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is not None:
            nn.init.uniform_(layer.running_mean)
            nn.init.uniform_(layer.running_var, 0.5, 2)
    return nn.Sequential(*layers, nn.Flatten()).eval()


class Scaled(nn.Conv2d):
    """A convolution that is not only one."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 3 * super().forward(x) + 1


class Shared(nn.Module):
    """One convolution, twice, and a value used twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        return (torch.relu(self.norm(y)) + y + self.conv(torch.relu(y))).flatten(1)


class Branching(nn.Module):
    """Cannot be followed by torch.fx."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) if x.sum() > 0 else -x.flatten(1)


NETWORKS = [
    made(nn.Conv2d(3, 8, 3, dilation=2), nn.BatchNorm2d(8), nn.ReLU()),
    made(nn.Conv2d(3, 8, 3, padding="same"), nn.BatchNorm2d(8), nn.ReLU6()),
    made(nn.Conv2d(3, 8, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(8), nn.Hardtanh(-2, 3)),
    made(nn.Conv2d(3, 6, (1, 3), stride=(2, 1), padding=(0, 1), groups=3), nn.ReLU6(), nn.BatchNorm2d(6), nn.GELU()),
    made(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1, bias=False)),
    made(Scaled(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
    made(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False), nn.ReLU()),
    made(nn.ReflectionPad2d(1), nn.ConvTranspose2d(3, 4, 2), nn.BatchNorm2d(4)),
    Shared().eval(),
    Branching().eval(),
]


@pytest.mark.parametrize("network", NETWORKS, ids=range(len(NETWORKS)))
def test_any_users_network_keeps_its_values(network):
    x = torch.rand(3, 3, 16, 16)
    with torch.inference_mode():
        expected = network(x)
        found = fastest(network, crop=16, device=CPU)(x)
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_a_value_that_others_also_read_is_left_as_it_is():
    network, x = Shared().eval(), torch.rand(3, 3, 16, 16)
    nn.init.uniform_(network.norm.running_mean)
    with torch.inference_mode():
        for rewritten in (folded(network), onednn(folded(network))):
            assert torch.allclose(rewritten(x), network(x), atol=1e-5)


def test_what_fx_cannot_follow_runs_as_it_is():
    network = Branching().eval()
    assert fastest(network, crop=16, device=CPU) is network


def test_a_rewriting_that_changed_values_would_not_be_used(monkeypatch):
    def wrong(network: nn.Module) -> nn.Module:
        return nn.Sequential(folded(network), nn.Softmax(1))

    network = NETWORKS[0]
    monkeypatch.setattr("models.network.onednn", lambda module: wrong(module))
    found = fastest(network, crop=16, device=CPU)
    assert isinstance(found, fx.GraphModule)
    assert counted(found, OneDnnConv) == counted(found, nn.Softmax) == 0
