"""Counts and faults of outputs; what files can suffer is in tests/faults/test_verify.py."""

from pathlib import Path

import pytest

from infra import storage
from infra.problem import Problem
from tasks.select import selection_of
from tasks.verify import Fault, ShardCheck, altered_files, verify
from tests.corpus import write_tar
from tests.tasks.broken import file, flipped, two_shards
from tests.tasks.networks import LIGHT, grey
from tests.tasks.runs import run, settings


def test_a_whole_output_has_counts_and_no_faults(tmp_path: Path) -> None:
    found = verify(str(two_shards(tmp_path, limits={"max_pixels": 10_000})))
    assert (found.faults, found.files) == ([], 8)
    assert [(check.folder.partition("/version")[0], check.shards, check.rows, check.failed) for check in found.features] == [
        ("clips", 2, 4, 3),
        ("embeddings/model=grey", 2, 4, 3),
        ("embeddings/model=picky", 2, 2, 5),
    ]
    assert found.features[2].by_shard == (ShardCheck("part_0", 5, 1, 4), ShardCheck("part_1", 2, 1, 1))


def test_a_feature_without_any_row_has_no_file_and_is_whole(tmp_path: Path) -> None:
    write_tar(tmp_path / "c" / "part_0.tar", {"c_1_2.mp4": grey(LIGHT)}, gz=False)
    run(settings(tmp_path, {"kind": "kinetics", "uri": f"{tmp_path}/c/*.tar"}, embed=["grey", "picky"]))
    found = verify(str(tmp_path / "out"))
    assert found.faults == []
    assert found.features[-1].by_shard == (ShardCheck("part_0", 1, 0, 1),)


def test_altered_files_are_those_of_the_selected_shards_and_never_what_no_plan_would_bring_back(tmp_path: Path) -> None:
    output = two_shards(tmp_path)
    first, second = file(output, "clips", "part_0"), file(output, "clips", "part_1")
    for path in (first, second):
        flipped(path, 40)
    (output / "clips" / "mine.parquet").write_bytes(b"mine")
    assert altered_files(str(output), selection_of(["state:altered"])) == [str(first), str(second)]
    assert altered_files(str(output), selection_of(["state:altered,shard:part_1"])) == [str(second)]
    assert altered_files(str(output), selection_of(["state:missing"])) == []


def test_a_fault_is_one_line_that_ends_with_a_command_for_a_shell(tmp_path: Path) -> None:
    assert str(Fault("out/clips/a.parquet", "altered", "rm out/clips/a.parquet")) == "out/clips/a.parquet: altered; rm out/clips/a.parquet"
    output = two_shards(tmp_path / "with a blank")
    flipped(file(output, "clips", "part_0"), 40)
    (fault,) = verify(str(output)).faults
    assert fault.fix == f"vidmill retry '{output}' --select state:altered"


def test_an_output_without_runs_and_files_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="no vidmill run is recorded there"):
        verify(str(tmp_path))


def test_an_output_in_a_bucket_is_verified_and_its_faults_name_s3_commands(tmp_path: Path, bucket: str) -> None:
    """P11: the same proof where files are objects, read in ranges."""
    output = two_shards(tmp_path)
    for path in output.rglob("*"):
        if path.is_file():
            storage.publish_file(f"s3://{bucket}/out/{path.relative_to(output)}", str(path))
    assert verify(f"s3://{bucket}/out").faults == []
    storage.write_bytes(f"s3://{bucket}/out/clips/old.parquet", b"mine")
    (fault,) = verify(f"s3://{bucket}/out").faults
    assert fault.fix == f"aws s3 rm s3://{bucket}/out/clips/old.parquet"
