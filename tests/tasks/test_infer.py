"""A clip is decoded once for all models; what a model or a clip cannot do is a failure of its own and spoils nothing beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra import storage
from infra.settings import RunConfig
from infra.storage import Cause, StorageError
from models.prediction import ModelError, ModelMemoryError, Prediction
from models.spec import Geometry
from tasks.clip import FailureKind, Window
from tasks.encoded import EncodedClip
from tasks.feature import model_specs
from tasks.infer import DecodedClip, InferredClip, Models, decode, geometries_of
from tasks.isolate import Decoder
from tests.corpus import bad_clips, config_for
from tests.tasks.networks import DARK, LIGHT, MEDIUM, entry, grey
from tests.tasks.shards import failure

SIDE = (Geometry(32, 32),)
FPS = 2.0


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    folder = tmp_path_factory.mktemp("models")
    own = [entry(folder), entry(folder, "Picky"), entry(folder, "Grey", name="small", resize=16, crop=16)]
    return config_for({"kind": "kinetics", "uri": "/c"}, "/out", embed=["grey", "picky", "small"], tag=["grey"], models=own)


@pytest.fixture(scope="module")
def models(config: RunConfig) -> Models:
    return Models(model_specs(config))


def encoded(key: str, data: bytes | None, **more: Any) -> EncodedClip:
    return EncodedClip(key, key, f"/a.tar!{key}.mp4", "v1", len(data or b""), 0.0, None, data=data, **more)


@pytest.fixture(scope="module")
def decoder(config: RunConfig) -> Decoder:
    return Decoder(config.limits)


def infer(models: Models, decoder: Decoder, clips: Sequence[EncodedClip], *wanted: str | None) -> list[InferredClip]:
    return models.infer([decode(clip, decoder, models.geometries, fps=FPS) for clip in clips], set(wanted))


def values(clip: InferredClip) -> dict[str, Prediction]:
    return dict(clip.predictions)


def test_models_of_one_geometry_share_a_clips_squares(models: Models, decoder: Decoder, config: RunConfig) -> None:
    assert models.geometries == (Geometry(32, 32), Geometry(16, 16)) == geometries_of(model_specs(config))
    found = decode(encoded("a", grey(MEDIUM)), decoder, models.geometries, fps=FPS)
    assert [(square.shape, square.dtype.name) for square in found.squares] == [((2, 32, 32, 3), "uint8"), ((2, 16, 16, 3), "uint8")]
    assert found.time_s is not None
    assert found.time_s.tolist() == [0.0, 0.5]
    assert found.clip.data is None
    assert (found.info and found.info.duration_s) == 1.0


def test_every_wanted_model_gives_its_values_and_no_other(models: Models, decoder: Decoder) -> None:
    (both,) = infer(models, decoder, [encoded("a", grey(MEDIUM))], "grey", "small", None)
    assert set(values(both)) == {"grey", "small"}
    embedding, probabilities = values(both)["grey"].embedding, values(both)["grey"].probabilities
    assert embedding is not None
    assert probabilities is not None
    np.testing.assert_allclose(embedding, MEDIUM / 255, atol=0.01)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert models.labels("grey") == ("dark", "light")
    (none,) = infer(models, decoder, [encoded("a", grey(MEDIUM))], None)
    assert (none.predictions, none.failures, none.decoded.info is not None) == ((), (), True)


def test_a_models_failure_is_of_that_model_and_that_clip_alone(models: Models, decoder: Decoder) -> None:
    """P6: a user's network may raise anything; without the guard it would end the whole run."""
    clips = [encoded("dark", grey(DARK)), encoded("fine", grey(MEDIUM)), encoded("light", grey(LIGHT))]
    found = infer(models, decoder, clips, "grey", "picky")
    assert [sorted(values(each)) for each in found] == [["grey"], ["grey", "picky"], ["grey"]]
    told = [(f.clip_id, f.stage, f.kind, f.message) for each in found for f in each.failures]
    assert [row[:3] for row in told] == [("dark", "picky", "MODEL"), ("light", "picky", "MODEL")]
    assert "RuntimeError: too dark for me" in told[0][3]
    assert "not-a-number" in told[1][3]


def test_neighbours_do_not_change_a_clips_values(models: Models, decoder: Decoder) -> None:
    clips = [encoded(str(level), grey(level)) for level in (DARK, MEDIUM, LIGHT)]
    together = [values(each)["grey"].embedding for each in infer(models, decoder, clips, "grey")]
    alone = [values(infer(models, decoder, [each], "grey")[0])["grey"].embedding for each in clips]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("kind", ["CORRUPT", "EMPTY", "NO_VIDEO", "TRUNCATED"])
