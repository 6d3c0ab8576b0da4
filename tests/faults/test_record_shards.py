"""Shards of YouTube-8M that are damaged, doubled, replaced, added to and killed over, on disk and in S3: one row or one failure, once."""

import gzip
import signal
import struct
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from infra import s3_request, storage
from infra.crash_point import VARIABLE, CrashPoint
from infra.settings import RunConfig
from tasks.plan import plan_run
from tasks.verify import verify
from tests.corpus import config_for, contents, files, table
from tests.faults.checker import check_disturbed, check_finished, published_state
from tests.faults.proxy import Proxy, refuse, reset_after
from tests.faults.zygote import Zygote
from tests.tasks import records
from tests.tasks.records import Made, frame_level, id_of, made, record, text, video_level
from tests.tasks.runs import run

RGB, AUDIO = "embeddings/model=yt8m-inception3", "embeddings/model=yt8m-vggish"
Shards = dict[str, bytes]


def small(number: int, *, frames: int = 3, segments: int = 0) -> Made:
    return made(1, number, frames=frames, segments=segments)


def packed(*numbers: int) -> list[bytes]:
    return [record(frame_level(small(number))) for number in numbers]


@pytest.fixture(params=["disk", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "disk" else f"s3://{request.getfixturevalue('bucket')}"


def settings(root: str) -> RunConfig:
    return config_for({"kind": "youtube8m", "uri": f"{root}/corpus/"}, f"{root}/out")


def put(root: str, shards: Shards) -> None:
    for name, data in shards.items():
        storage.write_bytes(f"{root}/corpus/{name}", data)


def ids(root: str, folder: str = RGB) -> list[str]:
    return sorted(table(f"{root}/out", folder)["clip_id"].to_pylist())


def failures(root: str) -> set[tuple[str, str, str]]:
    rows = table(f"{root}/out", "failures").to_pylist()
    return {(row["member"].rpartition("/")[2], row["stage"], row["kind"]) for row in rows}


def codes_of(row: dict[str, list[bytes]], width: int) -> np.ndarray:
    return np.frombuffer(b"".join(row["frame_codes"]), np.uint8).reshape(-1, width)


@pytest.mark.parametrize("root", ["disk", pytest.param("s3", marks=pytest.mark.nightly)], indirect=True)
def test_every_level_fashion_and_damage_is_rows_and_failures(root: str) -> None:
    """Issue 5: what is whole comes out equal to its source; each damage is told once, with its place, and costs nothing else."""
    claim = struct.pack("<Q", 1 << 60)
    flipped, length = bytearray(b"".join(packed(20, 21, 22))), bytearray(b"".join(packed(30, 31, 32)))
    flipped[len(packed(20)[0]) + 700] ^= 4
    length[len(packed(30)[0]) + 2] ^= 4
    exa = packed(40)[0] + claim + records.check(claim) + b"whatever follows"
    rated = small(60, frames=12, segments=2)
    lame, none = small(70), small(71, frames=0)
    odd = records.sequence({"id": text(b"odd_"), "labels": b""}, {"rgb": small(72).rgb[:, :1000], "audio": small(72).audio})
    shards = {
        "train0000.tfrecord": b"".join(packed(10, 11, 12)),
        "trainzZ.tfrecord": bytes(flipped),
        "train01.tfrecord": bytes(length),
        "exa.tfrecord": exa,
        "cut.tfrecord": b"".join(packed(50, 51))[:-5],
        "zipped.tfrecord.gz": gzip.compress(b"".join(packed(55, 56))),
        "halfzipped.tfrecord.gz": gzip.compress(b"".join(packed(57, 58)))[:-400],
        "segments.tfrecord": record(frame_level(rated, key="video_id")),
        "video.tfrecord": record(video_level(small(65))),
        "features.tfrecord": b"".join(map(record, (frame_level(lame, without=("audio",)), frame_level(none), odd))),
        "long.tfrecord": record(frame_level(small(80, frames=301))),
        "none.tfrecord": b"",
        "README.txt": b"not a shard",
    }
    put(root, shards)
    summary = run(settings(root))
    assert (summary.status, summary.problems, summary.shards) == ("done", (), 12)
    bad = len(record(frame_level(lame, without=("audio",))))
    (half,) = {failure for failure in failures(root) if failure[0].startswith("half")}  # its place is where the gzip stream ended
    assert (half[1:], len(packed(57)[0]) < int(half[0].partition("!")[2])) == (("read", "TRUNCATED"), True)
    assert failures(root) - {half} == {
        (f"trainzZ.tfrecord!{len(packed(20)[0])}", "read", "BAD_RECORD"),
        (f"train01.tfrecord!{len(packed(30)[0])}", "read", "TRUNCATED"),
        (f"exa.tfrecord!{len(packed(40)[0])}", "read", "TRUNCATED"),
        (f"cut.tfrecord!{len(packed(50)[0])}", "read", "TRUNCATED"),
        ("features.tfrecord!0", "yt8m-vggish", "BAD_RECORD"),
        (f"features.tfrecord!{bad}", "yt8m-inception3", "BAD_RECORD"),
        (f"features.tfrecord!{bad}", "yt8m-vggish", "BAD_RECORD"),
        (f"features.tfrecord!{bad + len(record(frame_level(none)))}", "yt8m-inception3", "BAD_RECORD"),
        ("none.tfrecord!0", "read", "EMPTY"),
    }
    good = [id_of(1, number) for number in (10, 11, 12, 20, 22, 30, 40, 50, 55, 56, 57, 60, 65, 70, 80)]
    assert ids(root) == sorted(good)
    rows = {row["clip_id"]: row for row in table(f"{root}/out", RGB).to_pylist()}
    for number in (10, 11, 12, 20, 22, 30, 40, 50, 55, 56, 57, 70):
        assert np.array_equal(codes_of(rows[id_of(1, number)], 1024), small(number).rgb)
        assert rows[id_of(1, number)]["embedding"] == pytest.approx(records.dequantised_mean(small(number).rgb), abs=1e-6)
    assert rows[id_of(1, 65)]["embedding"] == records.dequantised_mean(small(65).rgb).tolist()
    sound = {row["clip_id"]: row for row in table(f"{root}/out", AUDIO).to_pylist()}
    assert np.array_equal(codes_of(sound["odd_"], 128), small(72).audio)
    clips = {row["clip_id"]: row for row in table(f"{root}/out", "clips").to_pylist()}
    assert [(each["start_s"], each["label_id"], each["score"]) for each in clips[rated.id]["segments"]] == [
        (s, c, v) for s, _, c, v in rated.segments
    ]
    assert clips[id_of(1, 80)]["notes"] == [f"{name} has 301 frames, more than 300; all are kept" for name in ("rgb", "audio")]
    assert np.array_equal(codes_of(rows[id_of(1, 80)], 1024), small(80, frames=301).rgb)
    assert {row["notes"] is None for key, row in clips.items() if key != id_of(1, 80)} == {True}
    assert summary.notices == ("1 records are unusual and were taken as they are; the column notes of clips says in what",)
    assert verify(f"{root}/out").faults == []
    assert (plan_run(settings(root)).work, run(settings(root)).status) == ((), "nothing to do")


def test_an_id_that_comes_twice_in_a_shard_is_the_first_and_a_failure(root: str) -> None:
    first, other = frame_level(small(1)), frame_level(Made(small(1).id, (9,), small(2).rgb, small(2).audio))
    put(root, {"train0.tfrecord": record(first) + record(other) + record(first)})
    assert run(settings(root)).status == "done"
    (row,) = table(f"{root}/out", RGB).to_pylist()
    assert np.array_equal(codes_of(row, 1024), small(1).rgb)
    place = len(record(first))
    assert failures(root) == {
        (f"train0.tfrecord!{at} (copy {copy})", "read", "BAD_NAME") for at, copy in ((place, 2), (place + len(record(other)), 3))
    }
    assert verify(f"{root}/out").faults == []


def test_an_id_that_is_in_two_shards_is_told_by_verify(root: str) -> None:
    """As a Kinetics clip in two archives: shards are worked on apart, so both have a row, and `verify` names them."""
    put(root, {"train0.tfrecord": b"".join(packed(1, 2)), "train1.tfrecord": b"".join(packed(2, 3))})
    assert run(settings(root)).status == "done"
    faults = [str(fault) for fault in verify(f"{root}/out").faults]
    assert len(faults) == 3
    assert all(f"holds the clip {small(2).id} that train0 holds too" in fault for fault in faults), faults


def test_a_replaced_shard_keeps_what_did_not_change_and_a_new_one_is_all_that_is_read(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P5: records are compared by their bytes, shards by their etag."""
    put(root, {"train0.tfrecord": b"".join(packed(1, 2, 3)), "train1.tfrecord": b"".join(packed(4))})
    assert run(settings(root)).clips == 4
    changed = record(frame_level(Made(small(2).id, (9,), small(7).rgb, small(7).audio)))
    put(root, {"train0.tfrecord": packed(1)[0] + changed + packed(8)[0]})
    assert run(settings(root)).clips == 2
    rows = {row["clip_id"]: row for row in table(f"{root}/out", RGB).to_pylist()}
    assert rows.keys() == {id_of(1, number) for number in (1, 2, 8, 4)}
    assert np.array_equal(codes_of(rows[small(2).id], 1024), small(7).rgb)
    assert np.array_equal(codes_of(rows[small(1).id], 1024), small(1).rgb)
    opened: list[str] = []
    really = storage.open_stream

    def noted(item: storage.ObjectInfo) -> object:
        opened.append(item.uri)
        return really(item)

    monkeypatch.setattr("tasks.read.storage.open_stream", noted)
    put(root, {"train2.tfrecord": b"".join(packed(9))})
    assert run(settings(root)).clips == 1
    assert opened == [f"{root}/corpus/train2.tfrecord"]
    assert verify(f"{root}/out").faults == []


@pytest.mark.parametrize("action", [refuse(503, "SlowDown"), reset_after(1000)], ids=["503", "reset"])
def test_a_store_that_fails_while_a_shard_is_read_is_waited_for_and_else_left(
    bucket: str, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: object
) -> None:
    """P8: a few failures are absorbed; endless ones leave that shard, and the next run does it."""
    root = f"s3://{bucket}"
    shards = {f"train{k}.tfrecord": b"".join(packed(*range(10 * k, 10 * k + 4))) for k in range(3)}
    put(root, shards)
    put(str(tmp_path), shards)
    assert run(settings(str(tmp_path))).status == "done"
    proxy.breaks(action, method="GET", path="/[^/]+/corpus/train0.*", times=3)  # type: ignore[arg-type]
    monkeypatch.setattr(s3_request, "RETRY", s3_request.Retry(budget_s=2.0, hopeless_s=2.0, pause_s=0.02))
    proxy.breaks(action, method="GET", path="/[^/]+/corpus/train1.*", times=None)  # type: ignore[arg-type]
    summary = run(settings(root))
    assert summary.status == "work left"
    assert any("train1" in problem and "the store kept failing" in problem for problem in summary.problems)
    assert ids(root) == sorted(id_of(1, number) for number in (0, 1, 2, 3, 20, 21, 22, 23))
    proxy.heal()
    again = run(settings(root))
    assert (again.status, again.clips) == ("done", 4)
    assert contents(f"{root}/out") == contents(tmp_path / "out")
    assert verify(f"{root}/out").faults == []


EDGES = {
    "a parcel was read": (CrashPoint.PARCEL, 0),
    "the shard was read": (CrashPoint.READ, 0),
    "the roster is written": (CrashPoint.ROSTER, 0),
    "one feature of a parcel is staged": (CrashPoint.STAGED, 0),
    "two features of the second parcel are staged": (CrashPoint.STAGED, 4),
    "everything is staged": (CrashPoint.COMPLETE, 0),
    "a published file is written, not visible": (CrashPoint.WRITTEN, 10),
    "the failures are published": (CrashPoint.FAILURES, 0),
    "one feature is published": (CrashPoint.FEATURE, 0),
    "two features are published": (CrashPoint.FEATURE, 1),
    "the clips are published": (CrashPoint.CLIPS, 0),
    "the fragments are gone": (CrashPoint.CLEARED, 0),
}
CHEAP = ("the shard was read", "two features of the second parcel are staged", "one feature is published")
CASES = [edge if edge in CHEAP else pytest.param(edge, marks=pytest.mark.nightly) for edge in EDGES]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of two parcels with a record that lacks its sound, one that is damaged, and a shard that ends early."""
    folder = tmp_path_factory.mktemp("records")
    large = [record(frame_level(made(2, number, frames=300))) for number in range(26)]
    broken = bytearray(large[25])
    broken[5000] ^= 1
    records.write(folder / "corpus" / "train0.tfrecord", [*large[:25], bytes(broken), record(frame_level(small(70), without=("audio",)))])
    records.write(folder / "corpus" / "train1.tfrecord", [*packed(90, 91), packed(92)[0][:100]])
    return folder


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert run(config_for({"kind": "youtube8m", "uri": f"{corpus}/corpus/"}, output)).status == "done"
    return output


def kill_at(forks: Zygote, config: RunConfig, edge: str, fuse: Path) -> None:
    point, passes = EDGES[edge]
    fuse.write_bytes(b"." * passes)
    assert forks.run(config, {VARIABLE: f"{point}={fuse}"}) == -signal.SIGKILL, "the run never came to this edge"


def finished(output: Path) -> set[str]:
    """Clips that need no work any more, by the files alone."""

    def keys(folder: str) -> set[str]:
        found = [*output.glob(f"_wip/*/{folder}/**/*.fragment"), *output.glob(f"{folder}/**/*.parquet")]
        return {str(row["clip_id"] or row.get("member")) for path in found for row in pq.read_table(path, partitioning=None).to_pylist()}

    failed = keys("failures")
    return (keys("clips") & keys(RGB) & (keys(AUDIO) | failed)) | {key for key in failed if "!" in key}


@pytest.mark.parametrize("edge", CASES)
def test_a_run_killed_at_any_edge_is_continued(forks: Zygote, corpus: Path, undisturbed: Path, tmp_path: Path, edge: str) -> None:
    """P1 to P5, as tests/faults/test_publication.py of videos."""
    config, output = config_for({"kind": "youtube8m", "uri": f"{corpus}/corpus/"}, tmp_path / "out"), tmp_path / "out"
    kill_at(forks, config, edge, tmp_path / "fuse")
    check_disturbed(output, undisturbed)
    done, published = finished(output), published_state(output)
    summary = run(config)
    assert (summary.status, summary.problems) == ("done", ())
    check_finished(output, undisturbed)
    assert summary.clips == 30 - len(done), "only what was in flight is parsed again"
    assert {name: published_state(output)[name] for name in published} == published
    state = files(output)
    assert (plan_run(config).work, run(config).status) == ((), "nothing to do")
    assert files(output) == state


@pytest.mark.parametrize("edge", ["one feature is published", pytest.param("everything is staged", marks=pytest.mark.nightly)])
def test_the_same_in_a_bucket(forks: Zygote, corpus: Path, undisturbed: Path, tmp_path: Path, bucket: str, edge: str) -> None:
    """P1, P2, P3: an upload that was not completed is not visible."""
    config = config_for({"kind": "youtube8m", "uri": f"{corpus}/corpus/"}, f"s3://{bucket}/out")
    kill_at(forks, config, edge, tmp_path / "fuse")
    assert run(config).status == "done"
    assert contents(config.output) == contents(undisturbed)
    assert not verify(config.output).faults
    assert plan_run(config).work == ()
