"""What a run shows on Prefect's page: keys, percent, and that no server can harm a run."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import artifacts
from flows.artifacts import ALMOST, PageProgress, key_of, percent_of, show_summary
from flows.watch import Silent
from tasks.outcome import FailureGroup, FeatureOutcome
from tasks.progress import ProgressSnapshot, StageProgress, TrainingProgress
from tasks.record import CorpusCoverage, RunSummary

SUMMARY = RunSummary(
    run_id="r-1", name="n", output="s3://bucket/k400", status="done", shards=1, shards_published=1, clips=3,
    features=(FeatureOutcome("clips", 2, 1, 1),), failures=(FailureGroup("CORRUPT", 2, ("a.mp4: decode CORRUPT: \x1b[31mbad",), ("clip:a b",)),),
    coverage=CorpusCoverage(0, 3, 0, 0, 0, 0), problems=("1 shard is left",), elapsed_s=2.0,
)  # fmt: skip


def snapshot(read: int, clips: int, total: int | None, published: int) -> ProgressSnapshot:
    """Of four archives."""
    stages = (
        StageProgress("read", read, 4, "shards", 0, 1.0),
        StageProgress("decode, infer", clips, total, "clips", 1, 12.5, "Ray"),
        StageProgress("publish", published, 4, "shards", 0, 0.5),
    )
    return ProgressSnapshot(stages, published, 4, 3.0)


@given(name=st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1), kind=st.sampled_from(["outcome", "record"]))
def test_a_key_is_one_that_prefect_takes_and_the_same_for_every_spelling(name: str, kind: str) -> None:
    output = f"s3://bucket/{name.strip('/') or 'x'}"
    key = key_of(kind, output)
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key)
    assert key == key_of(kind, f"{output}/")
    assert key.startswith(f"{kind}-")


def test_outputs_of_one_name_have_keys_of_their_own() -> None:
    assert key_of("outcome", "s3://a/features").startswith("outcome-features-")
    assert key_of("outcome", "s3://a/features") != key_of("outcome", "s3://b/features")


def test_a_folder_is_meant_wherever_it_is_named_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert key_of("outcome", "out") == key_of("outcome", f"{tmp_path}/out")


@pytest.mark.parametrize(
    ("seen", "percent"),
    [
        (snapshot(0, 0, None, 0), 0.0),
        (snapshot(1, 7, None, 0), 25.0),
        (snapshot(4, 30, 40, 1), 75.0),
        (snapshot(4, 40, 40, 3), ALMOST),
        (snapshot(4, 40, 40, 4), 100.0),
        (TrainingProgress(30, 40, None, 1.0, 2.0, None), 75.0),
    ],
)
def test_percent(seen: Any, percent: float) -> None:
    assert percent_of(seen) == percent


class Server:
    """Keeps what it is told, or is gone."""

    def __init__(self, *, gone: bool = False) -> None:
        self.gone = gone
        self.told: list[tuple[str, Any, str | None, str]] = []

    def takes(self, kind: str) -> Callable[..., UUID]:
        def take(data: Any = None, *rest: Any, key: str | None = None, description: str = "", **_: Any) -> UUID:
            if self.gone:
                raise ConnectionError("no server")
            self.told.append((kind, rest[0] if rest else data, key, description))
            return uuid4()

        return take


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    """Prefect's, as far as artifacts go; a flow run is under way."""
    found = Server()
    for kind in ("table", "link", "markdown", "progress"):
        monkeypatch.setattr(artifacts, f"create_{kind}_artifact", found.takes(kind))
    monkeypatch.setattr(artifacts, "update_progress_artifact", found.takes("update"))
    monkeypatch.setattr(artifacts, "in_flow_run", lambda: True)
    return found


def test_an_ended_run_shows_outcome_failures_and_record(server: Server) -> None:
    show_summary(SUMMARY)
    (outcome, failures, record) = server.told
    assert outcome[1] == [{"feature": "clips", "shards": 1, "rows": 2, "failed": 1}]
    assert outcome[3] == "done: 3 clips in 2 s, run r-1\n- 1 shard is left"
    assert failures[1] == [
        {
            "kind": "CORRUPT",
            "failures": 2,
            "example": "a.mp4: decode CORRUPT: \\x1b[31mbad",
            "again": "vidmill retry s3://bucket/k400 --select 'clip:a b'",
        }
    ]
    assert failures[3] == "2 failures in s3://bucket/k400, by kind"
    assert record[:2] == ("link", "s3://bucket/k400/_runs/r-1.json")


def test_a_run_without_failures_replaces_the_table_of_an_earlier_one_and_one_with_nothing_to_do_has_no_record(server: Server) -> None:
    show_summary(replace(SUMMARY, failures=(), status="nothing to do"))
    assert [(kind, data) for kind, data, *_ in server.told[1:]] == [("table", [])]


def test_a_server_that_is_gone_changes_nothing(server: Server) -> None:
    server.gone = True
    show_summary(SUMMARY)
    page = PageProgress(Silent(), "progress-x")
    page.show(snapshot(1, 1, None, 0))
    page.over.set()
    page.keep_telling()
    assert server.told == []


def test_progress_is_one_artifact_that_is_told_only_what_is_new(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PageProgress(Silent(), "progress-x")
    turns = iter((None, snapshot(1, 7, None, 0), "the same", snapshot(4, 40, 40, 4)))

    def wait(seconds: float) -> bool:
        assert seconds == artifacts.PROGRESS_EVERY_S
        turn = next(turns, "over")
        if isinstance(turn, ProgressSnapshot):
            page.show(turn)
        return turn == "over"

    monkeypatch.setattr(page.over, "wait", wait)
    page.keep_telling()
    assert [(kind, key) for kind, _, key, _ in server.told] == [("progress", "progress-x"), ("update", None)]
    assert server.told[1][1] == 100.0
    assert server.told[0][3].splitlines()[3] == "| decode, infer | 7 clips | 12.5/s | 1 | Ray |"


def test_progress_goes_on_to_who_watched_before(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []

    class Watcher(Silent):
        def show(self, snapshot: Any) -> None:
            seen.append(snapshot)

        def failure(self, text: str) -> None:
            seen.append(text)

        def note(self, text: str) -> None:
            seen.append(text)

    token = artifacts.WATCHER.set(Watcher())
    try:
        with artifacts.shown_progress("s3://bucket/k400"):
            artifacts.WATCHER.get().show(snapshot(4, 40, 40, 4))
            artifacts.WATCHER.get().failure("bad")
            artifacts.WATCHER.get().note("well")
    finally:
        artifacts.WATCHER.reset(token)
    assert seen == [snapshot(4, 40, 40, 4), "bad", "well"]
    assert [(kind, data, key) for kind, data, key, _ in server.told] == [("progress", 100.0, key_of("progress", "s3://bucket/k400"))]
