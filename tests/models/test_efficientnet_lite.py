"""Our EfficientNet-Lite0 against an implementation that others wrote, with the published weights, on real frames."""

import numpy as np
import pytest
import torch
from efficientnet_lite_pytorch import EfficientNet

from models.catalog import resolve
from models.efficientnet_lite import SameConv
from models.network import build
from models.weights import fetch


@pytest.fixture(scope="module")
def eaten(squares: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((squares[::2].astype(np.float32) - 127) / 128).permute(0, 3, 1, 2)


def test_embedding_and_logits_equal_the_reference_packages(eaten):
    spec = resolve("efficientnet-lite0")
    reference = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(fetch(spec.weights, spec.sha256))).eval()
    with torch.inference_mode():
        embedding, logits = build(spec)(eaten)
        expected = reference.extract_features(eaten).mean((2, 3))
        assert (embedding - expected).norm() / expected.norm() < 1e-4
        assert (logits - reference(eaten)).norm() / logits.norm() < 1e-4
    assert embedding.shape == (len(eaten), 1280)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [8, 9])
def test_the_symmetric_form_of_a_lopsided_convolution_is_the_same_function(kernel, size):
    conv = SameConv(4, 4, kernel=kernel, stride=2, groups=4)
    x = torch.randn(2, 4, size, size)
    with torch.inference_mode():
        assert torch.allclose(conv(x), conv.symmetric()(x), atol=1e-6)
    assert conv.symmetric().padding == (kernel // 2, kernel // 2)
