"""ingest-youtube8m in this process: stages follow each other where Ray would spread them."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from flows.ingest_youtube8m import ingest_youtube8m
from infra.settings import RecordsConfig, RunConfig
from tasks.verify import verify
from tests.corpus import table
from tests.faults import here
from tests.tasks import records


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RecordsConfig:
    """What the form asks for, and nothing else."""
    here.without_ray(monkeypatch)
    records.write(tmp_path / "shards" / "train00.tfrecord", records.shard(1, 3, frames=4))
    return RecordsConfig.model_validate({"source": {"uri": f"{tmp_path}/shards/"}, "output": f"{tmp_path}/out"})


def test_what_the_form_asks_for_is_enough(config: RecordsConfig) -> None:
    assert ingest_youtube8m.fn(config).status == "done"
    assert table(config.output, "embeddings/model=yt8m-inception3").num_rows == 3
    assert verify(config.output).faults == []
    assert ingest_youtube8m.fn(config).status == "nothing to do"


def test_its_record_is_one_that_a_run_could_have_written(config: RecordsConfig) -> None:
    """A retry and a backfill read it."""
    again = RunConfig.model_validate(config.model_dump(mode="json"))
    assert (again.source.kind, again.embed, again.source.uri) == ("youtube8m", [], config.source.uri)


def test_videos_are_refused(config: RecordsConfig) -> None:
    with pytest.raises(ValidationError, match=r"source\.kind"):
        RecordsConfig.model_validate({"source": {"kind": "files", "uri": "videos/"}, "output": config.output})
