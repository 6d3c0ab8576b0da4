"""P8, P1, P2, P3: whole runs, corpus and output in an S3 store that fails; the rerun completes, as if nothing had happened."""

import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import s3, s3_request, storage
from infra.settings import RunConfig
from infra.storage import StorageError
from tasks.verify import verify
from tests.corpus import clip, contents, name_of, write_shards, write_tar, write_videos
from tests.faults import here
from tests.faults.proxy import Action, Proxy, any_of, first, lost_answer, nothing, proxy_to, refuse, reset_after, without
from tests.tasks.runs import settings

ARCHIVES = "/[^/]+/corpus/part_.*"
PARQUET = "/[^/]+/out/.*[.]parquet"


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    here.without_ray(monkeypatch)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    write_shards(folder, shards=2, clips=4)
    write_tar(folder / "part_2.tar.gz", {f"{name_of(50)}.mp4": b"damaged", f"{name_of(51)}.mp4": clip(51)})
    return folder


def upload(folder: Path, prefix: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            storage.publish_file(f"{prefix}/{path.relative_to(folder)}", str(path))


def config_in(bucket: str, folder: Path, **source: Any) -> RunConfig:
    """A run from and to a bucket with a small network."""
    layout = source or {"kind": "kinetics", "uri": f"s3://{bucket}/corpus/part_*.tar.gz"}
    return settings(folder, layout).model_copy(update={"output": f"s3://{bucket}/out"})


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        here.without_ray(patch)
        assert here.run(settings(folder, {"kind": "kinetics", "uri": f"{corpus}/part_*.tar.gz"})).status == "done"
    return contents(folder / "out")


@pytest.fixture
def config(corpus: Path, bucket: str, tmp_path: Path, proxy: Proxy) -> RunConfig:
    upload(corpus, f"s3://{bucket}/corpus")
    proxy.asked.clear()
    return config_in(bucket, tmp_path)


def test_bad_weather_during_a_whole_run_changes_nothing(
    config: RunConfig, proxy: Proxy, undisturbed: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P8, P1, P2: without the retry in infra.s3_request the first of these ends the run; without _put_if's comparison the lease is lost."""
    monkeypatch.setattr(s3_request, "RETRY", s3_request.Retry(budget_s=30, pause_s=0.01, longest_pause_s=0.03))
    actions = (refuse(503, "SlowDown"), refuse(500, "InternalError"), reset_after(0), reset_after(1000), lost_answer)
    weather = proxy.breaks(any_of(*actions, seed=8), times=None, every=4)
    summary = here.run(config)
    assert (summary.status, summary.problems, summary.notices) == ("done", (), ())
    assert weather.met > 30
    proxy.heal()
    assert contents(config.output) == undisturbed
    assert not verify(config.output).faults


ENDLESS: dict[str, tuple[Action, str]] = {
    "503": (refuse(503, "SlowDown"), "the store kept failing"),
    "reset": (reset_after(0), "the store kept failing"),
    "expired": (refuse(400, "ExpiredToken"), "the S3 credentials have expired"),
}


CASES = [(fault, share) for fault in ENDLESS for share in (0.0, 0.2, 0.35, 0.5, 0.6, 0.75, 0.85, 0.95)]
SHORT = {("503", 0.6), ("reset", 0.35)}


@pytest.fixture(scope="module")
def requests(s3: str, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, int]:
    """How many requests a run makes before it reads the first archive, and from then on."""
    name = f"bucket-{uuid.uuid4().hex}"
    with pytest.MonkeyPatch.context() as patch, proxy_to(s3) as proxy:
        here.without_ray(patch)
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)
        s3_request.request(f"s3://{name}", "create_bucket", Bucket=name)
        upload(corpus, f"s3://{name}/corpus")
        proxy.asked.clear()
        assert here.run(config_in(name, tmp_path_factory.mktemp("count"))).status == "done"
    reading = next(number for number, asked in enumerate(proxy.asked) if asked.method == "GET" and re.fullmatch(ARCHIVES, asked.path))
    return reading, len(proxy.asked) - reading


@pytest.mark.parametrize(("fault", "share"), [case if case in SHORT else pytest.param(*case, marks=pytest.mark.nightly) for case in CASES])
def test_a_store_that_goes_away_in_the_middle_leaves_work_that_the_next_run_does(
    config: RunConfig,
    proxy: Proxy,
    undisturbed: object,
    requests: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    share: float,
) -> None:
    """P8, P1, P4, P11: without the problem in a ShardEnd, or `except` around a publication, the run would end as done, or as misused."""
    monkeypatch.setattr(s3_request, "RETRY", s3_request.Retry(budget_s=0.3, hopeless_s=0.05, pause_s=0.02, longest_pause_s=0.1))
    action, cause = ENDLESS[fault]
    proxy.breaks(action, after=requests[0] + int(share * requests[1]), times=None)
    summary = here.run(config)
    assert summary.status == "work left"
    assert any(cause in problem for problem in summary.problems), summary.problems
    assert all("\n" not in problem and "; " in problem for problem in summary.problems)
    proxy.heal()
    again = here.run(config)
    assert (again.status, again.problems) in (("done", ()), ("nothing to do", ()))
    assert contents(config.output) == undisturbed
    assert not verify(config.output).faults


def test_a_worker_that_can_stage_no_more_leaves_work(config: RunConfig, proxy: Proxy, undisturbed: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8, P4: without the handling of StorageError in flows.process_corpus a worker's would end the run as if it were misused."""
    monkeypatch.setattr(s3_request, "RETRY", s3_request.Retry(budget_s=0.3, hopeless_s=0.05, pause_s=0.02))
    fault = proxy.breaks(refuse(503, "SlowDown"), method="PUT", path=".*/embeddings/.*[.]fragment", after=1, times=None)
    summary = here.run(config)
    assert (summary.status, bool(fault.met)) == ("work left", True)
    assert re.search(r"[.]fragment: the store kept failing \(SlowDown\); run the same command again", summary.problems[-1])
    proxy.heal()
    assert here.run(config).status == "done"
    assert contents(config.output) == undisturbed


def test_an_archive_whose_connection_breaks_is_read_on(config: RunConfig, proxy: Proxy, undisturbed: object) -> None:
    """P8: without the retry in infra.s3_request the shard would be left."""
    fault = proxy.breaks(reset_after(2000), method="GET", path=ARCHIVES, times=9, every=2)
    assert here.run(config).status == "done"
    assert fault.met >= 3
    assert contents(config.output) == undisturbed


def test_an_archive_that_breaks_for_ever_leaves_its_shard_and_no_other(
    config: RunConfig, proxy: Proxy, undisturbed: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P8, P11: without the problem in a ShardEnd a shard that was read in part would be published with a hole."""
    monkeypatch.setattr(s3_request, "RETRY", s3_request.Retry(budget_s=0.3, hopeless_s=0.05, pause_s=0.02))
    proxy.breaks(reset_after(2000), method="GET", path=ARCHIVES.replace(".*", "1.*"), times=None)
    summary = here.run(config)
    assert (summary.status, summary.shards_published) == ("work left", 2)
    assert len(summary.problems) == 1
    assert re.match(r"part_1: s3://.*/part_1.tar.gz: the store kept failing \(\w+\); run the same command again", summary.problems[0])
    proxy.heal()
    again = here.run(config)
    assert (again.status, again.shards_published) == ("done", 1)
    assert contents(config.output) == undisturbed


@pytest.mark.parametrize(
    "store", [pytest.param(nothing, marks=pytest.mark.nightly), without("If-Match")], ids=["that keeps If-Match", "that ignores it"]
)
def test_an_archive_replaced_while_it_is_read_is_read_again_by_the_next_run(
    config: RunConfig, corpus: Path, proxy: Proxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Action
) -> None:
    """P3, P5, P8: without If-Match and the etag's check in infra.s3 rows of two archives would be published as one shard."""
    monkeypatch.setattr(s3, "STREAM", (8 << 10, 3, 1))
    new = write_tar(tmp_path / "new.tar.gz", {f"{name_of(number)}.mp4": clip(number + 100) for number in range(4, 9)})
    uri = config.source.uri.replace("*", "1")
    proxy.breaks(first(lambda: storage.publish_file(uri, str(new)), store), method="GET", path=ARCHIVES.replace(".*", "1.*"), after=1)
    proxy.breaks(store, method="GET", path=ARCHIVES, times=None)
    summary = here.run(config)
    assert summary.status == "work left"
    assert any("changed meanwhile; run the same command again once nobody writes to it" in problem for problem in summary.problems)
    proxy.heal()
    assert here.run(config).status == "done"
    upload(corpus, f"{config.output}-other/corpus")
    storage.publish_file(f"{config.output}-other/corpus/part_1.tar.gz", str(new))
    source = config.source.model_copy(update={"uri": f"{config.output}-other/corpus/part_*.tar.gz"})
    other = config.model_copy(update={"source": source, "output": f"{config.output}-other/out"})
    assert here.run(other).status == "done"
    assert contents(config.output) == contents(other.output)
    assert not verify(config.output).faults


LOST = {
    "every second file": {"method": "PUT", "path": PARQUET, "every": 2},
    "every file": {"method": "PUT", "path": PARQUET, "every": 1, "times": 4},
    "deletions": {"method": "POST", "query": "delete", "every": 2},
    "the lease": {"method": "PUT", "path": ".*/lease.json", "every": 2},
}


@pytest.mark.parametrize("writes", ["every file", *(pytest.param(name, marks=pytest.mark.nightly) for name in LOST if name != "every file")])
def test_publications_whose_answers_are_lost_are_made_once(config: RunConfig, proxy: Proxy, undisturbed: object, writes: str) -> None:
    """P8, P2: without the retry a shard would be left; without _put_if's comparison the run would be refused because of itself."""
    fault = proxy.breaks(lost_answer, **{"times": None, **LOST[writes]})
    summary = here.run(config)
    assert (summary.status, summary.problems) == ("done", ())
    assert fault.met
    assert contents(config.output) == undisturbed


def test_expired_credentials_are_no_failure_of_a_video(proxy: Proxy, bucket: str, tmp_path: Path) -> None:
    """P8, P11: with ExpiredToken among the denied codes every video not yet read would be published as a STORAGE failure."""
    write_videos(tmp_path / "videos", {"a.mp4": 2, "b.mp4": 2, "c.mp4": 2})
    upload(tmp_path / "videos", f"s3://{bucket}/videos")
    config = config_in(bucket, tmp_path, kind="files", uri=f"s3://{bucket}/videos/")
    proxy.breaks(refuse(403, "ExpiredToken"), method="GET", path=".*/videos/.*", after=1, times=None)
    summary = here.run(config)
    assert summary.status == "work left"
    assert "the S3 credentials have expired (ExpiredToken); renew them" in summary.problems[0]
    assert not contents(config.output)["failures"]
    proxy.heal()
    assert here.run(config).status == "done"
    assert len(contents(config.output)["embeddings"]) == 3


def test_uploads_that_a_killed_run_left_are_aborted_and_others_are_not(config: RunConfig, proxy: Proxy, bucket: str) -> None:
    """P10: without delete_leftovers in flows.process_corpus the parts of a killed run's upload are kept, and paid for, for ever."""
    ours = [f"out/{name}" for name in ("embeddings/model=grey/version=1/part_0.parquet", "clips/part_1.parquet", "_wip/shard=x/y.fragment")]
    for key in [*ours, *(f"out/clips/{number}" for number in range(3)), "corpus/part_7.tar.gz", "outside/clips/x"]:
        s3_request.request(f"s3://{bucket}/{key}", "create_multipart_upload", Bucket=bucket, Key=key)
    assert here.run(config).status == "done"
    left = s3_request.request(f"s3://{bucket}/x", "list_multipart_uploads", Bucket=bucket)["Uploads"]
    assert sorted(upload["Key"] for upload in left) == ["corpus/part_7.tar.gz", "outside/clips/x"]


@pytest.mark.parametrize(
    "refusal",
    [(501, "NotImplemented"), *(pytest.param(answer, marks=pytest.mark.nightly) for answer in [(403, "AccessDenied"), (503, "SlowDown")])],
    ids=str,
)
def test_a_store_that_lists_no_uploads_stops_nothing(
    config: RunConfig, proxy: Proxy, undisturbed: object, monkeypatch: pytest.MonkeyPatch, refusal: tuple[int, str]
) -> None:
    """P8: without `except StorageError` around delete_leftovers such a store could not be used."""
    monkeypatch.setattr(s3_request, "RETRY", s3_request.Retry(budget_s=0.3, hopeless_s=0.05, pause_s=0.02))
    fault = proxy.breaks(refuse(*refusal), query="uploads", times=None)
    assert here.run(config).status == "done"
    assert fault.met
    assert contents(config.output) == undisturbed


DEAF: dict[str, Callable[[Proxy], object]] = {
    "If-None-Match": lambda proxy: proxy.breaks(without("If-None-Match"), method="PUT", header="If-None-Match", times=None),
    "If-Match": lambda proxy: proxy.breaks(without("If-Match"), method="PUT", header="If-Match", times=None),
    "both": lambda proxy: proxy.breaks(without("If-Match", "If-None-Match"), method="PUT", times=None),
    "501": lambda proxy: proxy.breaks(refuse(501, "NotImplemented"), method="PUT", header="If-None-Match", times=None),
}


@pytest.mark.parametrize("ignored", ["both", *(pytest.param(name, marks=pytest.mark.nightly) for name in DEAF if name != "both")])
def test_a_store_that_ignores_conditions_is_found_out_and_it_is_said(config: RunConfig, proxy: Proxy, undisturbed: object, ignored: str) -> None:
    """P2: without _keeps_conditions in infra.lease two runs would both believe that they are alone."""
    DEAF[ignored](proxy)
    summary = here.run(config)
    assert summary.status == "done"
    (notice,) = summary.notices
    assert notice.startswith(f"{config.output}/_wip/lease.json: this store ignores conditions on writing, so it cannot keep two runs apart; ")
    assert notice.encode() in storage.read_bytes(f"{config.output}/_runs/{summary.run_id}.json")
    assert contents(config.output) == undisturbed
    assert not storage.exists(f"{config.output}/_wip/lease.json")


def test_a_run_ends_in_one_line_also_where_the_store_is_gone_for_its_report(config: RunConfig, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """P8, P11: without _unreported in flows.process_corpus the end of such a run would be told as a wrong configuration."""
    summarize = here.flow.summarize

    def gone(*arguments: object) -> object:
        proxy.breaks(refuse(503, "SlowDown"), times=None)
        return summarize(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(here.flow, "summarize", gone)
    monkeypatch.setattr(s3_request, "RETRY", s3_request.Retry(budget_s=0.3, hopeless_s=0.05, pause_s=0.02))
    summary = here.run(config)
    assert (summary.status, summary.shards_published, summary.features) == ("work left", 3, ())
    assert "the store kept failing (SlowDown); run the same command again" in summary.problems[-1]
    monkeypatch.undo()
    with pytest.raises(StorageError):
        storage.read_bytes(f"{config.output}/nothing")
