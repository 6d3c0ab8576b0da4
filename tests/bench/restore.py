"""How well and how fast vidmill restores video, beside ffmpeg's filters and the networks of others: `python -m tests.bench.restore`.

    held-out clips -> made worse, the same for all -> every contender -> PSNR, SSIM, flicker, frames/s -> targets -> restore.json

Exit code 1 where a target is missed. A checkpoint still in training is measured by --denoiser FILE or --upscaler FILE; what others do does not change
with it, so --contenders input,vidmill makes that short.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from infra.problem import Problem
from models.prediction import ModelError
from tests.bench.restoring import judge, report, speed
from tests.bench.restoring.clips import EXCERPTS, FRAMES, QUICK, QUICK_FRAMES, Clip, read
from tests.bench.restoring.contenders import DENOISE, NAMES, UPSCALE, Contenders
from tests.bench.restoring.judge import VIDMILL, Score
from tests.bench.restoring.machine import Machine, shipped
from tests.bench.restoring.packages import Unavailable, digest
from tests.bench.restoring.pipeline import pipelines
from tests.bench.restoring.speed import Speed
from tests.bench.restoring.tuning import tuned
from tests.bench.restoring.vidmill import DENOISER_WEIGHTS, UPSCALER_WEIGHTS

RESULTS = Path(__file__).with_name("restore.json")
TASKS = (DENOISE, UPSCALE)


@dataclass(frozen=True, slots=True)
class Bench:
    """What is measured and where."""

    contenders: Contenders
    tasks: tuple[str, ...]
    clips: tuple[Clip, ...]
    device: torch.device
    rounds: int  # of timing; 0 for none

    @property
    def exact(self) -> Machine:
        """float32: what the networks of others are judged in, and what the target of speed means."""
        return Machine(self.device)

    @property
    def shipped(self) -> Machine:
        """What vidmill runs in by itself, and is judged in."""
        return shipped(self.device)

    @property
    def workers(self) -> int:
        """Clips that are judged at a time."""
        return len(os.sched_getaffinity(0)) if self.device.type == "cpu" else 1


def denoising(bench: Bench) -> Iterator[tuple[judge.Condition, dict[str, str], list[Score]]]:
    """Every condition with the filters' best parameters and all scores."""
    networks = bench.contenders.denoisers(ours=bench.shipped, theirs=bench.exact)
    for condition in judge.conditions():
        graphs = tuned(bench.clips, condition, bench.contenders.filters) if condition.tunable else {}
        yield condition, graphs, told(judge.denoising(bench.clips, condition, networks, graphs, workers=bench.workers))


def upscaling(bench: Bench) -> list[Score]:
    """All scores."""
    networks = bench.contenders.upscalers(ours=bench.shipped, theirs=bench.exact)
    return told(judge.upscaling(bench.clips, bench.contenders.interpolators() | networks, workers=bench.workers))


def told(scores: list[Score]) -> list[Score]:
    """The same, after a line on stderr for each clip."""
    for clip in dict.fromkeys(one.clip for one in scores):
        figures = "  ".join(f"{one.contender} {one.psnr_db:.2f}" for one in scores if one.clip == clip)
        say(f"{scores[0].condition:18} {clip:14}  {figures}")
    return scores


def run(bench: Bench) -> report.Results:
    """Everything that was asked for.

    Raises:
        Unavailable: the registry lacks a package.
    """
    scores: list[Score] = []
    speeds: list[Speed] = []
    graphs_of: dict[str, dict[str, str]] = {}
    machines = tuple(dict.fromkeys([bench.exact, bench.shipped]))
    if DENOISE in bench.tasks:
        for condition, graphs, found in denoising(bench):
            scores += found
            graphs_of |= {condition.name: graphs} if graphs else {}
        graphs = graphs_of.get(f"sigma {speed.SIGMA}", {})
        speeds += speed.denoisers(bench.contenders, machines, graphs, rounds=bench.rounds) if bench.rounds else []
    if UPSCALE in bench.tasks:
        scores += upscaling(bench)
        speeds += speed.upscalers(bench.contenders, machines, rounds=bench.rounds) if bench.rounds else []
    ours = bench.rounds and VIDMILL in bench.contenders.names
    return report.results(
        command=shlex.join(["python", "-m", "tests.bench.restore", *sys.argv[1:]]),
        weights=_digests(bench),
        precision=bench.shipped.precision,
        clips={clip.name: list(clip.frames.shape[:3]) for clip in bench.clips},
        tuned=graphs_of,
        scores=tuple(scores),
        speeds=tuple(speeds),
        pipelines=tuple(pipelines(bench.contenders, bench.tasks, bench.device) if ours else ()),
    )


def _digests(bench: Bench) -> dict[str, str]:
    if VIDMILL not in bench.contenders.names:
        return {}
    return {task: digest({DENOISE: bench.contenders.denoiser, UPSCALE: bench.contenders.upscaler}[task]) for task in bench.tasks}


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.restore", description="Measure vidmill's restoration beside that of others.")
    parser.add_argument("--denoiser", type=Path, default=DENOISER_WEIGHTS, metavar="FILE", help="safetensors; the shipped weights by default")
    parser.add_argument("--upscaler", type=Path, default=UPSCALER_WEIGHTS, metavar="FILE", help="the same")
    parser.add_argument("--only", choices=TASKS, help="one of the two tasks")
    parser.add_argument("--contenders", type=_names, default=frozenset(NAMES), help=f"of {','.join(NAMES)}; all by default")
    parser.add_argument("--quick", action="store_true", help=f"one clip, {QUICK_FRAMES} frames: whether it works, not how good it is")
    parser.add_argument("--rounds", type=int, help=f"of timing; {speed.ROUNDS} by default, 0 for none")
    parser.add_argument("--device", type=torch.device, default="cuda" if torch.cuda.is_available() else "cpu", help="default %(default)s")
    parser.add_argument("--results", type=Path, help=f"file to write; {RESULTS.name} beside the bench by default, none with --quick or a choice")
    return parser.parse_args(words)


def _names(text: str) -> frozenset[str]:
    names = text.split(",")
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"{unknown[0]}: no such contender; choose from {', '.join(NAMES)}")
    return frozenset(names)


def bench_of(asked: argparse.Namespace) -> Bench:
    """What the command line means."""
    excerpts, count = (QUICK, QUICK_FRAMES) if asked.quick else (EXCERPTS, FRAMES)
    rounds = (speed.QUICK_ROUNDS if asked.quick else speed.ROUNDS) if asked.rounds is None else asked.rounds
    tasks = (asked.only,) if asked.only else TASKS
    contenders = Contenders(asked.contenders, asked.denoiser, asked.upscaler)
    return Bench(contenders, tasks, tuple(read(excerpt, count) for excerpt in excerpts), asked.device, rounds)


def main() -> None:
    """Measure, print the tables, write the file."""
    asked = arguments(sys.argv[1:])
    torch.set_num_threads(1)
    try:
        found = run(bench_of(asked))
    except (Unavailable, FileNotFoundError, Problem, ModelError) as error:
        sys.exit(f"restore: {error}")
    print(report.text(found))
    whole = not (asked.quick or asked.only or asked.contenders != frozenset(NAMES) or asked.rounds == 0)
    if target := asked.results or (RESULTS if whole else None):
        report.write(found, target)
        print(f"\nwrote {target}; into the README: python -m tests.bench.readme")
    sys.exit(any(one.met is False for one in found.targets))


if __name__ == "__main__":
    main()