def test_a_bad_clip_is_one_failure_of_its_kind_between_its_neighbours(models: Models, decoder: Decoder, kind: str) -> None:
    clips = [encoded("a", grey(MEDIUM)), encoded("bad", bad_clips()[kind]), encoded("b", grey(MEDIUM))]
    found = infer(models, decoder, clips, "grey")
    assert [len(each.predictions) for each in found] == [1, 0, 1]
    assert [(f.clip_id, f.member, f.stage, f.kind, f.source_etag) for f in found[1].failures] == [("bad", "/a.tar!bad.mp4", "decode", kind, "v1")]


def test_a_clip_known_to_be_bad_is_handed_on(decoder: Decoder) -> None:
    known = encoded("x", None, failure=failure("x"))
    assert decode(known, decoder, SIDE, fps=FPS) == DecodedClip(known, None, failure=known.failure)


def test_a_window_is_read_where_it_lies_and_a_lost_video_is_missing(tmp_path: Path, decoder: Decoder) -> None:
    path = tmp_path / "v.mp4"
    path.write_bytes(grey(MEDIUM, seconds=3))
    info = storage.stat(str(path))
    assert info is not None
    clip = EncodedClip("v#1000", "v", str(path), info.etag, info.size_bytes, 1.0, 2.0, window=Window(1.0, 2.0))
    found = decode(clip, decoder, SIDE, fps=FPS)
    assert (found.info and found.info.duration_s, len(found.squares[0])) == (1.0, 2)
    path.unlink()
    gone = decode(clip, decoder, SIDE, fps=FPS)
    assert (gone.failure and gone.failure.kind, gone.problem) == (FailureKind.MISSING, None)


def test_trouble_with_the_store_is_neither_row_nor_failure(monkeypatch: pytest.MonkeyPatch, decoder: Decoder, models: Models) -> None:
    """P8: a clip that could not be fetched today is not bad."""

    def busy(_: object) -> object:
        raise StorageError("s3://b/v.mp4", Cause.BUSY)

    monkeypatch.setattr(storage, "open_seekable", busy)
    found = decode(encoded("v", None), decoder, SIDE, fps=FPS)
    assert (found.info, found.failure) == (None, None)
    assert found.problem
    assert "s3://b/v.mp4: the store kept failing" in found.problem
    (inferred,) = models.infer([found], {"grey"})
    assert (inferred.predictions, inferred.failures) == ((), ())


class Gpu:
    """A predictor that says it is on a GPU, and refuses batches that hold a poisonous frame."""

    def __init__(self, real: Any, poison: int, error: Exception) -> None:
        self.real, self.poison, self.error = real, poison, error
        self.spec, self.labels = real.spec, real.labels
        self.device = type("Device", (), {"type": "cuda"})()
        self.calls: list[int] = []

    def predict(self, frames: np.ndarray) -> Prediction:
        self.calls.append(len(frames))
        if (abs(frames.astype(int).mean(axis=(1, 2, 3)) - self.poison) < 5).any():
            raise self.error
        found: Prediction = self.real.predict(frames)
        return found


ERRORS = [(ModelError("no"), "MODEL"), (ModelMemoryError("no"), "OOM"), (RuntimeError("CUDA error"), "MODEL")]


@pytest.mark.parametrize(("error", "kind"), ERRORS)
def test_on_a_gpu_clips_share_a_pass_and_a_poisonous_one_fails_alone(models: Models, decoder: Decoder, error: Exception, kind: str) -> None:
    shared = object.__new__(Models)
    gpu = Gpu(models.predictors[0], DARK, error)
    vars(shared).update(predictors=(gpu,), geometries=models.geometries)
    good = [encoded("a", grey(MEDIUM)), encoded("b", grey(LIGHT, seconds=2))]
    together = infer(shared, decoder, good, "grey")
    assert gpu.calls == [6]
    for each, alone in zip(together, infer(models, decoder, good, "grey"), strict=True):
        np.testing.assert_allclose(np.asarray(values(each)["grey"].embedding), np.asarray(values(alone)["grey"].embedding), atol=1e-6)
    found = infer(shared, decoder, [*good, encoded("dark", grey(DARK))], "grey")
    assert [len(each.predictions) for each in found] == [1, 1, 0]
    assert [(f.clip_id, f.kind) for f in found[2].failures] == [("dark", kind)]
