"""`vidmill retry` as a process: the last run's configuration but for a limit, exactly the selected clips, from any folder."""

import json
from pathlib import Path

import pytest

from tasks.verify import verify
from tests.corpus import clip, config_for, write_tar
from tests.flows.program import vidmill
from tests.tasks.broken import flipped
from tests.tasks.networks import MEDIUM, grey
from tests.tasks.runs import run


@pytest.mark.nightly
def test_a_limit_is_raised_and_what_failed_by_it_is_done_again(tmp_path: Path) -> None:
    """P4, P11: with both selectors one process mends an altered file and a failure; the other failure stays."""
    members = {"a_1_2.mp4": grey(MEDIUM), "bad_1_2.mp4": b"x", "l_1_2.mp4": clip(1)}
    write_tar(tmp_path / "c" / "part_0.tar", members, gz=False)
    write_tar(tmp_path / "c" / "part_1.tar", {"b_1_2.mp4": grey(MEDIUM)}, gz=False)
    output = tmp_path / "out"
    source = {"kind": "kinetics", "uri": f"{tmp_path}/c/*.tar"}
    run(config_for(source, output, limits={"max_pixels": 10_000}, cluster={"cpus": 2}))
    flipped(output / "clips" / "part_1.parquet", 40)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    selected = ("--select", "kind:TOO_LARGE", "--select", "state:altered")
    code, out, err = vidmill("retry", output, *selected, "--limits.max-pixels", "20480", "--json", cwd=elsewhere)
    assert code == 0, err
    summary = json.loads(out)
    assert (summary["status"], summary["clips"], summary["shards_published"]) == ("done", 2, 2)
    assert [(group["kind"], group["count"]) for group in summary["failures"]] == [("CORRUPT", 1)]
    found = verify(str(output))
    assert found.faults == []
    assert found.run_id == summary["run_id"]
    assert found.features[0].rows == 3
    assert list(elsewhere.iterdir()) == []
    assert (output / "_runs" / summary["run_id"] / "run.log").exists()
    assert not (output / "_wip" / "lease.json").exists()
