"""Hostile input: every item ends as a failure with a reason, or as one line of refusal; no canary is touched."""

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from flows.console import print_failures
from infra import storage
from infra.problem import Problem
from tasks.failure_groups import group_failures
from tests.corpus import clip, name_of, table, write_tar
from tests.faults import hostile_archives, hostile_media
from tests.faults.canary import Canary, Egg, canary
from tests.tasks.runs import run, settings

LIMITS = {"max_failed": 10_000, "max_bytes": 64 << 20}


pytestmark = pytest.mark.usefixtures("alarm")


@pytest.fixture
def bird(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Canary]:
    """Canaries beside the corpus, in the folder the process stands in, and on the network."""
    here = tmp_path / "here"
    for folder in (here, tmp_path / "corpus"):
        folder.mkdir()
    monkeypatch.chdir(here)
    with canary(clip(77), here, tmp_path / "corpus") as found:
        yield found


def outcome(output: object, shard: str | None = None) -> tuple[set[str], dict[str, list[str]]]:
    """Clips with a row in every table, and the kinds of failure by member; of one shard, or of all."""
    found = {folder: table(output, folder).to_pylist() for folder in ("clips", "embeddings", "failures")}
    of_shard = {folder: [row for row in rows if shard in (None, row["shard"])] for folder, rows in found.items()}
    rows = {folder: {row["clip_id"] for row in of_shard[folder]} for folder in ("clips", "embeddings")}
    assert rows["clips"] == rows["embeddings"]
    failures: dict[str, list[str]] = {}
    for row in of_shard["failures"]:
        assert row["message"]
        failures.setdefault(row["member"], []).append(row["kind"])
    return rows["clips"], failures


def test_a_canary_sees_who_touches_it(bird: Canary, tmp_path: Path) -> None:
    """Of the tests: without this a blind canary would prove nothing."""
    assert bird.touched() == []
    (tmp_path / "list.txt").write_text(f"ffconcat version 1.0\nfile '{bird.path}'\n")
    with av.open(str(tmp_path / "list.txt"), options={"safe": "0"}) as container:
        assert next(container.decode(video=0)).width == 160
    assert bird.touched() == ["opened canary.mp4"]
    with av.open(bird.url) as container:
        assert container.streams.video
    assert bird.touched()[0].startswith("GET /canary.mp4")
    pickle.loads(pickle.dumps(Egg(tmp_path / "hatched")))
    assert (tmp_path / "hatched").exists()


def test_playlists_and_lying_headers_named_mp4(bird: Canary, tmp_path: Path) -> None:
    """P12, P9, P6: without `format_whitelist` and `protocol_whitelist` in tasks.container a playlist opens the canary."""
    media = hostile_media.all_media(bird)
    members = {f"{name}_000000_000010.mp4": each.data for name, each in media.items()}
    corpus = write_tar(tmp_path / "corpus" / "part_0.tar", {f"{name_of(1)}.mp4": clip(1), **members, f"{name_of(2)}.mp4": clip(2)}, gz=False)
    run(settings(tmp_path, {"kind": "kinetics", "uri": str(corpus)}, limits=LIMITS))
    rows, failures = outcome(tmp_path / "out")
    found = {name: "none" if f"{name}_000000_000010" in rows else failures[f"{corpus}!{name}_000000_000010.mp4"][0] for name in media}
    assert {name: kind for name, kind in found.items() if kind not in media[name].kinds} == {}
    assert rows >= {name_of(1), name_of(2)}
    assert len(rows) + len(failures) == len(members) + 2
    durations = dict(zip(*(table(tmp_path / "out", "clips")[column].to_pylist() for column in ("clip_id", "duration_s")), strict=True))
    assert {durations[f"{name}_000000_000010"] for name in ("mvhd_years", "mdhd_years", "tkhd_65535")} == {2.0}
    assert bird.touched() == []


