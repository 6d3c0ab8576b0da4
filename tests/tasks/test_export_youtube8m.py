"""An export is read by strangers as it stands, by vidmill as the same rows, and says whatever it lacks."""

import gzip
import json
import struct
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from ray.data._internal.datasource.tfrecords_datasource import _convert_example_to_dict, _read_records

from infra import storage
from infra.problem import Problem
from infra.settings import RunConfig
from tasks.example_pb2 import Example, Features, SequenceExample
from tasks.export_youtube8m import Export, ExportSummary, export
from tasks.published import path_of
from tasks.record import RunSummary
from tests.corpus import config_for, files, table, write_shards
from tests.tasks.runs import run, settings
from tests.tasks.test_youtube8m import RANDOM, WIDTHS, codes, frame_level, put

VOCABULARY = "Index,TrainVideoCount,KnowledgeGraphId,Name,WikiUrl,Vertical1,Vertical2,Vertical3,WikiDescription\n"
VOCABULARY += '3,10,/m/1,"Guitar, ""electric""",http,Arts & Entertainment,,,\n7,9,/m/2,Concert,http,Games,Arts & Entertainment,,x\n'
UNLIKE = {"uri", "member", "message", "source_etag", "size_bytes", "run_id", "failed_at"}  # tell where a row came from
TABLE = [reduce(lambda crc, _: crc >> 1 ^ (0x82F63B78 if crc & 1 else 0), range(8), byte) for byte in range(256)]  # RFC 3720, B.4


