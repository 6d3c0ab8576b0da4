"""What vidmill costs beside the same job written by hand: `python -m tests.bench.run`, or `make bench`.

    corpus of 60 and of 240 clips  ->  each contender in turn, three rounds  ->  seconds = fixed + marginal x clips  ->  results.json

Every contender is a fresh process on the same shards; their embeddings must agree. Then vidmill alone: with nothing to do, and with ever longer
shards. Times mean something on a quiet machine only.
"""

import argparse
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from tests.bench import report
from tests.bench.corpus import default_root, make_clips, shards_of
from tests.bench.fit import Round, agreement
from tests.bench.report import LongShard, Results
from tests.bench.tree import Cost, measure

REPOSITORY = Path(__file__).parents[2]
RESULTS = Path(__file__).with_name("results.json")
CLIPS, ROUNDS = (60, 240), 3
QUICK_CLIPS, QUICK_ROUNDS = (20, 60), 1
LIMIT, VIDMILL = "a", "c"
SAME = 0.999  # cosine above which two embeddings of a clip are the same
CONTENDERS = {
    LIMIT: "by hand: one process per core, decodes every frame",
    "a2": "by hand, decoding only what is sampled",
    "b": "by hand in Ray Data, as its documentation teaches",
    VIDMILL: "vidmill",
}
BY_HAND = {LIMIT: ("loop", "every"), "a2": ("loop", "sampled"), "b": ("ray_data",)}


class Broken(Exception):
    """A contender failed or found something else; one line that says which and where its output is."""


