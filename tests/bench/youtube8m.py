"""How fast vidmill reads YouTube-8M's records, beside tf.data and Ray, and whether all find the same values: `python -m tests.bench.youtube8m`.

    TensorFlow writes shards -> every reader, every step, alone on one core, in turn -> values compared -> targets -> youtube8m.json

TensorFlow is installed into an environment of its own, in the cache. Exit code 1 where a target is missed.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import report as machine
from tests.bench.contenders.tensorflow_records import WIDTHS
from tests.bench.reading import report
from tests.bench.reading.environment import Unavailable, interpreter
from tests.bench.reading.report import BATCHED, EXPORT, MEANS, NUMPY, PARQUET, PARSE, RAY, TAGGER, TFDATA, VIDMILL, Cost, Equality, Results

REPOSITORY = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("youtube8m.json")
THEIRS = Path(__file__).with_name("contenders") / "tensorflow_records.py"
OURS = "tests.bench.contenders.vidmill_records"
RECORDS, QUICK_RECORDS = (300, 1200), (40, 160)  # of a shard of frames; the data set's own have about 1,500
VIDEO_RECORDS = 20  # times as many at video level, whose records are that much smaller and more
ROUNDS, QUICK_ROUNDS = 3, 1
PARTS = ("reading", "taggers")
NETWORKS = ("moe", "lstm", "netvlad", "transformer")


class Broken(Exception):
    """A step failed; one line that says which, and its last words."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured and where."""

    work: Path
    records: tuple[int, int]
    rounds: int
    parts: tuple[str, ...]

    def shard(self, level: str, count: int) -> Path:
        """A shard's place."""
        return self.work / f"{level}{count}.tfrecord"

    def out(self, level: str, count: int, number: int) -> Path:
        """Where vidmill writes its tables."""
        return self.work / f"out-{level}{count}-{number}"

    @property
    def levels(self) -> dict[str, int]:
        """Levels and the records of their smaller shards."""
        return {"frame": self.records[0], "video": self.records[0] * VIDEO_RECORDS}


def theirs(*words: object) -> Any:
    """One step in the environment that has TensorFlow."""
    return _step([str(interpreter()), str(THEIRS), *map(str, words)])


def ours(*words: object) -> Any:
    """One step of vidmill."""
    return _step([sys.executable, "-m", OURS, *map(str, words)])


