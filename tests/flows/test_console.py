"""A terminal shows one live table and is left clean; anything else gets plain lines; nothing printed can command a terminal."""

import io
import json
import os
import pty
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from flows.console import (
    console_on,
    one_line,
    plain_line,
    print_error,
    print_failures,
    print_json,
    print_outcome,
    progress,
    snapshot_table,
)
from infra.settings import SourceConfig, SourceKind
from tasks.outcome import FailureGroup, FeatureOutcome
from tasks.progress import ProgressSnapshot, StageProgress

SNAPSHOT = ProgressSnapshot(
    stages=(
        StageProgress("read", done=10_000, total=10_000, unit="clips", failed=3, per_s=123.4),
        StageProgress(
            "decode", done=123_456, total=999_999, unit="clips", failed=12, per_s=1234.5, waiting="a free CPU on some node of this cluster"
        ),
        StageProgress("infer", done=50, total=None, unit="clips", failed=0, per_s=12.0),
    ),
    shards_done=3,
    shards_total=10,
    elapsed_s=83.0,
    eta_s=600.0,
)
STYLE = re.compile(r"\x1b\[[0-9;]*m")


def recorded(*, terminal: bool, encoding: str = "utf-8") -> tuple[Console, io.BytesIO]:
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    return Console(file=file, width=80, force_terminal=terminal, markup=False, highlight=False), raw


def screen(output: str, width: int = 80) -> tuple[list[str], bool]:
    """The lines a terminal shows after `output` down to its cursor, which nothing follows, and whether the cursor is visible."""
    rows, y, x, visible = [""], 0, 0, True
    for code, kind, char in re.findall(r"\x1b\[(\??\d*(?:;\d+)*)([A-Za-z])|([^\x1b])", output):
        if char == "\n" or (char and char >= " " and x == width):
            y, x = y + 1, 0
            rows += [""] * (y + 1 - len(rows))
        if char == "\r":
            x = 0
        elif char and char >= " ":
            rows[y], x = rows[y].ljust(x)[:x] + char + rows[y][x + 1 :], x + 1
        elif kind == "A":
            y -= int(code or 1)
        elif kind == "K":
            assert code == "2"
            rows[y] = ""
        elif kind in "hl" and code == "?25":
            visible = kind == "h"
        else:
            assert char or kind == "m", f"unexpected {code}{kind}"
    assert not "".join([rows[y][x:], *rows[y + 1 :]]).strip()
    return [row.rstrip() for row in rows[: y + 1]], visible


def test_the_live_table_fits_80_columns_with_one_row_per_stage() -> None:
    console, raw = recorded(terminal=True)
    console.print(snapshot_table(SNAPSHOT))
    lines = STYLE.sub("", raw.getvalue().decode()).splitlines()
    assert [line.split()[0] for line in lines] == ["stage", "read", "decode", "infer", "shards"]
    assert max(map(len, lines)) <= 80
    assert lines[2].startswith("decode  ━╺━━━━━━━━━━  123,456/999,999 clips  1,234.5/s      12  a free CPU on")
    assert lines[4] == "shards 3/10, 15 failed, 0:01:23 elapsed, about 0:10:00 left"


def test_the_table_is_written_in_ascii_where_the_terminal_knows_no_more() -> None:
    console, raw = recorded(terminal=False, encoding="ascii")
    console.print(snapshot_table(SNAPSHOT))
    assert b"read    ------------" in raw.getvalue()


def test_after_a_live_run_only_failures_and_the_last_state_stay() -> None:
    console, raw = recorded(terminal=True)
    with progress(console) as shown:
        for done in range(3):
            shown.show(replace(SNAPSHOT, shards_done=done))
            shown.failure(f"clip {done}: decode CORRUPT: " + "x" * 100)
            time.sleep(0.3)
    lines, visible = screen(raw.getvalue().decode())
    assert visible
    wrapped = [f"clip {done}: decode CORRUPT: {'x' * 100}" for done in range(3)]
    assert lines == [*(part for line in wrapped for part in (line[:80], line[80:])), "shards 2/10, 15 failed, 0:01:23 elapsed", ""]


def test_the_live_table_is_drawn_at_most_four_times_a_second() -> None:
    console, raw = recorded(terminal=True)
    began = time.monotonic()
    with progress(console) as shown:
        while time.monotonic() - began < 1.2:
            shown.show(SNAPSHOT)
            time.sleep(0.005)
    drawn = raw.getvalue().decode().count("speed")
    assert 3 <= drawn <= 4 * (time.monotonic() - began) + 2  # the first and the last are extra


