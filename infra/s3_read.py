"""Objects in S3 opened for reading: in blocks that are fetched ahead, or in exactly the ranges that are asked for.

Refuses an object replaced since it was listed, and answers of stores that ignore If-Match or Range, or cut them. Knows S3's GET.
"""

import io
from collections import OrderedDict
from concurrent.futures import Future
from typing import Any, cast

from infra.s3_error import Refused
from infra.s3_request import submit, where
from infra.store import Cause, ObjectInfo, StorageError


def etag_of(answer: dict[str, Any]) -> str:
    """The ETag in an answer, without its quotes."""
    return str(answer["ETag"]).strip('"')


class _Opened(io.RawIOBase):
    """An object and a place in it."""

    def __init__(self, found: ObjectInfo) -> None:
        self._found = found
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._found.size_bytes}[whence]
        if base + offset < 0:
            raise ValueError(f"seek before the beginning: {base + offset}")
        self._position = base + offset
        return self._position

    def _fetch(self, start: int, end: int) -> "Future[dict[str, Any]]":
        return submit(self._found.uri, "get_object", **where(self._found.uri), Range=f"bytes={start}-{end - 1}", IfMatch=f'"{self._found.etag}"')

    def _checked(self, answer: dict[str, Any], expected: int) -> bytes:
        if etag_of(answer) != self._found.etag:
            raise Refused(self._found.uri, Cause.CHANGED)
        if len(answer["Body"]) != expected:
            raise StorageError(self._found.uri, Cause.FAILED, f"{len(answer['Body'])} bytes came where {expected} were asked for")
        return cast(bytes, answer["Body"])


class Ranges(_Opened):
    """Each read is one request, of no more than is asked for."""

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._found.size_bytes)
        if end <= self._position:
            return 0
        part = self._checked(self._fetch(self._position, end).result(), end - self._position)
        buffer[: len(part)] = part
        self._position = end
        return len(part)


class Blocks(_Opened):
    """An object in blocks: a few of them held, the next ones under way."""

    def __init__(self, found: ObjectInfo, block_bytes: int, keep: int, ahead: int) -> None:
        super().__init__(found)
        self._block_bytes, self._keep, self._ahead = block_bytes, keep, ahead
        self._blocks: OrderedDict[int, Future[dict[str, Any]]] = OrderedDict()
        self._last = -1

    def readinto(self, buffer: Any) -> int:
        if self._position >= self._found.size_bytes:
            return 0
        index, start = divmod(self._position, self._block_bytes)
        part = memoryview(self._block(index))[start : start + len(buffer)]
        buffer[: len(part)] = part
        self._position += len(part)
        return len(part)

    def close(self) -> None:
        if not self.closed:
            for block in self._blocks.values():
                block.cancel()
            self._blocks.clear()
        super().close()

    def _block(self, index: int) -> bytes:
        ahead = self._ahead if index - self._last in (0, 1) else 0
        for wanted in range(index, index + 1 + ahead):
            if wanted * self._block_bytes < self._found.size_bytes and wanted not in self._blocks:
                self._blocks[wanted] = self._fetch(*self._range(wanted))
        self._blocks.move_to_end(index)
        answer = self._blocks[index].result()
        self._last = index
        for stale in [held for held in self._blocks if not index <= held <= index + ahead][: max(0, len(self._blocks) - self._keep)]:
            self._blocks.pop(stale).cancel()
        start, end = self._range(index)
        return self._checked(answer, end - start)

    def _range(self, index: int) -> tuple[int, int]:
        start = index * self._block_bytes
        return start, min(start + self._block_bytes, self._found.size_bytes)
