"""One holder at a time, whoever dies, whoever races."""

import json
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from infra import lease as leases
from infra import storage
from infra.lease import LeaseLost, Occupied, lease
from infra.problem import Problem

spawn = multiprocessing.get_context("spawn")


@pytest.fixture(params=["disk", "s3"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty output."""
    return str(tmp_path) if request.param == "disk" else f"s3://{request.getfixturevalue('bucket')}/out"


def content(output: str) -> dict[str, Any]:
    return dict(json.loads(storage.read_bytes(f"{output}/_wip/lease.json")))


def _hold(output: str, run_id: str, ready: Any) -> None:
    with lease(output, run_id=run_id):
        ready.put(run_id)
        time.sleep(60)


def abandoned(output: str) -> int:
    """A lease whose process was killed; its pid."""
    ready = spawn.Queue()
    process = spawn.Process(target=_hold, args=(output, "killed", ready))
    process.start()
    assert ready.get(timeout=30) == "killed"
    process.kill()
    process.join()
    return process.pid or 0


def elsewhere(output: str) -> None:
    """Make the lease that is there look like one of another machine."""
    storage.write_bytes(f"{output}/_wip/lease.json", json.dumps(content(output) | {"machine": "another", "host": "far"}).encode())


def test_a_second_run_is_told_who_holds_the_output(output: str) -> None:
    with lease(output, run_id="first-1"):
        assert content(output)["run_id"] == "first-1"
        with pytest.raises(Problem) as caught, lease(output, run_id="second-2"):
            pytest.fail("two runs at once")
    line = str(caught.value)
    for part in ("run first-1", f"pid {os.getpid()}", f"host {os.uname().nodename}", "writing here since ", "last heartbeat", "another output"):
        assert part in line
    assert "\n" not in line


def test_it_is_free_afterwards_also_after_an_error(output: str) -> None:
    with pytest.raises(ZeroDivisionError), lease(output, run_id="a"):
        raise ZeroDivisionError
    with lease(output, run_id="b"):
        pass
    assert "lease.json" not in storage.list_names(f"{output}/_wip")


def test_a_dead_process_of_this_machine_is_taken_over_at_once(output: str) -> None:
    pid = abandoned(output)
    assert content(output)["pid"] == pid
    began = time.monotonic()
    with lease(output, run_id="next"):
        assert content(output)["run_id"] == "next"
    assert time.monotonic() - began < 5


def test_another_process_with_the_pid_of_the_dead_one_does_not_matter(output: str) -> None:
    abandoned(output)
    storage.write_bytes(f"{output}/_wip/lease.json", json.dumps(content(output) | {"pid": os.getpid()}).encode())
    with lease(output, run_id="next"):
        assert content(output)["run_id"] == "next"


def test_another_machine_is_trusted_until_its_heartbeat_stops(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    abandoned(output)
    elsewhere(output)
    with pytest.raises(Problem, match="host far"), lease(output, run_id="next"):
        pytest.fail("taken from the living")
    monkeypatch.setattr(leases, "STALE_S", 0.5)
    time.sleep(2.5)  # S3 tells time in whole seconds
    with lease(output, run_id="next"):
        assert content(output)["run_id"] == "next"


def test_sixty_seconds_without_heartbeat_are_too_long(tmp_path: Path) -> None:
    abandoned(str(tmp_path))
    elsewhere(str(tmp_path))
    path = tmp_path / "_wip/lease.json"
    os.utime(path, (time.time() - 50, time.time() - 50))
    with pytest.raises(Problem, match="last heartbeat 50 s ago"), lease(str(tmp_path), run_id="next"):
        pytest.fail("taken from the living")
    os.utime(path, (time.time() - 61, time.time() - 61))
    with lease(str(tmp_path), run_id="next"):
        assert content(str(tmp_path))["run_id"] == "next"


def _race(output: str, run_id: str, start: Any, end: Any, results: Any) -> None:
    start.wait()
    try:
        with lease(output, run_id=run_id):
            results.put((run_id, content(output)["run_id"]))
            end.wait(30)
    except Problem as problem:
        results.put((None, str(problem)))


@pytest.mark.parametrize("stale", [False, True])
def test_one_of_eight_processes_wins(output: str, stale: bool) -> None:
    if stale:
        abandoned(output)
    start, end, results = spawn.Barrier(8), spawn.Event(), spawn.Queue()
    racers = [spawn.Process(target=_race, args=(output, f"r{index}", start, end, results)) for index in range(8)]
    for racer in racers:
        racer.start()
    told = [results.get(timeout=60) for _ in racers]
    end.set()
    for racer in racers:
        racer.join(30)
    winners = [result for result in told if result[0] is not None]
    assert len(winners) == 1
    assert winners[0][0] == winners[0][1]
    assert all(f"run {winners[0][0]} " in line for winner, line in told if winner is None)


def test_one_of_many_threads_takes_a_stale_lease(output: str) -> None:
    for _ in range(3):
        abandoned_content = json.dumps(_dead_holder()).encode()
        storage.write_bytes(f"{output}/_wip/lease.json", abandoned_content)
        with ThreadPoolExecutor(8) as pool:
            taken = [held for held in pool.map(lambda index: _try(output, f"t{index}"), range(8)) if held is not None]
        assert len(taken) == 1
        taken[0].release()


def _try(output: str, run_id: str) -> leases.Lease | None:
    try:
        return leases._take(f"{output}/_wip/lease.json", leases._myself(run_id))
    except Problem:
        return None


def _dead_holder() -> dict[str, Any]:
    me = leases._myself("dead")
    return {name: getattr(me, name) for name in me.__dataclass_fields__} | {"process": "1"}


def test_the_heartbeat_renews_and_tells_when_the_lease_was_taken(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.05)
    with lease(output, run_id="mine") as held:
        first = content(output)["heartbeat_at"]
        until(lambda: content(output)["heartbeat_at"] != first)
        held.check()
        storage.write_bytes(f"{output}/_wip/lease.json", json.dumps(content(output) | {"run_id": "thief"}).encode())
        until(lambda: held.lost)
        with pytest.raises(LeaseLost, match="run this one again"):
            held.check()
    assert content(output)["run_id"] == "thief"


def test_a_lease_that_could_not_be_renewed_in_time_is_kept_unless_somebody_took_it(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that stood still for 100 s once ended a run that nobody wanted to replace."""
    replace_if = storage.replace_if
    monkeypatch.setattr(leases, "HEARTBEAT_S", 0.05)
    with lease(output, run_id="mine") as held:
        monkeypatch.setattr(storage, "replace_if", _unreachable)
        monkeypatch.setattr(leases, "STALE_S", 0.3)
        until(lambda: _refused(held))
        monkeypatch.setattr(storage, "replace_if", replace_if)
        held.check()
        monkeypatch.setattr(storage, "replace_if", _unreachable)
        storage.write_bytes(f"{output}/_wip/lease.json", json.dumps(content(output) | {"run_id": "thief"}).encode())
        until(lambda: _refused(held))
        monkeypatch.setattr(storage, "replace_if", replace_if)
        with pytest.raises(LeaseLost, match="another run took this output over"):
            held.check()
    assert content(output)["run_id"] == "thief"


def _refused(held: leases.Lease) -> bool:
    try:
        held.check()
    except storage.StorageError:
        return True
    return False


def _unreachable(uri: str, data: bytes, version: str) -> str:
    raise storage.StorageError(uri, storage.Cause.BUSY)


def until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_something_else_in_its_place_is_not_overwritten(tmp_path: Path) -> None:
    storage.write_bytes(f"{tmp_path}/_wip/lease.json", b"{}")
    with pytest.raises(Problem, match="not a lease that vidmill wrote; delete it"), lease(str(tmp_path), run_id="x"):
        pytest.fail("overwritten")


def test_a_patient_run_waits_until_the_output_is_free(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LOOK_S", 0.02)
    with ThreadPoolExecutor(1) as pool:
        with lease(output, run_id="first-1"):
            waits = pool.submit(_held_after_waiting, output)
            with pytest.raises(TimeoutError):
                waits.result(0.2)
        assert waits.result(30) == ("second-2", True)


def _held_after_waiting(output: str) -> tuple[str, bool]:
    with lease(output, run_id="second-2", patience_s=30) as held:
        return content(output)["run_id"], held.waited


def test_patience_ends(output: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "LOOK_S", 0.02)
    with lease(output, run_id="first-1"), pytest.raises(Occupied, match="run first-1 of"), lease(output, run_id="second-2", patience_s=0.1):
        pytest.fail("two runs at once")
