"""Rows of one Parquet file, some at a time: first a few small columns of all, later whole rows by their number.

    [ row group 0 ][ row group 1 ][ row group 2 ] footer
                    ^^^^^^^^^^^^^^^^^^^^^^^^^^^^          rows([4, 6]): the groups that hold them, one request where they lie side by side

A file that is to be read so has small row groups; `save` writes them. Knows Parquet, nothing of what the rows mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage
from infra.storage import ObjectInfo

GROUP_BYTES = 256 << 10  # of rows that are read together; a row may be larger
DAMAGED = (pa.ArrowException, OSError, KeyError)  # Arrow says OSError of damaged pages and footers
NUMBER = "row number"  # column of `StoredRows.small`


# Arrow's own allocator keeps what large rows took: a shard of 300 MB was published in 790 MB with it, in 560 without, and no slower.
pa.set_memory_pool(pa.system_memory_pool())


@dataclass(frozen=True, slots=True)
class StoredRows:
    """One file, its footer read."""

    found: ObjectInfo
    metadata: pq.FileMetaData
    small: pa.Table  # the columns asked for, and NUMBER

    def sizes(self) -> np.ndarray:
        """About how many bytes each row has in memory: int64 [rows]."""
        groups = [self.metadata.row_group(number) for number in range(self.metadata.num_row_groups)]
        return np.repeat([group.total_byte_size // max(1, group.num_rows) for group in groups], [group.num_rows for group in groups])

    def rows(self, numbers: Sequence[int]) -> pa.Table:
        """These rows with all columns, in the order given; raises as `stored_rows`."""
        starts = np.cumsum([0, *(self.metadata.row_group(number).num_rows for number in range(self.metadata.num_row_groups))])
        group_of = np.searchsorted(starts, numbers, side="right") - 1
        groups, at = np.unique(group_of, return_inverse=True)
        before = np.cumsum([0, *(starts[groups + 1] - starts[groups])])
        with storage.open_ranges(self.found) as file:
            table = pq.ParquetFile(file, metadata=self.metadata, pre_buffer=True, page_checksum_verification=True).read_row_groups(
                groups.tolist(), use_threads=False
            )
        wanted = np.asarray(numbers) - starts[group_of] + before[at]
        return table if np.array_equal(wanted, np.arange(table.num_rows)) else table.take(pa.array(wanted))


def stored_rows(item: ObjectInfo | str, columns: Sequence[str]) -> StoredRows:
    """Read a file's footer and some columns.

    Raises:
        NotFound: there is no such file.
        one of DAMAGED: it is that, or lacks a column.
    """
    found = storage.found(item)
    with storage.open_seekable(found) as file:
        parquet = pq.ParquetFile(file, page_checksum_verification=True)
        small = parquet.read(columns=list(columns), use_threads=False).select(list(columns))
        return StoredRows(found, parquet.metadata, small.append_column(NUMBER, pa.array(np.arange(small.num_rows))))


def save(rows: pa.Table, file: BinaryIO) -> None:
    """Write rows for `StoredRows`; not compressed, because they are read once or twice and go then, but with checksums."""
    per_group, plain = max(1, rows.num_rows * GROUP_BYTES // max(1, rows.nbytes)), {"use_dictionary": False, "write_statistics": False}
    pq.write_table(rows, file, row_group_size=per_group, compression="none", write_page_checksum=True, **plain)
