"""Every legal record comes apart as protocol buffers say, the regular ones without a copy; what is no record is told, never a crash."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.example_pb2 import Example, FeatureList, SequenceExample
from tasks.frame_lists import Malformed, parts_of, rows_of

ROWS = st.integers(0, 300).flatmap(lambda width: st.lists(st.binary(min_size=width, max_size=width), max_size=5))


def sequence(lists: dict[str, list[bytes]], *, name: bytes = b"vid") -> bytes:
    record = SequenceExample()
    record.context.feature["id"].bytes_list.value.append(name)
    for key, rows in lists.items():
        wanted = record.feature_lists.feature_list[key]
        for row in rows:
            wanted.feature.add().bytes_list.value.append(row)
    return record.SerializeToString()


@given(rgb=ROWS, audio=ROWS)
def test_lists_of_one_width_are_arrays(rgb: list[bytes], audio: list[bytes]) -> None:
    parts = parts_of(sequence({"rgb": rgb, "audio": audio}))
    assert parts.context.feature["id"].bytes_list.value[0] == b"vid"
    for name, wanted in (("rgb", rgb), ("audio", audio)):
        assert [bytes(row) for row in rows_of(parts.lists[name])] == wanted


@given(st.lists(st.binary(max_size=300), max_size=6))
def test_lists_of_several_widths_are_rows(rows: list[bytes]) -> None:
    assert [bytes(row) for row in rows_of(parts_of(sequence({"rgb": rows})).lists["rgb"])] == rows


def test_a_regular_list_is_not_copied() -> None:
    data = sequence({"rgb": [bytes(1024)] * 300})
    rows = rows_of(parts_of(data).lists["rgb"])
    assert isinstance(rows, np.ndarray)
    assert rows.shape == (300, 1024)
    assert np.shares_memory(rows, np.frombuffer(data, np.uint8))


def test_a_row_that_looks_like_the_next_ones_head_is_no_head() -> None:
    """Two rows, the second with other lengths, that together have the length of two of the first."""
    message = FeatureList()
    for row in (b"a" * 10, b"b" * 9):
        message.feature.add().bytes_list.value.append(row)
    message.feature.add()
    with pytest.raises(Malformed, match="does not hold one byte string"):
        rows_of(memoryview(message.SerializeToString()))


def test_an_example_has_features_and_no_lists() -> None:
    record = Example()
    record.features.feature["mean_rgb"].float_list.value.extend([0.5, 1.5])
    parts = parts_of(record.SerializeToString())
    assert list(parts.context.feature["mean_rgb"].float_list.value) == [0.5, 1.5]
    assert parts.lists == {}


@given(st.binary(max_size=200))
@example(b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
@example(b"\x0a\x05abc")
def test_any_bytes_are_a_record_or_malformed(data: bytes) -> None:
    try:
        for part in parts_of(data).lists.values():
            rows_of(part)
    except Malformed:
        pass


@given(st.data())
def test_a_wounded_record_is_a_record_or_malformed(data: st.DataObject) -> None:
    whole = bytearray(sequence({"rgb": [bytes(range(40))] * 3, "audio": [b"12"] * 3}))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = [[bytes(row) for row in rows_of(part)] for part in parts_of(bytes(whole)).lists.values()]
    except Malformed:
        return
    # protobuf leaves out a list whose entry holds fields it does not know; here it comes out.
    record = SequenceExample.FromString(bytes(whole))
    wanted = [[feature.bytes_list.value[0] for feature in entry.feature] for entry in record.feature_lists.feature_list.values()]
    assert all(rows in found for rows in wanted)