def masked(data: bytes) -> int:
    """The check as record_writer.h has it, bit by bit and without vidmill's library."""
    crc = reduce(lambda crc, byte: TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8, data, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def strangers(data: bytes) -> Iterator[SequenceExample]:
    """Records as another reader finds them: framing and checks of its own, protocol buffers' own runtime."""
    at = 0
    while at < len(data):
        length, check = struct.unpack_from("<QI", data, at)
        assert check == masked(data[at : at + 8])
        record = data[at + 12 : at + 12 + length]
        assert struct.unpack_from("<I", data, at + 12 + length) == (masked(record),)
        yield SequenceExample.FromString(record)
        at += 16 + length


def framed(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(length)) + data + struct.pack("<I", masked(data))


def video_level(name: str) -> Example:
    record = Example()
    put(record.features, name)
    for feature, width in WIDTHS.items():
        record.features.feature[f"mean_{feature}"].float_list.value.extend(RANDOM.standard_normal(width).astype(np.float32))
    return record


def rated(name: str) -> SequenceExample:
    record = frame_level({"rgb": codes(10, 1024), "audio": codes(10, 128)}, name=name, labels=())
    for key, values in (("start_times", (0, 5)), ("end_times", (5, 10)), ("labels", (3, 7))):
        record.context.feature[f"segment_{key}"].int64_list.value.extend(values)
    record.context.feature["segment_scores"].float_list.value.extend((1.0, 0.1))
    return record


def records_config(folder: Path, shards: str = "shards", out: str = "out", **more: Any) -> RunConfig:
    return config_for({"kind": "youtube8m", "uri": f"{folder}/{shards}/", **more}, folder / out)


@pytest.fixture
def records(tmp_path: Path) -> Path:
    """An output of every kind of record: frames, means, segments, one feature only, of two kinds, and neither."""
    mixed = frame_level({"rgb": codes(4, 1024)}, name="mixed")
    mixed.context.feature["mean_audio"].float_list.value.extend(RANDOM.standard_normal(128).astype(np.float32))
    shards = {
        "train00": [frame_level({"rgb": codes(2 + k, 1024), "audio": codes(1 + k, 128)}, name=f"-{k}", labels=(7, 3, 9)) for k in range(20)],
        "train0001": [video_level("v1"), video_level("v0")],
        "segments": [rated("s"), mixed, frame_level({"rgb": codes(301, 1024)}, name="é"), frame_level({"audio": codes(1, 128)}, name="a")],
        "bare": [frame_level({}, name="none", labels=())],
    }
    (tmp_path / "shards").mkdir()
    for shard, found in shards.items():
        (tmp_path / "shards" / f"{shard}.tfrecord").write_bytes(b"".join(framed(record.SerializeToString()) for record in found))
    (tmp_path / "vocabulary.csv").write_text(VOCABULARY)
    assert run(records_config(tmp_path, vocabulary=str(tmp_path / "vocabulary.csv"))).status == "done"
    return tmp_path


@pytest.fixture
def videos(tmp_path: Path) -> Callable[..., tuple[Path, RunSummary]]:
    def made(**more: Any) -> tuple[Path, RunSummary]:
        write_shards(tmp_path / "tars", shards=2, clips=2)
        names = [path.stem for path in sorted((tmp_path / "tars").iterdir())]
        assert names
        annotations = "label,youtube_id,time_start,time_end,split\n" + "".join(
            f'"{label}",-a_b-{k:06d},{k},{k + 10},train\n' for k, label in enumerate(("zumba", "archery, indoor", "zumba"))
        )
        (tmp_path / "a.csv").write_text(annotations)
        source = {"kind": "kinetics", "uri": f"{tmp_path}/tars/*.tar.gz", "annotations": f"{tmp_path}/a.csv"}
        return tmp_path, run(settings(tmp_path, source, **more))

    return made


def rows(output: Path) -> dict[str, list[dict[str, Any]]]:
    return {
        folder: [{key: value for key, value in row.items() if key not in UNLIKE} for row in table(output, folder).to_pylist()]
        for folder in ("clips", "embeddings/model=yt8m-inception3", "embeddings/model=yt8m-vggish", "failures")
    }


def done(asked: Export) -> ExportSummary:
    summary = export(asked)
    assert (summary.status, summary.problems) == ("done", ())
    return summary


@pytest.mark.parametrize("gzipped", [False, True])
def test_reading_an_export_back_gives_the_same_rows(records: Path, gzipped: bool) -> None:
    summary = done(Export(str(records / "out"), str(records / "to"), gzip=gzipped))
    assert (summary.shards, summary.records, summary.lacking) == (4, 27, {"rgb": 2, "audio": 2})
    assert (records / "to/vocabulary.csv").read_text() == VOCABULARY
    assert run(records_config(records, "to", "again", vocabulary=str(records / "to/vocabulary.csv"))).status == "done"
    found, wanted = rows(records / "again"), rows(records / "out")
    assert found == wanted
    assert [len(part) for part in wanted.values()] == [27, 25, 25, 4]
    assert {tuple(row["labels"]) for row in wanted["clips"]} >= {("Concert", 'Guitar, "electric"', None)}


def test_a_stranger_reads_every_code_and_both_checks(records: Path) -> None:
    done(Export(str(records / "out"), str(records / "to")))
    source, copy = ((records / folder / "segments.tfrecord").read_bytes() for folder in ("shards", "to"))
    wanted = {record.context.feature["id"].bytes_list.value[0]: record for record in strangers(source)}
    found = {record.context.feature["id"].bytes_list.value[0]: record for record in strangers(copy)}
    assert found == wanted


def test_rays_own_reader_finds_a_video_levels_numbers(records: Path) -> None:
    """`ray.data.read_tfrecords` imports TensorFlow for its Example alone; everything else of it runs here."""
    done(Export(str(records / "out"), str(records / "to")))
    with pa.OSFile(f"{records}/to/train0001.tfrecord") as file:
        found = [_convert_example_to_dict(Example.FromString(record), None) for record in _read_records(file, "train0001")]
    wanted = {row["clip_id"]: row["embedding"] for row in table(records / "out", "embeddings/model=yt8m-inception3").to_pylist()}
    assert [row["id"].to_pylist() for row in found] == [[b"v0"], [b"v1"]]
    assert [row["mean_rgb"].to_pylist()[0] for row in found] == [wanted["v0"], wanted["v1"]]


def test_video_level_is_the_means_alone(records: Path) -> None:
    assert done(Export(str(records / "out"), str(records / "to"), level="video", audio="")).features.keys() == {"rgb"}
    wanted = {row["clip_id"]: row["embedding"] for row in table(records / "out", "embeddings/model=yt8m-inception3").to_pylist()}
    found = list(strangers((records / "to/train00.tfrecord").read_bytes()))
    assert len(found) == 20
    for record in found:
        features = record.context.feature
        assert features.keys() == {"id", "labels", "mean_rgb"}
        assert list(features["mean_rgb"].float_list.value) == wanted[features["id"].bytes_list.value[0].decode()]
        assert not record.feature_lists.feature_list


def test_video_embeddings_become_numbers_and_their_labels_a_vocabulary(videos: Callable[..., tuple[Path, RunSummary]]) -> None:
    here, _ = videos(frame_embeddings=True)
    summary = done(Export(str(here / "out"), str(here / "to")))
    assert summary.features.keys() == {"rgb"}
    read = [record for path in sorted((here / "to").glob("*.tfrecord")) for record in strangers(path.read_bytes())]
    wanted = {row["clip_id"]: row for row in table(here / "out", "embeddings").to_pylist()}
    labels = {row["clip_id"]: row["label"] for row in table(here / "out", "clips").to_pylist()}
    numbers = {None: [], "archery, indoor": [0], "zumba": [1]}
    assert len(read) == len(wanted) == 4
    for record in read:
        features, name = record.context.feature, record.context.feature["id"].bytes_list.value[0].decode()
        assert list(features["mean_rgb"].float_list.value) == wanted[name]["embedding"]
        frames = [list(frame.float_list.value) for frame in record.feature_lists.feature_list["rgb"].feature]
        assert frames == [list(map(float, frame)) for frame in wanted[name]["frame_embedding"]]
        assert list(features["labels"].int64_list.value) == numbers[labels[name]]
    text = (here / "to/vocabulary.csv").read_text().splitlines()
    assert text[1:] == ['0,1,,"archery, indoor",,,,,', "1,2,,zumba,,,,,"]


def test_only_what_changed_is_written_again(records: Path) -> None:
    asked = Export(str(records / "out"), str(records / "to"))
    done(asked)
    before = files(records / "to")
    assert export(asked).status == "nothing to do"
    assert files(records / "to") == before
    (records / "to/bare.tfrecord").unlink()
    (records / "to/segments.tfrecord").write_bytes(b"damaged")
    (records / "shards/train0001.tfrecord").write_bytes(framed(video_level("v2").SerializeToString()))
    run(records_config(records, vocabulary=str(records / "vocabulary.csv")))
    assert done(asked).written == 3
    after = files(records / "to")
    assert after["train00.tfrecord"] == before["train00.tfrecord"]
    assert after["segments.tfrecord"][0] == before["segments.tfrecord"][0]
    assert [record.context.feature["id"].bytes_list.value[0] for record in strangers((records / "to/train0001.tfrecord").read_bytes())] == [b"v2"]
    assert done(Export(asked.output, asked.to, gzip=True)).written == 4
    assert sorted(path.name for path in (records / "to").glob("*.tfrecord*")) == sorted(f"{n}.tfrecord.gz" for n in before_names(before))
    assert len(list(strangers(gzip.decompress((records / "to/train00.tfrecord.gz").read_bytes())))) == 20


def before_names(found: dict[str, tuple[int, int]]) -> list[str]:
    return [name.removesuffix(".tfrecord") for name in found if name.endswith(".tfrecord")]


def test_a_corrected_label_numbers_all_shards_anew(videos: Callable[..., tuple[Path, RunSummary]]) -> None:
    here, _ = videos()
    asked = Export(str(here / "out"), str(here / "to"))
    done(asked)
    annotations = here / "a.csv"
    annotations.write_text(annotations.read_text().replace("archery, indoor", "zz"))
    source = {"kind": "kinetics", "uri": f"{here}/tars/*.tar.gz", "annotations": f"{here}/a.csv"}
    run(settings(here, source))
    assert done(asked).written == 2
    assert "0,2,,zumba,,,,," in (here / "to/vocabulary.csv").read_text()


def test_names_survive_without_the_runs_vocabulary(records: Path) -> None:
    (records / "vocabulary.csv").write_text(VOCABULARY.replace("Concert", "Gig"))  # says something else by now
    done(Export(str(records / "out"), str(records / "to")))
    text = (records / "to/vocabulary.csv").read_text().splitlines()
    assert text == [VOCABULARY.splitlines()[0], '3,25,,"Guitar, ""electric""",,,,,', "7,25,,Concert,,,,,"]


def test_s3_holds_the_same_bytes(records: Path, bucket: str) -> None:
    done(Export(str(records / "out"), str(records / "to")))
    asked = Export(str(records / "out"), f"s3://{bucket}/export/")
    done(asked)
    for path in (records / "to").glob("*.*"):
        assert storage.read_bytes(f"s3://{bucket}/export/{path.name}") == path.read_bytes()
    assert export(asked).status == "nothing to do"


def drop_embeddings(out: Path) -> None:
    next(out.glob("embeddings/model=yt8m-vggish/*/train00.parquet")).unlink()


def drop_clips(out: Path) -> None:
    (out / "clips/train00.parquet").unlink()


def damage(out: Path) -> None:
    path = next(out.glob("embeddings/model=yt8m-vggish/*/train00.parquet"))
    data = bytearray(path.read_bytes())
    data[4:2000] = bytes(1996)
    path.write_bytes(data)


def lose_clip(out: Path) -> None:
    """As only a stranger would: rows of `clips` gone, its footer as it was."""
    path = out / "clips/train00.parquet"
    whole = pq.ParquetFile(path).read()
    pq.write_table(whole.slice(1), path)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (drop_embeddings, ("train00", "has no embeddings yt8m-vggish@", "run again, then export again")),
        (drop_clips, ("train00", "under way and not published", "run again")),
        (damage, ("train00.parquet: damaged", "delete it and run again")),
        (lose_clip, ("train00.parquet", "no clip, or no second time, for -0", "vidmill verify")),
    ],
)
def test_an_output_with_a_hole_is_told_and_the_rest_exported(records: Path, harm: Callable[[Path], None], words: tuple[str, ...]) -> None:
    harm(records / "out")
    summary = export(Export(str(records / "out"), str(records / "to")))
    assert summary.status == "work left"
    (problem,) = summary.problems
    assert all(word in problem for word in words), problem
    assert sorted(path.stem for path in (records / "to").glob("*.tfrecord")) == ["bare", "segments", "train0001"]


