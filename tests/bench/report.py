"""What the bench found, as a file and as tables.

    rounds -> Results -> results.json -> text (screen), markdown (README)

Knows the figures and how they are shown; measures nothing.
"""

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from tests.bench.fit import Fit, Ratio, Round, fit, ratio

PACKAGES = ("vidmill", "torch", "ray", "av", "pyarrow", "prefect", "efficientnet-lite-pytorch", "pillow", "numpy")
LIMIT = "a"
HEADINGS = ("", "fixed s", "clips/s steady", "CPU-s per clip", "peak PSS MB", "clips/s against the limit", "CPU against the limit")


@dataclass(frozen=True, slots=True)
class LongShard:
    """vidmill's memory on one shard of so many clips."""

    clips: int
    peak_pss_mb: float
    pss_mb: dict[str, float]


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that was measured and what follows from it."""

    command: str
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    contenders: dict[str, str]  # key -> what it is
    rounds: tuple[Round, ...]
    fits: tuple[Fit, ...]
    ratios: tuple[Ratio, ...]  # to the limit; empty where it did not run
    cosines: dict[str, float]  # the worst clip's, to the first contender's
    idle_s: tuple[float, ...]  # vidmill with nothing to do
    long_shards: tuple[LongShard, ...]


def results(
    contenders: dict[str, str],
    rounds: Sequence[Round],
    cosines: dict[str, float],
    idle_s: Sequence[float],
    long_shards: Sequence[LongShard],
    *,
    command: str,
) -> Results:
    """Fit and compare."""
    fits = tuple(fit(name, rounds) for name in contenders)
    limit = next((one for one in fits if one.contender == LIMIT), None)
    ratios = tuple(ratio(one, limit) for one in fits) if limit else ()
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return Results(command, date, machine(), versions(), contenders, tuple(rounds), fits, ratios, cosines, tuple(idle_s), tuple(long_shards))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(_field("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
        "system": platform.platform(),
        "load_average": os.getloadavg(),
    }


def _field(path: str, name: str) -> str:
    lines = (line.partition(":") for line in Path(path).read_text(encoding="utf-8").splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "0 unknown")


def versions(packages: Sequence[str] = PACKAGES) -> dict[str, str]:
    """Of Python and of the packages that matter."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}


def write(found: Results, path: Path) -> None:
    """Keep the results."""
    path.write_text(json.dumps(asdict(found), indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Results:
    """What `write` wrote."""
    values = json.loads(path.read_text(encoding="utf-8"))
    parts = {"rounds": Round, "fits": Fit, "ratios": Ratio, "long_shards": LongShard}
    for name, kind in parts.items():
        values[name] = tuple(kind(**value) for value in values[name])
    return Results(**values | {"idle_s": tuple(values["idle_s"])})


def rows(found: Results) -> list[list[str]]:
    """The table's cells, a row per contender."""
    ratios = {one.contender: one for one in found.ratios}
    return [
        [
            f"{found.contenders[one.contender]} ({one.contender})",
            f"{one.fixed_s:.1f}",
            _maybe(one.clips_per_s, ".1f"),
            f"{one.cpu_s_per_clip:.3f}",
            f"{one.peak_pss_mb:,.0f}",
            _maybe(ratios[one.contender].clips_per_s if ratios else None, ".2f"),
            _maybe(ratios[one.contender].cpu_s_per_clip if ratios else None, ".2f"),
        ]
        for one in found.fits
    ]


def _maybe(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def remarks(found: Results) -> list[str]:
    """What the table does not hold, a sentence each."""
    sizes = sorted({one.clips for one in found.rounds})
    rounds = 1 + max(one.round for one in found.rounds)
    said = [
        f"{' and '.join(map(str, sizes))} clips of 10 s, 340x256, 30 fps, h264, sampled at 1 fps; {rounds} round(s), contenders in turn; "
        f"{found.machine['cores']} cores of {found.machine['cpu']}, {found.machine['memory_gb']:.0f} GB; {found.date[:10]}.",
        f"All embeddings agree: the worst cosine of a clip is {min(found.cosines.values()):.6f}.",
    ]
    if found.idle_s:
        said.append(f"vidmill with nothing to do: {sorted(found.idle_s)[len(found.idle_s) // 2]:.1f} s, without Ray.")
    if found.long_shards:
        memory = ", ".join(f"{one.peak_pss_mb:,.0f} MB with {one.clips}" for one in found.long_shards)
        said.append(f"vidmill's peak PSS by clips in one shard: {memory}.")
    return said


def text(found: Results) -> str:
    """The table for a terminal."""
    cells = [list(HEADINGS), *rows(found)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    lines = ["  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]) for row in cells]
    return "\n".join([*lines, "", *remarks(found)])


def markdown(found: Results) -> str:
    """The table for the README."""
    lines = ["| " + " | ".join(row) + " |" for row in (HEADINGS, ["---", *["---:"] * (len(HEADINGS) - 1)], *rows(found))]
    return "\n".join([*lines, "", *remarks(found), f"Measured by `{found.command}`; every figure is in `tests/bench/results.json`."])
