"""Our MobileNetV2 with the published weights sees in real frames what is there."""

import torch

from models.catalog import resolve
from models.network import build
from models.predictor import Predictor
from models.prepare import prepare


def test_the_published_weights_load_strictly_and_know_a_suit(films):
    predictor = Predictor(resolve("mobilenet-v2"))
    found = predictor.predict(prepare(films["carphone_pristine"][0], predictor.spec.input.geometry)[None])
    assert found.embedding.shape == (1, 1280)
    best = {predictor.labels[i] for i in found.probabilities[0].argsort()[-2:]}
    assert best == {"suit", "Windsor tie"}


def test_the_embedding_is_what_the_classifier_reads():
    network = build(resolve("mobilenet-v2"))
    with torch.inference_mode():
        output = network(torch.randn(1, 3, 224, 224))
        assert torch.equal(network.classifier[1](output.embedding), output.logits)