def test_nothing_of_others_is_overwritten(records: Path) -> None:
    out = str(records / "out")
    shards = files(records / "shards")
    for to, words in {"shards": "records that no export wrote (bare.tfrecord)", "out": "lies in the output", "out/x": "lies in the output"}.items():
        with pytest.raises(Problem, match="name a") as caught:
            export(Export(out, str(records / to)))
        assert words in str(caught.value)
    assert files(records / "shards") == shards
    done(Export(out, str(records / "to")))
    run(records_config(records, "to", "again"))
    with pytest.raises(Problem, match="export of another corpus; name another folder"):
        export(Export(str(records / "again"), str(records / "to")))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rgb": "yt8m-inception"}, "--rgb yt8m-inception: the output has no such embeddings; did you mean yt8m-inception3"),
        ({"audio": "yt8m-vggish@00"}, "--audio yt8m-vggish@00: the output has no such embeddings; there are yt8m-vggish@"),
        ({"rgb": "", "audio": ""}, "choose the embeddings with --rgb and --audio; there are yt8m-inception3@"),
    ],
)
def test_embeddings_that_are_not_there_are_named(records: Path, options: dict[str, str], words: str) -> None:
    with pytest.raises(Problem) as caught:
        export(Export(str(records / "out"), str(records / "to"), **options))
    assert words in str(caught.value)
    assert not (records / "to").exists()


