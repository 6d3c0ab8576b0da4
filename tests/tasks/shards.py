"""Shards for the tests of the tables: clips with made-up values, staged and published as workers do, without media, models or Ray.

made("a", "b") -> InferredClip -> stage(...) -> publish(...) -> Parquet
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from infra.settings import RunConfig
from models.prediction import Prediction
from tasks.clip import ClipInfo, FailureKind
from tasks.encoded import EncodedClip, Failure
from tasks.feature import Feature
from tasks.infer import DecodedClip, InferredClip
from tasks.labels import Labels, read_annotations
from tasks.publish import PublishContext, PublishedShard, publish_shard
from tasks.published import FAILURES_FOLDER
from tasks.rows import failure_rows, feature_rows
from tasks.shardwork import ShardWork
from tasks.source import Shard, SourceFile, digest_of
from tasks.staging import Roster, Staging

MODEL = "mean-colour"
CLIPS = Feature("clips", None, "c0000000")
EMBEDDINGS = Feature("embeddings", MODEL, "e0000000")
TAGS = Feature("tags", MODEL, "a0000000")
OTHER = Feature("embeddings", "other", "b0000000")
FEATURES = (CLIPS, EMBEDDINGS, TAGS)
NAMES = ("cat", "dog", "owl", "fox", "hen", "ant")
INFO = ClipInfo(2.0, 10.0, 160, 128, "h264", 20, has_audio=False)
RUN = "20260101T000000-abcdef"


def config_of(output: Path, **more: Any) -> RunConfig:
    """Settings of which only the output matters."""
    return RunConfig.model_validate({"source": {"kind": "kinetics", "uri": "/corpus/*.tar"}, "output": str(output), **more})


def shard_of(name: str = "part_0", *, etag: str = "state 1") -> Shard:
    """A shard of one archive."""
    return Shard(name, (SourceFile(f"{name}.tar", f"/corpus/{name}.tar", etag, 1000),), digest_of([etag]))


def work_of(shard: Shard, features: Iterable[Feature] = FEATURES, **more: Any) -> ShardWork:
    """Work on a shard of which nothing is published yet."""
    return replace(ShardWork(shard, tuple(features), frozenset(), listed=False, unchanged=False), **more)


def inferred(key: str, *, etag: str = "v1", models: Iterable[str] = (MODEL,), frames: int = 2) -> InferredClip:
    """A clip with values that depend on its key and state alone."""
    clip = EncodedClip(key, key, f"/corpus/part_0.tar!{key}.mp4", etag, 1000, 1.0, 3.0)
    draw = np.random.default_rng([*key.encode(), *etag.encode()])
    values = draw.random((frames, 4), np.float32)
    odds = draw.random((frames, len(NAMES)), np.float32)
    prediction = Prediction(values, odds / odds.sum(axis=1, keepdims=True))
    decoded = DecodedClip(clip, INFO, (), np.arange(frames, dtype=np.float32))
    return InferredClip(decoded, tuple((model, prediction) for model in models), ())


def failure(key: str, *, etag: str = "v1", stage: str = "decode", kind: FailureKind = FailureKind.CORRUPT) -> Failure:
    """Why a clip gave no row."""
    return Failure(key, f"/corpus/part_0.tar!{key}.mp4", stage, kind, "made up", etag)


def stage(
    output: Path, shard: str, clips: Iterable[InferredClip], failures: Iterable[Failure] = (), *, features: Iterable[Feature] = FEATURES,
    per_frame: bool = False,
) -> None:  # fmt: skip
    """Stage rows and failures as one worker does for one parcel."""
    staging, found = Staging(str(output), shard), list(clips)
    for feature in features:
        staging.add(feature.folder, feature_rows(feature, found, shard=shard, per_frame=per_frame, labels=NAMES))
    staging.add(FAILURES_FOLDER, failure_rows(failures, shard=shard, run_id=RUN))


def roster(output: Path, shard: Shard, members: Mapping[str, str], *, ignored: int = 0) -> None:
    """Say what the shard consists of."""
    Staging(str(output), shard.name).write_roster(shard.etag, Roster(dict(members), ignored))


def context_of(
    output: Path, *, labels: Labels | None = None, replacements: ShardWork | None = None, run_id: str = RUN, corpus: str = "kinetics /corpus"
) -> PublishContext:
    """What publication needs besides the shard."""
    return PublishContext(str(output), run_id, corpus, labels or read_annotations(None), {}, replacements)


def publish(output: Path, work: ShardWork, **more: Any) -> PublishedShard:
    """Publish a shard."""
    return publish_shard(context_of(output, **more), work)


def reusable(features: Iterable[Feature] = FEATURES) -> frozenset[str]:
    """Folders whose rows hold."""
    return frozenset(feature.folder for feature in features)


@dataclass(frozen=True, slots=True)
class Published:
    """A shard of three clips and a failure, published."""

    output: Path
    shard: Shard


def published(output: Path, name: str = "part_0", keys: Iterable[str] = ("a", "b", "c"), bad: Iterable[str] = ("x",), **more: Any) -> Published:
    """Publish a shard with these clips and these failures."""
    shard, good, failed = shard_of(name), list(keys), list(bad)
    stage(output, name, [inferred(key) for key in good], [failure(key) for key in failed])
    roster(output, shard, dict.fromkeys([*good, *failed], "v1"))
    publish(output, work_of(shard), **more)
    return Published(output, shard)
