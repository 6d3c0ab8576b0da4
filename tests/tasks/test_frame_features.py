"""Frames come out of a table as they went in, whatever is sliced or missing; inputs of a clip become one sequence."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.encoded import EncodedClip
from tasks.frame_features import aligned, columns_of, frames_of, values_of, width_of
from tasks.record_rows import embedding_rows
from tasks.schema import embeddings_schema
from tasks.youtube8m import LOWEST, STEP, Record, mean_of
from tests.tasks.test_youtube8m import codes

LENGTHS = st.lists(st.integers(0, 4), min_size=1, max_size=6)


def records(lengths: list[int]) -> tuple[list[np.ndarray], pa.RecordBatch]:
    """Codes, of which none makes a video-level record, and their table."""
    parsed, lists = [], []
    for index, length in enumerate(lengths):
        rows = codes(length, 128)
        mean = mean_of(rows) if length else np.full(128, index, np.float32)
        record = Record(f"r{index}", (1,), {"audio": rows} if length else {}, {"audio": mean})
        parsed.append((EncodedClip(record.id, record.id, "x", "e", 1, 0.0, None), record))
        lists.append(rows)
    (batch,) = embedding_rows(parsed, "audio", shard="s").combine_chunks().to_batches()
    return lists, batch


@given(LENGTHS, st.data())
def test_codes_come_back_from_any_slice(lengths: list[int], data: st.DataObject) -> None:
    lists, batch = records(lengths)
    start = data.draw(st.integers(0, len(lengths) - 1))
    found = frames_of(batch.slice(start, data.draw(st.integers(1, len(lengths) - start))))
    for index, (rows, wanted) in enumerate(zip(found, lists[start:], strict=False), start):
        if len(wanted):
            assert rows.dtype == np.uint8
            assert np.array_equal(rows, wanted)
        else:
            assert np.array_equal(rows, np.full((1, 128), index, np.float32))


@given(LENGTHS)
def test_float16_frames_come_back_and_means_where_there_are_none(lengths: list[int]) -> None:
    random = np.random.default_rng(lengths)
    frames = [random.normal(size=(length, 5)).astype(np.float16) for length in lengths]
    means = random.normal(size=(len(lengths), 5)).astype(np.float32)
    schema = embeddings_schema(5, per_frame=True)
    columns = {"clip_id": [str(index) for index in range(len(lengths))], "embedding": list(means), "frame_embedding": [list(rows) for rows in frames]}
    (batch,) = pa.table({name: pa.array(values, schema.field(name).type) for name, values in columns.items()}).to_batches()
    assert width_of(batch.schema) == 5
    assert columns_of(batch.schema) == ["frame_embedding", "embedding"]
    for rows, wanted, mean in zip(frames_of(batch), frames, means, strict=True):
        assert np.array_equal(rows, wanted if len(wanted) else mean[None])
    assert all(np.array_equal(rows, mean[None]) for rows, mean in zip(frames_of(batch.drop_columns(["frame_embedding"])), means, strict=True))


def test_codes_become_what_they_stand_for_and_the_rest_stays() -> None:
    every = np.arange(256, dtype=np.uint8)[:, None]
    assert values_of(every) == pytest.approx(every * STEP + LOWEST, abs=1e-6)
    assert values_of(every).dtype == values_of(every.astype(np.float16)).dtype == np.float32
    assert np.array_equal(values_of(every.astype(np.float16)), every)


def test_the_mean_of_the_values_is_the_stored_mean() -> None:
    """So the same tagger gives a video-level shard what it gives the frame-level one."""
    rows = codes(231, 1024)
    assert values_of(rows).mean(0) == pytest.approx(mean_of(rows), abs=1e-5)


@given(st.lists(st.integers(1, 12), min_size=1, max_size=3), st.integers(1, 8))
def test_inputs_become_one_sequence(lengths: list[int], most: int) -> None:
    inputs = [np.arange(length)[:, None] + 100 * index for index, length in enumerate(lengths)]
    found = aligned(inputs, most=most)
    longer = [length for length in lengths if length > 1]
    assert {len(rows) for rows in found} == {min([*longer, most]) if longer else 1}
    moments = [rows[:, 0] - 100 * index for index, (rows, length) in enumerate(zip(found, lengths, strict=True)) if length > 1]
    assert all(np.array_equal(other, moments[0]) for other in moments)
    for index, (rows, length) in enumerate(zip(found, lengths, strict=True)):
        assert length > 1 or (rows == 100 * index).all()
