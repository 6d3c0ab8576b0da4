"""What the bench of YouTube-8M found, as a file and as tables.

    Results -> youtube8m.json -> text (screen), markdown (README)

Knows the figures and how they are shown; measures nothing.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

PACKAGES = ("pyarrow", "numpy", "protobuf", "google-crc32c", "torch")
PARSE, PARQUET, EXPORT, TAGGER = "read and parse", "shard to Parquet", "Parquet to shard", "tagger"
VIDMILL, MEANS = "vidmill", "vidmill, and the means over frames"
TFDATA, BATCHED, NUMPY, RAY = "tf.data", "tf.data, records in batches", "tf.data, to NumPy", "ray.data.read_tfrecords"
FASTER, MB_PER_S, LARGER, MEMORY_MB = 3.0, 100.0, 1.05, 64.0
HEADINGS = ("", "records/s per core", "MB/s per core", "peak memory MB")
Table = list[list[str]]  # headings first; every cell but a row's first is a figure


@dataclass(frozen=True, slots=True)
class Cost:
    """One measurement."""

    job: str
    level: str  # frame, video; of a tagger its network
    contender: str
    records: int
    bytes: int  # of the shard
    wall_s: float
    cpu_s: float | None  # of the process; None where several took part, which shared one core
    peak_mb: float | None  # of the process, all that it had imported included
    parquet_bytes: int | None = None

    @property
    def core_s(self) -> float:
        """Seconds of one core."""
        return self.wall_s if self.cpu_s is None else self.cpu_s


@dataclass(frozen=True, slots=True)
class Equality:
    """Whether a reader found every value of the shard as it was generated."""

    level: str
    reader: str
    records: int
    different: int  # records of which some value differs, or that are missing
    lacks: tuple[str, ...] = ()  # features that the reader gave no value of
    refusal: str = ""  # what the reader said before it was told the types of the features


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that was measured."""

    command: str
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    costs: tuple[Cost, ...]
    equalities: tuple[Equality, ...]

    @property
    def targets(self) -> "tuple[Target, ...]":
        """The promises."""
        return tuple(_targets(self))


@dataclass(frozen=True, slots=True)
class Target:
    """A promise, and whether it was kept."""

    promise: str
    found: float | None  # None: not measured
    bound: float
    at_most: bool = False

    @property
    def met(self) -> bool | None:
        """None where it was not measured."""
        if self.found is None:
            return None
        return self.found <= self.bound if self.at_most else self.found >= self.bound

    @property
    def text(self) -> str:
        """A line."""
        verdict = {None: "not measured", True: "met", False: "MISSED"}[self.met]
        return f"{verdict:12} {self.promise}" + ("" if self.found is None else f": {self.found:,.2f}")


def _targets(found: Results) -> Iterator[Target]:
    ours, theirs = (speed(found.costs, PARSE, "frame", name) for name in (VIDMILL, TFDATA))
    ratio = ours[1] / theirs[1] if ours and theirs else None
    yield Target(f"frame level: read and parse, times tf.data's records/s per core, at least {FASTER:g}", ratio, FASTER)
    parquet = speed(found.costs, PARQUET, "frame", VIDMILL, largest=True)
    yield Target(f"frame level: the larger shard to Parquet, MB/s per core, at least {MB_PER_S:g}", parquet[1] if parquet else None, MB_PER_S)
    made = [one for one in found.costs if one.job == PARQUET and one.parquet_bytes]
    sizes = [one.parquet_bytes / one.bytes for one in made if one.level == "frame" and one.parquet_bytes]
    yield Target(f"frame level: Parquet's bytes over the shard's, at most {LARGER:g}", max(sizes, default=None), LARGER, at_most=True)
    yield Target(f"shard to Parquet: MB more memory for the larger shard, at most {MEMORY_MB:g}", _growth(made), MEMORY_MB, at_most=True)
    wrong = [one.different for one in found.equalities if one.reader != RAY]
    yield Target("records that any reader but Ray's found otherwise, at most 0", float(sum(wrong)) if wrong else None, 0, at_most=True)


def _growth(made: Sequence[Cost]) -> float | None:
    """Peak memory at the largest shard of frames less that at the smallest."""
    peaks = {one.bytes: one.peak_mb for one in made if one.level == "frame" and one.peak_mb is not None}
    return peaks[max(peaks)] - peaks[min(peaks)] if len(peaks) > 1 else None


