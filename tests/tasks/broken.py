"""An output to break, and ways to break it: on the disk as accidents do, or with a fitting digest as a mistake of vidmill's would."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.publish import _write
from tasks.published import read_footer
from tests.corpus import clip, write_tar
from tests.tasks.networks import DARK, LIGHT, MEDIUM, grey
from tests.tasks.runs import run, settings

EMBED = ["grey", "picky"]


def source_of(folder: Path) -> dict[str, Any]:
    return {"kind": "kinetics", "uri": f"{folder}/c/*.tar"}


def two_shards(folder: Path, **more: Any) -> Path:
    """Part_0: one clip that is well, a damaged one, one that picky cannot take, two of more pixels. Part_1: one well, one for grey alone."""
    first = {"a_1_2.mp4": grey(MEDIUM), "bad_1_2.mp4": b"x", "d_1_2.mp4": grey(DARK), "l_1_2.mp4": clip(1), "m_1_2.mp4": clip(2)}
    write_tar(folder / "c" / "part_0.tar", first, gz=False)
    write_tar(folder / "c" / "part_1.tar", {"b_1_2.mp4": grey(MEDIUM), "c_1_2.mp4": grey(LIGHT)}, gz=False)
    run(settings(folder, source_of(folder), embed=EMBED, **more))
    return folder / "out"


def file(output: Path, folder: str, shard: str) -> Path:
    """A published file by its table, table/model, and shard."""
    table, _, model = folder.partition("/")
    (found,) = (output / table).rglob(f"model={model}/*/{shard}.parquet" if model else f"{shard}.parquet")
    return found


def flipped(path: Path, place: int) -> None:
    """One bit of one byte changes."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def rewritten(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Somebody changes rows with pyarrow and keeps the metadata."""
    metadata = pq.read_metadata(path).metadata
    table = pq.ParquetFile(path).read()
    pq.write_table(change(table).replace_schema_metadata(metadata), path)


def forged(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Vidmill itself would have written other rows under the same footer."""
    footer, table = read_footer(str(path)), pq.ParquetFile(path).read()
    _write(str(path), footer, iter([change(table)]), lambda: None)
