"""Hostile tables, weights and settings: text and numbers, or one line of refusal; nothing is executed, no password repeated."""

import hashlib
import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from infra.problem import Problem
from infra.settings import RunConfig
from models.weights import load_state
from tasks import foreign_table
from tasks.encoded import Parcel
from tasks.feature import model_specs
from tasks.labels import read_annotations
from tasks.manifest import columns_of
from tasks.plan import plan_run
from tasks.source import SourceFile
from tasks.workers import ClipWorker
from tests.corpus import clip, config_for, name_of, write_tar
from tests.faults.canary import Egg
from tests.flows.program import vidmill
from tests.tasks.networks import entry


@pytest.mark.parametrize("form", ["zip", "legacy", "bare pickle"])
def test_pickled_weights_are_never_unpickled(tmp_path: Path, form: str) -> None:
    """P12: without `weights_only=True` in models.weights the weights of a model run a command."""
    hatched, path = tmp_path / "hatched", tmp_path / "model.pth"
    if form == "bare pickle":
        path.write_bytes(pickle.dumps(Egg(hatched)))
    else:
        torch.save({"weight": torch.ones(3), "egg": Egg(hatched)}, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(Problem, match="refused, not plain tensors"):
        load_state(path)
    corpus = write_tar(tmp_path / "part_0.tar", {f"{name_of(1)}.mp4": clip(1)})
    own = entry(tmp_path, weights=f"file:{path}", sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    config = config_for({"kind": "kinetics", "uri": str(corpus)}, tmp_path / "out", embed=["grey"], models=[own])
    found = _fatal(config)
    assert "refused, not plain tensors" in found
    assert "\n" not in found
    assert not hatched.exists()


def _fatal(config: RunConfig) -> str:
    plan = plan_run(config)
    outcome_of = ClipWorker(config, model_specs(config), "run", "try")(Parcel(plan.work[0].shard.name, plan.work[0].features))
    assert outcome_of.fatal
    return outcome_of.fatal


def test_a_table_is_not_unpickled(tmp_path: Path) -> None:
    """P12: Arrow once built extension types by unpickling them (CVE-2023-47248)."""
    egg = pickle.dumps(Egg(tmp_path / "hatched"))
    field = pa.field("uri", pa.string(), metadata={"ARROW:extension:name": "arrow.py_extension_type", "ARROW:extension:metadata": egg})
    pq.write_table(pa.table([pa.array(["a.mp4"])], schema=pa.schema([field])), tmp_path / "list.parquet")
    assert columns_of(f"{tmp_path}/list.parquet").names == []
    assert not (tmp_path / "hatched").exists()


HEADER = b"label,youtube_id,time_start,time_end,split\n"
ROW = b"x,abc,1,2,train\n"
TABLES = {
    "formula": (HEADER + b"=HYPERLINK(\"http://x\"),abc,1,2,train\n", None),
    "zero bytes": (HEADER + b"a\0b,abc,1,2,train\n", None),
    "zero byte in a time": (HEADER + b"x,abc,1\0,2,train\n", "time_start is not whole seconds"),
    "huge field": (HEADER + b"y" * (8 << 20) + b",abc,1,2,train\n", "not a CSV table"),
    "huge number": (HEADER + b"x,abc," + b"9" * 400 + b",2,train\n", "time_start is not whole seconds"),
    "million columns": (b",".join(b"c%d" % i for i in range(1_000_000)) + b"\n", "1,000,000 columns"),
    "million fields": (HEADER + b"," * 1_000_000 + b"\n", "not a CSV table"),
    "million names": (b"c" * 1_000_000 + b"\n1\n", "column youtube_id is missing"),
    "column twice": (b"label,label,youtube_id,time_start,time_end\nx,y,abc,1,2\n", "2 columns are named 'label'"),
    "not UTF-8": (HEADER + b"\xff\xfe,abc,1,2,train\n", "not a CSV table"),
    "names not UTF-8": (b"label,youtube_id,time_start,time_end,\xff\nx,abc,1,2,3\n", "not a CSV table"),
    "UTF-16": ("label,youtube_id\nx,abc\n".encode("utf-16"), "not a CSV table"),
    "dates for seconds": (HEADER + b"x,abc,2020-01-01,2020-01-02,train\n", "time_start is not whole seconds"),
    "escapes": (HEADER + b"x,abc,\x1b[31m\x1b]0;owned\x07,2,train\n", "time_start is not whole seconds"),
    "quote without end": (HEADER + b'"x,abc,1,2,train\n' * 1_001, "not a CSV table"),
    "gzip": (b"\x1f\x8b\x08" + bytes(1_000), "not a CSV table|column youtube_id is missing"),
    "empty lines": (HEADER + b"\n" * 100_000 + ROW, None),
    "no rows": (HEADER, None),
    "binary": (bytes(range(256)) * 400, "not a CSV table|is missing"),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_hostile_annotations_are_text_or_one_line(tmp_path: Path, name: str) -> None:
    """P12, P9: without tasks.foreign_table each of these was a traceback, or a message of megabytes."""
    data, told = TABLES[name]
    (tmp_path / "train.csv").write_bytes(data)
    source = SourceFile("train.csv", f"{tmp_path}/train.csv", "1", len(data))
    if told is None:
        assert read_annotations(source).table.num_rows == data.count(b"abc")
        return
    with pytest.raises(Problem, match=told) as refused:
        read_annotations(source)
    assert len(str(refused.value)) < 2_000
    assert "\n" not in str(refused.value)


def test_a_parquet_manifest_that_unfolds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """P9: without the sum in tasks.foreign_table a table of some kB takes all memory."""
    monkeypatch.setattr(foreign_table, "MAX_BYTES", 64 << 20)
    value = pa.DictionaryArray.from_arrays(pa.array([0] * 3_000, pa.int32()), pa.array(["u" * (1 << 15)]))
    pq.write_table(pa.table({"uri": value}).cast(pa.schema([("uri", pa.string())])), tmp_path / "list.parquet", compression="zstd")
    assert (tmp_path / "list.parquet").stat().st_size < 1 << 20
    with pytest.raises(Problem, match="bytes when unpacked"):
        columns_of(f"{tmp_path}/list.parquet")


def test_a_password_in_the_configuration_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """P12: as tests.infra.test_settings, by the program itself."""
    arguments = ["--source.kind", "files", "--source.uri", "s3://AKIA:hunter2@bucket/x", "--output", "https://me:hunter2@host/out"]
    code, out, err = vidmill("plan", *arguments, cwd=tmp_path)
    assert (code, out) == (2, "")
    assert "--source.uri" in err
    assert "--output" in err
    assert "hunter2" not in err
