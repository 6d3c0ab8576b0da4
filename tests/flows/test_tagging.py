"""process-corpus with a trained tagger: its part comes between the others, a plan says what it will read, and one that cannot go on says why."""

from pathlib import Path

import pytest

from flows.show import PlanView
from infra.problem import Problem
from infra.settings import RunConfig
from tasks.plan import plan_run
from tasks.verify import verify
from tests.corpus import config_for, spoil, table
from tests.faults import here
from tests.tasks.taggers import RECORDS, entry, tagger
from tests.tasks.test_record_runs import arrays, packed


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    here.without_ray(monkeypatch)


def configured(folder: Path, *inputs: tuple[str, int]) -> RunConfig:
    (folder / "shards").mkdir(exist_ok=True)
    for shard in range(2):
        (folder / "shards" / f"train{shard}.tfrecord").write_bytes(b"".join(packed(arrays([f"{shard}{k}" for k in range(3)]))))
    models = [entry(tagger(folder / "tagger.safetensors", *(inputs or RECORDS)))]
    return config_for({"kind": "youtube8m", "uri": f"{folder}/shards/"}, folder / "out", tag=["mine"], models=models)


def test_tags_come_in_the_same_run_and_alone_where_they_alone_are_new(tmp_path: Path) -> None:
    config = configured(tmp_path)
    without = config.model_copy(update={"tag": []})
    assert here.run(without).status == "done"
    for path in (tmp_path / "shards").iterdir():
        spoil(path)
    view = PlanView.of(plan_run(config))
    assert [(work.size_bytes, len(work.features)) for work in view.work] == [(0, 1)] * 2
    summary = here.run(config)
    assert (summary.status, summary.clips, summary.tagged, summary.shards_published) == ("done", 0, 6, 2), summary.problems
    assert (here.run(config).status, verify(config.output).faults) == ("nothing to do", [])
    whole = here.run(configured(tmp_path).model_copy(update={"output": str(tmp_path / "whole")}))
    assert (whole.status, whole.clips, whole.tagged) == ("done", 6, 6)
    assert table(tmp_path / "whole", "tags").num_rows == 6


def test_a_table_that_is_damaged_leaves_its_shard_and_tags_the_other(tmp_path: Path) -> None:
    config = configured(tmp_path)
    here.run(config.model_copy(update={"tag": []}))
    (path,) = tmp_path.glob("out/embeddings/model=yt8m-vggish/*/train1.parquet")
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)
    path.write_bytes(bytes(data))
    summary = here.run(config)
    assert (summary.status, summary.tagged) == ("work left", 3)
    assert "train1.parquet: damaged" in summary.problems[0]
    assert "delete it and run again" in summary.problems[0]


def test_a_tagger_of_other_embeddings_ends_the_run_with_one_line(tmp_path: Path) -> None:
    config = configured(tmp_path, ("yt8m-vggish", 64))
    with pytest.raises(
        Problem, match=r"tagger mine: takes 64 numbers of yt8m-vggish, and embeddings/.* has 128; train it on yt8m-vggish of this output"
    ):
        here.run(config)
    assert table(config.output, "embeddings/model=yt8m-vggish").num_rows == 6