def test_loose_playlists(bird: Canary, tmp_path: Path) -> None:
    """P12: as above, where libav could know the file's folder; `_Reader` in tasks.container gives it bytes without a name."""
    for name, each in hostile_media.playlists(bird).items():
        (tmp_path / "corpus" / f"{name}.mp4").write_bytes(each.data)
    run(
        settings(
            tmp_path,
            {"kind": "manifest", "uri": str(_manifest(tmp_path / "corpus", [f"{n}.mp4" for n in hostile_media.playlists(bird)]))},
            limits=LIMITS,
        )
    )
    rows, failures = outcome(tmp_path / "out")
    assert (rows, len(failures)) == (set(), len(hostile_media.playlists(bird)))
    assert bird.touched() == []


def test_archives_that_claim_too_much_or_hold_no_files(bird: Canary, tmp_path: Path) -> None:
    """P6, P9, P12: each archive gives its good clips and its failures; nothing is written by a member's name."""
    archives = hostile_archives.archives()
    for name, archive in archives.items():
        (tmp_path / "corpus" / f"{name}.tar").write_bytes(archive.data)
    run(settings(tmp_path, {"kind": "kinetics", "uri": f"{tmp_path}/corpus/*.tar"}, limits=LIMITS))
    for name, archive in archives.items():
        rows, failures = outcome(tmp_path / "out", name)
        assert (rows, tuple(sorted(kind for kinds in failures.values() for kind in kinds))) == (set(archive.rows), archive.kinds), name
    assert [str(path) for path in tmp_path.rglob("*escape*")] == []
    assert not Path("/tmp/absolute_000000_000010.mp4").exists()
    assert bird.touched() == []


def test_bombs_take_little_memory(tmp_path: Path) -> None:
    """P9: a member of 10 GB of zeros, an extension of 100 MB, a claim of 2^60 bytes: read as they come, never as they claim."""
    archives = hostile_archives.archives()
    for name, archive in archives.items():
        (tmp_path / f"{name}.tar").write_bytes(archive.data)
    found = _bounded("kinetics", 192 << 20, *(tmp_path / f"{name}.tar" for name in archives))
    assert [{key for key, kind in rows if kind is None} for rows in found] == [set(archive.rows) for archive in archives.values()]


def test_a_sample_of_many_videos_is_not_held_in_memory(tmp_path: Path) -> None:
    """P9: without dropping the bytes of a sample's further videos in `_webdataset` of tasks.read, all are held at once."""
    (tmp_path / "part_0.tar").write_bytes(hostile_archives.webdataset())
    (found,) = _bounded("webdataset", 300 << 20, tmp_path / "part_0.tar")
    kinds = [kind for key, kind in found if kind]
    assert [key for key, kind in found if kind is None] == ["s/1", "s/2"]
    assert sorted(kinds) == ["BAD_NAME"] * 30 + ["BAD_RECORD"]


def test_headers_that_lie_take_little_memory(tmp_path: Path) -> None:
    """P9: without the watch of a decoder's memory in tasks.isolate a file of some MB takes many GiB."""
    liars = {name: each.data for name, each in hostile_media.liars().items()}
    write_tar(tmp_path / "part_0.tar", {f"{name}_000000_000010.mp4": data for name, data in liars.items()}, gz=False)
    (found,) = _bounded("kinetics", 512 << 20, tmp_path / "part_0.tar")
    assert len(found) == len(liars)
    assert dict(found)["elst_many_tiny_000000_000010"] == "TOO_LARGE"


