"""Disk and S3 keep the same promises; every test runs against both where both can."""

import errno
import io
import os
import random
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from infra import s3_copy, s3_request, storage
from infra.problem import Problem
from infra.storage import Cause, NotFound, StorageError

AWKWARD = ["a b (c)/x [1].tar", "a b (c)/x 1.tar", "plain/1.mp4", "plain/2.mp4", "plain/deep/er/3.mp4", "100% & +=~'é.txt", "plain/#?.mp4"]


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place to write to."""
    return str(tmp_path) if request.param == "disk" else f"s3://{request.getfixturevalue('bucket')}/root"


@pytest.fixture
def filled(root: str) -> str:
    for name in AWKWARD:
        storage.write_bytes(f"{root}/{name}", name.encode())
    return root


def names(pattern: str, root: str, *, recursive: bool = True) -> list[str]:
    return [storage.relative(found.uri, root) for found in storage.list_objects(pattern, recursive=recursive)]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("", AWKWARD),
        ("plain", ["plain/#?.mp4", "plain/1.mp4", "plain/2.mp4", "plain/deep/er/3.mp4"]),
        ("plain/", ["plain/#?.mp4", "plain/1.mp4", "plain/2.mp4", "plain/deep/er/3.mp4"]),
        ("plain/*.mp4", ["plain/#?.mp4", "plain/1.mp4", "plain/2.mp4"]),
        ("plain/[12].mp4", ["plain/1.mp4", "plain/2.mp4"]),
        ("plain/#?.mp4", ["plain/#?.mp4"]),
        ("**/*.mp4", ["plain/#?.mp4", "plain/1.mp4", "plain/2.mp4", "plain/deep/er/3.mp4"]),
        ("*/x *.tar", ["a b (c)/x 1.tar", "a b (c)/x [1].tar"]),
        ("a b (c)/x [1].tar", ["a b (c)/x [1].tar"]),
        ("plain/**/3.mp4", ["plain/deep/er/3.mp4"]),
        ("*.txt", ["100% & +=~'é.txt"]),
        ("plain/*.mkv", []),
    ],
)
def test_a_pattern_names_what_a_shell_would_and_what_is_there_literally(filled: str, pattern: str, expected: list[str]) -> None:
    assert names(f"{filled}/{pattern}", filled) == sorted(expected)


def test_a_folder_can_be_listed_without_its_sub_folders(filled: str) -> None:
    assert names(f"{filled}/plain", filled, recursive=False) == ["plain/#?.mp4", "plain/1.mp4", "plain/2.mp4"]
    assert sorted(storage.list_names(f"{filled}/plain")) == ["#?.mp4", "1.mp4", "2.mp4"]
    assert storage.list_names(f"{filled}/absent") == {}


def test_names_are_relative_to_the_folder_before_the_pattern(filled: str) -> None:
    for pattern in ("plain/*.mp4", "plain", "plain/", "plain/1.mp4"):
        assert storage.root_of(f"{filled}/{pattern}") == f"{filled}/plain"
    assert storage.root_of(f"{filled}/*/x*") == filled
    assert storage.root_of(f"{filled}/a b (c)/x [1].tar") == f"{filled}/a b (c)"
    assert storage.relative("s3://elsewhere/x", filled) == "s3://elsewhere/x"


def test_listed_size_and_etag_are_those_of_stat_and_change_with_the_content(root: str) -> None:
    storage.write_bytes(f"{root}/x", b"1")
    before = storage.stat(f"{root}/x")
    assert storage.list_objects(root) == [before]
    storage.write_bytes(f"{root}/x", b"22")
    after = storage.stat(f"{root}/x")
    assert before is not None
    assert after is not None
    assert after.size_bytes == 2
    assert after.etag != before.etag
    assert '"' not in after.etag


def test_more_than_a_page_is_listed_and_deleted(root: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda index: storage.write_bytes(f"{root}/many/{index:04d}", b""), range(1010)))
    storage.write_bytes(f"{root}/many-more", b"stays")
    assert len(storage.list_names(f"{root}/many")) == 1010
    storage.delete_tree(f"{root}/many")
    storage.delete_tree(f"{root}/many")
    assert names(root, root) == ["many-more"]


@pytest.mark.parametrize("size", [0, 1, (8 << 20) - 1, 8 << 20, (20 << 20) + 7])
def test_what_was_written_is_read_in_a_row_and_anywhere(root: str, size: int) -> None:
    data = random.Random(size).randbytes(size)
    storage.publish(f"{root}/x", lambda file: [file.write(data[start : start + 3_000_001]) for start in range(0, size, 3_000_001)])
    with storage.open_stream(f"{root}/x") as file:
        assert b"".join(iter(lambda: file.read(1_000_003), b"")) == data
    with storage.open_seekable(f"{root}/x") as file:
        assert file.seek(0, io.SEEK_END) == size
        for start in [size - 10, 0, size // 2, 5, size - 1, 3 * size // 4]:
            file.seek(max(0, start))
            assert file.read(100_000) == data[max(0, start) :][:100_000]


def test_ranges_are_read_as_asked_for_and_never_of_another_state(root: str) -> None:
    data = random.Random(3).randbytes(300_000)
    storage.write_bytes(f"{root}/x", data)
    listed = storage.found(f"{root}/x")
    with storage.open_ranges(listed) as file:
        for start, count in ((299_990, 100), (0, 10), (150_000, 100_000), (300_000, 5), (7, 0)):
            file.seek(start)
            assert file.read(count) == data[start : start + count]
        if root.startswith("s3:"):
            storage.write_bytes(f"{root}/x", data[::-1])
            file.seek(0)
            with pytest.raises(StorageError, match="changed meanwhile"):
                file.read(10)


def test_a_random_walk_over_a_seekable_object_reads_what_is_there(root: str) -> None:
    data, walk = random.Random(1).randbytes(24 << 20), random.Random(2)
    storage.write_bytes(f"{root}/x", data)
    with storage.open_seekable(f"{root}/x") as file:
        for _ in range(200):
            start, count = walk.randrange(len(data)), walk.randrange(300_000)
            file.seek(start)
            assert file.read(count) == data[start : start + count]


def length(file: BinaryIO) -> int:
    return sum(len(piece) for piece in iter(lambda: file.read(1 << 18), b""))


def test_memory_does_not_grow_with_the_object(bucket: str) -> None:
    uri = f"s3://{bucket}/x"
    storage.publish(uri, lambda file: [file.write(bytes(1 << 20)) for _ in range(120)])
    for opened in (storage.open_stream, storage.open_seekable):
        tracemalloc.start()
        with opened(uri) as file:
            assert length(file) == 120 << 20
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 60 << 20


def test_a_failed_write_leaves_what_was_there(root: str) -> None:
    storage.write_bytes(f"{root}/x", b"old")

    def fail(file: BinaryIO) -> None:
        file.write(bytes(40 << 20))
        raise ZeroDivisionError

    for name in ("x", "new"):
        with pytest.raises(ZeroDivisionError):
            storage.publish(f"{root}/{name}", fail)
    assert names(root, root) == ["x"]
    assert storage.read_bytes(f"{root}/x") == b"old"
    assert leftovers(root) == []


def leftovers(root: str) -> list[str]:
    if not root.startswith("s3://"):
        return [str(path) for path in Path(root).rglob(".*")]
    answer = s3_request.request(root, "list_multipart_uploads", Bucket=root.removeprefix("s3://").partition("/")[0])
    return [upload["Key"] for upload in answer.get("Uploads", ())]


def test_nothing_is_visible_before_the_write_is_complete(root: str) -> None:
    seen = []

    def write(file: BinaryIO) -> None:
        file.write(bytes(40 << 20))
        file.flush()
        seen.append(names(root, root))

    storage.write_bytes(f"{root}/other", b"")
    storage.publish(f"{root}/x", write)
    assert seen == [["other"]]
    assert storage.list_names(root)["x"].size_bytes == 40 << 20


def test_temporary_files_of_an_output_lie_in_its_wip(tmp_path: Path) -> None:
    (tmp_path / "_wip").mkdir()
    seen: list[str] = []
    storage.publish(f"{tmp_path}/clips/x.parquet", lambda file: seen.extend(path.name for path in (tmp_path / "_wip/tmp").iterdir()))
    assert len(seen) == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["x.parquet"]


def test_parquet_goes_both_ways(root: str, tmp_path: Path) -> None:
    table = pa.table({"x": list(range(100_000))})
    storage.publish(f"{root}/x.parquet", lambda file: pq.write_table(table, file))
    with storage.open_seekable(f"{root}/x.parquet") as file:
        assert pq.ParquetFile(file).read() == table
    storage.publish_file(f"{root}/copy.parquet", str(tmp_path / "x.parquet") if root == str(tmp_path) else _local(tmp_path, table))
    with storage.open_seekable(f"{root}/copy.parquet") as file:
        assert pq.read_metadata(file).num_rows == 100_000


def _local(folder: Path, table: pa.Table) -> str:
    pq.write_table(table, folder / "local.parquet")
    return str(folder / "local.parquet")


def test_one_of_many_creates(root: str) -> None:
    with ThreadPoolExecutor(16) as pool:
        won = list(pool.map(lambda index: storage.create_exclusive(f"{root}/x", b"%d" % index), range(16)))
    winners = [index for index, version in enumerate(won) if version]
    assert len(winners) == 1
    there = storage.read_versioned(f"{root}/x")
    assert there.data == b"%d" % winners[0]
    assert there.version == won[winners[0]]


def test_a_replacement_or_deletion_needs_the_version_that_is_there(root: str) -> None:
    first = storage.create_exclusive(f"{root}/x", b"first")
    assert first is not None
    second = storage.replace_if(f"{root}/x", b"second", first)
    assert second is not None
    assert storage.replace_if(f"{root}/x", b"third", first) is None
    assert not storage.delete_if(f"{root}/x", first)
    assert storage.read_bytes(f"{root}/x") == b"second"
    assert storage.delete_if(f"{root}/x", second)
    assert not storage.exists(f"{root}/x")
    assert storage.replace_if(f"{root}/x", b"fourth", second) is None
    assert not storage.delete_if(f"{root}/x", second)


def test_what_is_not_there_is_told(root: str) -> None:
    storage.write_bytes(f"{root}/folder/x", b"")
    for call in (storage.read_bytes, storage.open_stream, storage.open_seekable, storage.list_objects):
        with pytest.raises(NotFound, match=r"absent: not found; check the spelling$"):
            call(f"{root}/absent")
    with pytest.raises(StorageError) as caught:
        storage.open_stream(f"{root}/folder")
    assert caught.value.cause is Cause.IS_FOLDER
    assert storage.stat(f"{root}/absent") is None
    assert storage.stat(f"{root}/folder") is None
    storage.delete(f"{root}/absent")


def test_disk_problems_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    for uri, cause in [(f"{tmp_path}/file/x", Cause.NOT_FOLDER), (f"{tmp_path}/folder", Cause.IS_FOLDER), ("/proc/x/y", Cause.NOT_FOUND)]:
        with pytest.raises(Problem) as caught:
            storage.write_bytes(uri, b"x")
        assert isinstance(caught.value, StorageError)
        assert caught.value.cause is cause
        assert "\n" not in str(caught.value)


def test_a_full_disk_is_told_where_the_writing_happens(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"no space left; free some space"), open("/dev/full", "wb") as full:
        storage.publish(f"{tmp_path}/x", lambda file: os.dup2(full.fileno(), file.fileno()) and file.write(bytes(4 << 20)))
    assert not (tmp_path / "x").exists()


def test_folders_in_a_circle_are_walked_once(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_bytes(b"")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert names(str(tmp_path), str(tmp_path)) == ["a/x", "b/x"]


@pytest.mark.usefixtures("alarm")
def test_what_is_no_file_is_neither_listed_nor_opened(tmp_path: Path) -> None:
    """P6: a pipe waits for a writer who never comes; one that took a file's place since it was listed is found when it is open."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").write_bytes(b"x")
    assert names(str(tmp_path), str(tmp_path)) == ["file"]
    for name in ("pipe", "zero"):
        listed = storage.ObjectInfo(f"{tmp_path}/{name}", 1, "etag")
        calls = [lambda at=listed: storage.open_stream(at), lambda at=listed: storage.open_seekable(at)]
        calls += [
            lambda at=listed: storage.read_bytes(at.uri),
            lambda at=listed: storage.stat(at.uri),
            lambda at=listed: storage.list_objects(at.uri),
        ]
        for call in calls:
            with pytest.raises(StorageError, match="is a pipe, a device or a socket; name a regular file"):
                call()


