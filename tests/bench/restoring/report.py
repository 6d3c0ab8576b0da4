"""What the bench of restoration found, as a file and as tables.

    Results -> restore.json -> text (screen), markdown (README)

Knows the figures and how they are shown; measures nothing.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.bench import report
from tests.bench.restoring.clips import SIGMAS
from tests.bench.restoring.judge import (
    BICUBIC,
    CLEAN,
    COMPRESSED,
    DENOISERS,
    FFDNET,
    HALF,
    HQDN3D,
    INPUT,
    LANCZOS,
    NLMEANS,
    UNCLIPPED,
    UPSCALERS,
    VIDMILL,
    WAIFU2X,
    Score,
    mean,
)
from tests.bench.restoring.pipeline import Pipeline
from tests.bench.restoring.speed import Speed
from tests.bench.restoring.targets import FLOAT32, Target, targets

PACKAGES = ("torch", "av", "pillow", "numpy", "scikit-video")
DENOISE_CONDITIONS = (*(f"sigma {sigma}" for sigma in SIGMAS), COMPRESSED, CLEAN)
NAMES = {
    INPUT: "the input",
    HQDN3D: "hqdn3d, tuned",
    NLMEANS: "nlmeans, tuned",
    FFDNET: "FFDNet, told the sigma",
    BICUBIC: "bicubic",
    LANCZOS: "Lanczos",
    WAIFU2X: "waifu2x upconv_7_photo",
    VIDMILL: "vidmill",
}
Table = list[list[str]]  # headings first; every cell but a row's first is a figure


@dataclass(frozen=True, slots=True)
class Results:
    """Everything that was measured."""

    command: str
    date: str
    machine: dict[str, Any]
    versions: dict[str, str]
    weights: dict[str, str]  # sha256 of vidmill's, by task
    precision: str  # that vidmill was judged in
    clips: dict[str, list[int]]  # name -> frames, height, width
    tuned: dict[str, dict[str, str]]  # condition -> filter -> graph
    scores: tuple[Score, ...]
    speeds: tuple[Speed, ...]
    pipelines: tuple[Pipeline, ...]

    @property
    def targets(self) -> tuple[Target, ...]:
        """The promises."""
        return targets(self.scores, self.speeds)


def results(**measured: Any) -> Results:
    """With the date and the machine."""
    return Results(date=datetime.now(UTC).isoformat(timespec="seconds"), machine=report.machine(), versions=report.versions(PACKAGES), **measured)


def write(found: Results, path: Path) -> None:
    """Keep the results, and for who reads the file what follows from them."""
    judged = [{**asdict(one), "met": one.met} for one in found.targets]
    path.write_text(json.dumps(asdict(found) | {"targets": judged}, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> Results:
    """What `write` wrote."""
    values = json.loads(path.read_text(encoding="utf-8"))
    del values["targets"]
    scores = tuple(Score(**one) for one in values.pop("scores"))
    speeds = tuple(Speed(**one | {"ms_per_frame": tuple(one["ms_per_frame"])}) for one in values.pop("speeds"))
    pipelines = tuple(Pipeline(**one) for one in values.pop("pipelines"))
    return Results(scores=scores, speeds=speeds, pipelines=pipelines, **values)


def tables(found: Results) -> Iterator[Table]:
    """One for denoising, one for upscaling; a row per contender that ran."""
    yield [
        ["denoising: RGB PSNR in dB / SSIM", *DENOISE_CONDITIONS, *_speed_headings(found, "denoise")],
        *(
            _row(found, "denoise", name, [_pair(found, condition, name) for condition in DENOISE_CONDITIONS])
            for name in _ran(found, DENOISE_CONDITIONS, DENOISERS)
        ),
    ]
    yield [
        ["upscaling x2", "luma PSNR in dB", "SSIM", "flicker", *_speed_headings(found, "upscale")],
        *(_row(found, "upscale", name, _upscaled(found, name)) for name in _ran(found, [HALF], UPSCALERS)),
    ]


def _ran(found: Results, conditions: Sequence[str], names: Sequence[str]) -> list[str]:
    here = {one.contender for one in found.scores if one.condition in conditions}
    return [name for name in names if name in here]


def _row(found: Results, task: str, name: str, cells: list[str]) -> list[str]:
    return [NAMES[name], *cells, *(_fps(found, task, name, precision) for precision in _precisions(found, task))]


def _speed_headings(found: Results, task: str) -> list[str]:
    return [f"frames/s, {precision}" for precision in _precisions(found, task)]


def _precisions(found: Results, task: str) -> list[str]:
    there = {one.precision for one in found.speeds if one.task == task and one.precision}
    return sorted(there, key=lambda precision: precision != FLOAT32)


def _pair(found: Results, condition: str, name: str) -> str:
    psnr = mean(found.scores, condition, name)
    if psnr is None or (condition == CLEAN and name == INPUT):
        return "-"
    return f"{psnr:.2f} / {mean(found.scores, condition, name, 'ssim'):.3f}"


def _upscaled(found: Results, name: str) -> list[str]:
    figures: tuple[tuple[str, Callable[[float], str]], ...] = (
        ("psnr_db", "{:.2f}".format),
        ("ssim", "{:.4f}".format),
        ("flicker", "{:.2f}".format),
    )
    return [form(value) if (value := mean(found.scores, HALF, name, figure)) is not None else "-" for figure, form in figures]


def _fps(found: Results, task: str, name: str, precision: str) -> str:
    here = (one for one in found.speeds if (one.task, one.contender) == (task, name) and one.precision in ("", precision))
    return next((f"{one.fps:.2f}" if one.fps < 100 else f"{one.fps:,.0f}" for one in here), "-")


def remarks(found: Results) -> list[str]:
    """What the tables do not hold, a sentence each."""
    frames = next(iter(found.clips.values()))[0]
    clips = ", ".join(f"{name} {width}x{height}" for name, (_, height, width) in found.clips.items())
    said = [
        f"{frames} frames of each of {clips}: held out, never trained on; bigbuckbunny made half as large first. Averages over the clips.",
        "Every contender gets the same frames, rounded and clipped to 8 bits, and so is what it gives. SSIM and flicker are of luma; "
        "flicker is the mean change of the error from one frame to the next, in 8-bit steps.",
        "The classics' parameters are the best of a grid on these very clips; vidmill's denoiser is told nothing.",
        *_unclipped(found),
        *_speeds(found),
        *_pipelines(found),
    ]
    return said


def _unclipped(found: Results) -> Iterator[str]:
    ours, theirs = (mean(found.scores, UNCLIPPED, name) for name in (VIDMILL, FFDNET))
    if ours is not None and theirs is not None:
        yield f"With noise of sigma 25 that is not clipped, as FFDNet was trained on and no video has: FFDNet {theirs:.2f} dB, vidmill {ours:.2f} dB."


def _speeds(found: Results) -> Iterator[str]:
    for task in ("denoise", "upscale"):
        if speed := next((one for one in found.speeds if one.task == task), None):
            rounds = len(speed.ms_per_frame)
            what = f"{speed.width}x{speed.height}" + (" from half of it" if task == "upscale" else "")
            yield f"Speed, {task}: {what}, {speed.device}, median of {rounds} rounds in turn."


def _pipelines(found: Results) -> Iterator[str]:
    for one in found.pipelines:
        waits = f"; the GPU waits {one.waiting:.0%} of the time" if one.device == "cuda" else ""
        yield f"A whole video, {one.recipe}, {one.width}x{one.height}, decoding and encoding included: {one.fps:.1f} frames/s{waits}."


def parameters(found: Results) -> Iterator[str]:
    """The filters' best parameters, a line each."""
    for condition, graphs in found.tuned.items():
        for graph in graphs.values():
            yield f"{condition:9} {graph}"


def text(found: Results) -> str:
    """For a terminal."""
    parts = [_aligned(table) for table in tables(found) if len(table) > 1]
    if found.tuned:
        parts.append("\n".join(parameters(found)))
    return "\n\n".join([*parts, "\n".join(remarks(found)), "\n".join(target.text for target in found.targets)])


def _aligned(table: Table) -> str:
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]) for row in table
    )


def markdown(found: Results) -> str:
    """For the README."""
    parts = [
        "\n".join(f"| {' | '.join(row)} |" for row in [table[0], ["---", *["---:"] * (len(table[0]) - 1)], *table[1:]]) for table in tables(found)
    ]
    cores = f"{found.machine['cores']} cores of {found.machine['cpu']}; {found.date[:10]}."
    return "\n\n".join(
        [*parts, "\n".join([*remarks(found), cores, f"Measured by `{found.command}`; every figure is in `tests/bench/restore.json`."])]
    )
