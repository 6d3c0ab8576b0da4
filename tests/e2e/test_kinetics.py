"""Kinetics shards as the world has them: every fault told, every good clip out, labels and replacements joined."""

import csv
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from infra.settings import LimitsConfig
from tasks.decode import open_clip
from tasks.verify import verify
from tests.corpus import bad_clips, clip, config_for, files, name_of, spoil, table, write_tar
from tests.e2e.conftest import Run

BAD = {"CORRUPT": 100, "EMPTY": 101, "NO_VIDEO": 102, "TRUNCATED": 103}
REPLACED = 104
SHORT = 105  # 1 s long, 10 s announced
UNANNOTATED = 2
ABSENT = 50


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gzipped shard with every kind of bad member, a plain tar named .tar.gz with a path prefix, and a truncated archive."""
    folder = tmp_path_factory.mktemp("corpus")
    good = {f"./{name_of(n)}.mp4": clip(n) for n in range(3)}
    bad = {f"./{name_of(BAD[kind])}.mp4": data for kind, data in bad_clips().items()}
    odd = {
        f"./._{name_of(0)}.mp4": b"Mac OS X        ",
        "./holiday.mp4": clip(7),
        "./list.txt": b"not a clip",
        f"./{name_of(REPLACED)}.mp4": b"damaged in the original",
        f"./{name_of(SHORT)}.mp4": clip(SHORT, seconds=1),
    }
    write_tar(folder / "part_0.tar.gz", {**good, **bad, **odd})
    write_tar(folder / "part_1.tar.gz", {f"val_256/{name_of(n)}.mp4": clip(n) for n in (10, 11)}, gz=False)
    cut_archive(folder / "part_2.tar.gz", {f"./{name_of(n)}.mp4": clip(n) for n in (20, 21)})
    write_tar(folder / "replacement_for_corrupted_k400.tgz", {f"replacement/{name_of(n)}.mp4": clip(n) for n in (REPLACED, 99)})
    write_annotations(folder / "train.csv")
    return folder


def cut_archive(path: Path, members: dict[str, bytes]) -> None:
    """An archive that ends inside its last member."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as archive:
        last = archive.getmembers()[-1].offset_data
    path.write_bytes(buffer.getvalue()[: last + 1000])


def write_annotations(path: Path) -> None:
    numbers = [n for n in (0, 1, 2, 10, 11, 20, 21, ABSENT, REPLACED, SHORT, *BAD.values()) if n != UNANNOTATED]
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "youtube_id", "time_start", "time_end", "split", "is_cc"])
        rows.writerows([f"label {n % 7}", name_of(n).rsplit("_", 2)[0], n, n + 10, "train", 0] for n in numbers)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("output") / "k400"


def settings(corpus: Path, output: Path, **more: object):
    source = {
        "kind": "kinetics",
        "uri": f"{corpus}/part_*.tar.gz",
        "annotations": f"{corpus}/train.csv",
        "replacements": f"{corpus}/replacement_for_corrupted_k400.tgz",
    }
    return config_for(source, output, tag=["efficientnet-lite0"], limits={"max_failed": 20}, **more)


def test_every_fault_is_one_failure_and_every_good_clip_a_row(run: Run, corpus: Path, output: Path) -> None:
    """P1: remove the roster check in publish and a lost member would pass."""
    summary = run(settings(corpus, output))
    assert (summary.status, summary.problems) == ("done", ())
    good = sorted(name_of(n) for n in (0, 1, 2, 10, 11, 20, REPLACED, SHORT))
    for folder in ("clips", "embeddings", "tags"):
        assert table(output, folder)["clip_id"].to_pylist() == good
    failed = {row["clip_id"] or row["member"].rpartition("!")[2]: row["kind"] for row in table(output, "failures").to_pylist()}
    assert failed == {
        **{name_of(number): kind for kind, number in BAD.items()},
        f"._{name_of(0)}.mp4": "BAD_NAME",
        "holiday.mp4": "BAD_NAME",
        name_of(21): "TRUNCATED",
    }
    assert not verify(str(output)).faults