@pytest.mark.parametrize(
    "uri", ["s3://AKIA:SECRET@bucket/x", "s3://AKIA:SEC/RET@bucket/x", "https://me:SECRET@host/x", "gs://SECRET/x", "s3:///SECRET"]
)
def test_other_addresses_are_refused_without_repeating_a_secret(uri: str) -> None:
    for call in (storage.list_objects, storage.read_bytes, storage.normal, storage.root_of):
        with pytest.raises(StorageError) as caught:
            call(uri)
        assert caught.value.cause is Cause.BAD_URI
        assert "SECRET@" not in str(caught.value)
        assert "AKIA" not in str(caught.value)


def test_file_addresses_are_paths(tmp_path: Path) -> None:
    storage.write_bytes(f"file://{tmp_path}/a b%20.txt", b"x")
    assert (tmp_path / "a b%20.txt").read_bytes() == b"x"
    assert storage.list_objects(f"file:{tmp_path}/*")[0].uri == f"{tmp_path}/a b%20.txt"


def test_everything_in_a_bucket_is_never_deleted(bucket: str) -> None:
    for uri in (f"s3://{bucket}", f"s3://{bucket}/", "/", "file:///"):
        with pytest.raises(StorageError, match="refused to delete"):
            storage.delete_tree(uri)


