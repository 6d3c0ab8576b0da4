"""How fast each contender is: the same frames, one thread of torch, in turn, round after round, every network in every precision.

On a CPU seconds are those of the processor, so another program on the machine disturbs them little; with a GPU they pass on the wall.
"""

import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
import torch

from tests.bench.restoring import filters
from tests.bench.restoring.clips import BIG, EXCERPTS, Clip, halved, noisy, read
from tests.bench.restoring.contenders import DENOISE, UPSCALE, Contenders
from tests.bench.restoring.judge import CLASSICS
from tests.bench.restoring.machine import Machine

Job = Callable[[], object]
ROUNDS, QUICK_ROUNDS = 5, 2
FRAMES, GPU_FRAMES = 3, 16  # of a round
SIGMA = 25
IDLE = "null"  # ffmpeg with nothing to do: what starting it and moving frames costs


@dataclass(frozen=True, slots=True)
class Speed:
    """Of one contender in one precision; ms of each round."""

    task: str  # denoise, upscale
    contender: str
    precision: str  # empty where there is no choice
    device: str
    width: int  # of what comes out
    height: int
    ms_per_frame: tuple[float, ...]

    @property
    def fps(self) -> float:
        """Frames per second."""
        return 1000 / median(self.ms_per_frame)


def denoisers(contenders: Contenders, machines: Sequence[Machine], graphs: Mapping[str, str], *, rounds: int) -> list[Speed]:
    """Of networks and of filters with these parameters."""
    clip = _clip(machines[0].device)
    worse = noisy(clip, SIGMA)
    jobs = {(name, ""): filter_job(worse, graph) for name, graph in graphs.items()}
    if graphs:
        jobs[IDLE, ""] = filter_job(worse, IDLE)
    for machine in machines:
        for name, denoise in contenders.denoisers(ours=machine, theirs=machine).items():
            jobs[name, machine.precision] = partial(denoise, worse, float(SIGMA))
    return _speeds(DENOISE, clip, race(jobs, frames=len(worse), rounds=rounds, device=machines[0].device), machines[0].device)


def upscalers(contenders: Contenders, machines: Sequence[Machine], *, rounds: int) -> list[Speed]:
    """Of networks and of interpolation."""
    clip = _clip(machines[0].device)
    small = halved(clip.frames)
    jobs: dict[tuple[str, str], Job] = {(name, ""): partial(upscale, small) for name, upscale in contenders.interpolators().items()}
    for machine in machines:
        for name, upscale in contenders.upscalers(ours=machine, theirs=machine).items():
            jobs[name, machine.precision] = partial(upscale, small)
    return _speeds(UPSCALE, clip, race(jobs, frames=len(small), rounds=rounds, device=machines[0].device), machines[0].device)


def _clip(device: torch.device) -> Clip:
    return read(BIG, GPU_FRAMES) if device.type == "cuda" else read(EXCERPTS[1], FRAMES)


def _speeds(task: str, clip: Clip, took: Mapping[tuple[str, str], Sequence[float]], device: torch.device) -> list[Speed]:
    """What was timed, ffmpeg's own start taken off its filters."""
    idle = median(took[IDLE, ""]) if (IDLE, "") in took else 0.0
    height, width = clip.frames.shape[1:3]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "one CPU core"
    found = []
    for (contender, precision), values in took.items():
        if contender != IDLE:
            off = idle if contender in CLASSICS else 0.0
            found.append(Speed(task, contender, precision, name, width, height, tuple(value - off for value in values)))
    return found


def race(jobs: Mapping[tuple[str, str], Job], *, frames: int, rounds: int, device: torch.device) -> dict[tuple[str, str], tuple[float, ...]]:
    """Milliseconds per frame of each job, a value a round; another job is the first in each round.

    Args:
        frames: that a job works on.
    """
    clock = _clock(device)
    took: dict[tuple[str, str], list[float]] = {name: [] for name in jobs}
    for number in range(1 + rounds):  # the first warms up
        for name in _turned(list(jobs), number):
            start = clock()
            jobs[name]()
            took[name].append((clock() - start) * 1000 / frames)
    return {name: tuple(values[1:]) for name, values in took.items()}


def _turned(names: list[tuple[str, str]], number: int) -> list[tuple[str, str]]:
    turn = number % len(names)
    return names[turn:] + names[:turn]


def _clock(device: torch.device) -> Callable[[], float]:
    if device.type == "cuda":
        return time.perf_counter  # a job ends with its frames back in memory, so the device has finished
    return lambda: sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def filter_job(frames: np.ndarray, graph: str) -> Job:
    """ffmpeg on a clip."""
    return partial(filters.run, filters.planes(frames), graph)
