"""Frames in, embeddings and probabilities out, whatever the batch."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from models.catalog import resolve
from models.network import build
from models.prediction import ModelError, ModelMemoryError
from models.predictor import Predictor
from tests.models.own import own_model
from tests.models.user_networks import BATCH_THAT_FITS, CLASSES, WIDTH, Hungry


@pytest.fixture(scope="module")
def lite() -> Predictor:
    return Predictor(resolve("efficientnet-lite0"), device="cpu")


def noise(count: int, side: int = 32) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def own(folder, factory, **more):
    if "tag" in more.get("task", []):
        (folder / "labels.txt").write_text("".join(f"label {i}\n" for i in range(CLASSES)))
        more = {"labels": str(folder / "labels.txt"), **more}
    return resolve("mine", [own_model(folder, factory, **more)])


def test_real_frames_give_what_the_plain_network_gives(lite, squares):
    found = lite.predict(squares)
    with torch.inference_mode():
        expected = build(lite.spec)(torch.from_numpy((squares.astype(np.float32) - 127) / 128).permute(0, 3, 1, 2))
    assert found.embedding.dtype == found.probabilities.dtype == np.float32
    assert np.linalg.norm(found.embedding - expected.embedding.numpy()) < 1e-4 * np.linalg.norm(found.embedding)
    assert np.allclose(found.probabilities, expected.logits.softmax(1).numpy(), atol=1e-5)
    assert np.allclose(found.probabilities.sum(1), 1, atol=1e-5)


def test_the_labels_are_in_the_order_of_the_logits(lite, films, squares):
    best = [lite.labels[i] for i in lite.predict(squares).probabilities.argmax(1)]
    assert best[len(films["bikes"]) + 1] == "albatross"
    assert set(best[-len(films["carphone_pristine"]) :]) <= {"suit", "Windsor tie", "bow tie"}


def test_values_are_bit_identical_whatever_ran_before(lite, squares):
    once = lite.predict(squares[:7])
    lite.predict(squares[7:10])
    again = lite.predict(squares[:7])
    other = Predictor(lite.spec, device="cpu").predict(squares[:7])
    for found in (again, other):
        assert np.array_equal(found.embedding, once.embedding)
        assert np.array_equal(found.probabilities, once.probabilities)


def test_read_only_and_strided_frames_are_taken(lite, squares):
    frames = squares[:2].copy()
    frames.flags.writeable = False
    assert np.array_equal(lite.predict(frames).embedding, lite.predict(squares[:2]).embedding)
    assert np.array_equal(lite.predict(squares[:2, :, ::-1]).embedding, lite.predict(squares[:2, :, ::-1].copy()).embedding)


def test_no_frames_give_no_rows(lite):
    found = lite.predict(noise(0, 224))
    assert found.embedding.shape == (0, 1280)
    assert found.probabilities.shape == (0, 1000)


def test_a_part_of_a_prediction_is_its_rows(lite, squares):
    whole = lite.predict(squares[:4])
    part = whole.rows(1, 3)
    assert np.array_equal(part.embedding, whole.embedding[1:3])
    assert np.array_equal(part.probabilities, whole.probabilities[1:3])


@pytest.mark.parametrize("frames", [noise(2), noise(2, 224).astype(np.float32), noise(1, 224)[0]])
def test_frames_of_another_shape_are_refused(lite, frames):
    with pytest.raises(ValueError, match="frames are uint8"):
        lite.predict(frames)


def test_a_users_plain_embedding_is_run(tmp_path):
    spec = own(tmp_path, "Embedder")
    found = Predictor(spec, device="cpu").predict(noise(12))
    x = (torch.from_numpy(noise(12)).float() - torch.tensor(spec.input.mean)) / torch.tensor(spec.input.std)
    with torch.inference_mode():
        expected = build(spec)(x.permute(0, 3, 1, 2)).numpy()
    assert found.probabilities is None
    assert np.allclose(found.embedding, expected, atol=1e-5)


def test_a_users_plain_logits_become_probabilities(tmp_path):
    predictor = Predictor(own(tmp_path, "Embedder", task=["tag"], labels=_labels(tmp_path, WIDTH)), device="cpu")
    found = predictor.predict(noise(3))
    assert found.embedding is None
    assert found.probabilities.shape == (3, WIDTH)
    assert len(predictor.labels) == WIDTH


@pytest.mark.parametrize("task", [["embed"], ["tag"], ["embed", "tag"]])
def test_a_users_pair_gives_what_was_asked_for(tmp_path, task):
    found = Predictor(own(tmp_path, "Both", task=task), device="cpu").predict(noise(3))
    assert (found.embedding is not None) == ("embed" in task)
    assert (found.probabilities is not None) == ("tag" in task)


@pytest.mark.parametrize(
    ("factory", "more", "says"),
    [
        ("Unpooled", {}, r"embedding is torch.float32 \[5, 8, 8, 8\], expected float \[5, D\]"),
        ("Embedder", {"task": ["embed", "tag"]}, "returned Tensor; a forward pass gives"),
        ("Both", {"task": ["tag"], "labels": 9}, r"logits is torch.float32 \[5, 4\], expected float \[5, 9\]"),
        ("NotANumber", {}, "not-a-number or infinity"),
    ],
)
def test_a_network_that_does_not_fit_its_spec_is_told_at_the_start(tmp_path, factory, more, says):
    more = {**more, "labels": _labels(tmp_path, more["labels"])} if "labels" in more else more
    with pytest.raises(ModelError, match=says):
        Predictor(own(tmp_path, factory, **more), device="cpu")


def _labels(folder, count):
    path = folder / f"{count}.txt"
    path.write_text("".join(f"label {i}\n" for i in range(count)))
    return str(path)


def test_out_of_memory_halves_the_batch_and_gives_the_same(tmp_path, monkeypatch):
    spec = own(tmp_path, "Hungry")
    roomy = Predictor(spec, device="cpu", batch_size=BATCH_THAT_FITS).predict(noise(20))
    predictor = Predictor(spec, device="cpu", batch_size=16)
    assert predictor.batch_size == 2
    assert np.allclose(predictor.predict(noise(20)).embedding, roomy.embedding, atol=1e-6)
    monkeypatch.setattr(Hungry, "fits", 1)  # memory grows scarcer while running
    assert np.allclose(predictor.predict(noise(20)).embedding, roomy.embedding, atol=1e-6)
    assert predictor.batch_size == 1


def test_the_smaller_batch_is_remembered(tmp_path):
    predictor = Predictor(own(tmp_path, "Hungry"), device="cpu", batch_size=16)
    predictor._network.seen.clear()
    predictor.predict(noise(5))
    assert predictor._network.seen == [2, 2, 1]


def test_one_frame_that_does_not_fit_is_told(tmp_path):
    with pytest.raises(ModelMemoryError, match=r"model mine: one frame does not fit.*cpu"):
        Predictor(own(tmp_path, "Insatiable"), device="cpu")


def test_a_predictor_starts_quickly():
    code = (
        "import time, torch, models.predictor, models.catalog; torch.set_num_threads(1); started = time.process_time();"
        "models.predictor.Predictor(models.catalog.resolve('efficientnet-lite0'), device='cpu'); print(time.process_time() - started)"
    )
    assert float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout) < 2
