"""Seven nights over a corpus that changes: after each the output is what one run from scratch gives, and a night without change wrote nothing.

1 all is new   2 nothing   3 added, changed, deleted; killed, and run again in the morning
4 nothing      5 other weights, one more   6 labels, deleted, added   7 nothing
"""

import hashlib
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from infra import disk, s3_request
from infra.crash_point import VARIABLE, CrashPoint
from infra.settings import RunConfig
from infra.store import ObjectInfo
from tasks.feature import features_of
from tasks.verify import verify
from tests.corpus import RUN_COLUMNS, table, write_tar
from tests.e2e.conftest import Run
from tests.flows.program import vidmill
from tests.tasks.networks import DARK, LIGHT, MEDIUM, entry, grey

LEVELS = (DARK, MEDIUM, LIGHT)
Names = tuple[str, ...]


class Archives:
    """Kinetics archives, their clips by number; a negative number is a clip that is broken."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "corpus"
        self.labels = folder / "labels.csv"
        self.label("a")

    @property
    def source(self) -> dict[str, Any]:
        return {"kind": "kinetics", "uri": f"{self.folder}/", "annotations": str(self.labels)}

    def put(self, name: str, *numbers: int) -> None:
        """Add or replace an archive."""
        clips = {f"v_{abs(number)}_{abs(number) + 1}.mp4": _clip(number) for number in numbers}
        write_tar(self.folder / f"{name}.tar", clips, gz=False)

    def delete(self, name: str) -> None:
        (self.folder / f"{name}.tar").unlink()

    def label(self, label: str) -> None:
        """Other annotations."""
        rows = [f"{label} {number % 2},v,{number},{number + 1},train" for number in range(20)]
        self.labels.write_text("\n".join(["label,youtube_id,time_start,time_end,split", *rows]))


class Videos(Archives):
    """The same as loose videos in folders."""

    @property
    def source(self) -> dict[str, Any]:
        return {"kind": "files", "uri": f"{self.folder}/", "shard_files": 3}

    def put(self, name: str, *numbers: int) -> None:
        wanted = {f"{abs(number)}.mp4": _clip(number) for number in numbers}
        there = self.folder / name
        there.mkdir(parents=True, exist_ok=True)
        for path in there.iterdir():
            if path.name not in wanted:
                path.unlink()
        for file, data in wanted.items():
            if not (there / file).exists() or (there / file).read_bytes() != data:
                (there / file).write_bytes(data)

    def delete(self, name: str) -> None:
        shutil.rmtree(self.folder / name)


def _clip(number: int) -> bytes:
    return grey(LEVELS[number % 3], seconds=1 + number // 10) if number >= 0 else b"no video"


class Week:
    """The corpus, the output, and what happens in a night."""

    def __init__(self, folder: Path, corpus: Archives, output: str, run: Run) -> None:
        self.folder, self.corpus, self.output, self.run = folder, corpus, output, run
        self.weights = 1.0

    def config(self, output: str | None = None) -> RunConfig:
        models = [self._model("Grey"), self._model("Picky")]
        return RunConfig.model_validate(
            {
                "source": {**self.corpus.source, "deleted": "drop"},
                "output": output or self.output,
                "embed": ["grey", "picky"],
                "tag": ["grey"],
                "models": models,
                "limits": {"max_failed": 100},
                "cluster": {"cpus": 2},
            }
        )

    def _model(self, network: str) -> dict[str, Any]:
        folder = self.folder / f"weights {self.weights}"
        folder.mkdir(exist_ok=True)
        fields = entry(folder, network)
        weights = folder / "weights.safetensors"
        save_file({"weight": torch.ones(3) * self.weights}, weights)
        return {**fields, "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}

    def night_with_change(self) -> None:
        """A run, compared with one into an empty output."""
        assert self.run(self.config()).status == "done"
        self.check()

    def check(self) -> None:
        scratch = str(self.folder / "scratch")
        shutil.rmtree(scratch, ignore_errors=True)
        assert self.run(self.config(scratch)).status == "done"
        assert rows(self.config()) == rows(self.config(scratch))
        assert verify(self.output).faults == []

    def night_without_change(self, opened: list[str]) -> None:
        """Nothing is written, nothing of the corpus is opened but its table of labels."""
        before = objects(self.output)
        opened.clear()
        summary = self.run(self.config())
        assert (summary.status, summary.clips) == ("nothing to do", 0)
        assert objects(self.output) == before
        assert not [path for path in opened if path.startswith(f"{self.corpus.folder}/")]
        assert verify(self.output).faults == []

    def killed_night(self) -> None:
        """A process of its own dies of SIGKILL while it publishes; in the morning the same is run again."""
        config, fuse = self.folder / "night.yaml", self.folder / "fuse"
        config.write_text(self.config().model_dump_json(exclude_none=True))  # JSON is YAML
        fuse.write_bytes(b"..")
        code, _, err = vidmill("run", config, cwd=self.folder, **{VARIABLE: f"{CrashPoint.FEATURE}={fuse}"})
        assert (code, fuse.exists()) == (-signal.SIGKILL, False), err
        assert [fault for fault in verify(self.output).faults if "holds" in fault.cause or "damaged" in fault.cause] == []
        self.night_with_change()


def rows(config: RunConfig) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table that the configuration asks for, and every failure; a loose video's shard is a matter of when it came."""
    hidden = {*RUN_COLUMNS, *(("shard",) if config.source.kind == "files" else ())}
    folders = ["failures", *(feature.folder for feature in features_of(config))]
    found = {folder: [_without(row, hidden) for row in table(config.output, folder).to_pylist()] for folder in folders}
    return {folder: sorted(rows, key=lambda row: (str(row["clip_id"]), str(row.get("stage")))) for folder, rows in found.items()}


