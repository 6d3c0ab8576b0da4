"""What is written to while it is listed and read is left for the next run, and nothing of a half-read state is published."""

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import disk, s3_request, storage
from infra.settings import RunConfig
from infra.storage import Cause, StorageError
from tasks import read
from tasks.verify import verify
from tests.corpus import clip, contents, files, name_of, write_shards, write_tar
from tests.faults import here
from tests.tasks.networks import DARK, MEDIUM, grey
from tests.tasks.runs import settings

Action = Callable[[], object]
LEFT = r"part_1: .*/part_1[.]tar: changed meanwhile; run the same command again once nobody writes to it"


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    here.without_ray(monkeypatch)
    monkeypatch.setattr(disk, "BUFFER_BYTES", 4096)  # else one read would bring the whole archive


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    for shard in range(3):
        put(tmp_path, shard, 2 * shard, 2 * shard + 1)
    return tmp_path / "corpus"


def put(folder: Path, shard: int, *numbers: int, seed: int = 0) -> Path:
    members = {f"{name_of(number)}.mp4": clip(number + seed) for number in numbers}
    return write_tar(folder / "corpus" / f"part_{shard}.tar", members, gz=False)


def archives(folder: Path) -> RunConfig:
    return settings(folder, {"kind": "kinetics", "uri": f"{folder}/corpus/"})


def once_listed(monkeypatch: pytest.MonkeyPatch, action: Action) -> None:
    """Something happens after the plan and before anything is read."""
    real = here.flow.delete_published_staging

    def call(plan: Any) -> None:
        real(plan)
        action()

    monkeypatch.setattr(here.flow, "delete_published_staging", call)


def while_read(monkeypatch: pytest.MonkeyPatch, archive: str, action: Action) -> None:
    """Something happens after the first member of an archive was read."""
    real = read.members

    def members(stream: Any, **more: Any) -> Iterator[Any]:
        found = real(stream, **more)
        yield next(found)
        if Path(stream.raw.name).name == archive:
            action()
        yield from found

    monkeypatch.setattr(read, "members", members)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def rewritten(folder: Path) -> None:
    """The archive written anew into the same file, as `cp` does; its size stays."""
    path = folder / "corpus" / "part_1.tar"
    other = put(folder / "other", 1, 2, 3, seed=100)
    with path.open("r+b") as file:
        file.write(other.read_bytes())


CHANGES: dict[str, Callable[[Path], object]] = {
    "grows": lambda folder: append(folder / "corpus" / "part_1.tar", bytes(512)),
    "is cut": lambda folder: os.truncate(folder / "corpus" / "part_1.tar", 2048),
    "is written anew": rewritten,
}


@pytest.mark.parametrize("when", [once_listed, lambda patch, action: while_read(patch, "part_1.tar", action)], ids=["once listed", "while read"])
@pytest.mark.parametrize("change", CHANGES)
def test_an_archive_that_is_written_to_is_left(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: Callable[[pytest.MonkeyPatch, Action], None], change: str
) -> None:
    """P3, P5: without the check of infra.disk._Listed rows of two states, or TRUNCATED failures of a good archive, would be published."""
    config = archives(tmp_path)
    with monkeypatch.context() as patch:
        when(patch, lambda: CHANGES[change](tmp_path))
        summary = here.run(config)
    assert (summary.status, summary.shards_published) == ("work left", 2)
    assert len(summary.problems) == 1
    assert re.search(LEFT, summary.problems[0])
    assert not list((tmp_path / "out").glob("[!_]*/**/part_1.parquet"))
    put(tmp_path, 1, 2, 3)
    assert here.run(config).status == "done"
    undisturbed = config.model_copy(update={"output": str(tmp_path / "undisturbed")})
    here.run(undisturbed)
    assert contents(config.output) == contents(undisturbed.output)
    assert not verify(config.output).faults