def _step(command: Sequence[str]) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=environment)
    if done.returncode:
        raise Broken(f"{shlex.join(command)}: {(done.stderr.strip().splitlines() or ['(no words)'])[-1]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def reading(bench: Bench) -> Iterator[Cost]:
    """All contenders in turn, at both levels, and vidmill on the larger shard for its memory."""
    sizes = [*bench.levels.items(), ("frame", bench.records[1])]
    for seed, (level, count) in enumerate(sizes):
        theirs("make", level, count, seed, bench.shard(level, count))
    for number in range(bench.rounds):
        for level, count in bench.levels.items():
            yield from _round(bench, level, count, number)
    yield _cost(PARQUET, "frame", VIDMILL, ours("parquet", bench.shard("frame", bench.records[1]), bench.out("frame", bench.records[1], 0)))
    yield _cost(EXPORT, "frame", VIDMILL, ours("export", bench.out("frame", bench.records[1], 0), bench.work / "large"))


def _round(bench: Bench, level: str, count: int, number: int) -> Iterator[Cost]:
    shard, out = bench.shard(level, count), bench.out(level, count, number)
    yield _cost(PARSE, level, VIDMILL, ours("parse", shard))
    yield _cost(PARSE, level, MEANS, ours("means", shard))
    yield _cost(PARSE, level, TFDATA, theirs("parse", level, shard))
    if level == "frame":
        yield _cost(PARSE, level, BATCHED, theirs("parse", "batched", shard))
        yield _cost(PARSE, level, NUMPY, theirs("parse", "numpy", shard))
    yield _cost(PARQUET, level, VIDMILL, ours("parquet", shard, out))
    yield _cost(EXPORT, level, VIDMILL, ours("export", out, bench.work / f"to-{level}-{number}"))


def _cost(job: str, level: str, contender: str, found: dict[str, Any]) -> Cost:
    say(f"{job}, {level}, {contender}: {found['records']:,} records in {found['cpu_s'] or found['wall_s']:.2f} s")
    figures = {name: found.get(name) for name in ("records", "bytes", "wall_s", "cpu_s", "peak_mb", "parquet_bytes")}
    return Cost(job, level, contender, **figures)


def by_ray(bench: Bench) -> Iterator[tuple[Cost, Equality]]:
    """Ray's reader, once a level: what it costs and what is left."""
    for level, count in bench.levels.items():
        found = theirs("ray", level, bench.shard(level, count))
        wanted = theirs("digest", level, bench.shard(level, count))
        lacks = tuple(name for name in WIDTHS if not {name, f"mean_{name}"} & set(found["columns"]))
        yield _cost(PARSE, level, RAY, found), Equality(level, RAY, count, _different(wanted, found["digests"]), lacks, found["refusal"])


def equalities(bench: Bench) -> Iterator[Equality]:
    """TensorFlow's reading of its own shards against vidmill's tables, and against TensorFlow's reading of vidmill's export."""
    for level, count in bench.levels.items():
        wanted = theirs("digest", level, bench.shard(level, count))
        yield Equality(level, "vidmill's Parquet", count, _different(wanted, ours("digest", bench.out(level, count, 0))))
        exported = theirs("digest", level, bench.work / f"to-{level}-0" / bench.shard(level, count).name)
        yield Equality(level, "TensorFlow on vidmill's export", count, _different(wanted, exported))


def _different(wanted: dict[str, str], found: dict[str, str]) -> int:
    return sum(wanted.get(name) != found.get(name) for name in wanted.keys() | found.keys())


def taggers() -> Iterator[Cost]:
    """Every network once."""
    for network in NETWORKS:
        yield _cost(TAGGER, network, VIDMILL, ours("tagger", network))


def run(bench: Bench) -> Results:
    """Everything that was asked for.

    Raises:
        Broken: a step failed.
        Unavailable: there is no TensorFlow to be had.
    """
    costs: list[Cost] = []
    equal: list[Equality] = []
    if "reading" in bench.parts:
        costs += reading(bench)
        equal += equalities(bench)
        for cost, equality in by_ray(bench):
            costs.append(cost)
            equal.append(equality)
    if "taggers" in bench.parts:
        costs += taggers()
    date, command = datetime.now(UTC).isoformat(timespec="seconds"), shlex.join(["python", "-m", "tests.bench.youtube8m", *sys.argv[1:]])
    return Results(command, date, machine.machine(), machine.versions(report.PACKAGES), tuple(costs), tuple(equal))


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.youtube8m", description="Measure vidmill's reading of YouTube-8M beside tf.data.")
    parser.add_argument("--quick", action="store_true", help="small shards, one round")
    parser.add_argument("--only", choices=PARTS, help="one part of it")
    parser.add_argument("--results", type=Path, help="where to write what was found; without --quick and --only tests/bench/youtube8m.json")
    return parser.parse_args(words)


def main() -> None:
    """Measure, print the table, write the file."""
    asked = arguments(sys.argv[1:])
    records, rounds = (QUICK_RECORDS, QUICK_ROUNDS) if asked.quick else (RECORDS, ROUNDS)
    try:
        with tempfile.TemporaryDirectory(prefix="vidmill-bench-") as work:
            found = run(Bench(Path(work), records, rounds, (asked.only,) if asked.only else PARTS))
    except (Broken, Unavailable) as error:
        sys.exit(f"youtube8m: {error}")
    print(report.text(found))
    if target := asked.results or (None if asked.quick or asked.only else RESULTS):
        report.write(found, target)
        print(f"\nwrote {target}")
    sys.exit(any(one.met is False for one in found.targets))


if __name__ == "__main__":
    main()
