"""Clips and vectors meet in one pass, with a few rows in memory."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra import disk, storage
from tasks.clip_features import BUFFER_BYTES, ClipFeatures, DamagedShard, clip_features

WIDTH = 4
IDS = st.lists(st.text("ab\u00e9\U0001f600-_", min_size=1, max_size=4), unique=True, max_size=60)


def write(path: Path, ids: list[str], *, codes: bool) -> Path:
    """A file as publication leaves it: sorted, here in several row groups; every third row without frames."""
    ordered = sorted(ids)
    counts = [k % 3 for k in range(len(ordered))]
    means = pa.FixedSizeListArray.from_arrays(pa.array(np.arange(len(ordered) * WIDTH, dtype=np.float32)), WIDTH)
    rows = np.arange(sum(counts) * WIDTH).reshape(-1, WIDTH)
    values = (
        pa.FixedSizeBinaryArray.from_buffers(pa.binary(WIDTH), len(rows), [None, pa.py_buffer(rows.astype(np.uint8))])
        if codes
        else pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float16).ravel()), WIDTH)
    )
    frames = pa.ListArray.from_arrays(pa.array(np.cumsum([0, *counts]), pa.int32()), values)
    name = "frame_codes" if codes else "frame_embedding"
    pq.write_table(pa.table({"clip_id": pa.array(ordered, pa.string()), "embedding": means, name: frames}), path, row_group_size=7)
    return path


def clips(path: Path, ids: list[str]) -> Path:
    pq.write_table(pa.table({"clip_id": pa.array(sorted(ids), pa.string()), "label": pa.array(["x"] * len(ids), pa.string())}), path)
    return path


def read(folder: Path, tables: dict[str, Path], *, per_frame: bool = True) -> list[ClipFeatures]:
    return list(clip_features(str(folder / "clips"), {name: str(path) for name, path in tables.items()}, columns=("label",), per_frame=per_frame))


@given(IDS, st.data(), st.booleans())
def test_every_clip_gets_its_own_vectors(tmp_path_factory: pytest.TempPathFactory, ids: list[str], data: st.DataObject, codes: bool) -> None:
    here = tmp_path_factory.getbasetemp()
    clips(here / "clips", ids)
    some = sorted(name for name in ids if data.draw(st.booleans()))
    found = read(here, {"rgb": write(here / "rgb", some, codes=codes)})
    assert [clip.row for clip in found] == [{"clip_id": name, "label": "x"} for name in sorted(ids)]
    assert [clip.row["clip_id"] for clip in found if clip.vectors] == some
    at = 0
    for row, clip in enumerate(clip for clip in found if clip.vectors):
        vectors, count = clip.vectors["rgb"], row % 3
        assert np.array_equal(vectors.mean, np.arange(row * WIDTH, (row + 1) * WIDTH, dtype=np.float32))
        frames, absent = (vectors.codes, vectors.frames) if codes else (vectors.frames, vectors.codes)
        assert absent is None
        wanted = np.arange(at * WIDTH, (at + count) * WIDTH).reshape(-1, WIDTH).astype(np.uint8 if codes else np.float16)
        assert frames is None if not count else frames is not None and np.array_equal(frames, wanted)
        at += count


def test_without_frames_none_are_read(tmp_path: Path) -> None:
    clips(tmp_path / "clips", ["a", "b"])
    found = read(tmp_path, {"rgb": write(tmp_path / "rgb", ["a", "b"], codes=True)}, per_frame=False)
    assert [(clip.vectors["rgb"].codes, clip.vectors["rgb"].frames) for clip in found] == [(None, None)] * 2


@pytest.mark.parametrize("ids", [["a", "x"], ["0", "a"]])
def test_a_vector_without_a_clip_is_told(tmp_path: Path, ids: list[str]) -> None:
    clips(tmp_path / "clips", ["a", "b"])
    with pytest.raises(DamagedShard, match="rgb: no clip, or no second time, for"):
        read(tmp_path, {"rgb": write(tmp_path / "rgb", ids, codes=True)})


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    clips(tmp_path / "clips", ["a"])
    path = write(tmp_path / "rgb", ["a"], codes=True)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedShard, match=r"rgb: damaged .*; delete it and run again"):
        read(tmp_path, {"rgb": path})


def test_a_long_row_group_is_read_in_small_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow asks for a whole column, or row group, unless it is told otherwise."""
    asked: list[int] = []

    class Watched(disk.File):
        def read(self, size: int = -1) -> bytes:
            asked.append(size)
            return super().read(size)

    names, width = [f"{k:04d}" for k in range(100)], 1024
    rows = np.random.default_rng(0).integers(0, 256, (100 * 80, width), np.uint8)  # 8 MB that do not shrink
    values = pa.FixedSizeBinaryArray.from_buffers(pa.binary(width), len(rows), [None, pa.py_buffer(rows)])
    frames = pa.ListArray.from_arrays(pa.array(range(0, len(rows) + 1, 80), pa.int32()), values)
    means = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(100, np.float32)), 1)
    pq.write_table(pa.table({"clip_id": names, "embedding": means, "frame_codes": frames}), tmp_path / "rgb", use_dictionary=False)
    clips(tmp_path / "clips", names)
    monkeypatch.setattr(storage, "open_seekable", lambda uri: Watched(str(uri), "rb"))
    found = read(tmp_path, {"rgb": tmp_path / "rgb"})
    assert np.array_equal(np.concatenate([clip.vectors["rgb"].codes for clip in found]), rows)
    assert max(asked) <= 2 * BUFFER_BYTES
