"""The feature lists of a SequenceExample as arrays, without a Python object per frame.

    [tag][length][tag][length][tag][length] 1024 bytes | the same again | ...        one list: rows of one width
     Feature      BytesList    value

Where all rows begin with the same bytes the list is one array of the record's own bytes, checked in one comparison. What is not so regular, and is
legal all the same, goes through the generated protos. Knows protocol buffers' wire format, nothing of YouTube-8M.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from google.protobuf.message import DecodeError

from tasks.example_pb2 import FeatureList, Features

CONTEXT, FEATURE_LISTS = 1, 2  # fields of SequenceExample; an Example's features are its field 1 too
KEY, VALUE = 1, 2  # of a map's entry
BYTES = 2  # wire type: a length, then so many bytes
MOST_VARINT_BYTES = 10


class Malformed(Exception):
    """Bytes that are no message; the message says where."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A record's two halves."""

    context: Features
    lists: Mapping[str, memoryview]  # FeatureList messages by name; of several with one name the last, as protocol buffers have it


def parts_of(data: bytes | memoryview) -> Parts:
    """Take a SequenceExample, or an Example, apart.

    Raises:
        Malformed: it is neither.
    """
    context, view = Features(), memoryview(data)
    lists: dict[str, memoryview] = {}
    for field, part in _messages(view):
        if field == CONTEXT:
            try:
                context.MergeFromString(bytes(part))
            except DecodeError as error:
                raise Malformed(f"its features are no message: {error}") from error
        elif field == FEATURE_LISTS:
            lists.update(_entry(entry) for number, entry in _messages(part) if number == 1)
    return Parts(context, lists)


def rows_of(part: memoryview) -> list[np.ndarray] | np.ndarray:
    """The rows of one list of byte strings.

    Args:
        part: a FeatureList message.

    Returns:
        uint8 [N, W], a view of the record's own bytes; or a list of N uint8 arrays where their widths differ.

    Raises:
        Malformed: it is no list of byte strings, one in each feature.
    """
    found = _regular(part)
    return _irregular(part) if found is None else found


def _regular(part: memoryview) -> np.ndarray | None:
    if not part:
        return np.empty((0, 0), np.uint8)
    start, ends = 0, set()
    for _ in range(3):  # Feature, its BytesList, its value
        if start >= len(part) or part[start] != 1 << 3 | BYTES:
            return None
        width, start = _varint(part, start + 1)
        ends.add(start + width)
    stride = ends.pop()
    if ends or len(part) % stride:
        return None
    rows = np.frombuffer(part, np.uint8).reshape(-1, stride)
    if rows[:, :start].tobytes() != bytes(part[:start]) * len(rows):
        return None
    return rows[:, start:]


def _irregular(part: memoryview) -> list[np.ndarray] | np.ndarray:
    message = FeatureList()
    try:
        message.ParseFromString(bytes(part))
    except DecodeError as error:
        raise Malformed(f"a feature list is no message: {error}") from error
    values = [feature.bytes_list.value for feature in message.feature]
    if any(len(value) != 1 for value in values):
        raise Malformed("a feature list's feature does not hold one byte string")
    rows = [np.frombuffer(value[0], np.uint8) for value in values]
    return np.stack(rows) if len({len(row) for row in rows}) == 1 else rows


def _entry(entry: memoryview) -> tuple[str, memoryview]:
    key, value = "", memoryview(b"")
    for field, part in _messages(entry):
        if field == KEY:
            try:
                key = bytes(part).decode()
            except UnicodeDecodeError as error:
                raise Malformed("a feature list's name is no UTF-8") from error
        elif field == VALUE:
            value = part
    return key, value


def _messages(view: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Number and content of every field that is bytes; others are passed over."""
    at, end = 0, len(view)
    while at < end:
        tag, at = _varint(view, at)
        if not tag >> 3:
            raise Malformed(f"a field without number at byte {at:,}")
        match tag & 7:
            case 2:
                size, begin = _varint(view, at)
                at = begin + size
                if at <= end:
                    yield tag >> 3, view[begin:at]
            case 0:
                _, at = _varint(view, at)
                continue
            case 1 | 5 as kind:
                at += 8 if kind == 1 else 4
            case other:
                raise Malformed(f"wire type {other} at byte {at:,}")
        if at > end:
            raise Malformed(f"a field ends after the message, at byte {at:,} of {end:,}")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    if at < len(view) and (byte := view[at]) < 0x80:
        return byte, at + 1
    value = shift = 0
    for place, byte in enumerate(bytes(view[at : at + MOST_VARINT_BYTES]), at + 1):
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise Malformed(f"a number without end at byte {at:,}")