def test_the_clock_goes_on_while_no_snapshot_comes() -> None:
    console, raw = recorded(terminal=True)
    with progress(console) as shown:
        shown.show(SNAPSHOT)
        time.sleep(1.3)
    assert "0:01:24 elapsed, about" in raw.getvalue().decode()


def test_an_exception_leaves_the_terminal_clean() -> None:
    console, raw = recorded(terminal=True)

    def interrupted() -> None:
        with progress(console) as shown:
            shown.show(SNAPSHOT)
            time.sleep(0.3)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert screen(raw.getvalue().decode()) == (["shards 3/10, 15 failed, 0:01:23 elapsed", ""], True)


def test_off_a_terminal_there_are_plain_lines_at_start_at_intervals_and_at_end() -> None:
    console, raw = recorded(terminal=False)
    with progress(console, plain_every_s=0.4) as shown:
        shown.show(replace(SNAPSHOT, shards_done=0))
        shown.show(replace(SNAPSHOT, shards_done=1))
        time.sleep(0.6)
        shown.show(replace(SNAPSHOT, shards_done=2))
    lines = raw.getvalue().decode().splitlines()
    assert [re.findall(r"shards (\d)/10", line) for line in lines] == [["0"], ["1"], ["2"]]
    assert lines[2] == (
        "0:01:23 shards 2/10, read 10,000/10,000 clips 123.4/s, decode 123,456/999,999 clips 1,234.5/s "
        "(a free CPU on some node of this cluster), infer 50 clips 12.0/s, 15 failed, 0:10:00 left"
    )
    assert b"\x1b" not in raw.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_twenty_failures_are_printed_and_the_rest_counted(terminal: bool) -> None:
    console, raw = recorded(terminal=terminal)
    with progress(console) as shown:

        def fail() -> None:
            for _ in range(11):
                shown.failure("clip: decode \x1b[2JCORRUPT\nx")

        workers = [threading.Thread(target=fail) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    lines = [line for line in screen(raw.getvalue().decode())[0] if line]
    assert lines == [r"clip: decode \x1b[2JCORRUPT\nx"] * 20 + ["and 13 more failures"]


def test_no_color_and_force_color(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = pty.openpty()
    with open(writer, "w") as terminal, open(reader, "rb"):
        assert console_on(terminal).color_system
        monkeypatch.setenv("NO_COLOR", "1")
        assert console_on(terminal).no_color
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("FORCE_COLOR", "1")
    console = console_on(io.StringIO())
    assert (console.is_terminal, console.color_system) == (False, None)


def test_the_outcome_is_one_row_per_feature() -> None:
    console, raw = recorded(terminal=False)
    print_outcome([FeatureOutcome("embeddings/[red]x", 1234, 1, 4), FeatureOutcome("tags/" + "y" * 90, 1235, 0, 4)], console)
    lines = raw.getvalue().decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split() for line in lines[:2]] == [["feature", "rows", "failed", "files"], ["embeddings/[red]x", "1,234", "1", "4"]]
    assert "".join(line.split()[0] for line in lines[2:]) == "tags/" + "y" * 90


def test_failures_are_grouped_by_kind_with_whole_examples() -> None:
    console, raw = recorded(terminal=False)
    example = "part_7.tar.gz!" + "x" * 90 + ": decode EMPTY: 0 bytes"
    print_failures([FailureGroup("CRASH", 1, ("c",)), FailureGroup("EMPTY", 2500, (example, "b\n", "c", "d"))], console)
    assert raw.getvalue().decode().splitlines() == [
        "  2,500  EMPTY",
        f"         {example}",
        "         b\\n",
        "         c",
        "      1  CRASH",
        "         c",
    ]


def test_an_error_is_one_line_with_its_own_lines_kept() -> None:
    stream = io.StringIO()
    print_error("a.yaml:1:2: source.kind: 'x\x1b' is not allowed\n   1 | kind: x", stream)
    assert stream.getvalue() == "vidmill: error: a.yaml:1:2: source.kind: 'x\\x1b' is not allowed\n   1 | kind: x\n"


def test_json_is_strict_and_says_everything() -> None:
    stream = io.StringIO()
    source = SourceConfig(kind=SourceKind.FILES, uri="/vidéos")
    print_json({"snapshot": SNAPSHOT, "nan": float("nan"), "path": Path("/a"), "kind": SourceKind.FILES, "source": source, "set": {1}}, stream)
    assert stream.getvalue().isascii()
    value = json.loads(stream.getvalue())
    assert value["snapshot"]["stages"][2]["total"] is None
    assert (value["nan"], value["path"], value["kind"], value["set"]) == (None, "/a", "files", [1])
    assert value["source"]["uri"] == "/vidéos"


def test_one_line_escapes_what_commands_a_terminal_and_keeps_the_rest() -> None:
    assert one_line("日本 \x1b]0;x\x07\r\n\u202e\udc80 \\") == "日本 \\x1b]0;x\\x07\\r\\n\\u202e\\udc80 \\"


@pytest.mark.parametrize("terminal", [False, True])
def test_a_note_is_one_line_that_cannot_command_a_terminal(terminal: bool) -> None:
    console, raw = recorded(terminal=terminal)
    with progress(console) as shown:
        shown.note("this store\x1b[2J\nignores conditions")
    assert "note: this store\\x1b[2J\\nignores conditions\n" in STYLE.sub("", raw.getvalue().decode())


def test_the_clocks_of_plain_lines_go_on_while_nothing_is_new() -> None:
    """A clip of a restoration takes minutes: the same second on every line looks like a hang."""
    console, raw = recorded(terminal=False)
    with progress(console, plain_every_s=0.6) as shown:
        shown.show(replace(SNAPSHOT, elapsed_s=9.0, eta_s=2.0))
        time.sleep(2.0)
    lines = raw.getvalue().decode().splitlines()
    elapsed, left = zip(*((line.split()[0], line.split()[-2]) for line in lines), strict=True)
    assert (elapsed[0], elapsed[-1]) == ("0:00:09", "0:00:11")
    assert (left[0], left[-1]) == ("0:00:02", "0:00:00")


def test_what_is_slow_is_told_by_the_minute() -> None:
    stages = tuple(StageProgress("enhance", done=1, total=2, unit="clips", failed=0, per_s=per_s) for per_s in (0.0, 0.02, 0.1))
    line = plain_line(ProgressSnapshot(stages, 0, 1, elapsed_s=50.0))
    assert re.findall(r"clips (\S+)", line) == ["0.0/s,", "1.2/min,", "0.1/s,"]


def test_a_plain_line_without_an_estimate_says_none() -> None:
    assert plain_line(ProgressSnapshot((), 0, 0, elapsed_s=360_000.4)) == "100:00:00 shards 0/0, 0 failed"


RUN_IN_A_TERMINAL = """
import sys, time
from pathlib import Path
from flows.console import console_on, print_outcome, progress
from tasks.outcome import FeatureOutcome
from infra.logs import quiet_to
from tests.flows.test_console import SNAPSHOT
with quiet_to(Path(sys.argv[1])) as streams:
    with progress(console_on(streams.stderr)) as shown:
        for _ in range(5):
            print("noise"); shown.show(SNAPSHOT); time.sleep(0.15)
        shown.failure("clip: decode EMPTY: 0 bytes")
    print_outcome([FeatureOutcome("tags", 2, 0, 1)], console_on(streams.stdout))
"""


def test_a_real_terminal_of_100_columns_is_used_whole_and_left_clean(tmp_path: Path) -> None:
    reader, writer = pty.openpty()
    os.system(f"stty cols 100 rows 30 < {os.ttyname(writer)}")
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR")} | {"TERM": "xterm-256color"}
    command = [sys.executable, "-c", RUN_IN_A_TERMINAL, str(tmp_path / "log")]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writer, stderr=writer, env=environment, cwd=Path(__file__).parents[2]):
        os.close(writer)
        output = b"".join(iter(lambda: read_from(reader), b"")).decode()
    os.close(reader)
    lines, visible = screen(output, width=100)
    assert visible
    assert lines[:2] == ["clip: decode EMPTY: 0 bytes", "shards 3/10, 15 failed, 0:01:23 elapsed"]
    assert [line.split() for line in lines[2:]] == [["feature", "rows", "failed", "files"], ["tags", "2", "0", "1"], []]
    assert max(len(STYLE.sub("", line).rstrip("\r")) for line in output.split("\n") if "a free CPU" in line) > 80
    assert (tmp_path / "log").read_text() == "noise\n" * 5


def read_from(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux says so when the last writer is gone
        return b""