@pytest.mark.parametrize("name", ["x", "deep/er/x #1 ?é.mp4"])
def test_a_copy_appears_whole_under_its_name_and_the_source_stays(root: str, name: str) -> None:
    storage.write_bytes(f"{root}/source %41+", b"new")
    storage.write_bytes(f"{root}/{name}", b"old, and longer")
    storage.copy(f"{root}/source %41+", f"{root}/{name}")
    storage.copy(f"{root}/source %41+", f"{root}/{name}")
    assert (storage.read_bytes(f"{root}/{name}"), storage.read_bytes(f"{root}/source %41+")) == (b"new", b"new")
    storage.delete(f"{root}/source %41+")
    assert storage.read_bytes(f"{root}/{name}") == b"new"
    assert leftovers(root) == []


def test_a_copy_of_nothing_is_not_found_and_leaves_what_was_there(root: str) -> None:
    storage.write_bytes(f"{root}/x", b"old")
    with pytest.raises(NotFound, match="source"):
        storage.copy(f"{root}/source", f"{root}/x")
    assert storage.read_bytes(f"{root}/x") == b"old"


def test_a_copy_on_disk_is_a_second_name_and_takes_no_space(tmp_path: Path) -> None:
    """P9: and where the disk has no such names, a copy of the bytes."""
    (tmp_path / "source").write_bytes(b"data")
    storage.copy(f"{tmp_path}/source", f"{tmp_path}/out/a")
    assert os.path.samefile(tmp_path / "source", tmp_path / "out" / "a")


