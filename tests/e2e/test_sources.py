"""WebDataset archives and manifests, end to end."""

import csv
from pathlib import Path

from tasks.verify import verify
from tests.corpus import clip, config_for, table, write_tar, write_videos
from tests.e2e.conftest import Run


def test_webdataset_samples_become_clips_with_their_class(run_here: Run, tmp_path: Path) -> None:
    members = {
        "a/0001.mp4": clip(1), "a/0001.cls": b"7", "a/0001.json": b"{}",
        "a/0002.cls": b"9", "a/0002.mp4": clip(2),
        "a/0003.txt": b"no video here",
        "a/0004.mp4": b"damaged",
    }  # fmt: skip
    write_tar(tmp_path / "set" / "000000.tar", members, gz=False)
    config = config_for({"kind": "webdataset", "uri": f"{tmp_path}/set/*.tar"}, tmp_path / "out", tag=["efficientnet-lite0"])
    assert run_here(config).status == "done"
    assert [(row["clip_id"], row["label"], row["start_s"], row["end_s"]) for row in table(tmp_path / "out", "clips").to_pylist()] == [
        ("a/0001", "7", 0.0, 2.0),
        ("a/0002", "9", 0.0, 2.0),
    ]
    assert [(row["clip_id"], row["kind"]) for row in table(tmp_path / "out", "failures").to_pylist()] == [("a/0004", "CORRUPT")]
    assert not verify(str(tmp_path / "out")).faults


def write_manifest(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)


def test_a_manifest_carries_its_columns_and_names_what_is_missing(run_here: Run, tmp_path: Path) -> None:
    write_videos(tmp_path, {"videos/one.mp4": 2, "videos/two.mp4": 2})
    manifest = tmp_path / "list.csv"
    rows: list[dict[str, object]] = [
        {"uri": "videos/one.mp4", "label": "cat", "price": 1.5, "width": 99},
        {"uri": str(tmp_path / "videos" / "two.mp4"), "label": "dog", "price": 2.5, "width": 98},
        {"uri": "videos/gone.mp4", "label": "", "price": 0.0, "width": 97},
    ]
    write_manifest(manifest, rows)
    config = config_for({"kind": "manifest", "uri": str(manifest)}, tmp_path / "out")
    assert run_here(config).status == "done"
    found = table(tmp_path / "out", "clips").to_pylist()
    assert [(row["clip_id"], row["label"], row["price"], row["width"], row["manifest_width"]) for row in found] == [
        ("videos/one.mp4#0", "cat", 1.5, 160, 99),
        ("videos/two.mp4#0", "dog", 2.5, 160, 98),
    ]
    assert [(row["member"].rpartition("/")[2], row["kind"]) for row in table(tmp_path / "out", "failures").to_pylist()] == [("gone.mp4", "MISSING")]
    rows[0]["label"] = "lion"
    write_manifest(manifest, rows)
    assert (run_here(config).status, table(tmp_path / "out", "clips")["label"].to_pylist()) == ("done", ["lion", "dog"])
    assert not verify(str(tmp_path / "out")).faults
