"""What must hold of an output after any disturbance: the promises P1 to P5, checked on every row."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tasks.verify import verify
from tests.corpus import RUN_COLUMNS, contents, files

Rows = list[dict[str, Any]]


def visible(output: Path) -> dict[str, Rows]:
    """Every file a reader sees, whole, without what tells one run from another; fails on a file that cannot be read."""
    found = {}
    for path in sorted(output.glob("[!_]*/**/*.parquet")):
        rows = pq.ParquetFile(path).read().to_pylist()
        found[str(path.relative_to(output))] = [{name: value for name, value in row.items() if name not in RUN_COLUMNS} for row in rows]
    return found


def check_disturbed(output: Path, undisturbed: Path) -> None:
    """P3: whatever is visible in the middle of it is what an undisturbed run shows."""
    expected = visible(undisturbed)
    for name, rows in visible(output).items():
        assert rows == expected[name], name


def check_finished(output: Path, undisturbed: Path) -> None:
    """P1, P2: every planned clip is one row or one failure, once, by plain glob, and equal to the undisturbed run's."""
    assert contents(output) == contents(undisturbed)
    assert visible(output) == visible(undisturbed)
    assert not verify(str(output)).faults


def finished_clips(output: Path) -> set[str]:
    """P4: clips that need no work any more: staged for the feature that is staged last, or published; and failures."""
    rows = [*output.glob("_wip/*/tags/**/*.fragment"), *output.glob("tags/**/*.parquet")]
    failures = [*output.glob("_wip/*/failures/*.fragment"), *output.glob("failures/*.parquet")]
    clips = {clip for path in rows for clip in pq.ParquetFile(path).read(["clip_id"])["clip_id"].to_pylist()}
    return clips | {member for path in failures for member in pq.ParquetFile(path).read(["member"])["member"].to_pylist()}


def published_state(output: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every visible file."""
    return {name: state for name, state in files(output).items() if name.endswith(".parquet") and not name.startswith("_")}
