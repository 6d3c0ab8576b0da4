"""A crash point does nothing unless a test arms it, and then it kills once."""

import os
import signal
from pathlib import Path

import pytest

from infra.crash_point import VARIABLE, CrashPoint, crash_point


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    calls: list[int] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: calls.append(number))
    return calls


def test_unarmed_nothing_happens(killed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    for point in CrashPoint:
        crash_point(point)
    assert killed == []


def test_armed_it_kills_once_where_it_was_told_and_when(killed: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fuse = tmp_path / "fuse"
    fuse.write_bytes(b"..")
    monkeypatch.setenv(VARIABLE, f"{CrashPoint.CLIPS}={fuse}")
    seen = []
    for _ in range(4):
        crash_point(CrashPoint.STAGED)
        crash_point(CrashPoint.CLIPS)
        seen.append(len(killed))
    assert seen == [0, 0, 1, 1]
    assert killed == [signal.SIGKILL]
