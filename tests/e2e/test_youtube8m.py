"""Shards of YouTube-8M through Ray: beside Ray's own reader, and several at once."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import ray.data

from tasks.verify import verify
from tests.corpus import config_for, table
from tests.e2e.conftest import Run
from tests.tasks.records import frame_level, made, record, write

RGB, AUDIO = "embeddings/model=yt8m-inception3", "embeddings/model=yt8m-vggish"


def codes(output: Path, folder: str, width: int) -> dict[str, np.ndarray]:
    rows = table(output, folder).to_pylist()
    return {row["clip_id"]: np.frombuffer(b"".join(row["frame_codes"]), np.uint8).reshape(-1, width) for row in rows}


def theirs(path: Path, modules: Path) -> list[dict[str, object]]:
    """What `ray.data.read_tfrecords` gives. Of TensorFlow it uses the generated class Example alone; where there is none, ours takes its place."""
    modules.mkdir(exist_ok=True)
    (modules / "tensorflow.py").write_text("from tasks import example_pb2 as train\n")
    places = [str(modules), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    environment = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, places))}}
    rows = ray.data.read_tfrecords(str(path), runtime_env=environment).take_all()
    return [dict(row) for row in rows]


def test_what_rays_own_reader_loses_is_kept_here(run: Run, tmp_path: Path) -> None:
    """The same shard, whole and with one flipped byte, read by `ray.data.read_tfrecords` and by vidmill."""
    # Two labels each: where one record has one label and another several, Ray's reader ends with an error about types.
    videos = [replace(made(5, number, frames=20), labels=(number, 3000)) for number in range(6)]
    whole = [record(frame_level(video)) for video in videos]
    flipped = bytearray(b"".join(whole))
    flipped[len(whole[0]) + whole[1].index(videos[1].id.encode())] ^= 1  # in the second record's id
    write(tmp_path / "whole" / "train00.tfrecord", whole)
    write(tmp_path / "flipped" / "train00.tfrecord", [bytes(flipped)])

    rows, damaged = (theirs(tmp_path / name / "train00.tfrecord", tmp_path / "modules") for name in ("whole", "flipped"))
    assert [row.keys() for row in rows] == [{"id", "labels"}] * len(videos), "rgb and audio are gone, and nothing was said"
    wrong = {row["id"] for row in damaged} - {video.id.encode() for video in videos}
    assert (len(damaged), len(wrong)) == (len(videos), 1), "an id that no video has, and nothing was said"

    for name, good in (("whole", videos), ("flipped", [videos[0], *videos[2:]])):
        output = tmp_path / f"{name} out"
        assert run(config_for({"kind": "youtube8m", "uri": f"{tmp_path}/{name}/"}, output)).status == "done"
        rgb, audio = codes(output, RGB, 1024), codes(output, AUDIO, 128)
        assert rgb.keys() == audio.keys() == {video.id for video in good}
        assert all(np.array_equal(rgb[video.id], video.rgb) and np.array_equal(audio[video.id], video.audio) for video in good)
    (failure,) = table(tmp_path / "flipped out", "failures").to_pylist()
    assert (failure["kind"], failure["member"]) == ("BAD_RECORD", f"{tmp_path}/flipped/train00.tfrecord!{len(whole[0])}")
    assert not verify(f"{tmp_path}/flipped out").faults


def test_several_shards_of_several_parcels_come_out_whole(run: Run, tmp_path: Path) -> None:
    videos = {shard: [made(shard, number, frames=300) for number in range(26)] for shard in range(3)}
    for shard, found in videos.items():
        write(tmp_path / "corpus" / f"train{shard}.tfrecord", (record(frame_level(video)) for video in found))
    summary = run(config_for({"kind": "youtube8m", "uri": f"{tmp_path}/corpus/"}, tmp_path / "out"))
    assert (summary.status, summary.clips, summary.shards_published) == ("done", 78, 3)
    rows = {(row["shard"], row["clip_id"]): row["frame_codes"] for row in table(tmp_path / "out", RGB).to_pylist()}
    assert len(rows) == 78
    assert all(b"".join(rows[f"train{shard}", video.id]) == video.rgb.tobytes() for shard, found in videos.items() for video in found)
    assert not verify(f"{tmp_path}/out").faults