def test_a_disk_without_hard_links_copies_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "source").write_bytes(b"data")
    storage.copy(f"{tmp_path}/source", f"{tmp_path}/out/a")
    assert (tmp_path / "out" / "a").read_bytes() == b"data"
    assert not os.path.samefile(tmp_path / "source", tmp_path / "out" / "a")
    assert leftovers(str(tmp_path)) == []


def test_a_large_object_is_copied_in_parts_and_visible_when_all_are_there(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_copy, "PART_BYTES", 1 << 16)
    data, uri = random.Random(5).randbytes((1 << 18) + 7), f"s3://{bucket}/root"
    storage.write_bytes(f"{uri}/source", data)
    made = []

    def asked(about: str, method: str, **arguments: Any) -> dict[str, Any]:
        made.append(method)
        if method == "complete_multipart_upload":
            assert not storage.exists(f"{uri}/x")
        return s3_request.request(about, method, **arguments)

    monkeypatch.setattr(s3_copy, "request", asked)
    storage.copy(f"{uri}/source", f"{uri}/x")
    assert storage.read_bytes(f"{uri}/x") == data
    assert made.count("upload_part_copy") == 5
    assert leftovers(uri) == []


def test_a_copy_that_fails_between_two_parts_leaves_no_upload(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_copy, "PART_BYTES", 1 << 16)
    uri = f"s3://{bucket}/root"
    storage.write_bytes(f"{uri}/source", bytes(1 << 18))
    storage.write_bytes(f"{uri}/x", b"old")

    def failing(about: str, method: str, **arguments: Any) -> dict[str, Any]:
        if arguments.get("PartNumber") == 3:
            raise StorageError(about, Cause.BUSY)
        return s3_request.request(about, method, **arguments)

    monkeypatch.setattr(s3_copy, "request", failing)
    with pytest.raises(StorageError, match="kept failing"):
        storage.copy(f"{uri}/source", f"{uri}/x")
    assert storage.read_bytes(f"{uri}/x") == b"old"
    assert leftovers(uri) == []


def test_folders_and_everything_below_them_are_listed_one_at_a_time(filled: str) -> None:
    assert storage.list_folders(filled) == ["a b (c)", "plain"]
    assert storage.list_folders(f"{filled}/plain") == ["deep"]
    assert storage.list_folders(f"{filled}/absent") == []
    assert [storage.relative(found.uri, filled) for found in storage.walk(filled)] == names(filled, filled)
    assert list(storage.walk(f"{filled}/absent")) == []
