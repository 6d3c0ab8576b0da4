"""Corpora for the tests: small real videos in Kinetics shards, WebDataset shards and folders, and what is left of them in Parquet.

Knows the layouts of the world outside and the tables of vidmill; runs nothing.
"""

import io
import os
import tarfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from infra import storage
from infra.settings import RunConfig
from tests.media import Recipe, encode, moving_pictures, sound_only

RATE = 10
RUN_COLUMNS = ("run_id", "failed_at", "attempts")  # of failures; who found them and when is no part of the result


@cache
def clip(seed: int, *, seconds: int = 2) -> bytes:
    """An mp4 of its own, its index in front."""
    return encode(moving_pictures(seconds * RATE, 160, 128, seed), Recipe(rate=RATE, muxer={"movflags": "faststart"}))


def name_of(number: int) -> str:
    """A Kinetics clip's name: ids may begin with a dash and hold underscores."""
    return f"-a_b-{number:06d}_{number:06d}_{number + 10:06d}"


def write_tar(path: Path, members: Mapping[str, bytes], *, gz: bool = True) -> Path:
    """An archive with these members, a directory entry first, as Kinetics' are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if gz else "w") as archive:
        folder = tarfile.TarInfo("./")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_shards(folder: Path, *, shards: int, clips: int) -> list[str]:
    """`part_N.tar.gz` with `clips` clips each; the clip_ids."""
    ids = [name_of(number) for number in range(shards * clips)]
    for shard in range(shards):
        numbers = range(shard * clips, (shard + 1) * clips)
        write_tar(folder / f"part_{shard}.tar.gz", {f"./{name_of(number)}.mp4": clip(number) for number in numbers})
    return ids


def write_videos(folder: Path, seconds: Mapping[str, int]) -> None:
    """Loose videos by name."""
    for number, (name, length) in enumerate(seconds.items()):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip(number, seconds=length))


def bad_clips() -> dict[str, bytes]:
    """Clips that can give no row, by the failure they are."""
    whole = clip(900)
    middle = whole.index(b"mdat") + 400
    no_index = encode(moving_pictures(20, 160, 128, 901), Recipe(rate=RATE))
    return {
        "CORRUPT": no_index[: no_index.index(b"moov") - 4],
        "EMPTY": b"",
        "NO_VIDEO": sound_only(),
        "TRUNCATED": whole[:middle],
    }


def config_for(source: Mapping[str, Any], output: object, **more: Any) -> RunConfig:
    """A configuration that tests vary."""
    return RunConfig.model_validate({"source": source, "output": str(output), **more})


def table(output: object, folder: str) -> pa.Table:
    """All rows of a folder of the output, sorted by clip."""
    root = f"{output}/{folder}"
    found = [item for item in storage.list_objects(root) if item.uri.endswith(".parquet")] if _there(root) else []
    tables = [pq.read_table(pa.BufferReader(storage.read_bytes(item.uri))).replace_schema_metadata(None) for item in found]
    return pa.concat_tables(tables, promote_options="default").sort_by("clip_id") if tables else pa.table({"clip_id": pa.array([], pa.string())})


def contents(output: object) -> dict[str, list[dict[str, Any]]]:
    """Everything published, less what tells one run from another; `uri` and etags are left out, a moved corpus keeps its rows."""
    hidden = {*RUN_COLUMNS, "uri", "member", "message"}
    return {
        folder: [
            {key: value for key, value in row.items() if key not in hidden}
            for place in _places(output, folder)
            for row in table(output, place).to_pylist()
        ]
        for folder in ("clips", "embeddings", "tags", "failures")
    }


def _places(output: object, folder: str) -> list[str]:
    """Folders of one feature each: all of their files have the same columns."""
    root = f"{output}/{folder}"
    found = storage.list_objects(root) if _there(root) else []
    return sorted({f"{folder}/{storage.relative(item.uri, root)}".rpartition("/")[0] for item in found})


def files(output: Path) -> dict[str, tuple[int, int]]:
    """Every file below a folder, with size and time of change."""
    return {str(path.relative_to(output)): (path.stat().st_size, path.stat().st_mtime_ns) for path in output.rglob("*") if path.is_file()}


def spoil(path: Path) -> None:
    """Make a file useless and leave its size and time as they were: whoever opens it will fail, whoever trusts its etag need not."""
    state = path.stat()
    path.write_bytes(b"\xff" * state.st_size)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))


def _there(root: str) -> bool:
    try:
        return bool(storage.list_objects(root))
    except storage.NotFound:
        return False
