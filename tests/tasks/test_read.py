"""Every member of a shard comes out once, under a key of its own, as a clip or as a failure that says why."""

import io
import math
import tarfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from infra.storage import Cause, NotFound, StorageError
from tasks import read as module
from tasks.clip import ClipError, ClipInfo, FailureKind
from tasks.encoded import EncodedClip
from tasks.read import ShardReader, as_clip_error, sample_key, windows_of
from tasks.shardwork import ShardWork
from tasks.source import Shard, SourceFile, list_corpus
from tests.corpus import clip, config_for, spoil, write_tar, write_videos
from tests.tasks.shards import failure, inferred, published, reusable, stage, work_of


@given(
    duration_s=st.floats(0.001, 20_000),
    fps=st.none() | st.floats(0.5, 240),
    clip_s=st.floats(0.5, 600),
)
def test_windows_tile_the_video(duration_s: float, fps: float | None, clip_s: float) -> None:
    """Without the allowance for the tail, a video a hair longer than its clips would end in a window without any frame."""
    frame_s = 1 / fps if fps else module.SHORTEST_TAIL_S
    assume(clip_s >= frame_s)
    assume(duration_s / clip_s < 2_000)
    info = ClipInfo(duration_s, fps, 1, 1, "h264", None, has_audio=False)
    windows = windows_of(info, clip_s)
    assert [window.start_s for window in windows] == [number * clip_s for number in range(len(windows))]
    assert [window.end_s for window in windows[:-1]] == [window.start_s for window in windows[1:]]
    lengths = [window.end_s - window.start_s for window in windows]
    assert windows[-1].end_s == min(duration_s, len(windows) * clip_s)
    assert duration_s - windows[-1].end_s <= frame_s * (1 + 1e-6)
    assert len(windows) == 1 or lengths[-1] >= frame_s * (1 - 1e-6) - 1e-9
    assert all(math.isclose(length, clip_s, rel_tol=1e-6) for length in lengths[:-1])


@pytest.mark.parametrize(
    ("name", "key"),
    [("0001.mp4", "0001"), ("a/b/0001.seg.mp4", "a/b/0001"), ("a.b/c.mp4", "a.b/c"), ("plain", "plain"), ("", ""), ("a/.hidden.mp4", "a/")],
)
def test_a_sample_is_named_up_to_the_first_dot_of_the_file(name: str, key: str) -> None:
    assert sample_key(name) == key


ids = st.text(st.sampled_from("abcXYZ019-_"), min_size=1, max_size=11)


@given(ids, st.integers(0, 999_999), st.integers(0, 999_999), st.sampled_from(["", "./x/", "class (a b)/"]), st.sampled_from([".mp4", ".mkv"]))
def test_kinetics_names_are_split_from_the_right(video_id: str, start: int, end: int, folder: str, suffix: str) -> None:
    """Ids begin with a dash and hold underscores."""
    stem = f"{video_id}_{start:06d}_{end:06d}"
    assert module._clip_name(f"{folder}{stem}{suffix}") == stem


NO_NAMES = ["holiday.mp4", "a_1.mp4", "_000001_000002.mp4", "a_x_1.mp4", "a_1_.mp4", "._a_000001_000002.mp4", "a_²_3.mp4", "a_-1_2.mp4"]


@pytest.mark.parametrize("name", NO_NAMES)
def test_other_names_are_no_kinetics_names(name: str) -> None:
    assert module._clip_name(name) is None


def read(folder: Path, kind: str, members: Mapping[str, bytes] | list[tuple[str, bytes]], **more: Any) -> tuple[list[EncodedClip], int]:
    """What the reader makes of an archive; what it ignored."""
    path = folder / "part_0.tar"
    write_members(path, list(members.items()) if isinstance(members, Mapping) else members)
    config = config_for({"kind": kind, "uri": str(path)}, folder / "out", **more)
    reader = ShardReader(work_of(list_corpus(config, {}).shards[0]), config)
    return list(reader), reader.ignored


