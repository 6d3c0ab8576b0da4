"""What `vidmill status` and `vidmill prune` print, at 80 columns; the counts are those of an output that was really made."""

import io
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flows.status import OutputView, print_output, print_pruning
from infra import storage
from infra.settings import RunConfig
from tasks.coverage import FeatureCoverage
from tasks.outcome import FailureGroup
from tasks.prune import KeptVersion, OldVersion, Pruning
from tasks.published import index_files
from tests.corpus import clip, write_tar
from tests.tasks.networks import MEDIUM, grey
from tests.tasks.runs import backfill, run, settings


def shown(print_it: object, *arguments: object, **more: object) -> list[str]:
    screen = Console(file=io.StringIO(), width=80)
    print_it(arguments[0], screen, *arguments[1:], **more)
    return [line.rstrip() for line in screen.file.getvalue().splitlines()]


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    for number, clips in enumerate(({"a": grey(MEDIUM), "b": clip(1)}, {"c": clip(2), "x": b"no video"})):
        write_tar(tmp_path / "corpus" / f"part_{number}.tar", {f"{name}_000001_000002.mp4": data for name, data in clips.items()}, gz=False)
    return settings(tmp_path, {"kind": "kinetics", "uri": f"{tmp_path}/corpus/*.tar"})


def test_features_by_shards_done(config: RunConfig) -> None:
    run(config)
    backfill(config, embed=["picky"], select=["clip:a_*"])
    backfill(config, tag=["grey"])
    run(config.model_copy(update={"frame_embeddings": True}))
    view = OutputView.of(config.output, by_shard=False)
    counts = [(f.label.partition("@")[0], f.state, f.done, f.partial, f.missing, f.rows, f.failed, f.percent) for f in view.features]
    assert counts == [
        ("clips", "current", 2, 0, 0, 3, 1, 100.0),
        ("embeddings grey", "current", 2, 0, 0, 3, 1, 100.0),
        ("embeddings grey", "old", None, None, None, None, None, None),
        ("embeddings picky", "other", 0, 1, 1, 1, 0, 25.0),
        ("tags grey", "other", 2, 0, 0, 3, 1, 100.0),
    ]
    lines = shown(print_output, view)
    assert lines[0].endswith(", done, 2 shards")
    matrix = [line for line in lines if line.startswith(("part_", "shard"))]
    assert [line.split() for line in matrix] == [["shard", "a", "b", "d", "e"], ["part_0", "2", "2", "1/2", "2"], ["part_1", "2", "2", "-", "2"]]
    assert "other: the last run did not ask for it" in lines
    assert f"old: another version of the model is current; `vidmill prune {config.output}` lists what may go" in lines


def test_many_shards_are_counted_and_not_listed(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    run(config)
    monkeypatch.setattr("flows.status.FEW_SHARDS", 1)
    assert [feature.by_shard for feature in OutputView.of(config.output, by_shard=False).features] == [None, None]
    assert all(feature.by_shard for feature in OutputView.of(config.output, by_shard=True).features)


def test_a_shard_costs_one_footer_for_each_feature_and_old_versions_none(config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing where the index has them, as after every run."""
    run(config)
    run(config.model_copy(update={"frame_embeddings": True}))
    opened: list[str] = []
    really = storage.open_seekable
    monkeypatch.setattr(storage, "open_seekable", lambda item: opened.append(storage.relative(item.uri, config.output)) or really(item))
    view = OutputView.of(config.output, by_shard=False)
    assert sorted(name.split("/")[0] for name in opened) == ["clips", "clips", "embeddings", "embeddings", "failures"]
    for folder in ("failures", *(feature.folder for feature in view.features)):
        index_files(config.output, folder)
    opened.clear()
    assert OutputView.of(config.output, by_shard=False) == view
    assert opened == []


def test_the_state_of_an_output_says_how_to_repeat_a_kind_and_one_clip_alone() -> None:
    """The commands are for a shell: a clip's name may hold anything."""
    groups = (FailureGroup("TIMEOUT", 2, ("m1: decode TIMEOUT: slow", "m2: decode TIMEOUT: slow"), ("clip:it's [[]1] $HOME", "clip:b")),)
    lines = shown(print_output, OutputView("my out", "r1", "done", 1, (), groups))
    assert [line.strip() for line in lines if "vidmill retry" in line] == [
        "again: vidmill retry 'my out' --select kind:TIMEOUT",
        """the first alone: vidmill retry 'my out' --select 'clip:it'"'"'s [[]1] $HOME'""",
    ]
    assert shlex.split(lines[-2].partition(": ")[2])[-1] == "clip:it's [[]1] $HOME"


def test_coverage_does_not_round_up_and_fits_the_screen() -> None:
    feature = FeatureCoverage("embeddings/x", "embeddings efficientnet-lite0@92e7de7e", "current", 99_999, 1, 99_999, 0, 1, 10**8, 0, 99.9)
    lines = shown(print_output, OutputView("out", "r1", "done", 100_000, (replace(feature, by_shard=None),), ()))
    assert any("99.9 %" in line for line in lines)
    assert not any("100" in line and "%" in line and "100.0" in line for line in lines)


def test_what_may_go_what_stays_and_the_command_that_does_it() -> None:
    pruning = Pruning("my out", (OldVersion("tags m@1a", ("tags/x",), 2, 1500, "tags m@2b is complete"),), (KeptVersion("tags n@3c", "of use"),))
    assert shown(print_pruning, pruning, deleted=False) == [
        "old: tags m@1a (2 files, 1.5 kB): tags m@2b is complete",
        "kept: tags n@3c: of use",
        "1 old version, 2 files, 1.5 kB may go; nothing was deleted",
        "next: vidmill prune 'my out' --yes",
    ]
    assert shown(print_pruning, pruning, deleted=True)[-2:] == ["1 old version, 2 files, 1.5 kB deleted", "next: vidmill status 'my out'"]
    assert shown(print_pruning, Pruning("out", (), ()), deleted=False) == ["nothing to prune", "next: vidmill status out"]
