"""Where loose videos may lie."""

from pathlib import Path

import pytest

from infra.problem import Problem
from infra.settings import SourceConfig
from tasks.roots import Roots, roots_of


def source(uri: object, *allow: object, kind: str = "manifest") -> SourceConfig:
    return SourceConfig.model_validate({"kind": kind, "uri": str(uri), "allow": [str(root) for root in allow]})


def test_a_manifest_may_name_s3_and_its_own_folder_and_a_folder_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "list.csv").touch()
    assert roots_of(source(tmp_path / "list.csv")).allowed == ("s3://", f"{tmp_path}/")
    assert roots_of(source(tmp_path, kind="files")).allowed is None
    assert Roots(None).refusal("/etc/passwd") is None


def test_roots_are_folders_not_beginnings_of_names(tmp_path: Path) -> None:
    """P12: without the slash, /data/public would open /data/public-not."""
    roots = roots_of(source(tmp_path / "list.csv", tmp_path / "videos", "s3://bucket/videos/"))
    assert roots.allowed == (f"{tmp_path}/videos/", "s3://bucket/videos/")
    assert roots.refusal(f"{tmp_path}/videos/x.mp4") is None
    assert roots.refusal("s3://bucket/videos/a/x.mp4") is None
    outside = [
        f"{tmp_path}/videos-too/x.mp4",
        "s3://bucket/videos-too/x.mp4",
        "s3://bucket/videos/../x.mp4",
        "s3://bucket2/videos/x.mp4",
        "/videos/x.mp4",
    ]
    for uri in outside:
        assert "lies outside" in str(roots.refusal(uri))


def test_all_of_s3_and_all_of_the_disk_can_be_allowed(tmp_path: Path) -> None:
    assert roots_of(source(tmp_path / "list.csv", "s3://")).refusal("s3://any/../x") is None
    assert roots_of(source(tmp_path / "list.csv", "/")).refusal("/etc/passwd") is None


def test_a_root_that_is_a_link_is_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    roots = roots_of(source(tmp_path / "list.csv", tmp_path / "near"))
    assert roots.refusal(f"{tmp_path}/near/x.mp4") is None
    assert roots.refusal(f"{tmp_path}/far/x.mp4") is None


@pytest.mark.parametrize("root", ["https://host/x", "gs://bucket", "file://host/x", ""])
def test_a_root_that_is_no_folder_is_one_line(tmp_path: Path, root: str) -> None:
    with pytest.raises(Problem, match=r"^source.allow: .*name a path"):
        roots_of(source(tmp_path / "list.csv", root))
