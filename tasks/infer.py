"""The way of a clip through decoder and models: encoded clip in, rows or a failure out.

    bytes -> frames (sampled) -> one square per frame and geometry -> every model once -> rows

A clip is decoded once for all models. On the CPU a forward pass holds the frames of one clip, so its values never depend on its
neighbours; on a GPU frames of many clips share a pass. Knows nothing of Ray or of where rows go.
"""

import io
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from infra import storage
from models.prediction import ModelError, ModelMemoryError, Prediction
from models.spec import Geometry, ModelSpec
from tasks.clip import ClipError, ClipInfo, FailureKind
from tasks.encoded import EncodedClip, Failure
from tasks.isolate import Decoder
from tasks.read import as_clip_error

if TYPE_CHECKING:
    from models.predictor import Predictor


@dataclass(frozen=True, slots=True)
class DecodedClip:
    """A clip as the models see it."""

    clip: EncodedClip  # without its bytes
    info: ClipInfo | None  # None: failed
    squares: tuple[np.ndarray, ...] = ()  # per geometry, uint8 [T, S, S, 3]
    time_s: np.ndarray | None = None  # float32 [T], from the clip's first frame, by PTS
    failure: Failure | None = None
    problem: str | None = None  # the store is in trouble: neither row nor failure, to be tried by another run


@dataclass(frozen=True, slots=True)
class InferredClip:
    """A clip with everything that was asked of it."""

    decoded: DecodedClip
    predictions: tuple[tuple[str, Prediction], ...]  # by model name
    failures: tuple[Failure, ...]


def decode(clip: EncodedClip, decoder: Decoder, geometries: Sequence[Geometry], *, fps: float) -> DecodedClip:
    """Decode a clip and cut its frames to what the models eat; a bad clip comes back as a failure."""
    light = replace(clip, data=None)
    if clip.failure:
        return DecodedClip(light, None, failure=clip.failure)
    try:
        with opened(clip) as file:
            found = decoder.decode(file, fps=fps, window=clip.window, geometries=geometries)
        return DecodedClip(light, found.info, found.squares, found.time_s)
    except (ClipError, storage.StorageError) as error:
        return _undecoded(light, error)


def _undecoded(clip: EncodedClip, error: ClipError | storage.StorageError) -> DecodedClip:
    try:
        known = as_clip_error(error)
    except storage.StorageError as trouble:
        return DecodedClip(clip, None, problem=str(trouble))
    return DecodedClip(clip, None, failure=_failure(clip, "decode", known.kind, known.message, known.attempts))


@contextmanager
def opened(clip: EncodedClip) -> Iterator[BinaryIO]:
    """A clip's bytes as a seekable file."""
    if clip.data is not None:
        yield io.BytesIO(clip.data)
        return
    with storage.open_seekable(storage.ObjectInfo(clip.uri, clip.size_bytes, clip.source_etag)) as file:
        yield file


def geometries_of(models: Sequence[ModelSpec]) -> tuple[Geometry, ...]:
    """The distinct shapes the models eat; models of one shape share a clip's squares."""
    return tuple(dict.fromkeys(spec.input.geometry for spec in models))


class Models:
    """Every model of a run, loaded once; runs those asked for over decoded clips."""

    def __init__(self, specs: Sequence[ModelSpec]) -> None:
        from models.predictor import Predictor  # torch, which only the processes that infer need

        self.predictors = tuple(Predictor(spec) for spec in specs)
        self.geometries = geometries_of(specs)

    def labels(self, model: str | None) -> Sequence[str]:
        """Names of a tagging model's classes."""
        return next(predictor.labels for predictor in self.predictors if predictor.spec.name == model)

    def infer(self, clips: Sequence[DecodedClip], wanted: Set[str | None]) -> list[InferredClip]:
        """Run the wanted models; a clip that a model cannot take gets a failure of that model and keeps the others' values."""
        good = [clip for clip in clips if clip.info is not None]
        predictors = [predictor for predictor in self.predictors if predictor.spec.name in wanted]
        by_model = [self._predict(predictor, good) for predictor in predictors]
        found = iter(zip(*by_model, strict=True) if by_model else [()] * len(good))
        return [_inferred(clip, predictors, next(found)) if clip.info else _failed(clip) for clip in clips]

    def _predict(self, predictor: "Predictor", clips: Sequence[DecodedClip]) -> list[Prediction | Failure]:
        which = self.geometries.index(predictor.spec.input.geometry)
        if predictor.device.type == "cpu" or len(clips) < 2:
            return [_guarded(predictor, clip, which) for clip in clips]
        try:
            together = predictor.predict(np.concatenate([clip.squares[which] for clip in clips]))
        except Exception:  # whatever a user's network raises; one by one tells which clip it is
            return [_guarded(predictor, clip, which) for clip in clips]
        ends = np.cumsum([len(clip.squares[which]) for clip in clips])
        return [together.rows(end - len(clip.squares[which]), end) for clip, end in zip(clips, ends, strict=True)]


def _failed(clip: DecodedClip) -> InferredClip:
    return InferredClip(clip, (), (clip.failure,) if clip.failure else ())


def _inferred(clip: DecodedClip, predictors: "Sequence[Predictor]", outcomes: Sequence[Prediction | Failure]) -> InferredClip:
    values = tuple((p.spec.name, o) for p, o in zip(predictors, outcomes, strict=True) if isinstance(o, Prediction))
    return InferredClip(clip, values, tuple(o for o in outcomes if isinstance(o, Failure)))


def _guarded(predictor: "Predictor", clip: DecodedClip, which: int) -> Prediction | Failure:
    try:
        return predictor.predict(clip.squares[which])
    except ModelError as error:
        kind = FailureKind.OOM if isinstance(error, ModelMemoryError) else FailureKind.MODEL
        return _failure(clip.clip, predictor.spec.name, kind, str(error))
    except Exception as error:  # a user's network may raise anything, and must not take the other clips with it
        message = f"model {predictor.spec.name}: {type(error).__name__}: {error}; correct {predictor.spec.factory}"
        return _failure(clip.clip, predictor.spec.name, FailureKind.MODEL, message)


def _failure(clip: EncodedClip, stage: str, kind: FailureKind, message: str, attempts: int = 1) -> Failure:
    return Failure(clip.key, clip.uri, stage, kind, message, clip.source_etag, attempts)