def write_members(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def told(clips: list[EncodedClip]) -> list[tuple[str, str | None]]:
    """Key, without the archive's address, and kind of failure."""
    return [(each.key.rpartition("!")[2], each.failure.kind if each.failure else None) for each in clips]


def test_a_kinetics_clip_knows_its_video_times_state_and_place(tmp_path: Path) -> None:
    clips, ignored = read(tmp_path, "kinetics", {"./c/-a_b_000010_000020.mp4": b"12345", "./list.txt": b"x"})
    (found,) = clips
    assert (found.key, found.video_id, found.start_s, found.end_s, found.size_bytes) == ("-a_b_000010_000020", "-a_b", 10.0, 20.0, 5)
    assert (found.uri, found.data, found.window, ignored) == (f"{tmp_path}/part_0.tar!c/-a_b_000010_000020.mp4", b"12345", None, 1)
    other, _ = read(tmp_path, "kinetics", {"./c/-a_b_000010_000020.mp4": b"12346"})
    assert found.source_etag != other[0].source_etag


def test_the_first_of_two_members_of_one_clip_wins_and_the_others_are_told(tmp_path: Path) -> None:
    """P2: two rows of one clip_id, or a failure under the key of a good clip, which would hide it."""
    name = "a_000001_000002"
    members = [(f"x/{name}.mp4", b"first"), (f"y/{name}.mp4", b"second"), (f"x/{name}.mp4", b"third"), ("bad.mp4", b""), ("bad.mp4", b"")]
    clips, _ = read(tmp_path, "kinetics", members)
    assert told(clips) == [
        (name, None),
        (f"y/{name}.mp4 (copy 2)", "BAD_NAME"),
        (f"x/{name}.mp4 (copy 3)", "BAD_NAME"),
        ("bad.mp4", "BAD_NAME"),
        ("bad.mp4 (copy 2)", "BAD_NAME"),
    ]
    assert clips[0].data == b"first"
    assert len({each.key for each in clips}) == 5
    assert "first is used" in str(clips[1].failure)


@given(st.lists(st.sampled_from(["a_1_2.mp4", "x/a_1_2.mp4", "b_1_2.mp4", "bad.mp4", "._a_1_2.mp4", "no.txt"]), max_size=8))
def test_keys_are_unique_and_no_video_is_lost(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.getbasetemp() / "keys"
    folder.mkdir(exist_ok=True)
    for kind in ("kinetics", "webdataset"):
        clips, ignored = read(folder, kind, [(name, name.encode()) for name in names])
        assert len({each.key for each in clips}) == len(clips) == len(names) - names.count("no.txt")
        assert ignored == names.count("no.txt")
        for each in clips:  # publication finds a failure by its clip_id, or else by its member
            assert each.failure is None or each.key == (each.failure.clip_id or each.failure.member)
            assert each.key


def test_a_member_over_the_limit_fails_under_its_own_clip_id(tmp_path: Path) -> None:
    clips, _ = read(tmp_path, "kinetics", {"a_1_2.mp4": b"x" * 100, "b_1_2.mp4": b"x"}, limits={"max_bytes": 10})
    assert told(clips) == [("a_1_2", "TOO_LARGE"), ("b_1_2", None)]
    assert clips[0].failure is not None
    assert clips[0].failure.clip_id == "a_1_2"


def test_damage_behind_the_last_member_is_told_of_the_archive(tmp_path: Path) -> None:
    write_members(tmp_path / "whole.tar", [("a_1_2.mp4", b"x" * 600)])
    (tmp_path / "part_0.tar").write_bytes((tmp_path / "whole.tar").read_bytes()[:1536] + b"no header" * 60)
    config = config_for({"kind": "kinetics", "uri": f"{tmp_path}/part_0.tar"}, tmp_path / "out")
    clips = list(ShardReader(work_of(list_corpus(config, {}).shards[0]), config))
    assert [(each.key, bool(each.failure)) for each in clips] == [("a_1_2", False), (f"{tmp_path}/part_0.tar", True)]


def test_webdataset_samples_take_their_class_from_either_side(tmp_path: Path) -> None:
    members = [
        ("a/1.mp4", b"v1"), ("a/1.cls", b" 7\n"), ("a/1.json", b"{}"),
        ("a/2.cls", b"9"), ("a/2.mp4", b"v2"),
        ("a/3.mp4", b"v3"),
        ("a/4.left.mp4", b"v4"), ("a/4.right.mp4", b"v5"),
        ("a/._5.mp4", b"mac"),
    ]  # fmt: skip
    clips, ignored = read(tmp_path, "webdataset", members)
    bad = [("a/4.right.mp4 (copy 2)", "BAD_NAME"), ("a/._5.mp4", "BAD_NAME")]
    assert told(clips) == [("a/1", None), ("a/2", None), ("a/3", None), ("a/4", None), *bad]
    assert [each.label for each in clips[:4]] == ["7", "9", None, None]
    assert ignored == 1


def loose(folder: Path, **more: Any) -> tuple[ShardWork, Any]:
    config = config_for({"kind": "files", "uri": f"{folder}/videos"}, folder / "out", decode={"clip_s": 2}, **more)
    return work_of(list_corpus(config, {}).shards[0]), config


def test_a_loose_video_becomes_windows_that_carry_no_bytes(tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", {"d/long.mp4": 5, "short.mp4": 1})
    (tmp_path / "videos" / "broken.mp4").write_bytes(b"no video")
    work, config = loose(tmp_path)
    clips = list(ShardReader(work, config))
    assert [(each.key.rpartition("/")[2], each.start_s, each.end_s) for each in clips] == [
        ("broken.mp4", 0.0, None), ("long.mp4#0", 0.0, 2.0), ("long.mp4#2000", 2.0, 4.0), ("long.mp4#4000", 4.0, 5.0), ("short.mp4#0", 0.0, 1.0),
    ]  # fmt: skip
    assert clips[0].key == clips[0].uri == f"{tmp_path}/videos/broken.mp4"
    assert {each.data for each in clips} == {None}
    assert [each.window.start_s if each.window else None for each in clips] == [None, 0.0, 2.0, 4.0, 0.0]


def test_a_video_that_is_not_there_is_missing(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("uri\ngone.mp4\n")
    config = config_for({"kind": "manifest", "uri": f"{tmp_path}/list.csv"}, tmp_path / "out")
    shard = list_corpus(config, {}).shards[0]
    assert told(list(ShardReader(work_of(shard), config))) == [(f"{tmp_path}/gone.mp4", "MISSING")]
    deleted = Shard("s", (SourceFile("v.mp4", f"{tmp_path}/v.mp4", "123", 0),), "e")
    assert told(list(ShardReader(work_of(deleted), config))) == [(f"{tmp_path}/v.mp4", "MISSING")]


def test_published_videos_are_listed_without_opening_them(tmp_path: Path) -> None:
    """P5: else adding one video would probe every other of its shard."""
    write_videos(tmp_path / "videos", {"a.mp4": 2, "new.mp4": 2})
    spoil(tmp_path / "videos" / "a.mp4")
    work, config = loose(tmp_path)
    file = work.shard.files[0]
    rows = [_at(inferred("a.mp4#0", etag=file.etag), file.uri), _at(inferred("a.mp4#2000", etag=file.etag), file.uri)]
    stage(tmp_path / "out", work.shard.name, rows, [failure("a.mp4#4000", etag=file.etag)])
    for folder in ("clips", "failures"):
        fragment = next((tmp_path / "out/_wip").rglob(f"{folder}/*.fragment"))
        (tmp_path / "out" / folder).mkdir()
        fragment.rename(tmp_path / "out" / folder / f"{work.shard.name}.parquet")
    held = work_of(work.shard, reusable=reusable(), listed=True)
    assert [each.key for each in ShardReader(held, config)] == ["a.mp4#0", "a.mp4#2000", "new.mp4#0"]
    assert [each.failure is None for each in ShardReader(work, config)] == [False, True]


def _at(made: Any, uri: str) -> Any:
    return replace(made, decoded=replace(made.decoded, clip=replace(made.decoded.clip, uri=uri)))


def test_a_failed_window_is_listed_with_its_video(tmp_path: Path) -> None:
    done = published(tmp_path / "out", "shard-00000", keys=("v#0",), bad=("v#2000",))
    uris = [f"/corpus/part_0.tar!{key}.mp4" for key in ("v#0", "v#2000")]
    files = tuple(SourceFile(uri, uri, "v1", 1) for uri in uris)
    config = config_for({"kind": "files", "uri": "/corpus"}, tmp_path / "out")
    shard = Shard(done.shard.name, files, "e")
    assert [each.key for each in ShardReader(work_of(shard, reusable=reusable(), listed=True), config)] == ["v#0", "v#2000"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (NotFound("/v.mp4"), FailureKind.MISSING),
        (StorageError("/v.mp4", Cause.DENIED), FailureKind.STORAGE),
        (StorageError("/v.mp4", Cause.BAD_URI), FailureKind.STORAGE),
        (StorageError("/v.mp4", Cause.NOT_FILE), FailureKind.UNSUPPORTED),
        (ClipError(FailureKind.EMPTY, "empty"), FailureKind.EMPTY),
    ],
)
def test_one_videos_trouble_is_its_own_failure(error: ClipError | StorageError, kind: FailureKind) -> None:
    assert as_clip_error(error).kind is kind


@pytest.mark.parametrize("cause", [Cause.BUSY, Cause.UNREACHABLE, Cause.NO_CREDENTIALS, Cause.CHANGED, Cause.FAILED])
def test_the_stores_trouble_is_no_clips_failure(cause: Cause) -> None:
    with pytest.raises(StorageError):
        as_clip_error(StorageError("s3://b/k", cause))


def test_gzip_is_read_like_tar(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "part_0.tar.gz", {"a_1_2.mp4": clip(0)})
    config = config_for({"kind": "kinetics", "uri": str(path)}, tmp_path / "out")
    assert told(list(ShardReader(work_of(list_corpus(config, {}).shards[0]), config))) == [("a_1_2", None)]
