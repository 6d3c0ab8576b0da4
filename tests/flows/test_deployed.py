"""What a deployed run does otherwise, in this process: stages follow each other where Ray would spread them, and the model is a stand-in."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import deployed
from flows.deployed import under_prefect
from flows.process_corpus import RunIncomplete, process_corpus
from infra import lease as leases
from infra.lease import Occupied, lease
from infra.problem import Problem
from infra.settings import RunConfig
from infra.storage import Cause, StorageError
from tests.corpus import files, name_of, table, write_tar
from tests.faults import here
from tests.flows.test_artifacts import SUMMARY
from tests.tasks.networks import DARK, LIGHT, grey
from tests.tasks.runs import run, settings


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunConfig:
    """Of a corpus of two clips."""
    here.without_ray(monkeypatch)
    write_tar(tmp_path / "c" / "part_0.tar", {f"{name_of(k)}.mp4": grey(level) for k, level in enumerate((LIGHT, DARK))}, gz=False)
    return settings(tmp_path, {"kind": "kinetics", "uri": f"{tmp_path}/c/part_0.tar"}, embed=["grey"])


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Set as soon as a run says that it waits; it looks often."""
    said = threading.Event()

    class Heard(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting for the output" in record.getMessage():
                said.set()

    monkeypatch.setattr(leases, "LOOK_S", 0.02)
    handler = Heard()
    logging.getLogger("infra.lease").addHandler(handler)
    yield said
    logging.getLogger("infra.lease").removeHandler(handler)


def test_a_deployed_run_waits_for_its_output_and_then_does_only_what_is_left(
    config: RunConfig, waiting: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P5: with the plan that it made before it waited, it would compute everything again."""
    monkeypatch.setattr(deployed, "in_deployment", lambda: True)
    statuses: list[str] = []
    second = threading.Thread(target=lambda: statuses.append(process_corpus.fn(config).status))
    with lease(config.output, run_id="first"):
        second.start()
        assert waiting.wait(30)
        run(config)
        state = files(Path(config.output) / "embeddings")
    second.join(60)
    assert statuses == ["nothing to do"]
    assert table(config.output, "embeddings").num_rows == 2
    assert files(Path(config.output) / "embeddings") == state


def test_any_other_run_is_turned_away_at_once(config: RunConfig, waiting: threading.Event) -> None:
    with lease(config.output, run_id="first"), pytest.raises(Occupied, match="run first of"):
        process_corpus.fn(config)
    assert not waiting.is_set()


@pytest.mark.parametrize(
    ("error", "retried"),
    [
        (Problem("source.uri nowhere: no such folder"), False),
        (RunIncomplete(SUMMARY), True),
        (StorageError("s3://bucket/x", Cause.BUSY), True),
        (StorageError("s3://bucket/x", Cause.NO_BUCKET), False),
        (ConnectionError("the cluster went away"), True),
    ],
    ids=["a mistake", "work left", "a busy store", "no bucket", "unforeseen"],
)
def test_only_what_another_try_can_mend_is_retried(error: Exception, retried: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    called_off: list[None] = []
    monkeypatch.setattr(deployed, "in_deployment", lambda: True)
    monkeypatch.setattr(deployed, "_call_off_retries", lambda: called_off.append(None))
    with pytest.raises(type(error)), under_prefect("s3://bucket/out"):
        raise error
    assert called_off == ([] if retried else [None])
