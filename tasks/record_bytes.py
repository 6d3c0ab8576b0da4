"""Records of YouTube-8M as bytes: features in, one SequenceExample out, without a Python object per frame; the way back is `tasks.frame_lists`.

    context        id, labels, ...     values as protocol buffers pack them
    feature lists  rgb, audio          [tag][length][tag][length][tag][length] row | the same again | ...

Rows of one width differ in nothing but their content, so a list is one array whose first columns are the same bytes in every row. Without lists it is
an Example, which has its features where a SequenceExample has its context. Knows the wire format, nothing of tables or framing.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

LENGTH = 2  # wire type: a length, then so many bytes
BYTES_LIST, FLOAT_LIST, INT64_LIST = 1, 2, 3  # fields of Feature
CONTEXT, FEATURE_LISTS = 1, 2  # fields of SequenceExample; an Example's features are its field 1 too
MASK64 = (1 << 64) - 1


def bytes_feature(value: bytes) -> bytes:
    """A Feature with one byte string."""
    return _field(BYTES_LIST, _field(1, value))


def integers_feature(values: Iterable[int]) -> bytes:
    """A Feature of int64."""
    return _field(INT64_LIST, _field(1, b"".join(map(_varint, values))))


def floats_feature(values: "np.ndarray | Sequence[float]") -> bytes:
    """A Feature of float32 [N]."""
    return _field(FLOAT_LIST, _field(1, _floats(values).tobytes()))


def bytes_list(rows: np.ndarray) -> memoryview:
    """A FeatureList with one byte string per frame, of uint8 [N, W]."""
    return _list(rows, BYTES_LIST)


def floats_list(rows: np.ndarray) -> memoryview:
    """A FeatureList with W numbers per frame, of float32 [N, W]."""
    return _list(_floats(rows).view(np.uint8), FLOAT_LIST)


def record(context: Mapping[str, bytes], lists: Mapping[str, memoryview]) -> bytes:
    """A SequenceExample; without lists it is an Example as well.

    Args:
        context: Feature messages by name.
        lists: FeatureList messages by name.
    """
    features = b"".join(_field(1, _field(1, name.encode()) + _field(2, feature)) for name, feature in context.items())
    entries = [part for name, rows in lists.items() for part in _entry(name.encode(), rows)]
    size = sum(memoryview(part).nbytes for part in entries)
    return b"".join([_field(CONTEXT, features), *([_head(FEATURE_LISTS, size)] if lists else []), *entries])


def _list(rows: np.ndarray, kind: int) -> memoryview:
    count, width = rows.shape
    value = _head(1, width)
    values = _head(kind, len(value) + width)
    prefix = _head(1, len(values) + len(value) + width) + values + value
    whole = np.empty((count, len(prefix) + width), np.uint8)
    whole[:, : len(prefix)] = np.frombuffer(prefix, np.uint8)
    whole[:, len(prefix) :] = rows
    return whole.data


def _entry(name: bytes, rows: memoryview) -> tuple[bytes | memoryview, ...]:
    """A map's entry, its value not copied."""
    key, value = _field(1, name), _head(2, rows.nbytes)
    return _head(1, len(key) + len(value) + rows.nbytes), key, value, rows


def _floats(values: "np.ndarray | Sequence[float]") -> np.ndarray:
    """The same numbers as they travel: float32, little endian, row after row."""
    return np.ascontiguousarray(values, "<f4")


def _field(number: int, content: bytes) -> bytes:
    return _head(number, len(content)) + content


def _head(number: int, size: int) -> bytes:
    return _varint(number << 3 | LENGTH) + _varint(size)


def _varint(value: int) -> bytes:
    """A number, seven bits a byte, the lowest first; negative ones as their 64 bits."""
    left, found = value & MASK64, bytearray()
    while left >= 0x80:
        found.append(left & 0x7F | 0x80)
        left >>= 7
    found.append(left)
    return bytes(found)