def test_labels_are_joined_and_coverage_is_told(run: Run, corpus: Path, output: Path) -> None:
    rows = {row["clip_id"]: row for row in table(output, "clips").to_pylist()}
    assert (rows[name_of(0)]["label"], rows[name_of(0)]["split"], rows[name_of(UNANNOTATED)]["label"]) == ("label 0", "train", None)
    coverage = run(settings(corpus, output)).coverage
    assert (coverage.annotated, coverage.absent, coverage.unannotated, coverage.replaced, coverage.ignored) == (13, 1, 3, 1, 1)
    assert coverage.present == 15


def test_replacements_override_members(output: Path) -> None:
    row = next(row for row in table(output, "clips").to_pylist() if row["clip_id"] == name_of(REPLACED))
    assert row["uri"].endswith(f"replacement_for_corrupted_k400.tgz!replacement/{name_of(REPLACED)}.mp4")
    assert row["shard"] == "part_0"


def test_times_are_those_announced_and_durations_those_measured(output: Path) -> None:
    row = next(row for row in table(output, "clips").to_pylist() if row["clip_id"] == name_of(SHORT))
    assert (row["start_s"], row["end_s"], row["duration_s"], row["frames"]) == (105.0, 115.0, 1.0, 10)
    assert row["video_id"] == "-a_b-000105"


def test_embeddings_equal_a_recomputation_from_the_frames_at_frame_time_s(output: Path) -> None:
    """Against the package efficientnet-lite-pytorch and Pillow, which share no code with us."""
    torch = pytest.importorskip("torch")
    from efficientnet_lite_pytorch import EfficientNet
    from PIL import Image

    from models.catalog import built_in
    from models.weights import fetch

    spec = built_in()[0]
    network = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(fetch(spec.weights, spec.sha256))).eval()
    for row in table(output, "embeddings").to_pylist()[:3]:
        number = int(row["clip_id"].split("_")[-2])
        with open_clip(io.BytesIO(clip(number)), fps=1000, window=None, limits=LimitsConfig()) as decoded:
            frames = {round(frame.time_s, 4): frame.rgb for frame in decoded}
        assert row["frame_time_s"] == [0.0, 1.0]
        pictures = [Image.fromarray(frames[round(time_s, 4)]) for time_s in row["frame_time_s"]]
        squares = np.stack([np.asarray(picture.resize((320, 256), Image.Resampling.BICUBIC))[16:240, 48:272] for picture in pictures])
        with torch.inference_mode():
            x = (torch.from_numpy(squares.copy()).permute(0, 3, 1, 2).float() - 127) / 128
            expected = network.extract_features(x).mean((2, 3)).mean(0).numpy()
        found = np.array(row["embedding"])
        assert found @ expected / np.linalg.norm(found) / np.linalg.norm(expected) > 0.999


def test_a_third_run_has_nothing_to_do_and_touches_no_file(run: Run, corpus: Path, output: Path) -> None:
    """P5: drop the etag comparison in the plan and this run would work again."""
    before = files(output)
    hidden = corpus.rename(corpus.with_name("moved"))
    hidden.rename(corpus)
    assert run(settings(corpus, output)).status == "nothing to do"
    assert files(output) == before


def test_a_corrected_csv_republishes_labels_without_opening_media(run: Run, corpus: Path, output: Path) -> None:
    before = files(output)
    path = corpus / "train.csv"
    path.write_text(path.read_text().replace("label 0", "label zero"))
    for archive in corpus.glob("part_*.tar.gz"):
        spoil(archive)
    summary = run(settings(corpus, output))
    assert (summary.status, summary.clips) == ("done", 0)
    rows = {row["clip_id"]: row["label"] for row in table(output, "clips").to_pylist()}
    assert rows[name_of(0)] == "label zero"
    changed = {name for name, state in files(output).items() if before.get(name) != state and not name.startswith("_")}
    assert changed == {f"clips/part_{shard}.parquet" for shard in range(3)}
