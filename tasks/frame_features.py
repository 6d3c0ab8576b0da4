"""Frame features as taggers take them: rows of an embeddings table in, one array of vectors for each clip out.

    frame_codes       uint8 [T, D]     YouTube-8M's; codes until `values_of`, a quarter of the bytes
    frame_embedding   float16 [T, D]   where the run kept it
    embedding         float32 [1, D]   where no frames are: the mean stands for them

Several inputs of a clip are one sequence: a mean goes along with every frame of the others, and of sequences that are not equally long the shortest
counts, for frames lie on the same seconds from the first on. Knows the columns, nothing of files.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from models.tagger import spread
from tasks.youtube8m import LOWEST, STEP

MEAN = "embedding"
FRAMES = ("frame_codes", "frame_embedding")


def columns_of(schema: pa.Schema) -> list[str]:
    """The columns of an embeddings table that `frames_of` reads."""
    return [name for name in (*FRAMES, MEAN) if name in schema.names]


def width_of(schema: pa.Schema) -> int:
    """Numbers of a vector."""
    return int(schema.field(MEAN).type.list_size)


def frames_of(rows: pa.RecordBatch) -> list[np.ndarray]:
    """For each row uint8 codes, float16 or float32, [T, D]; the mean where it has no frames. They share the rows' memory."""
    frames = [_frames(rows.column(name)) for name in FRAMES if name in rows.schema.names]
    means = rows.column(MEAN).flatten().to_numpy().reshape(rows.num_rows, -1)
    return [next((kept[index] for kept in frames if len(kept[index])), means[index : index + 1]) for index in range(rows.num_rows)]


def _frames(column: pa.ListArray) -> list[np.ndarray]:
    values, starts, counts = column.values, column.offsets.to_numpy(), column.value_lengths().fill_null(0).to_numpy()
    if pa.types.is_fixed_size_binary(values.type):
        width = values.type.byte_width
        data = np.frombuffer(values.buffers()[1] or b"", np.uint8)[values.offset * width :]
    else:
        width = values.type.list_size
        data = values.flatten().to_numpy()
    return [data[start * width : (start + count) * width].reshape(count, width) for start, count in zip(starts[:-1], counts, strict=True)]


def values_of(frames: np.ndarray) -> np.ndarray:
    """float32: what codes stand for, or what was no code."""
    values: np.ndarray = frames.astype(np.float32)
    return values * np.float32(STEP) + np.float32(LOWEST) if frames.dtype == np.uint8 else values


def aligned(inputs: Sequence[np.ndarray], *, most: int) -> tuple[np.ndarray, ...]:
    """The inputs of one clip with a vector each for the same moments, `most` at most.

    Args:
        inputs: [T, D] each, T at least 1.
    """
    count = min((len(frames) for frames in inputs if len(frames) > 1), default=1)
    return tuple(spread(np.broadcast_to(frames, (count, frames.shape[1])) if len(frames) == 1 else frames[:count], most) for frames in inputs)
