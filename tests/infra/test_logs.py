"""While a run is quiet nothing but our own streams reaches the screen, whoever prints; afterwards all is as before."""

import ctypes
import io
import logging
import os
import pty
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from infra.logs import quiet_to
from infra.problem import Problem

pytestmark = pytest.mark.filterwarnings("always::UserWarning")
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"


def make_noise(word: str) -> None:
    """Print `word` in every way a library may."""
    print(f"{word} print")
    sys.stderr.write(f"{word} stderr\n")
    os.write(1, f"{word} descriptor\n".encode())
    ctypes.CDLL(None).printf(f"{word} C\n".encode())
    subprocess.run(["sh", "-c", f"echo {word} child; echo {word} child error >&2"], check=True)
    logging.getLogger("some.library").info("%s logging", word)
    warnings.warn(f"{word} warning", stacklevel=1)


NOISES = ("print", "stderr", "descriptor", "C", "child", "child error", "logging", "warning")


def test_every_sort_of_noise_goes_to_the_log_and_our_streams_to_the_screen(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # other tests start what adds its own, which writes everything once more
    log = tmp_path / "runs" / "1" / "log.txt"
    with quiet_to(log) as streams:
        make_noise("inside")
        print("result", file=streams.stdout)
        print("progress", file=streams.stderr)
    assert capfd.readouterr() == ("result\n", "progress\n")
    lines = log.read_text().splitlines()
    assert all(any(line.endswith(f"inside {noise}") for line in lines) for noise in NOISES)
    assert len([line for line in lines if "inside" in line]) == len(NOISES)
    assert any(line[:4].isdigit() and line.endswith("INFO    some.library: inside logging") for line in lines)
    assert any(" py.warnings: " in line and "UserWarning: inside warning" in line for line in lines)


def test_afterwards_everything_is_as_before(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def state() -> list[object]:
        root = logging.getLogger()
        descriptors = sorted(os.listdir("/proc/self/fd"))
        return [sys.stdout, sys.stderr, list(root.handlers), root.level, warnings.showwarning, logging.getLogRecordFactory(), descriptors]

    before = state()
    with pytest.raises(ZeroDivisionError), quiet_to(tmp_path / "log"):
        raise ZeroDivisionError
    assert state() == before
    print("print")
    os.write(2, b"descriptor\n")
    subprocess.run(["echo", "child"], check=True)
    assert capfd.readouterr() == ("print\nchild\n", "descriptor\n")


def test_quiet_may_be_nested_and_repeated(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_to(tmp_path / "outer"):
        print("one")
        with quiet_to(tmp_path / "inner"):
            make_noise("two")
        warnings.warn("three", stacklevel=1)
    with quiet_to(tmp_path / "outer"):
        print("four")
    assert capfd.readouterr() == ("", "")
    assert "two print" in (tmp_path / "inner").read_text()
    outer = (tmp_path / "outer").read_text()
    assert outer.startswith("one\n")
    assert outer.endswith("four\n")
    assert "three" in outer
    assert "two print" not in outer


HELD_BACK = """
import ctypes, sys
from pathlib import Path
from infra.logs import quiet_to
held, c = sys.stdout, ctypes.CDLL(None)
held.write("before "); c.printf(b"c-before ")
with quiet_to(Path(sys.argv[1])):
    held.write("inside "); c.printf(b"c-inside ")
held.write("after")
"""


def test_what_python_and_c_hold_back_goes_where_it_was_printed(tmp_path: Path) -> None:
    buffered = {key: value for key, value in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", HELD_BACK, str(tmp_path / "log")]
    seen = subprocess.run(command, cwd=Path(__file__).parents[2], env=buffered, capture_output=True, text=True, check=True)
    assert (seen.stdout, (tmp_path / "log").read_text()) == ("before c-before after", "inside c-inside ")


def test_a_handler_made_inside_goes_on_writing_to_the_log(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with quiet_to(tmp_path / "log"):
        handler = logging.StreamHandler()
    handler.emit(logging.makeLogRecord({"msg": "a library's goodbye"}))
    assert capfd.readouterr() == ("", "")
    assert (tmp_path / "log").read_text() == "a library's goodbye\n"


def test_streams_without_a_descriptor_are_kept_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stdout", screen)
    with quiet_to(tmp_path / "log") as streams:
        print("noise")
        streams.stdout.write("result")
    assert (screen.getvalue(), sys.stdout) == ("result", screen)


def test_a_terminal_stays_one(tmp_path: Path) -> None:
    reader, writer = pty.openpty()
    code = "import sys; from pathlib import Path; from infra.logs import quiet_to\n"
    code += f"with quiet_to(Path({str(tmp_path / 'log')!r})) as streams: print(streams.stdout.isatty(), streams.stderr.isatty(), file=streams.stderr)"
    subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=writer, cwd=Path(__file__).parents[2], check=True)
    assert os.read(reader, 100).decode() == "False True\r\n"
    os.close(reader)
    os.close(writer)


def test_secrets_never_reach_the_log_through_logging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("PREFECT_API_KEY", "pnu_0123456789")
    with quiet_to(tmp_path / "log"):
        private = logging.getLogger("library.with.its.own.handler")
        private.propagate = False
        private.addHandler(logging.StreamHandler())
        private.warning("key=%s", "pnu_0123456789")
        logging.info("url?secret=%s", "wJalrXUtnFEMI%2FK7MDENG%2BbPxRfiCYEXAMPLEKEY")
        try:
            raise ValueError(SECRET)
        except ValueError:
            logging.exception("failed with %s", SECRET)
        logging.info("two %s", SECRET, "arguments")
        logging.info("%d%%", 7)
    text = (tmp_path / "log").read_text()
    assert SECRET not in text
    assert "EXAMPLEKEY" not in text
    assert "key=[PREFECT_API_KEY]\n" in text
    assert "url?secret=[AWS_SECRET_ACCESS_KEY]\n" in text
    assert "ValueError: [AWS_SECRET_ACCESS_KEY]\n" in text
    assert "7%" in text


def test_a_log_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(Problem, match=r"file/log: the log file cannot be written \(Not a directory\)|File exists"),
        quiet_to(tmp_path / "file" / "log"),
    ):
        pass


def test_none_of_the_command_lines_parts_loads_a_heavy_library() -> None:
    code = "import sys, flows.config_file, flows.options, flows.console, infra.logs, tasks.progress\n"
    code += "print(sorted({'ray', 'torch', 'prefect', 'pandas', 'pyarrow', 'numpy', 'av'} & set(sys.modules)))"
    seen = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert seen.stdout == "[]\n"
