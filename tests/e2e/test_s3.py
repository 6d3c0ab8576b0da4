"""The same job with source and output in S3: the same rows, bit for bit."""

from pathlib import Path

import pytest

from infra import storage
from tasks.verify import verify
from tests.corpus import clip, config_for, contents, name_of, table, write_shards, write_tar, write_videos
from tests.e2e.conftest import Run


def upload(folder: Path, prefix: str) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            storage.publish_file(f"{prefix}/{path.relative_to(folder)}", str(path))


@pytest.mark.nightly
def test_shards_in_s3_give_the_same_rows_bit_for_bit(run: Run, bucket: str, tmp_path: Path) -> None:
    write_shards(tmp_path / "corpus", shards=2, clips=4)
    write_tar(tmp_path / "corpus" / "part_2.tar.gz", {f"{name_of(50)}.mp4": b"damaged", f"{name_of(51)}.mp4": clip(51)})
    upload(tmp_path / "corpus", f"s3://{bucket}/corpus")
    models = {"tag": ["efficientnet-lite0"], "frame_embeddings": True}
    on_disk = config_for({"kind": "kinetics", "uri": f"{tmp_path}/corpus/part_*.tar.gz"}, tmp_path / "out", **models)
    in_s3 = config_for({"kind": "kinetics", "uri": f"s3://{bucket}/corpus/part_*.tar.gz"}, f"s3://{bucket}/out", **models)
    assert (run(on_disk).status, run(in_s3).status) == ("done", "done")
    assert contents(f"s3://{bucket}/out") == contents(tmp_path / "out")
    assert not verify(f"s3://{bucket}/out").faults
    assert run(in_s3).status == "nothing to do"


def test_loose_videos_in_s3_are_cut_where_they_lie(run_here: Run, bucket: str, tmp_path: Path) -> None:
    write_videos(tmp_path / "videos", {"a/long.mp4": 7, "b.mp4": 2})
    upload(tmp_path / "videos", f"s3://{bucket}/videos")
    config = config_for({"kind": "files", "uri": f"s3://{bucket}/videos/"}, f"s3://{bucket}/out", decode={"clip_s": 3})
    assert run_here(config).status == "done"
    rows = table(f"s3://{bucket}/out", "clips").to_pylist()
    assert [(row["clip_id"], row["uri"]) for row in rows] == [
        ("a/long.mp4#0", f"s3://{bucket}/videos/a/long.mp4"),
        ("a/long.mp4#3000", f"s3://{bucket}/videos/a/long.mp4"),
        ("a/long.mp4#6000", f"s3://{bucket}/videos/a/long.mp4"),
        ("b.mp4#0", f"s3://{bucket}/videos/b.mp4"),
    ]
    assert not verify(f"s3://{bucket}/out").faults
