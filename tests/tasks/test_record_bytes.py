"""What is assembled by hand is what the generated protos read, and what vidmill's own parser reads."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks import record_bytes
from tasks.example_pb2 import Example, SequenceExample
from tasks.frame_lists import parts_of, rows_of

INT64 = st.integers(-(2**63), 2**63 - 1)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SHAPES = st.tuples(st.integers(0, 5), st.integers(1, 300))
FLOATS = arrays(np.float32, st.integers(0, 300), elements=st.floats(width=32))


def bits(values: np.ndarray) -> bytes:
    """NaN included."""
    return values.astype("<f4").tobytes()


@given(NAMES, st.binary(max_size=300), st.lists(INT64, max_size=20), FLOATS)
def test_a_context_is_what_the_protos_read(name: str, text: bytes, numbers: list[int], floats: np.ndarray) -> None:
    context = {
        f"b{name}": record_bytes.bytes_feature(text),
        f"i{name}": record_bytes.integers_feature(numbers),
        f"f{name}": record_bytes.floats_feature(floats),
    }
    data = record_bytes.record(context, {})
    for features in (Example.FromString(data).features.feature, SequenceExample.FromString(data).context.feature):
        assert list(features[f"b{name}"].bytes_list.value) == [text]
        assert list(features[f"i{name}"].int64_list.value) == numbers
        assert bits(np.array(features[f"f{name}"].float_list.value, np.float32)) == bits(floats)


@given(arrays(np.uint8, SHAPES), arrays(np.float32, SHAPES, elements=st.floats(-1e9, 1e9, width=32)))
def test_lists_are_what_the_protos_and_the_reader_read(codes: np.ndarray, vectors: np.ndarray) -> None:
    lists = {"rgb": record_bytes.bytes_list(codes), "floats": record_bytes.floats_list(vectors)}
    data = record_bytes.record({"id": record_bytes.bytes_feature(b"x")}, lists)
    found = SequenceExample.FromString(data)
    assert found.context.feature["id"].bytes_list.value == [b"x"]
    rows = found.feature_lists.feature_list
    assert [list(row.bytes_list.value) for row in rows["rgb"].feature] == [[row.tobytes()] for row in codes]
    assert [list(row.float_list.value) for row in rows["floats"].feature] == vectors.tolist()
    read = rows_of(parts_of(data).lists["rgb"])
    assert np.array_equal(read, codes) or len(codes) == len(read) == 0


@pytest.mark.parametrize("width", [1, 127, 128, 1024, 16383, 16384])
def test_a_list_is_byte_for_byte_what_the_protos_write(width: int) -> None:
    codes = np.arange(3 * width, dtype=np.uint32).astype(np.uint8).reshape(3, width)
    wanted = SequenceExample()
    for row in codes:
        wanted.feature_lists.feature_list["rgb"].feature.add().bytes_list.value.append(row.tobytes())
    assert record_bytes.record({}, {"rgb": record_bytes.bytes_list(codes)}) == b"\x0a\x00" + wanted.SerializeToString()


def test_rows_of_another_order_in_memory_come_out_the_same() -> None:
    turned = np.arange(6, dtype=np.float64).reshape(3, 2).T
    (row, _) = (
        SequenceExample.FromString(record_bytes.record({}, {"rgb": record_bytes.floats_list(turned)})).feature_lists.feature_list["rgb"].feature
    )
    assert struct.pack("<3f", *row.float_list.value) == struct.pack("<3f", 0, 2, 4)
