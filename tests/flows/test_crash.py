"""One line for what nobody foresaw, also when it comes out of a Ray worker."""

from pathlib import Path

import pytest
import ray

from flows.crash import Crash, cause_of, root_of, write_traceback
from infra.problem import Problem
from infra.store import Cause, StorageError


def test_the_root_of_what_a_worker_raised_is_what_it_raised(ray_here: None) -> None:
    @ray.remote(max_retries=0)
    def fall() -> None:
        try:
            raise OSError("the disk")
        except OSError as error:
            raise StorageError("/out", Cause.DISK_FULL) from error

    with pytest.raises(Problem) as caught:
        ray.get(fall.remote())
    assert "\n" in str(caught.value)
    assert str(root_of(caught.value)).startswith("/out: no space left; free some space")


def test_a_worker_that_died_is_named_in_one_line(ray_here: None) -> None:
    @ray.remote(max_retries=0)
    def die() -> None:
        import os

        os._exit(1)

    with pytest.raises(ray.exceptions.WorkerCrashedError) as caught:
        ray.get(die.remote())
    told = str(Crash(root_of(caught.value), "/log"))
    assert told.startswith("WorkerCrashedError: The worker died unexpectedly")
    assert told.endswith("the traceback is in /log; run the same command again, finished work is kept")
    assert "\n" not in told


def test_a_traceback_is_written_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-long-secret-value")
    try:
        raise ValueError("a-long-secret-value is wrong")
    except ValueError as error:
        log = Path(write_traceback(error))
    text = log.read_text()
    log.unlink()
    assert "a-long-secret-value" not in text
    assert "ValueError: [AWS_SECRET_ACCESS_KEY] is wrong" in text
    assert cause_of(ValueError("\n\n")) == "ValueError: no message"