def speed(costs: Sequence[Cost], job: str, level: str, contender: str, *, largest: bool = False) -> tuple[float, float] | None:
    """Records/s and MB/s of one core, median over the rounds on the smallest shard, or on the largest; None where it was not measured."""
    here = [one for one in costs if (one.job, one.level, one.contender) == (job, level, contender)]
    if not here:
        return None
    size = (max if largest else min)(one.bytes for one in here)
    seconds = median(one.core_s for one in here if one.bytes == size)
    return next(one.records for one in here if one.bytes == size) / seconds, size / 1e6 / seconds


def write(found: Results, path: Path) -> None:
    """Keep the results, and for who reads the file what follows from them."""
    judged = [{**asdict(one), "met": one.met} for one in found.targets]
    path.write_text(json.dumps(asdict(found) | {"targets": judged}, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Results:
    """What `write` wrote."""
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["targets"]
    costs = tuple(Cost(**one) for one in values.pop("costs"))
    equalities = tuple(Equality(**one | {"lacks": tuple(one["lacks"])}) for one in values.pop("equalities"))
    return Results(costs=costs, equalities=equalities, **values)


def table(found: Results) -> Table:
    """A row for each job, level and contender, in the order they were measured."""
    keys = dict.fromkeys((one.job, one.level, one.contender) for one in found.costs)
    return [list(HEADINGS), *(_row(found, *key) for key in keys)]


def _row(found: Results, job: str, level: str, contender: str) -> list[str]:
    records_per_s, mb_per_s = speed(found.costs, job, level, contender) or (0.0, 0.0)
    peaks = [one.peak_mb for one in found.costs if (one.job, one.level, one.contender) == (job, level, contender) and one.peak_mb]
    peak = "-" if not peaks else f"{min(peaks):,.0f}" if round(max(peaks)) - round(min(peaks)) < 2 else f"{min(peaks):,.0f} to {max(peaks):,.0f}"
    what = f"{job}, {level}" if job == TAGGER else f"{job}, {level} level: {contender}"
    return [what, f"{records_per_s:,.0f}", f"{mb_per_s:,.0f}" if mb_per_s else "-", peak]


def remarks(found: Results) -> list[str]:
    """What the table does not hold, a sentence each."""
    shards = sorted({(one.level, one.bytes, one.records) for one in found.costs if one.job in (PARSE, PARQUET)})
    return [
        "Shards, written by TensorFlow, read from the page cache: "
        + ", ".join(f"{level} level, {records:,} records, {size / 1e6:,.0f} MB" for level, size, records in shards)
        + ".",
        f"{PARSE}: both checks, then arrays; vidmill's in Python, tf.data's stay in its graph, unless to NumPy.",
        "Per core: by the seconds of the processor that a step took, alone on one core; Ray's by the clock, as several processes share it.",
        "A tagger's records are sequences of 300 frames; its weights here are random, which costs the same.",
        *(_equality(one) for one in found.equalities),
    ]


def _equality(one: Equality) -> str:
    verdict = f"{one.different:,} of {one.records:,} records differ" if one.different else f"all values of {one.records:,} records are equal"
    lacks = f"; it read them without a word and has no {' and no '.join(one.lacks)}" if one.lacks else ""
    refusal = f"; it had to be told the features' types, for it said {one.refusal!r}" if one.refusal else ""
    return f"{one.reader}, {one.level} level: {verdict}{lacks}{refusal}."


def text(found: Results) -> str:
    """For a terminal."""
    rows = table(found)
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = ["  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]) for row in rows]
    return "\n".join([*lines, "", *remarks(found), "", *(target.text for target in found.targets)])


def markdown(found: Results) -> str:
    """For the README."""
    rows = table(found)
    lines = [f"| {' | '.join(row)} |" for row in [rows[0], ["---", *["---:"] * (len(HEADINGS) - 1)], *rows[1:]]]
    cores = f"{found.machine['cores']} cores of {found.machine['cpu']}; {found.date[:10]}."
    said = [*remarks(found), cores, f"Measured by `{found.command}`; every figure is in `tests/bench/youtube8m.json`."]
    return "\n".join([*lines, "", *said])
