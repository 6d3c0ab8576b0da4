"""Every clip comes once an epoch, in an order that seed and number alone decide, joined over the inputs, a bounded part of them in memory."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.problem import Problem
from tasks.rows import feature_rows
from tasks.tagger_corpus import Corpus, Piece, corpus_of, tables_of
from tasks.tagger_labels import Sides
from tasks.tagger_stream import Example, Stream, windows
from tasks.tfrecord import framed
from tests import planted
from tests.corpus import config_for, table
from tests.tasks.runs import run
from tests.tasks.shards import CLIPS, EMBEDDINGS, inferred
from tests.tasks.test_youtube8m import codes, frame_level

VIDEOS = 30


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> str:
    return planted.mixtures(tmp_path_factory.mktemp("mixtures"), VIDEOS)


def corpus(features: str, share: float = 0.3, piece_bytes: int = 1 << 30, **more: int) -> Corpus:
    return corpus_of(features, [], Sides(share), piece_bytes=piece_bytes, **{"labels": 100, "frames": 300, **more})


def stream(found: Corpus, **more: int) -> Stream:
    return Stream(found, **{"frames": 300, "seed": 1, "bound_bytes": 1 << 30, **more})  # type: ignore[arg-type]


def ids(examples: list[Example]) -> list[str]:
    return [example.clip_id for example in examples]


@pytest.mark.parametrize("bound_bytes", [1, 60_000, 1 << 30])
def test_an_epoch_has_every_clip_once_and_the_next_another_order(features: str, bound_bytes: int) -> None:
    found = corpus(features, piece_bytes=20_000)
    assert len(found.pieces) > 15  # a clip has 11,520 bytes
    epochs = ids(list(islice(stream(found, bound_bytes=bound_bytes).learned(0), 2 * found.learned)))
    first, second = epochs[: found.learned], epochs[found.learned :]
    held_out = ids(list(stream(found).held_out(1000)))
    assert sorted(first) == sorted(second)
    assert first != second
    assert sorted(first + held_out) == sorted(table(features, "clips")["clip_id"].to_pylist())
    assert len(held_out) == found.held_out > 3


@pytest.mark.parametrize("bound_bytes", [1, 60_000, 1 << 30])
def test_going_on_anywhere_is_as_not_having_stopped(features: str, bound_bytes: int) -> None:
    made = stream(corpus(features, piece_bytes=20_000), bound_bytes=bound_bytes)
    whole = ids(list(islice(made.learned(0), 60)))
    for start in (1, 13, 29, 47):
        assert ids(list(islice(made.learned(start), 60 - start))) == whole[start:]


def test_going_on_reads_no_window_before(features: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = corpus(features, piece_bytes=20_000)
    made, read = stream(found, bound_bytes=1), []
    real = Stream._read
    monkeypatch.setattr(Stream, "_read", lambda self, window, **more: read.append(window.clips) or real(self, window, **more))
    next(made.learned(found.learned - 1))
    assert sum(read) < 6


def test_frames_and_labels_are_those_of_the_tables(features: str) -> None:
    clips = {row["clip_id"]: row for row in table(features, "clips").to_pylist()}
    tables = [{row["clip_id"]: row["frame_codes"] for row in table(features, f"embeddings/model={model}").to_pylist()}
              for model in ("yt8m-inception3", "yt8m-vggish")]  # fmt: skip
    found = corpus(features)
    names = [label.name for label in found.labels]
    assert set(names) == {"ant", "bee", "cat", "dog", "eel", "5"}
    for example in islice(stream(found).learned(0), found.learned):
        for part, rows in zip(example.inputs, tables, strict=True):
            assert np.array_equal(part, np.frombuffer(b"".join(rows[example.clip_id]), np.uint8).reshape(10, -1))
        row = clips[example.clip_id]
        assert [names[column] for column in example.labels] == [name or str(key) for key, name in zip(row["label_ids"], row["labels"], strict=True)]
        assert len(example.segments) == len(row["segments"])


def test_labels_left_out_still_count_and_long_clips_are_thinned(features: str) -> None:
    found = corpus(features, labels=2)
    examples = list(islice(stream(found, frames=4).learned(0), found.learned))
    assert {len(part) for example in examples for part in example.inputs} == {4}
    assert any(example.positives > len(example.labels) for example in examples)
    assert all(rated.key in {label.key for label in found.labels} for example in examples for rated in example.segments)
    assert {len(example.inputs[0]) for example in stream(found, frames=4).held_out(9)} == {10}


def test_workers_share_the_pieces(features: str) -> None:
    found = corpus(features)
    parts = [set(stream(found, rank=rank, workers=2).pieces) for rank in (0, 1)]
    assert parts[0] | parts[1] == set(found.pieces)
    assert not parts[0] & parts[1]
    assert stream(found, rank=1, workers=9).pieces == list(found.pieces)


PIECES = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3)), max_size=12)


@given(PIECES, st.integers(1, 500), st.booleans())
def test_windows_hold_every_piece_of_use_once_within_the_bound(counts: list[tuple[int, int]], bound: int, held_out: bool) -> None:
    pieces = [Piece(str(index), 0, 0, 9, learned, judging, 10) for index, (learned, judging) in enumerate(counts)]
    found = windows(pieces, bound_bytes=bound, order=np.random.default_rng(3), held_out=held_out)
    wanted = [piece for piece in pieces if (piece.held_out if held_out else piece.learned)]
    assert Counter(piece for window in found for piece in window.pieces) == Counter(wanted)
    assert all(window.clips * 10 <= bound or len(window.pieces) == 1 for window in found)


@pytest.fixture
def mixed(tmp_path: Path) -> Callable[..., str]:
    """Output of a run over these records."""

    def make(*records: bytes) -> str:
        (tmp_path / "shards").mkdir()
        (tmp_path / "shards" / "train0.tfrecord").write_bytes(b"".join(map(framed, records)))
        run(config_for({"kind": "youtube8m", "uri": f"{tmp_path}/shards/"}, tmp_path / "out"))
        return str(tmp_path / "out")

    return make


def test_clips_without_a_label_or_an_input_are_counted_and_left_out(mixed: Callable[..., str]) -> None:
    whole = {"rgb": codes(5, 1024), "audio": codes(7, 128)}
    records = [frame_level(whole, name=f"v{number}", labels=(number,)) for number in range(6)]
    records += [frame_level({"rgb": codes(5, 1024)}, name="deaf"), frame_level(whole, name="unlabelled", labels=())]
    features = mixed(*(record.SerializeToString() for record in records))
    found = corpus(features, share=0.5)
    assert (found.learned + found.held_out, found.unlabelled, found.incomplete) == (6, 1, 1)
    examples = list(islice(stream(found).learned(0), found.learned))
    assert {len(part) for example in examples for part in example.inputs} == {5}
    assert {label.name for label in found.labels} == {str(label) for example in examples for label in [example.clip_id[1:]]}
    assert tables_of(features, ["yt8m-vggish"])[0].width == 128


def test_a_corpus_that_changes_meanwhile_is_told(features: str) -> None:
    found = corpus(features)
    other = replace(found, pieces=tuple(replace(piece, learned=piece.learned + 1) for piece in found.pieces))
    with pytest.raises(Problem, match=r"train0\d changed since the training began; run the same command again"):
        next(stream(other).learned(0))


BAD = {
    "no embeddings": ((), "holds no embeddings"),
    "unknown input": (("resnet",), "has no embeddings of it; it has yt8m-inception3, yt8m-vggish"),
    "unknown version": (("yt8m-vggish@00000000",), "has the versions .*; name one as yt8m-vggish@VERSION"),
}


@pytest.mark.parametrize("name", BAD)
def test_inputs_that_are_not_there_are_one_line(name: str, features: str, tmp_path: Path) -> None:
    inputs, words = BAD[name]
    with pytest.raises(Problem, match=words):
        tables_of(str(tmp_path) if name == "no embeddings" else features, inputs)


@pytest.mark.parametrize(("share", "words"), [(0.0, "leave none to judge by; choose another --held-out"), (1.0, "leave none to learn from")])
def test_a_side_without_clips_is_one_line(share: float, words: str, features: str) -> None:
    with pytest.raises(Problem, match=words):
        corpus(features, share=share)


def test_a_damaged_file_is_one_line(mixed: Callable[..., str]) -> None:
    records = [frame_level({"rgb": codes(5, 1024), "audio": codes(5, 128)}, name=f"v{number}") for number in range(4)]
    features = mixed(*(record.SerializeToString() for record in records))
    found = corpus(features, share=0.5)
    (path,) = Path(features, found.tables[1].folder).glob("*.parquet")
    start = pq.read_metadata(path).row_group(0).column(7).data_page_offset
    data = bytearray(path.read_bytes())
    data[start : start + 400] = bytes(400)
    path.write_bytes(bytes(data))
    with pytest.raises(Problem, match=r"damaged .*; delete it and run vidmill again"):
        next(stream(found).learned(0))
    path.write_bytes(b"no Parquet")
    with pytest.raises(Problem, match="damaged"):
        corpus(features)


@pytest.mark.parametrize("per_frame", [True, False])
def test_clips_of_videos_are_learned_from_by_label_and_split(per_frame: bool, tmp_path: Path) -> None:
    """An output of any other run: one model, its vectors per frame or their mean, Kinetics' labels."""
    keys, rows = ["a", "b", "c", "d"], [inferred(key, frames=3) for key in "abcd"]
    clips = feature_rows(CLIPS, rows, shard="s", per_frame=False, labels=()).to_pylist()
    said = [
        {**clip, "label": label, "split": split}
        for clip, label, split in zip(clips, ["x", "y", "x", None], ["train", "train", "val", "val"], strict=True)
    ]
    tables = {"clips": pa.Table.from_pylist(said), EMBEDDINGS.folder: feature_rows(EMBEDDINGS, rows, shard="s", per_frame=per_frame, labels=())}
    for folder, found in tables.items():
        (tmp_path / folder).mkdir(parents=True)
        pq.write_table(found, tmp_path / folder / "s.parquet")
    planned = corpus_of(str(tmp_path), [], Sides(0.1, "val"), labels=9, frames=300, piece_bytes=1 << 30)
    assert (planned.learned, planned.held_out, planned.unlabelled, planned.tables[0].width) == (2, 1, 1, 4)
    examples = {example.clip_id: example for example in [*islice(stream(planned).learned(0), 2), *stream(planned).held_out(9)]}
    assert examples.keys() == {"a", "b", "c"}
    for key, clip in zip(keys, rows, strict=True):
        if key in examples:
            vectors = clip.predictions[0][1].embedding
            assert vectors is not None
            wanted = vectors.astype(np.float16) if per_frame else vectors.mean(0, keepdims=True)
            assert np.array_equal(examples[key].inputs[0], wanted)
    assert [planned.labels[column].name for column in examples["c"].labels] == ["x"]
