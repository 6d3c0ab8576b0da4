"""Memory runs out: on the GPU, in the object store, on the machine."""

import json
from pathlib import Path

import pytest
import torch

from tasks.verify import verify
from tests.corpus import clip, name_of, table, write_shards, write_tar
from tests.flows.program import vidmill
from tests.tasks.networks import LIGHT, MEDIUM, Grey, entry, grey
from tests.tasks.runs import run, settings

FITS = 4
SEEN: list[int] = []


class Hungry(Grey):
    """Fits with few frames at once; the values are Grey's."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        SEEN.append(len(x))
        if len(x) > FITS:
            raise torch.OutOfMemoryError("CUDA out of memory, as torch says it")
        return super().forward(x)


class Insatiable(Grey):
    """Does not fit with one frame, but for the trial on construction."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if x.abs().sum() > 0:
            raise torch.OutOfMemoryError("CUDA out of memory, as torch says it")
        return super().forward(x)


def test_out_of_memory_halves_the_batch_for_good_and_changes_no_value(tmp_path: Path) -> None:
    """P7: without `except torch.OutOfMemoryError` in models.predictor every clip fails, without the remembered size every clip tries in vain."""
    write_tar(tmp_path / "part_0.tar", {f"{name_of(k)}.mp4": grey(level, seconds=2) for k, level in enumerate((MEDIUM, LIGHT, MEDIUM))}, gz=False)
    own = [entry(tmp_path), entry(tmp_path, "Hungry", factory="tests.faults.test_memory:Hungry")]
    config = settings(tmp_path, {"kind": "kinetics", "uri": f"{tmp_path}/part_0.tar"}, embed=["grey", "hungry"], models=own, decode={"fps": 10})
    SEEN.clear()
    assert run(config).status == "done"
    rows = table(tmp_path / "out", "embeddings").to_pylist()
    values = {clip_id: [row["embedding"] for row in rows if row["clip_id"] == clip_id] for clip_id in {row["clip_id"] for row in rows}}
    assert len(values) == 3
    assert all(len(both) == 2 and both[0] == pytest.approx(both[1], abs=1e-6) for both in values.values())
    too_large = [size for size in SEEN if size > FITS]
    assert too_large == sorted(too_large, reverse=True), "once found too large, never tried again"
    assert len(too_large) == len(set(too_large)) > 0


def test_one_frame_that_does_not_fit_is_a_failure_of_that_model_alone(tmp_path: Path) -> None:
    """P6, P7: halving ends at one frame."""
    write_tar(tmp_path / "part_0.tar", {f"{name_of(0)}.mp4": grey(MEDIUM)}, gz=False)
    own = [entry(tmp_path), entry(tmp_path, "Insatiable", factory="tests.faults.test_memory:Insatiable")]
    config = settings(tmp_path, {"kind": "kinetics", "uri": f"{tmp_path}/part_0.tar"}, embed=["grey", "insatiable"], models=own)
    run(config)
    (failure,) = table(tmp_path / "out", "failures").to_pylist()
    assert (failure["stage"], failure["kind"]) == ("insatiable", "OOM")
    assert table(tmp_path / "out", "embeddings").num_rows == 1
    assert not verify(config.output).faults


def padded(video: bytes, size_bytes: int) -> bytes:
    """As large as asked, in a box that players skip."""
    return video + (size_bytes + 8).to_bytes(4, "big") + b"free" + bytes(size_bytes)


@pytest.mark.nightly
def test_more_than_the_object_store_holds_is_no_obstacle(tmp_path: Path) -> None:
    """P9: 2.4 GB of parcels through a store of 1 GiB; without Ray Data's backpressure and spilling readers would run ahead of it."""
    for shard in range(2):
        members = {f"{name_of(10 * shard + k)}.mp4": padded(clip(k), 150 << 20) for k in range(8)}
        write_tar(tmp_path / f"part_{shard}.tar", members, gz=False)
    code, out, err = vidmill("run", "--source.kind", "kinetics", "--source.uri", "part_*.tar", "--output", "out", "--json", cwd=tmp_path)
    assert (code, json.loads(out)["clips"]) == (0, 16), err
    assert not verify(f"{tmp_path}/out").faults


@pytest.mark.nightly
def test_workers_that_ray_kills_for_memory_are_tried_a_few_times_and_then_it_is_said(tmp_path: Path) -> None:
    """P11: without task_oom_retries in infra.cluster Ray would start them for ever."""
    write_shards(tmp_path, shards=1, clips=4)
    arguments = ["run", "--source.kind", "kinetics", "--source.uri", "part_*.tar.gz", "--output", "out"]
    low = {"RAY_memory_usage_threshold": "0.01", "RAY_memory_monitor_refresh_ms": "100"}
    code, _, err = vidmill(*arguments, cwd=tmp_path, **low)
    assert (code, "Traceback" in err) == (1, False)
    assert "OutOfMemoryError" in err
    assert "running low on memory" in err
    assert err.rstrip().endswith("run the same command again, finished work is kept")
    assert vidmill(*arguments, cwd=tmp_path)[0] == 0
    assert not verify(f"{tmp_path}/out").faults