def _bounded(kind: str, limit_bytes: int, *paths: Path) -> list[list[tuple[str, str | None]]]:
    """What a process of limited memory makes of archives."""
    command = [sys.executable, "-m", "tests.faults.bounded", kind, str(limit_bytes), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return [[(key, found) for key, found in json.loads(line)] for line in done.stdout.splitlines()]


def test_names_cannot_command_a_terminal(tmp_path: Path) -> None:
    """P12: without `one_line` in flows.console a member's name moves the cursor, or worse."""
    member = f"{hostile_archives.TERMINAL}_000000_000010.mp4"
    corpus = write_tar(tmp_path / "part_0.tar", {member: b"no video", f"{name_of(1)}.mp4": clip(1)})
    run(settings(tmp_path, {"kind": "kinetics", "uri": str(corpus)}, limits=LIMITS))
    shown = io.StringIO()
    failures = table(tmp_path / "out", "failures").to_pylist()
    print_failures(group_failures(failures), Console(file=shown, force_terminal=True, markup=False, color_system=None))
    assert len(failures) == 1
    assert failures[0]["member"].endswith(member)
    assert [char for char in shown.getvalue() if not char.isprintable() and char != "\n"] == []


@contextmanager
def _odd_files(folder: Path) -> Iterator[None]:
    """What lies beside videos and is none."""
    os.mkfifo(folder / "pipe.mp4")
    for name, target in {"zero": "/dev/zero", "passwd": "/etc/passwd", "nowhere": "gone.mp4", "loop": "loop.mp4", "null": "/dev/null"}.items():
        (folder / f"{name}.mp4").symlink_to(target)
    (folder / "folder.mp4").mkdir()
    (folder / "link.mp4").symlink_to("good.mp4")
    (folder / "good.mp4").write_bytes(clip(1))
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff\x1b[31m.mp4")).write_bytes(clip(2))
    with open(folder / "sparse.mp4", "wb") as sparse:
        sparse.truncate(1 << 40)
    yield


def test_only_regular_files_are_listed_and_opened(tmp_path: Path) -> None:
    """P6, P12: without `_regular` in infra.disk a pipe blocks a worker for ever and /dev/zero is read for ever."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    with _odd_files(folder):
        run(settings(tmp_path, {"kind": "files", "uri": str(folder)}, limits=LIMITS))
    rows, failures = outcome(tmp_path / "out")
    assert rows == {"good.mp4#0", "link.mp4#0"}
    names = {member.rpartition("/")[2]: kinds for member, kinds in failures.items()}
    assert names == {"passwd.mp4": ["CORRUPT"], "sparse.mp4": ["CORRUPT"], "\\xff\x1b[31m.mp4": ["BAD_NAME"]}
    assert "root:" not in str(table(tmp_path / "out", "failures").to_pylist())
    again = run(settings(tmp_path, {"kind": "files", "uri": str(folder)}, limits=LIMITS))
    assert again.status == "nothing to do"


def test_links_lead_out_of_a_folder_only_where_allowed(tmp_path: Path) -> None:
    """P12: without `_judged` in tasks.source, `source.allow` binds a manifest's rows and not a folder's links."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    with _odd_files(folder):
        run(settings(tmp_path, {"kind": "files", "uri": str(folder), "allow": [str(folder)]}, limits=LIMITS))
    rows, failures = outcome(tmp_path / "out")
    assert rows == {"good.mp4#0", "link.mp4#0"}
    assert failures[f"{folder}/passwd.mp4"] == ["BAD_RECORD"]


@pytest.mark.parametrize("name", ["pipe.mp4", "zero.mp4", "null.mp4", "loop.mp4", "folder.mp4", "nowhere.mp4"])
def test_naming_what_is_no_file_is_one_line(tmp_path: Path, name: str) -> None:
    """P6: as above, for a source, a table and an archive named in the configuration."""
    with _odd_files(tmp_path):
        for source in ({"kind": "files", "uri": f"{tmp_path}/{name}"}, {"kind": "manifest", "uri": f"{tmp_path}/{name}"},
                       {"kind": "kinetics", "uri": f"{tmp_path}/{name}"},
                       {"kind": "kinetics", "uri": f"{tmp_path}/good.mp4", "annotations": f"{tmp_path}/{name}"}):  # fmt: skip
            with pytest.raises(Problem) as refused:
                run(settings(tmp_path, source))
            assert str(refused.value).count("\n") == 0


def _manifest(folder: Path, uris: list[str], **columns: Any) -> Path:
    pq.write_table(pa.table({"uri": uris, **columns}), folder / "list.parquet")
    return folder / "list.parquet"


def test_a_manifest_reaches_no_file_and_no_server_it_may_not(bird: Canary, tmp_path: Path) -> None:
    """P12, P6: without tasks.roots a row reads any file of the machine; without the guard in tasks.manifest one row stops all."""
    folder = tmp_path / "corpus"
    (folder / "a b.mp4").write_bytes(clip(1))
    (folder / "concat:a|b").write_bytes(clip(2))
    with _odd_files(folder):
        inside = ["a b.mp4", "concat:a|b", "good.mp4", "./link.mp4"]
        refused = {
            bird.url: "BAD_RECORD", bird.url.replace("http", "https"): "BAD_RECORD", "ftp://127.0.0.1/x.mp4": "BAD_RECORD",
            "file:///etc/passwd": "BAD_RECORD", "file:/etc/hostname": "BAD_RECORD", "file://localhost/etc/passwd": "BAD_RECORD",
            "s3://key:hunter2@bucket/x.mp4": "BAD_RECORD", bird.url.replace("http", "s3"): "BAD_RECORD", "gs://bucket/x.mp4": "BAD_RECORD",
            "../here/canary.mp4": "BAD_RECORD", str(bird.path.with_name("other.mp4")): "BAD_RECORD", "passwd.mp4": "BAD_RECORD",
            "/proc/self/environ": "BAD_RECORD",
            "a\0b.mp4": "BAD_RECORD", "x" * 5_000: "BAD_RECORD", "zero.mp4": "BAD_RECORD", "loop.mp4": "BAD_RECORD", "pipe.mp4": "UNSUPPORTED",
            "pipe:0": "MISSING", "concat:canary.mp4|canary.mp4": "MISSING", "gone.mp4": "MISSING", "folder.mp4": "MISSING",
            f"{'../' * 40}etc/shadow": "BAD_RECORD",
            "sparse.mp4": "CORRUPT",
        }  # fmt: skip
        uris = [*inside, *refused]
        path = _manifest(folder, uris, endpoint_url=[bird.url] * len(uris), label=["=cmd()"] * len(uris))
        config = settings(tmp_path, {"kind": "manifest", "uri": str(path)}, limits=LIMITS)
        run(config)
        rows, failures = outcome(tmp_path / "out")
        assert rows == {"a b.mp4#0", "concat:a|b#0", "good.mp4#0", "link.mp4#0"}
        assert sorted(kind for kinds in failures.values() for kind in kinds) == sorted(refused.values())
        assert "hunter2" not in str(table(tmp_path / "out", "failures").to_pylist())
        assert set(table(tmp_path / "out", "clips")["label"].to_pylist()) == {"=cmd()"}
        assert run(config).status == "nothing to do"
    assert bird.touched() == []


def test_an_allowed_prefix_of_s3_is_the_only_one(bucket: str, tmp_path: Path) -> None:
    """P12: without `allow` in tasks.roots a manifest makes vidmill read whatever its credentials may."""
    for key in ("videos/a.mp4", "private/b.mp4", "videos-too/c.mp4", "videos/../private/d.mp4"):
        storage.write_bytes(f"s3://{bucket}/{key}", clip(1))
    listed = ["a.mp4", f"s3://{bucket}/private/b.mp4", f"s3://{bucket}/videos-too/c.mp4", f"s3://{bucket}/videos/../private/d.mp4", "/etc/passwd"]
    odd = ["s3://Not A Bucket/x.mp4", f"s3://{bucket}/videos/{'k' * 1100}.mp4", "s3://no-such-bucket-here/x.mp4"]
    storage.write_bytes(f"s3://{bucket}/videos/list.csv", ("uri\n" + "\n".join([*listed, *odd])).encode())
    source = {"kind": "manifest", "uri": f"s3://{bucket}/videos/list.csv"}
    run(settings(tmp_path, {**source, "allow": [f"s3://{bucket}/videos"]}, limits=LIMITS))
    rows, failures = outcome(tmp_path / "out")
    assert rows == {"a.mp4#0"}
    assert len(failures) == len(listed) + len(odd) - 1
    run(settings(tmp_path, source, output=f"{tmp_path}/wide", limits=LIMITS))
    rows, failures = outcome(tmp_path / "wide")
    assert {row.partition("#")[0].rpartition("/")[2] for row in rows} == {"a.mp4", "b.mp4", "c.mp4", "d.mp4"}
    assert failures["/etc/passwd"] == ["BAD_RECORD"]
