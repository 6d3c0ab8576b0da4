"""Outputs of runs over YouTube-8M shards with a structure that somebody planted, so that a tagger has something to learn and a test knows what.

mixtures    a video shows one or two of six patterns among noise, each in one half of it; its labels say which     the mean is enough
orders      every video shows A once and B once; the label says which came first                                  the mean says nothing
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from infra.settings import RunConfig
from tasks.tfrecord import framed
from tasks.youtube8m import WIDTHS
from tests.corpus import config_for
from tests.tasks.runs import run
from tests.tasks.test_youtube8m import frame_level

TOPICS = ("ant", "bee", "cat", "dog", "eel", None)  # the last has no name in the vocabulary
A_FIRST, B_FIRST = "a before b", "b before a"
SHARDS = 4
HALF_S = 5  # a segment

Features = dict[str, np.ndarray]


def mixtures(folder: Path, videos: int, *, seed: int = 1) -> str:
    """Output of a run; half of its videos have rated segments."""
    write_mixtures(folder, videos, seed=seed)
    return _output(folder)


def write_mixtures(folder: Path, videos: int, *, seed: int = 1) -> None:
    """The shards and the vocabulary alone."""
    random = np.random.default_rng(seed)
    patterns = [_pattern(random) for _ in TOPICS]
    records = []
    for number in range(videos):
        topics = random.choice(len(TOPICS), size=random.integers(1, 3), replace=False)
        halves = [int(random.integers(2)) for _ in topics]
        features = _noise(random, 2 * HALF_S)
        for topic, half in zip(topics, halves, strict=True):
            _show(features, patterns[topic], slice(half * HALF_S + 1, half * HALF_S + 4))
        rated = [(start, int(topic), half * HALF_S == start) for topic, half in zip(topics, halves, strict=True) for start in (0, HALF_S)]
        records.append(_record(f"v{number:04}", [int(topic) for topic in topics], features, rated if number % 2 else []))
    _write(folder, records, {index: name for index, name in enumerate(TOPICS) if name})


def orders(folder: Path, videos: int, *, seed: int = 1) -> str:
    """Output of a run."""
    random = np.random.default_rng(seed)
    a, b = _pattern(random), _pattern(random)
    records = []
    for number in range(videos):
        frames, label = int(random.integers(8, 14)), int(random.integers(2))
        features, places = _noise(random, frames), np.sort(random.choice(frames, size=2, replace=False))
        for pattern, place in zip((a, b) if label == 0 else (b, a), places, strict=True):
            _show(features, pattern, slice(place, place + 1))
        records.append(_record(f"v{number:04}", [label], features, []))
    _write(folder, records, {0: A_FIRST, 1: B_FIRST})
    return _output(folder)


def config(folder: Path) -> RunConfig:
    """Of the run over the shards in a folder."""
    return config_for({"kind": "youtube8m", "uri": f"{folder}/shards/", "vocabulary": f"{folder}/vocabulary.csv"}, folder / "out")


def _pattern(random: np.random.Generator) -> Features:
    return {name: random.choice([-60.0, 60.0], size=width) for name, width in WIDTHS.items()}


def _noise(random: np.random.Generator, frames: int) -> Features:
    return {name: random.normal(128, 30, size=(frames, width)) for name, width in WIDTHS.items()}


def _show(features: Features, pattern: Features, where: slice) -> None:
    for name in WIDTHS:
        features[name][where] += pattern[name]


def _record(name: str, labels: list[int], features: Features, rated: list[tuple[int, int, bool]]) -> bytes:
    codes = {key: values.clip(0, 255).astype(np.uint8) for key, values in features.items()}
    record = frame_level(codes, name=name, labels=tuple(labels))
    for key, values in (
        ("start_times", [s for s, _, _ in rated]),
        ("end_times", [s + HALF_S for s, _, _ in rated]),
        ("labels", [k for _, k, _ in rated]),
    ):
        record.context.feature[f"segment_{key}"].int64_list.value.extend(values)
    record.context.feature["segment_scores"].float_list.value.extend(float(right) for _, _, right in rated)
    return framed(record.SerializeToString())


def _write(folder: Path, records: list[bytes], names: dict[int, str]) -> None:
    (folder / "shards").mkdir(parents=True)
    for number, part in enumerate(_parts(records)):
        (folder / "shards" / f"train{number:02}.tfrecord").write_bytes(b"".join(part))
    lines = ["Index,Name", *(f"{index},{name}" for index, name in names.items())]
    (folder / "vocabulary.csv").write_text("\n".join(lines) + "\n")


def _output(folder: Path) -> str:
    assert run(config(folder)).status == "done"
    return str(folder / "out")


def _parts(records: list[bytes]) -> Iterator[list[bytes]]:
    return (records[number::SHARDS] for number in range(SHARDS))