def _without(row: dict[str, Any], hidden: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in hidden}


def objects(output: str) -> dict[str, object]:
    """Every object of an output, records and staging included: its bytes and when it was written, on disk also in which file."""
    if not output.startswith("s3://"):
        found = [path for path in Path(output).rglob("*") if path.is_file()]
        return {str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns, path.stat().st_ino) for path in found}
    bucket, _, prefix = output.removeprefix("s3://").partition("/")
    listed = s3_request.request(output, "list_objects_v2", Bucket=bucket, Prefix=f"{prefix}/")["Contents"]
    return {item["Key"]: (item["ETag"], item["LastModified"]) for item in listed}


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files of this disk that are opened for reading."""
    paths: list[str] = []
    real = disk.open_seekable

    def seen(found: ObjectInfo) -> Any:
        paths.append(found.uri)
        return real(found)

    monkeypatch.setattr(disk, "open_seekable", seen)
    return paths


def a_week(week: Week, opened: list[str]) -> None:
    corpus = week.corpus
    for shard in range(4):
        corpus.put(f"part_{shard}", *range(3 * shard, 3 * shard + 3), -100 - shard)
    week.night_with_change()
    week.night_without_change(opened)
    corpus.put("part_4", 12, 13)
    corpus.put("part_1", 3, 14, -101)
    corpus.delete("part_2")
    week.killed_night()
    week.night_without_change(opened)
    week.weights = 0.5
    corpus.put("part_5", 15)
    week.night_with_change()
    corpus.label("b")
    corpus.delete("part_0")
    corpus.put("part_2", 6, 16)
    corpus.put("part_3", 9, 10, 17)
    week.night_with_change()
    week.night_without_change(opened)


def test_seven_nights(run_here: Run, tmp_path: Path, opened: list[str]) -> None:
    a_week(Week(tmp_path, Archives(tmp_path), str(tmp_path / "out"), run_here), opened)


@pytest.mark.nightly
def test_seven_nights_in_a_bucket(run_here: Run, tmp_path: Path, opened: list[str], bucket: str) -> None:
    a_week(Week(tmp_path, Archives(tmp_path), f"s3://{bucket}/out", run_here), opened)


@pytest.mark.nightly
def test_seven_nights_over_loose_videos(run_here: Run, tmp_path: Path, opened: list[str]) -> None:
    a_week(Week(tmp_path, Videos(tmp_path), str(tmp_path / "out"), run_here), opened)
