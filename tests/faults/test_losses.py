"""What Ray gives up after the loss of a node is begun anew, with what is left: here, where it can be had at will, on a Ray that is none."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import ObjectLostError, RayError, StreamingGeneratorReplayInconsistentError

from flows import process_corpus as flow
from infra.cluster import Resources
from tasks import pipeline
from tests.corpus import contents, write_shards
from tests.faults import here
from tests.tasks.runs import settings

SHARDS, CLIPS = 2, 12  # two parcels a shard
Loss = Callable[[], RayError]
LOSSES = [lambda: StreamingGeneratorReplayInconsistentError("produced 0 objects, expected 2"), lambda: ObjectLostError("0", None, "call")]


class Lossy(here.Chain):
    """Ends with Ray's error after so many parcels, once for each number."""

    losses: list[int]
    loss: Loss

    def iter_batches(self, **options: Any) -> Iterator[Any]:
        rows = super().iter_batches(**options)
        if not self.losses:
            yield from rows
            return
        yield from islice(rows, self.losses.pop(0))
        raise type(self).loss()


def lossy(monkeypatch: pytest.MonkeyPatch, losses: list[int], loss: Loss, *, elastic: bool = True) -> None:
    """Let process-corpus run here, on such a Ray."""

    @contextmanager
    def session(*_: object, **__: object) -> Iterator[Resources]:
        yield Resources(cpus=2, gpus=0, elastic=elastic)

    here.without_ray(monkeypatch)
    monkeypatch.setattr(flow, "ray_session", session)
    monkeypatch.setattr(pipeline, "dataset_of", type("Lossy", (Lossy,), {"losses": losses, "loss": staticmethod(loss)}))


@pytest.mark.parametrize("loss", LOSSES, ids=["repeated otherwise", "lost"])
def test_a_run_goes_on_with_what_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: Loss) -> None:
    """P1, P2: each time only what was not staged is left, and the summary counts every clip."""
    write_shards(tmp_path / "corpus", shards=SHARDS, clips=CLIPS)
    source = {"kind": "kinetics", "uri": f"{tmp_path}/corpus/*.tar.gz"}
    lossy(monkeypatch, [1, 2], loss)
    summary = here.run(settings(tmp_path, source))
    assert (summary.status, summary.clips, summary.shards_published) == ("done", SHARDS * CLIPS, SHARDS)
    lossy(monkeypatch, [], loss)
    here.run(settings(tmp_path, source, output=tmp_path / "undisturbed"))
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize(("losses", "elastic"), [([0], True), ([1], False)], ids=["nothing came of it", "no cluster"])
def test_it_does_not_where_that_cannot_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, losses: list[int], elastic: bool) -> None:
    """P9: nothing is tried for ever."""
    write_shards(tmp_path / "corpus", shards=1, clips=CLIPS)
    lossy(monkeypatch, losses, LOSSES[0], elastic=elastic)
    with pytest.raises(StreamingGeneratorReplayInconsistentError):
        here.run(settings(tmp_path, {"kind": "kinetics", "uri": f"{tmp_path}/corpus/*.tar.gz"}))