def test_what_is_published_of_an_archive_stays_while_it_is_replaced(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = archives(tmp_path)
    here.run(config)
    before = {name: state for name, state in files(tmp_path / "out").items() if name.endswith(".parquet") and not name.startswith("_")}
    put(tmp_path, 1, 2, 8)
    with monkeypatch.context() as patch:
        while_read(patch, "part_1.tar", lambda: append(corpus / "part_1.tar", bytes(512)))
        assert here.run(config).status == "work left"
    assert {name: files(tmp_path / "out")[name] for name in before} == before
    assert here.run(config).status == "done"
    assert name_of(8) in {row["clip_id"] for row in contents(config.output)["embeddings"]}
    assert not verify(config.output).faults


def test_an_archive_replaced_by_renaming_is_read_as_it_was_and_anew_by_the_next_run(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is open keeps its content; the next listing tells the other one."""
    config, other = archives(tmp_path), put(tmp_path / "other", 1, 2, 7)
    with monkeypatch.context() as patch:
        while_read(patch, "part_1.tar", lambda: os.replace(other, corpus / "part_1.tar"))
        assert here.run(config).status == "done"
    assert name_of(3) in {row["clip_id"] for row in contents(config.output)["clips"]}
    again = here.run(config)
    assert (again.status, again.clips, again.deleted.lost_clips) == ("done", 1, 1)
    assert not verify(config.output).faults


def test_a_video_that_is_written_to_leaves_its_shard_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P3: a video that is still being copied must not become a failure, or rows of its first half."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.mp4").write_bytes(grey(MEDIUM, seconds=2))
    config = settings(tmp_path, {"kind": "files", "uri": f"{folder}/", "shard_files": 2}, decode={"clip_s": 1})
    with monkeypatch.context() as patch:
        once_listed(patch, lambda: (folder / "1.mp4").write_bytes(grey(DARK, seconds=2)[:2000]))
        summary = here.run(config)
    assert (summary.status, summary.shards_published, summary.failures) == ("work left", 1, ())
    assert re.search(r"/1[.]mp4: changed meanwhile", summary.problems[0])
    assert {row["shard"] for row in contents(config.output)["clips"]} == {"shard-00001"}
    (folder / "1.mp4").write_bytes(grey(DARK, seconds=2))
    assert here.run(config).status == "done"
    assert len(contents(config.output)["embeddings"]) == 8
    assert not verify(config.output).faults


def test_names_of_unfinished_downloads_are_no_archives_and_no_videos(corpus: Path, tmp_path: Path) -> None:
    for name in ("part_7.tar.part", "part_8.tar.gz.tmp", ".part_9.tar.gz.Xa81Bc", "part_3.tar.crdownload", "part_4.tgz.6eF3c2aB"):
        (corpus / name).write_bytes(b"half")
    assert here.run(archives(tmp_path)).shards == 3
    (tmp_path / "videos").mkdir()
    for name in ("a.mp4", "b.mp4.part", "c.mp4.tmp", ".d.mp4.Xa81Bc", "e.mp4.crdownload"):
        (tmp_path / "videos" / name).write_bytes(grey(MEDIUM))
    loose = settings(tmp_path / "videos", {"kind": "files", "uri": f"{tmp_path}/videos/"}, output=tmp_path / "loose")
    assert here.run(loose).clips == 1


def test_an_upload_that_is_under_way_is_not_there_yet(bucket: str, tmp_path: Path) -> None:
    """S3 shows an object when its upload is completed, and not before."""
    write_shards(tmp_path / "corpus", shards=2, clips=1)
    first, late = (f"s3://{bucket}/corpus/part_{shard}.tar.gz" for shard in range(2))
    storage.publish_file(first, str(tmp_path / "corpus" / "part_0.tar.gz"))
    place = s3_request.where(late)
    upload = {**place, "UploadId": s3_request.request(late, "create_multipart_upload", **place)["UploadId"]}
    data = (tmp_path / "corpus" / "part_1.tar.gz").read_bytes()
    part = s3_request.request(late, "upload_part", **upload, PartNumber=1, Body=data)
    config = settings(tmp_path, {"kind": "kinetics", "uri": f"s3://{bucket}/corpus/"}, output=f"s3://{bucket}/out")
    assert (here.run(config).shards, here.run(config).status) == (1, "nothing to do")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3_request.request(late, "complete_multipart_upload", **upload, MultipartUpload=parts)
    summary = here.run(config)
    assert (summary.status, summary.shards, summary.clips) == ("done", 2, 1)


@pytest.mark.parametrize("read_all", [True, False])
def test_a_file_is_refused_once_it_differs_from_what_was_listed(tmp_path: Path, read_all: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(20_000))
    listed = storage.stat(str(path))
    assert listed is not None
    with storage.open_stream(listed) as file:
        assert len(file.read(10)) == 10
        append(path, b"more")
        with pytest.raises(StorageError) as refused:
            file.read() if read_all else file.read(10_000)
    assert refused.value.cause is Cause.CHANGED
    with pytest.raises(StorageError, match="changed meanwhile"):
        storage.open_seekable(listed)
    with storage.open_seekable(str(path)) as file:
        assert len(file.read()) == 20_004
    shutil.rmtree(tmp_path)
