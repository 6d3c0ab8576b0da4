"""enhance-corpus in this process: stages follow each other where Ray would spread them, and the networks are stand-ins."""

import json
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from pydantic import ValidationError

from flows.enhance_corpus import enhance_corpus
from flows.process_corpus import RunIncomplete, process_corpus
from flows.watch import WATCHER
from infra.problem import Problem
from infra.settings import RestorationConfig, RunConfig
from models.recipe import Recipe
from tasks import enhance_workers
from tasks.plan import plan_run
from tasks.progress import ProgressSnapshot
from tasks.report import write_report
from tasks.verify import verify
from tests.corpus import bad_clips, files, name_of, table, write_tar
from tests.faults import here
from tests.tasks.networks import DARK, LIGHT, MEDIUM, grey
from tests.tasks.restorers import brighteners
from tests.tasks.runs import settings


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RunConfig]:
    here.without_ray(monkeypatch)
    monkeypatch.setattr(enhance_workers, "restorers", brighteners)
    clips = {f"{name_of(k)}.mp4": grey(level) for k, level in enumerate((MEDIUM, LIGHT, DARK))}
    write_tar(tmp_path / "c" / "part_0.tar", clips | {f"{name_of(9)}.mp4": bad_clips()["CORRUPT"]}, gz=False)
    with patch.object(Recipe, "check"):
        yield settings(tmp_path, {"kind": "kinetics", "uri": f"{tmp_path}/c/part_0.tar"}, embed=["grey"], enhance=["denoise"])


def alone(config: RunConfig) -> RestorationConfig:
    """Its recipes without its models."""
    return RestorationConfig.model_validate(config)


class Seen:
    """Notes what is shown."""

    def __init__(self) -> None:
        self.stages: list[list[str]] = []
        self.failures: list[str] = []

    def show(self, snapshot: ProgressSnapshot) -> None:
        self.stages.append([f"{stage.name} {stage.done}/{stage.total}" for stage in snapshot.stages])

    def failure(self, text: str) -> None:
        self.failures.append(text)

    def note(self, text: str) -> None:
        raise AssertionError(text)


def test_only_clips_and_what_recipes_make_of_them_are_written(config: RunConfig) -> None:
    summary = enhance_corpus.fn(alone(config))
    assert (summary.status, summary.clips, summary.enhanced, summary.shards_published) == ("done", 4, 3, 1)
    assert [(found.feature.partition("/version")[0], found.rows, found.failed) for found in summary.features] == [
        ("clips", 3, 1),
        ("enhanced/recipe=denoise", 2, 2),
    ]
    assert not (Path(config.output) / "embeddings").exists()
    assert verify(config.output).faults == []
    state = files(Path(config.output))
    assert enhance_corpus.fn(alone(config)).status == "nothing to do"
    assert files(Path(config.output)) == state


def test_a_run_does_both_shows_both_and_leaves_a_page(config: RunConfig) -> None:
    seen = Seen()
    token = WATCHER.set(seen)
    try:
        summary = process_corpus.fn(config)
    finally:
        WATCHER.reset(token)
    assert table(config.output, "embeddings").num_rows == 3
    shown = {stage for stages in seen.stages for stage in stages}
    assert {"decode, infer 4/4", "enhance 3/3", "read 1/1", "publish 1/1"} <= shown
    assert [text.partition("!")[2] for text in seen.failures] == [
        f"{name_of(9)}.mp4: decode CORRUPT: {table(config.output, 'failures').to_pylist()[1]['message']}",
        f"{name_of(2)}.mp4: denoise MODEL: too dark for me",
    ]
    assert summary.report == f"{config.output}/_runs/{summary.run_id}/report.html"
    page = Path(summary.report).read_text(encoding="utf-8")
    assert page.count("<img ") == 4
    record = json.loads((Path(config.output) / "_runs" / f"{summary.run_id}.json").read_text())
    assert (record["summary"]["report"], record["summary"]["enhanced"]) == (summary.report, 3)


def test_a_page_that_cannot_be_written_is_told_and_fails_nothing(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged(*_: object) -> str:
        raise Problem("part_0.parquet: damaged; delete it")

    monkeypatch.setattr(f"flows.process_corpus.{write_report.__name__}", damaged)
    summary = process_corpus.fn(config)
    assert (summary.status, summary.report) == ("done", None)
    assert summary.notices == ("no page of before and after: part_0.parquet: damaged; delete it",)


def test_too_many_failures_of_a_recipe_stop_the_run_and_keep_what_is_done(config: RunConfig) -> None:
    """P6: `max_failed` counts in either part of a run."""
    strict = config.model_copy(update={"limits": config.limits.model_copy(update={"max_failed": 1})})
    with pytest.raises(RunIncomplete, match="too many failures") as stopped:
        process_corpus.fn(strict)
    assert stopped.value.summary.enhanced == 3
    assert plan_run(config).work == ()


def test_what_a_killed_run_left_staged_of_published_shards_goes_though_there_is_nothing_to_do(config: RunConfig) -> None:
    enhance_corpus.fn(alone(config))
    left = Path(config.output) / "_wip" / "shard=part_0" / "media" / "recipe=denoise" / "version=x" / "-a.mp4"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"x")
    assert enhance_corpus.fn(alone(config)).status == "nothing to do"
    assert not left.exists()


def test_a_configuration_without_recipes_is_refused(config: RunConfig) -> None:
    with pytest.raises(ValidationError, match="enhance\n  List should have at least 1 item"):
        alone(config.model_copy(update={"enhance": []}))
