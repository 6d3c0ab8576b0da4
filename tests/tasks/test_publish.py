"""Whatever workers leave behind, and wherever a run dies: one row or one failure per clip, in files that others can read."""

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infra import storage
from tasks import passes
from tasks.clip import FailureKind
from tasks.labels import Labels
from tasks.publish import HoleError, publish_shard
from tasks.published import path_of, read_footer
from tasks.schema import CLIPS as CLIPS_SCHEMA
from tasks.schema import embeddings_schema
from tasks.staging import Staging
from tests.corpus import contents, files, table
from tests.tasks.shards import (
    CLIPS,
    EMBEDDINGS,
    FEATURES,
    MODEL,
    OTHER,
    TAGS,
    context_of,
    failure,
    inferred,
    publish,
    published,
    reusable,
    roster,
    shard_of,
    stage,
    work_of,
)

KEYS = ("a", "b", "c", "d", "e")
BAD = ("x", "y")
MEMBERS = dict.fromkeys((*KEYS, *BAD), "v1")
Chunk = list[tuple[str, str]]


def stage_chunk(output: Path, chunk: Chunk) -> None:
    stage(
        output,
        "part_0",
        [inferred(key, etag=etag) for key, etag in chunk if key not in BAD],
        [failure(key, etag=etag) for key, etag in chunk if key in BAD],
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """The shard from one fragment."""
    output = tmp_path_factory.mktemp("plain")
    stage_chunk(output, [(key, "v1") for key in MEMBERS])
    roster(output, shard_of(), MEMBERS)
    publish(output, work_of(shard_of()))
    return contents(output)


@st.composite
def chunks(draw: st.DrawFn) -> list[Chunk]:
    """All members at least once, in fragments of any size and order, with duplicates, older states and clips that are gone."""
    extra = st.tuples(st.sampled_from((*MEMBERS, "gone")), st.sampled_from(("v0", "v1")))
    rows = draw(st.permutations([(key, "v1") for key in MEMBERS] + draw(st.lists(extra, max_size=8))))
    cuts = sorted(draw(st.sets(st.integers(1, len(rows) - 1), max_size=5)))
    return [rows[start:end] for start, end in zip([0, *cuts], [*cuts, len(rows)], strict=True)]


@settings(max_examples=25)
@given(parts=chunks(), damaged=st.booleans(), rows=st.sampled_from((2, 3, 8192)), size=st.sampled_from((1, 100, 1 << 20)))
def test_any_split_into_fragments_gives_the_same_files(
    plain: dict[str, list[dict[str, Any]]], parts: list[Chunk], damaged: bool, rows: int, size: int
) -> None:
    """P1, P2: without the etag comparison a row of an older state would win, without deduplication a clip would come twice."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        output = Path(folder)
        patch.setattr(passes, "ROWS", rows)
        patch.setattr(passes, "BYTES", size)
        patch.setattr(passes, "FEW", rows - 1)
        for part in parts:
            stage_chunk(output, part)
        if damaged:
            storage.write_bytes(f"{Staging(folder, 'part_0').root}/{EMBEDDINGS.folder}/0.fragment", b"PAR1 half a fragment")
        roster(output, shard_of(), MEMBERS)
        done = publish(output, work_of(shard_of()))
        assert contents(output) == plain
        assert (done.planned, dict(done.rows), dict(done.failed)) == (7, dict.fromkeys(FEATURES, 5), {"CORRUPT": 2})
        for feature in FEATURES:
            written = pq.read_table(path_of(folder, feature.folder, "part_0"))
            assert written["clip_id"].to_pylist() == list(KEYS)


def test_a_clip_with_neither_row_nor_failure_is_never_published_around(tmp_path: Path) -> None:
    """P11: publishing what is there would report success with a hole."""
    stage_chunk(tmp_path, [("a", "v1"), ("x", "v1"), ("b", "v0")])
    roster(tmp_path, shard_of(), dict.fromkeys("abx", "v1"))
    with pytest.raises(HoleError, match=r"part_0: b has neither a row .* nor a failure; run again"):
        publish(tmp_path, work_of(shard_of()))
    assert not [name for name in files(tmp_path) if name.endswith(".parquet")]


def test_a_shard_that_was_not_read_to_its_end_is_not_published(tmp_path: Path) -> None:
    stage_chunk(tmp_path, [("a", "v1")])
    roster(tmp_path, shard_of(etag="an earlier state"), {"a": "v1"})
    with pytest.raises(HoleError, match="not read to its end"):
        publish(tmp_path, work_of(shard_of()))


def test_an_unchanged_shard_is_not_written_again(tmp_path: Path) -> None:
    done = published(tmp_path)
    before = files(tmp_path)
    again = work_of(done.shard, reusable=reusable(), listed=True, unchanged=True)
    assert publish(tmp_path, again, run_id="20270101T000000-000000").written == ()
    assert files(tmp_path) == before


CRASHES = range(1, 5)


@pytest.mark.parametrize("after", CRASHES)
def test_a_crash_between_files_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """P2, P3: a changed shard is published over an older one and the process dies after some of its files; the next run goes on."""
    stage_chunk(tmp_path / "calm", [("a", "v2"), ("b", "v1"), ("x", "v1"), ("d", "v1")])
    members, new = {"a": "v2", "b": "v1", "x": "v1", "d": "v1"}, shard_of(etag="state 2")
    roster(tmp_path / "calm", new, members)
    publish(tmp_path / "calm", work_of(new))

    output = tmp_path / "crashed"
    published(output)
    stage_chunk(output, [("a", "v2"), ("d", "v1")])
    roster(output, new, members)
    with monkeypatch.context() as patch:
        patch.setattr(storage, "publish", dies_after(after, storage.publish))
        with pytest.raises(Died):
            publish(output, work_of(new, reusable=reusable()))
    left = [f for f in FEATURES if read_footer(path_of(str(output), f.folder, "part_0")).source_etag != new.etag]
    assert left == list(FEATURES)[: 4 - after]
    if left:  # else only the fragments had to go
        publish(output, work_of(new, left, reusable=reusable([CLIPS, *left])))
        assert not (output / "_wip" / "shard=part_0").exists()
    assert contents(output) == contents(tmp_path / "calm")


class Died(Exception):
    """The process is gone."""


Publish = Callable[[str, Callable[[BinaryIO], object]], None]


def dies_after(writes: int, really: Publish) -> Publish:
    """A store whose user dies after some files; at the last file after it is whole and before the fragments go."""
    count = 0

    def publish_or_die(uri: str, write: Callable[[BinaryIO], object]) -> None:
        nonlocal count
        if count == writes:
            raise Died
        count += 1
        really(uri, write)
        if count == len(CRASHES):
            raise Died

    return publish_or_die


def test_footers_say_what_the_files_vouch_for(tmp_path: Path) -> None:
    done = published(tmp_path)
    for feature in FEATURES:
        metadata = pq.read_metadata(path_of(str(tmp_path), feature.folder, "part_0")).metadata
        found = {key: metadata[f"vidmill.{key}".encode()].decode() for key in ("schema", "model", "version", "run_id", "source_etag", "release")}
        expected = {"model": feature.model or "", "version": feature.version, "source_etag": done.shard.etag, "run_id": "20260101T000000-abcdef"}
        assert {key: found[key] for key in expected} == expected
        assert found["schema"] == "2"
        assert found["release"]
        assert (metadata[b"vidmill.planned"], metadata[b"vidmill.failed"]) == (b"4", b"1")


def test_files_have_the_columns_types_units_and_compression_of_the_contract(tmp_path: Path) -> None:
    published(tmp_path)
    schemas = {feature: pq.read_schema(path_of(str(tmp_path), feature.folder, "part_0")) for feature in FEATURES}
    assert schemas[CLIPS].equals(CLIPS_SCHEMA)
    assert schemas[EMBEDDINGS].equals(embeddings_schema(4, per_frame=False))
    assert schemas[TAGS].names == ["clip_id", "video_id", "shard", "start_s", "end_s", "tags"]
    assert schemas[TAGS].field("tags").type == pa.list_(pa.struct([("label", pa.string()), ("score", pa.float32())]))
    told = ("start_s", "duration_s", "fps", "width", "size_bytes", "label")
    units = {name: (schemas[CLIPS].field(name).metadata or {}).get(b"unit") for name in told}
    assert units == {"start_s": b"s", "duration_s": b"s", "fps": b"1/s", "width": b"px", "size_bytes": b"B", "label": None}
    assert schemas[EMBEDDINGS].field("frame_time_s").metadata[b"unit"] == b"s"
    for feature in FEATURES:
        group = pq.read_metadata(path_of(str(tmp_path), feature.folder, "part_0")).row_group(0)
        assert {group.column(number).compression for number in range(group.num_columns)} == {"ZSTD"}


def test_pandas_and_duckdb_read_all_shards_as_one_table(tmp_path: Path) -> None:
    """A version of digits only, or an empty file of another schema, would show here."""
    published(tmp_path, "part_0")
    published(tmp_path, "part_1", keys=("k", "l"), bad=())
    frame = pd.read_parquet(tmp_path / "embeddings")
    assert sorted(frame["clip_id"]) == ["a", "b", "c", "k", "l"]
    assert {(str(model), str(version)) for model, version in zip(frame["model"], frame["version"], strict=True)} == {(MODEL, EMBEDDINGS.version)}
    glob = f"{tmp_path}/embeddings/**/*.parquet"
    found = duckdb.execute(f"select clip_id, model, version, typeof(version), len(embedding) from read_parquet('{glob}') order by 1").fetchall()
    assert found[0] == ("a", MODEL, EMBEDDINGS.version, "VARCHAR", 4)
    assert len(found) == 5
    assert duckdb.execute(f"select count(*) from read_parquet('{tmp_path}/tags/**/*.parquet') where tags[1].score > 0").fetchall() == [(5,)]


def test_frame_embeddings_are_half_precision_vectors(tmp_path: Path) -> None:
    """Filtering and sorting nested half floats is what Arrow may lack."""
    for keys in ("cb", "a"):
        stage(tmp_path, "part_0", [inferred(key) for key in keys], features=[CLIPS, EMBEDDINGS], per_frame=True)
    roster(tmp_path, shard_of(), dict.fromkeys("abc", "v1"))
    publish(tmp_path, work_of(shard_of(), [CLIPS, EMBEDDINGS]))
    rows = pq.read_table(path_of(str(tmp_path), EMBEDDINGS.folder, "part_0"))
    assert rows.schema.field("frame_embedding").type == pa.list_(pa.list_(pa.float16(), 4))
    for key, frames, mean in zip("abc", rows["frame_embedding"].to_pylist(), rows["embedding"].to_pylist(), strict=True):
        embedding = inferred(key).predictions[0][1].embedding
        assert embedding is not None
        assert frames == embedding.astype("float16").tolist()
        assert mean == pytest.approx(embedding.mean(axis=0).tolist())


def failed_by(model: str, *keys: str) -> list[Any]:
    return [failure(key, stage=model, kind=FailureKind.MODEL) for key in keys]


def test_a_models_failure_explains_its_own_features_only(tmp_path: Path) -> None:
    """`other` fails on b: its row is missing, the rows of the first model stay; without `other`'s failure there is a hole."""
    features = (CLIPS, EMBEDDINGS, OTHER)
    for bad in ((), ("b",)):
        output = tmp_path / str(len(bad))
        stage(output, "part_0", [inferred("a", models=(MODEL, "other")), inferred("b")], failed_by("other", *bad), features=features)
        roster(output, shard_of(), dict.fromkeys("ab", "v1"))
    with pytest.raises(HoleError, match="b has neither a row of embeddings other"):
        publish(tmp_path / "0", work_of(shard_of(), features))
    done = publish(tmp_path / "1", work_of(shard_of(), features))
    assert dict(done.rows) == {CLIPS: 2, EMBEDDINGS: 2, OTHER: 1}
    failures = table(tmp_path / "1", "failures").to_pylist()
    assert [(row["clip_id"], row["stage"], row["kind"]) for row in failures] == [("b", "other", "MODEL")]


def with_a_models_failure(output: Path) -> None:
    """a and b published; the model fails on b."""
    stage(output, "part_0", [inferred("a"), inferred("b", models=())], failed_by(MODEL, "b"))
    roster(output, shard_of(), dict.fromkeys("ab", "v1"))
    publish(output, work_of(shard_of()))


@pytest.mark.parametrize("features", [(OTHER,), (CLIPS,)], ids=["a model is added", "the clips are computed again"])
def test_failures_of_models_that_are_not_asked_for_stay(tmp_path: Path, features: tuple[Any, ...]) -> None:
    """P1: the first model's missing row would lose its reason."""
    with_a_models_failure(tmp_path)
    kept = reusable() if CLIPS not in features else frozenset()
    if CLIPS in features:
        (tmp_path / "clips" / "part_0.parquet").unlink()
    stage(tmp_path, "part_0", [inferred(key, models=("other",)) for key in "ab"], features=features)
    roster(tmp_path, shard_of(), dict.fromkeys("ab", "v1"))
    publish(tmp_path, work_of(shard_of(), features, reusable=kept))
    assert [(row["clip_id"], row["stage"]) for row in table(tmp_path, "failures").to_pylist()] == [("b", MODEL)]


def test_a_failure_goes_once_its_row_is_there(tmp_path: Path) -> None:
    with_a_models_failure(tmp_path)
    fresh = replace(EMBEDDINGS, version="e1111111"), replace(TAGS, version="a1111111")
    stage(tmp_path, "part_0", [inferred(key) for key in "ab"], features=fresh)
    roster(tmp_path, shard_of(), dict.fromkeys("ab", "v1"))
    publish(tmp_path, work_of(shard_of(), fresh, reusable=reusable([CLIPS])))
    assert not (tmp_path / "failures" / "part_0.parquet").exists()
    assert pq.read_table(path_of(str(tmp_path), fresh[0].folder, "part_0")).num_rows == 2


def test_a_feature_without_any_row_is_remembered_as_empty(tmp_path: Path) -> None:
    """A file without rows would not know its vectors' size and spoil the table for readers; without a memory it would be tried for ever."""
    stage(tmp_path, "part_0", [inferred("a", models=())], failed_by(MODEL, "a"))
    roster(tmp_path, shard_of(), {"a": "v1"})
    publish(tmp_path, work_of(shard_of()))
    assert not (tmp_path / "embeddings").exists()
    assert read_footer(path_of(str(tmp_path), "failures", "part_0")).empty == tuple(sorted((EMBEDDINGS.folder, TAGS.folder)))
    stage(tmp_path, "part_0", [inferred("a", models=("other",))], features=[OTHER])
    publish(tmp_path, work_of(shard_of(), [OTHER], reusable=reusable([CLIPS]), listed=True, unchanged=True))
    assert read_footer(path_of(str(tmp_path), "failures", "part_0")).empty == tuple(sorted((EMBEDDINGS.folder, TAGS.folder)))


def test_replacements_win_over_members_of_the_archive(tmp_path: Path) -> None:
    overlay = work_of(shard_of("_replacement"), overlay=True)
    stage_chunk(tmp_path, [("a", "v1"), ("b", "v1"), ("x", "v1")])
    roster(tmp_path, shard_of(), dict.fromkeys("abx", "v1"), ignored=3)
    stage(tmp_path, overlay.shard.name, [inferred("x", etag="r1"), inferred("elsewhere", etag="r1")], [failure("b", etag="r1")])
    roster(tmp_path, overlay.shard, dict.fromkeys(("x", "b", "elsewhere"), "r1"))
    done = publish_shard(context_of(tmp_path, replacements=overlay), work_of(shard_of()))
    assert (done.planned, dict(done.rows)[CLIPS]) == (3, 2)
    assert [(row["clip_id"], row["source_etag"], row["shard"]) for row in table(tmp_path, "clips").to_pylist()] == [
        ("a", "v1", "part_0"),
        ("x", "r1", "part_0"),
    ]
    assert [(row["clip_id"], row["source_etag"], row["shard"]) for row in table(tmp_path, "failures").to_pylist()] == [("b", "r1", "part_0")]
    coverage = read_footer(path_of(str(tmp_path), "clips", "part_0")).coverage
    assert (coverage.replaced, coverage.ignored) == (2, 3)


def test_labels_are_joined_when_clips_are_published_and_only_there(tmp_path: Path) -> None:
    labels = Labels(pa.table({"clip_id": ["a", "zz"], "label": ["running", "sitting"], "split": ["train", "train"]}))
    stage_chunk(tmp_path, [(key, "v1") for key in "abx"])
    roster(tmp_path, shard_of(), dict.fromkeys("abx", "v1"))
    publish(tmp_path, work_of(shard_of()), labels=labels)
    assert [(row["clip_id"], row["label"], row["split"]) for row in table(tmp_path, "clips").to_pylist()] == [
        ("a", "running", "train"),
        ("b", None, None),
    ]
    assert read_footer(path_of(str(tmp_path), "clips", "part_0")).coverage.annotated == 1
    assert read_footer(path_of(str(tmp_path), TAGS.folder, "part_0")).coverage.annotated == 0


def test_a_shard_without_clips_is_published_empty(tmp_path: Path) -> None:
    roster(tmp_path, shard_of(), {}, ignored=4)
    assert publish(tmp_path, work_of(shard_of())).written == (path_of(str(tmp_path), "clips", "part_0"),)
    assert table(tmp_path, "clips").num_rows == 0
    assert pq.read_schema(path_of(str(tmp_path), "clips", "part_0")).names == CLIPS_SCHEMA.names