def test_of_several_models_one_must_be_named(records: Path) -> None:
    table_of = next((records / "out/embeddings/model=yt8m-vggish").iterdir())
    for place in ("model=yt8m-vggish/version=aaaa", "model=own/version=bbbb", "model=other/version=cccc"):
        target = records / "out/embeddings" / place
        target.parent.mkdir(exist_ok=True)
        target.symlink_to(table_of)
    with pytest.raises(Problem, match="--audio yt8m-vggish: there are 2 versions of it; name one: yt8m-vggish@"):
        export(Export(str(records / "out"), str(records / "to")))
    summary = export(Export(str(records / "out"), str(records / "to"), rgb="own", audio="other@cccc"))
    assert summary.features == {"rgb": "own@bbbb", "audio": "other@cccc"}
    assert [problem.partition(" yet;")[0] for problem in summary.problems] == [
        "bare: has no embeddings own@bbbb",
        "bare: has no embeddings other@cccc",
    ]


def test_a_place_that_cannot_be_written_ends_the_export(records: Path) -> None:
    (records / "file").write_bytes(b"")
    with pytest.raises(Problem, match="a part of the path is a file"):
        export(Export(str(records / "out"), str(records / "file/to")))


def test_receipts_and_shards_of_any_name_do_not_meet(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/corpus.tfrecord").write_bytes(framed(video_level("v").SerializeToString()))
    run(records_config(tmp_path))
    asked = Export(str(tmp_path / "out"), str(tmp_path / "to"))
    done(asked)
    assert export(asked).status == "nothing to do"
    assert json.loads((tmp_path / "to/_export/corpus.json").read_text())["corpus"].startswith("youtube8m ")


def test_an_example_is_the_start_of_a_sequence_example() -> None:
    record = video_level("v")
    assert SequenceExample.FromString(record.SerializeToString()).context == record.features
    assert isinstance(record.features, Features)
    assert path_of("out", "clips", "a") == "out/clips/a.parquet"
