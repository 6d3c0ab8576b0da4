"""What is Iceberg's own: catalogs, names, metadata apart from the data, and only one snapshot."""

import sys
from pathlib import Path

import pytest
from pyiceberg.catalog import load_catalog
from pyiceberg.table import StaticTable

from infra.problem import Problem
from tasks.export_iceberg import IcebergFormat, table_name
from tasks.export_lake import export_lake
from tests.corpus import files
from tests.tasks.lakes import Iceberg, by_folder, done, plain_rows, sorted_rows
from tests.tasks.shards import EMBEDDINGS, published


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return published(tmp_path / "out").output


def test_names_are_what_sql_takes_without_quotes() -> None:
    assert [table_name("clips"), table_name("embeddings/model=efficientnet-lite0/version=1a2b3c4d")] == [
        "clips",
        "embeddings_efficientnet_lite0_1a2b3c4d",
    ]


def test_two_models_of_one_name_are_one_line(output: Path) -> None:
    for name in ("a-b", "a.b"):
        (output / f"tags/model={name}/version=v").mkdir(parents=True)
    (line,) = Iceberg(str(output)).export().problems
    assert (
        line
        == "tags/model=a.b/version=v: would be the table tags_a_b_v, as tags/model=a-b/version=v is; rename the model in one of them and run again"
    )


def test_only_the_newest_snapshot_stays_and_metadata_does_not_pile_up(output: Path) -> None:
    for number in range(8):
        published(output, f"part_{number + 1}")
        done(Iceberg(str(output)))
    found = Iceberg(str(output)).opened("clips")
    assert len(found.snapshots()) == 1
    names = [path.name for path in (output / "_iceberg/vidmill/clips/metadata").iterdir()]
    assert len([name for name in names if name.endswith(".json")]) <= 5
    manifests = {manifest.manifest_path.rpartition("/")[2] for manifest in found.current_snapshot().manifests(found.io)}
    assert manifests < set(names)
    before = {name for name in names if name.endswith(".avro")} - manifests
    assert len(before) <= 3


def test_a_reader_without_a_catalog_opens_the_metadata_file(output: Path) -> None:
    summary = Iceberg(str(output)).export()
    found = StaticTable.from_metadata(by_folder(summary)[EMBEDDINGS.folder].location)
    assert sorted_rows(found.scan().to_arrow()) == plain_rows(output, EMBEDDINGS.folder)


def test_metadata_may_lie_elsewhere_and_the_output_holds_none(output: Path, tmp_path: Path) -> None:
    before = {name for name in files(output) if not name.startswith("_wip/")}
    elsewhere = Iceberg(str(output), str(tmp_path / "lake"))
    done(elsewhere)
    assert {name for name in files(output) if not name.startswith("_wip/")} == before
    assert sorted_rows(elsewhere.arrow("clips")) == plain_rows(output, "clips")


def test_a_catalog_of_pyicebergs_configuration_is_used(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYICEBERG_CATALOG__HOUSE__TYPE", "sql")
    monkeypatch.setenv("PYICEBERG_CATALOG__HOUSE__URI", f"sqlite:///{tmp_path}/house.db")
    monkeypatch.setattr("pyiceberg.catalog._ENV_CONFIG", __import__("pyiceberg.utils.config", fromlist=["Config"]).Config())
    lake = IcebergFormat(str(output), catalog="house", namespace="k400")
    assert export_lake(str(output), lake).status == "done"
    assert sorted_rows(load_catalog("house").load_table("k400.clips").scan().to_arrow()) == plain_rows(output, "clips")
    assert not (output / "_iceberg/catalog.db").exists()


def test_a_table_of_another_output_is_not_taken_over(output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done(Iceberg(str(output)))
    other = published(tmp_path / "other").output
    (other / "_iceberg").mkdir()
    (output / "_iceberg/catalog.db").rename(other / "_iceberg/catalog.db")
    problems = Iceberg(str(other)).export().problems
    assert len(problems) == 4
    assert all("vidmill." in line and "choose another --namespace or catalog" in line for line in problems)


def test_names_and_places_that_cannot_be_are_one_line(output: Path) -> None:
    for wrong, words in (
        ({"namespace": "a b"}, "--namespace a b: holds more than letters"),
        ({"to": "s3://bucket/lake"}, "s3://bucket/lake: an SQLite catalog cannot lie in S3"),
        ({"to": "/tmp/a?b"}, r"--to /tmp/a\?b: .* name another folder"),
    ):
        with pytest.raises(Problem, match=words):
            IcebergFormat(str(output), **wrong)
    with pytest.raises(Problem, match=r"catalog nowhere: the catalog cannot be used \(.*\); check its configuration"):
        export_lake(str(output), IcebergFormat(str(output), catalog="nowhere"))
    (output / "_iceberg").mkdir()
    (output / "_iceberg/catalog.db").write_bytes(b"no database" * 100)
    with pytest.raises(Problem, match=r"catalog.db: the catalog cannot be used \(.*not a database"):
        Iceberg(str(output)).export()


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyiceberg.catalog.sql", None)
    with pytest.raises(Problem, match=r"pyiceberg is missing; pip install 'vidmill\[iceberg\]'"):
        IcebergFormat("out")