@dataclass(frozen=True, slots=True)
class Bench:
    """Where the bench runs and on what."""

    root: Path  # of the corpora
    work: Path  # of everything the contenders write
    names: tuple[str, ...]  # contenders
    sizes: tuple[int, ...]  # clips, ascending
    rounds: int

    def corpus(self, clips: int) -> Path:
        """The folder of shards with so many clips; the smallest has one shard per core, so that no process of the loop waits for another."""
        return self._shards(clips, max(1, self.sizes[0] // len(os.sched_getaffinity(0))))

    def long_shard(self, clips: int) -> Path:
        """The folder of the one shard with so many clips."""
        return self._shards(clips, clips)

    def _shards(self, clips: int, per_shard: int) -> Path:
        return shards_of(self.root, make_clips(self.root, clips), per_shard=per_shard)


def command(name: str, source: Path, out: Path) -> list[str]:
    """The command line of a contender."""
    if name == VIDMILL:
        program = str(Path(sys.executable).with_name("vidmill"))
        return [program, "run", "--source.kind", "kinetics", "--source.uri", f"{source}/*.tar.gz", "--output", str(out)]
    module, *options = BY_HAND[name]
    return [sys.executable, "-m", f"tests.bench.contenders.{module}", *options, str(source), str(out)]


def run_once(bench: Bench, name: str, source: Path, out: Path) -> Cost:
    """One contender, once.

    Raises:
        Broken: it failed.
    """
    log = bench.work / f"{out.name}.log"
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"} | {"PYTHONPATH": str(REPOSITORY)}
    cost = measure(command(name, source, out), log=log, cwd=bench.work, env=environment)
    if cost.exit_code:
        raise Broken(f"{CONTENDERS[name]}: exit code {cost.exit_code}; its last words: {_last_words(log)}")
    return cost


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "(none)"


def embeddings(out: Path) -> dict[str, np.ndarray]:
    """What a contender found, by clip_id."""
    root = out / "embeddings" if (out / "embeddings").is_dir() else out
    found: dict[str, np.ndarray] = {}
    for path in sorted(root.rglob("*.parquet")):
        table = pq.ParquetFile(path).read(columns=["clip_id", "embedding"])
        found |= dict(zip(table["clip_id"].to_pylist(), map(np.array, table["embedding"].to_pylist()), strict=True))
    return found


def race(bench: Bench) -> Iterator[Round]:
    """All contenders at all sizes, in turn, another first in each round."""
    for number in range(bench.rounds):
        turn = number % len(bench.names)
        for name in (*bench.names[turn:], *bench.names[:turn]):
            for clips in bench.sizes:
                cost = run_once(bench, name, bench.corpus(clips), out_of(bench, name, clips, number))
                yield Round(name, clips, number, cost.wall_s, cost.cpu_s, cost.peak_pss_mb, cost.pss_mb, cost.processes)


def out_of(bench: Bench, name: str, clips: int, number: int) -> Path:
    """Where a contender writes."""
    return bench.work / f"{name}-{clips}-{number}"


def agreements(bench: Bench) -> dict[str, float]:
    """The worst cosine of each contender to the first, over every size and round.

    Raises:
        Broken: one found something else.
    """
    worst: dict[str, float] = {}
    for name in bench.names:
        for clips in bench.sizes:
            expected = embeddings(out_of(bench, bench.names[0], clips, 0))
            if len(expected) != clips:
                raise Broken(f"{CONTENDERS[bench.names[0]]}: {len(expected)} rows for {clips} clips")
            for number in range(bench.rounds):
                worst[name] = min(worst.get(name, 1.0), _agreement(bench, name, clips, number, expected))
    return worst


def _agreement(bench: Bench, name: str, clips: int, number: int, expected: dict[str, np.ndarray]) -> float:
    try:
        cosine = agreement(embeddings(out_of(bench, name, clips, number)), expected)
    except ValueError as error:
        raise Broken(f"{CONTENDERS[name]}: {error}") from error
    if cosine <= SAME:
        raise Broken(f"{CONTENDERS[name]}: an embedding lies at cosine {cosine:.6f} of that by {CONTENDERS[bench.names[0]]}; {SAME} is the least")
    return cosine


def idle(bench: Bench) -> Iterator[Cost]:
    """vidmill again on outputs it finished: nothing to do, and no Ray.

    Raises:
        Broken: Ray was started.
    """
    clips = bench.sizes[-1]
    for number in range(bench.rounds):
        cost = run_once(bench, VIDMILL, bench.corpus(clips), out_of(bench, VIDMILL, clips, number))
        if cost.pss_mb["ray"]:
            raise Broken("vidmill with nothing to do started Ray")
        yield cost


def long_shards(bench: Bench) -> Iterator[LongShard]:
    """vidmill's memory when all clips lie in one shard, for each size."""
    for clips in bench.sizes:
        cost = run_once(bench, VIDMILL, bench.long_shard(clips), bench.work / f"long-{clips}")
        yield LongShard(clips, cost.peak_pss_mb, cost.pss_mb)


def run(bench: Bench) -> Results:
    """Everything the bench measures; a line on stderr for each run."""
    rounds = []
    for one in race(bench):
        rounds.append(one)
        say(f"round {one.round + 1}  {one.contender:2}  {one.clips:4} clips  {one.wall_s:7.1f} s  {one.cpu_s:7.1f} CPU-s  {one.peak_pss_mb:6.0f} MB")
    cosines = agreements(bench)
    idle_s: tuple[float, ...] = ()
    shards: tuple[LongShard, ...] = ()
    if VIDMILL in bench.names:
        idle_s = tuple(cost.wall_s for cost in idle(bench))
        shards = tuple(long_shards(bench))
    described = {name: CONTENDERS[name] for name in bench.names}
    return report.results(described, rounds, cosines, idle_s, shards, command=shlex.join(["python", "-m", "tests.bench.run", *sys.argv[1:]]))


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.run", description="Measure vidmill beside the same job written by hand.")
    parser.add_argument("--rounds", type=int, help=f"default {ROUNDS}")
    parser.add_argument("--clips", type=_sizes, help="corpus sizes, two or more; default " + ",".join(map(str, CLIPS)))
    known = ", ".join(f"{name} ({what})" for name, what in CONTENDERS.items())
    parser.add_argument("--only", type=_names, default=tuple(CONTENDERS), help=f"contenders: {known}")
    parser.add_argument("--quick", action="store_true", help="20 and 60 clips, one round: whether it works, not how fast it is")
    parser.add_argument("--corpus", type=Path, default=default_root(), help="folder that keeps the corpora; default %(default)s")
    parser.add_argument("--results", type=Path, help=f"file to write; default {RESULTS.name} beside the bench, none with --quick")
    return parser.parse_args(words)


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(sorted({int(part) for part in text.split(",")}))
    if len(sizes) < 2 or sizes[0] < 1:
        raise argparse.ArgumentTypeError(f"{text}: give two or more different numbers of clips, such as 60,240")
    return sizes


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := [name for name in names if name not in CONTENDERS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]}: no such contender; choose from {', '.join(CONTENDERS)}")
    return names


def main() -> None:
    """Measure, print the table, write the file."""
    asked = arguments(sys.argv[1:])
    sizes = asked.clips or (QUICK_CLIPS if asked.quick else CLIPS)
    rounds = asked.rounds or (QUICK_ROUNDS if asked.quick else ROUNDS)
    with tempfile.TemporaryDirectory(prefix="vidmill-bench-") as work:
        bench = Bench(asked.corpus, Path(work), asked.only, sizes, rounds)
        say(f"corpus: {sizes[-1]} clips below {asked.corpus}; made once, some minutes")
        try:
            results = run(bench)
        except Broken as broken:
            sys.exit(f"bench: {broken}")
    print(report.text(results))
    target = asked.results or (None if asked.quick else RESULTS)
    if target:
        report.write(results, target)
        print(f"\nwrote {target}; into the README: python -m tests.bench.readme")


if __name__ == "__main__":
    main()
