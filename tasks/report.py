"""The report of a run that enhanced: one self-contained page, OUT/_runs/<run_id>/report.html.

    numbers of every published row    ->  a table of recipes: medians over at most SAMPLED clips each
    pictures of the worst rows        ->  before and after, lowest psnr_down_db first

Knows the tables; opens no media. The page asks no network for anything, and no text of the corpus is markup in it.
"""

import base64
import heapq
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jinja2 import Environment, StrictUndefined, Template

from infra import storage
from tasks.feature import Feature
from tasks.media import media_folder, media_name
from tasks.published import path_of, read_rows, shards_in
from tasks.record import runs_folder

MOST_PICTURES = 48
SAMPLED = 1_000_000  # clips of a recipe whose numbers are held at once
MEASURED = ("noise_before", "noise_after", "flicker_before", "flicker_after", "psnr_down_db")
SPENT = ("elapsed_s", "gpu_s", "duration_s")


@dataclass(frozen=True, slots=True)
class RecipeNumbers:
    """One recipe over all published clips; medians are None where nothing was measured."""

    recipe: str
    version: str
    clips: int
    median: Mapping[str, float | None]
    total_s: Mapping[str, float]


class Place(NamedTuple):
    """A published row, ordered by how far its video is from its source."""

    psnr_down_db: float
    clip_id: str
    feature: Feature
    shard: str


@dataclass(frozen=True, slots=True)
class Pictures:
    """Before and after of one clip."""

    place: Place
    row: Mapping[str, Any]
    before: str  # JPEG in base64
    after: str
    media: str  # address relative to the page


def write_report(output: str, run_id: str, name: str, features: Sequence[Feature], shards: Sequence[str]) -> str:
    """Write the page, and say where it is.

    Raises:
        Problem: a published table is damaged; StorageError where the output cannot be read or written.
    """
    enhanced = [feature for feature in features if feature.table == "enhanced"]
    uri, worst = f"{runs_folder(output)}/{run_id}/report.html", _Worst()
    numbers = [_numbers(output, feature, sorted(shards_in(output, feature.folder) & set(shards)), worst) for feature in enhanced]
    page = _template().render(
        name=name, run_id=run_id, written_at=datetime.now(UTC), recipes=numbers, pictures=list(_pictures(output, worst.places())), most=MOST_PICTURES
    )
    storage.write_bytes(uri, page.encode())
    return uri


class _Worst:
    """The places with the lowest figures, of however many."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, str, str, str, Place]] = []

    def see(self, place: Place) -> None:
        item = (-place.psnr_down_db, place.feature.folder, place.clip_id, place.shard, place)
        (heapq.heappush if len(self._heap) < MOST_PICTURES else heapq.heappushpop)(self._heap, item)

    def places(self) -> list[Place]:
        return [place for *_, place in sorted(self._heap, key=lambda item: (-item[0], item[2], item[1]))]


def _numbers(output: str, feature: Feature, shards: Sequence[str], worst: _Worst) -> RecipeNumbers:
    clips, most = 0, math.ceil(SAMPLED / max(len(shards), 1))
    total_s = dict.fromkeys(SPENT, 0.0)
    sampled: dict[str, list[np.ndarray]] = {name: [] for name in MEASURED}
    for shard in shards:
        rows = read_rows(path_of(output, feature.folder, shard), ("clip_id", *MEASURED, *SPENT))
        if rows is None or not rows.num_rows:
            continue
        clips += rows.num_rows
        for place in _places(rows, feature, shard):
            worst.see(place)
        for name in SPENT:
            total_s[name] += float(np.nansum(_floats(rows, name)))
        for name in MEASURED:
            sampled[name].append(_floats(rows, name)[:: math.ceil(rows.num_rows / most)])
    assert feature.model is not None
    return RecipeNumbers(feature.model, feature.version, clips, {name: _median(found) for name, found in sampled.items()}, total_s)


def _places(rows: pa.Table, feature: Feature, shard: str) -> Iterator[Place]:
    """What was not measured comes last."""
    for clip_id, psnr in zip(rows["clip_id"].to_pylist(), _floats(rows, "psnr_down_db").tolist(), strict=True):
        yield Place(math.inf if math.isnan(psnr) else psnr, clip_id, feature, shard)


def _floats(rows: pa.Table, name: str) -> np.ndarray:
    return np.array(rows[name].to_pylist(), np.float64)  # None becomes not-a-number


def _median(found: Sequence[np.ndarray]) -> float | None:
    values = np.concatenate(found) if found else np.empty(0)
    values = values[~np.isnan(values)]
    return float(np.median(values)) if len(values) else None


def _pictures(output: str, places: Sequence[Place]) -> Iterator[Pictures]:
    """Every file is read once, whichever rows of it are wanted."""
    wanted: dict[tuple[Feature, str], list[str]] = {}
    for place in places:
        wanted.setdefault((place.feature, place.shard), []).append(place.clip_id)
    rows = {(*where, clip_id): row for where, clip_ids in wanted.items() for clip_id, row in _rows(output, *where, clip_ids).items()}
    for place in places:
        row = rows.get((place.feature, place.shard, place.clip_id))
        if row and row["before_jpeg"] and row["after_jpeg"]:
            before, after = (base64.b64encode(row[name]).decode() for name in ("before_jpeg", "after_jpeg"))
            folder = media_folder("../..", place.feature, place.shard)
            yield Pictures(place, row, before, after, quote(f"{folder}/{media_name(place.clip_id)}"))


def _rows(output: str, feature: Feature, shard: str, clip_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    rows = read_rows(path_of(output, feature.folder, shard), ("clip_id", *MEASURED, "sample_time_s", "before_jpeg", "after_jpeg"))
    if rows is None:
        return {}
    chosen = rows.filter(pc.is_in(rows["clip_id"], pa.array(clip_ids, pa.string())))
    return {row["clip_id"]: row for row in chosen.to_pylist()}


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["number"] = _number
    environment.filters["clock"] = _clock
    return environment.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))


def _number(value: float | None, digits: int = 1) -> str:
    return "-" if value is None or math.isnan(value) else "equal" if math.isinf(value) else f"{value:,.{digits}f}"


def _clock(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"
