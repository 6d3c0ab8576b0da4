"""The console script as a process of its own, as people run it."""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

MARK = "VIDMILL_TEST_PROGRAM"  # in the environment of the program and of everything it starts
VIDMILL = str(Path(sys.executable).with_name("vidmill"))
CONFIG_VARIABLES = ("PREFECT_API_URL", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_ADDRESS")  # left by what this process started


class Program:
    """A running vidmill."""

    def __init__(self, *arguments: object, cwd: Path, **environment: str) -> None:
        self.mark = uuid.uuid4().hex
        clean = {name: value for name, value in os.environ.items() if name not in CONFIG_VARIABLES}
        self.process = subprocess.Popen(
            [VIDMILL, *map(str, arguments)],
            cwd=cwd,
            env={**clean, **environment, MARK: self.mark},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def end(self, timeout_s: float = 120) -> tuple[int, str, str]:
        """Exit code, stdout, stderr."""
        out, err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, out, err

    def family(self) -> list[psutil.Process]:
        """What it started and what lives."""
        return [process for process in psutil.process_iter() if self._is_ours(process)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == self.mark
        except psutil.Error:
            return False


@contextmanager
def program(*arguments: object, cwd: Path, **environment: str) -> Iterator[Program]:
    """A vidmill that does not outlive the test."""
    started = Program(*arguments, cwd=cwd, **environment)
    try:
        yield started
    finally:
        for process in started.family():
            process.kill()
        with started.process:  # waits, and closes its pipes
            pass


def vidmill(*arguments: object, cwd: Path, timeout_s: float = 240, **environment: str) -> tuple[int, str, str]:
    """Run one command to its end."""
    with program(*arguments, cwd=cwd, **environment) as started:
        return started.end(timeout_s)


def until(met: Callable[[], bool], *, timeout_s: float) -> bool:
    """Wait for something; whether it came."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        if met():
            return True
        time.sleep(0.05)
    return met()
