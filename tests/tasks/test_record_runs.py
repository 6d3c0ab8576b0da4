"""Shards of YouTube-8M through a whole run: every array in Parquet is the source's, every damage one failure, and a second run does nothing."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from infra.settings import RunConfig
from tasks.tfrecord import framed
from tasks.verify import verify
from tests.corpus import config_for, table
from tests.tasks.runs import run
from tests.tasks.test_youtube8m import codes, frame_level

Arrays = dict[str, dict[str, np.ndarray]]


def arrays(names: list[str]) -> Arrays:
    return {name: {"rgb": codes(3 + k, 1024), "audio": codes(3 + k, 128)} for k, name in enumerate(names)}


def packed(records: Arrays) -> list[bytes]:
    return [framed(frame_level(lists, name=name).SerializeToString()) for name, lists in records.items()]


def config(folder: Path) -> RunConfig:
    return config_for({"kind": "youtube8m", "uri": f"{folder}/shards/"}, folder / "out")


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    (tmp_path / "shards").mkdir()
    return tmp_path / "shards"


def test_every_array_is_the_sources(tmp_path: Path, shards: Path) -> None:
    first, second = arrays(["a0", "-b"]), arrays(["c_c"])
    (shards / "train00.tfrecord").write_bytes(b"".join(packed(first)))
    (shards / "trainpj.tfrecord.gz").write_bytes(gzip.compress(b"".join(packed(second))))
    assert run(config(tmp_path)).status == "done"
    for model, feature in (("yt8m-inception3", "rgb"), ("yt8m-vggish", "audio")):
        rows = {row["clip_id"]: row for row in table(tmp_path / "out", f"embeddings/model={model}").to_pylist()}
        assert rows.keys() == (first | second).keys()
        for name, lists in (first | second).items():
            found = np.frombuffer(b"".join(rows[name]["frame_codes"]), np.uint8).reshape(-1, lists[feature].shape[1])
            assert np.array_equal(found, lists[feature])
    assert {row["shard"] for row in table(tmp_path / "out", "clips").to_pylist()} == {"train00", "trainpj"}
    assert verify(str(tmp_path / "out")).faults == []
    assert run(config(tmp_path)).status == "nothing to do"


def test_labels_have_names_and_a_corrected_vocabulary_opens_no_record(tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shards / "train00.tfrecord").write_bytes(b"".join(packed(arrays(["a"]))))
    vocabulary = tmp_path / "vocabulary.csv"
    rows = "3,10,/m/1,Guitar,http,Arts & Entertainment,,,\n7,9,/m/2,{},http,Games,Arts & Entertainment,,x\n"
    head = "Index,TrainVideoCount,KnowledgeGraphId,Name,WikiUrl,Vertical1,Vertical2,Vertical3,WikiDescription\n"
    source = {"kind": "youtube8m", "uri": f"{shards}/", "vocabulary": str(vocabulary)}
    for name in ("Concert", "Gig"):
        vocabulary.write_text(head + rows.format(name))
        assert run(config_for(source, tmp_path / "out")).status == "done"
        (row,) = table(tmp_path / "out", "clips").to_pylist()
        assert (row["label_ids"], row["labels"]) == ([3, 7], ["Guitar", name])
        assert row["verticals"] == ["Arts & Entertainment", "Games"]
        monkeypatch.setattr("tasks.read.records", lambda *_, **__: pytest.fail("a record was read"))


def test_every_damage_is_one_failure_with_its_place(tmp_path: Path, shards: Path) -> None:
    whole = packed(arrays(["a", "b", "c", "d"]))
    flipped = bytearray(b"".join(whole))
    flipped[len(whole[0]) + 100] ^= 1
    (shards / "payload.tfrecord").write_bytes(bytes(flipped))
    other = packed(arrays(["e", "f", "g"]))
    cut = bytearray(b"".join(other))
    cut[len(other[0]) + 3] ^= 1
    (shards / "length.tfrecord").write_bytes(bytes(cut))
    lame = frame_level({"rgb": codes(5, 1024)}, name="h").SerializeToString()
    empty = frame_level({"rgb": codes(0, 1024), "audio": codes(0, 128)}, name="i").SerializeToString()
    (shards / "lacking.tfrecord").write_bytes(framed(lame) + framed(empty) + framed(b"no record"))
    summary = run(config(tmp_path))
    assert summary.status == "done", summary.problems
    failures = {(Path(row["member"]).name, row["stage"], row["kind"]) for row in table(tmp_path / "out", "failures").to_pylist()}
    assert failures == {
        (f"payload.tfrecord!{len(whole[0])}", "read", "BAD_RECORD"),
        (f"length.tfrecord!{len(other[0])}", "read", "TRUNCATED"),
        ("lacking.tfrecord!0", "yt8m-vggish", "BAD_RECORD"),
        (f"lacking.tfrecord!{len(framed(lame))}", "yt8m-inception3", "BAD_RECORD"),
        (f"lacking.tfrecord!{len(framed(lame))}", "yt8m-vggish", "BAD_RECORD"),
        (f"lacking.tfrecord!{len(framed(lame) + framed(empty))}", "read", "BAD_RECORD"),
    }
    assert sorted(row["clip_id"] for row in table(tmp_path / "out", "clips").to_pylist()) == ["a", "c", "d", "e", "h", "i"]
    assert sorted(row["clip_id"] for row in table(tmp_path / "out", "embeddings/model=yt8m-inception3").to_pylist()) == ["a", "c", "d", "e", "h"]
    assert verify(str(tmp_path / "out")).faults == []
