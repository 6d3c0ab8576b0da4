"""The model card of a trained restorer, in Markdown: what it is, from what and how it was learned, what it is worth, the command that repeats it.

Says nothing the code's constants do not say. Knows what a training knows; opens no media.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from itertools import pairwise

from infra.training import RestorerTask
from tasks import degrade, motion, scores
from tasks.footage import LONG_SIDE
from tasks.learn import VERSION, Recipe, network_of
from tasks.material import Material, Split
from tasks.scores import Score

ARCHITECTURE = {RestorerTask.DENOISE: "denoiser-1", RestorerTask.UPSCALE_X2: "upscaler-x2-1"}
PURPOSE = {
    RestorerTask.DENOISE: "Removes noise of unknown kind and strength from video: this frame, the two after it and a memory of those before it go "
    "in, the clean frame comes out. No noise level is given.",
    RestorerTask.UPSCALE_X2: "Doubles the size of a picture.",
}
SCORE_COLUMNS = ("condition", "before", "after", "gain")
MOST_FILES = 1000  # that a card lists


@dataclass(frozen=True, slots=True)
class Training:
    """What is known when it is over."""

    recipe: Recipe
    split: Split
    digest: str
    held_out_share: float
    start: str | None  # address and digest of the weights it began with
    licences: Mapping[str, str]  # glob -> licence
    command: str
    elapsed_s: float
    machines: Sequence[str]
    scores: Sequence[Score]
    remarks: Sequence[str] = ()


def metadata(training: Training, step: int) -> dict[str, str]:
    """What the weights file says of itself."""
    return {
        "task": str(training.recipe.task),
        "architecture": ARCHITECTURE[training.recipe.task],
        "recipe_sha256": training.digest,
        "steps": str(step),
        "scores": json.dumps([asdict(score) for score in training.scores]),
    }


def scores_in(found: Mapping[str, str]) -> list[Score]:
    """The scores of a weights file."""
    return [Score(**score) for score in json.loads(found.get("scores", "[]"))]


def card(training: Training, *, weights_sha256: str, weights_bytes: int) -> str:
    """The whole card."""
    recipe = training.recipe
    parts = [
        f"# {recipe.task}",
        PURPOSE[recipe.task],
        *training.remarks,
        "## Weights",
        table(("", ""), [
            ("file", f"{recipe.task}.safetensors, {weights_bytes:,} bytes, float32"),
            ("SHA-256", weights_sha256),
            ("architecture", f"{ARCHITECTURE[recipe.task]}, {sum(weight.numel() for weight in network_of(recipe.task).parameters()):,} parameters"),
            ("recipe", f"SHA-256 {training.digest}, learning version {VERSION}"),
            *([("begun with", training.start)] if training.start else []),
        ]),
        "## Held-out scores",
        f"PSNR in dB, averaged over {scores.SEQUENCES[recipe.task]} sequences of {scores.FRAMES[recipe.task]} frames, {scores.SIDE[recipe.task]} "
        f"pixels square, made from the {len(training.split.held_out)} held-out files, which were never learned from.",
        table(SCORE_COLUMNS, [score_row(score) for score in training.scores]),
        "## How it was learned",
        table(("", ""), _learning(training)),
        "## Degradations",
        *(_noises() if recipe.task is RestorerTask.DENOISE else _reductions()),
        "## Data",
        f"Pictures whose longer side is over {LONG_SIDE['photograph']} (photographs) or {LONG_SIDE['video']} (videos) pixels were reduced by a whole "
        f"factor. Sequences are parts of videos (a share of {motion.VIDEO} where there are photographs too) or views of a camera that moves over a "
        f"photograph ({motion.STILL} of them still, {motion.FOREGROUND} with something moving before it, {motion.CUT} "
        "with a cut).",
        *_files(training),
        "## Make it again",
        f"```sh\n{training.command}\n```",
        "On one worker of the same kind of CPU, with the same number of threads and the same torch, the same weights come out, bit for bit.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def score_row(score: Score) -> tuple[str, str, str, str]:
    """Condition, before, after, gain as text."""
    if score.before_db == float("inf"):
        return score.condition, "exact", f"{score.after_db:.2f}", ""
    return score.condition, f"{score.before_db:.2f}", f"{score.after_db:.2f}", f"{score.after_db - score.before_db:+.2f}"


def _learning(training: Training) -> list[tuple[str, str]]:
    recipe = training.recipe
    return [
        ("steps", f"{recipe.steps:,}"),
        ("batch", f"{recipe.batch} sequences of {recipe.frames} frames, {recipe.side} pixels square, in each of {recipe.workers} worker(s)"),
        ("frames per step", str(recipe.stretch)),
        ("rate", f"Muon, {recipe.rate:g} (biases: Adam, a tenth of it), {_falling(recipe.fall)}"),
        ("distance", "Charbonnier"),
        ("seed", str(recipe.seed)),
        ("machine", "; then ".join(training.machines)),
        ("wall time", f"{training.elapsed_s / 3600:.2f} h"),
    ]


def _noises() -> list[str]:
    says = {
        "none": "the clean sequence",
        "gaussian": f"sigma {_span(degrade.GAUSSIAN_SIGMA)}",
        "photons": f"Poisson, variance {_span(degrade.PHOTON_GAIN)} of the brightness, and gaussian of sigma {_span(degrade.READING_SIGMA)}",
        "coarse": f"grains larger than a pixel, sigma {_span(degrade.COARSE_SIGMA)}",
        "compression": f"x264 {degrade.X264['preset']}, crf {_span(degrade.CRF)}; before it in {degrade.GRAINED} of them gaussian noise of sigma "
        f"{_span(degrade.GRAIN_SIGMA)}",
    }
    rounded = f"A share of {degrade.ROUNDED} of the noisy sequences is rounded and clipped to 8 bits. Sigmas are in steps of 1/255, drawn evenly."
    filed = f"A share of {degrade.SUBSAMPLED} of all sequences goes through 4:2:0 (BT.601) with its noise, as in files, and is learned without it."
    return [table(("share", "noise", "how"), _shares(degrade.NOISES, says)), rounded, filed]


def _reductions() -> list[str]:
    says = {
        "bicubic": "antialiased",
        "area": "mean of four pixels",
        "bilinear": "antialiased",
        "gaussian blur": f"sigma {_span(degrade.BLUR_SIGMA)} pixels of the larger picture, then every second pixel",
    }
    spoiled = f"A share of {degrade.SPOILED} gets gaussian noise of sigma {_span(degrade.SPOILED_SIGMA)} (of 255); all are rounded to 8 bits."
    return [table(("share", "halved by", "how"), _shares(degrade.REDUCTIONS, says)), spoiled]


def _shares(kinds: degrade.Kinds, says: Mapping[str, str]) -> list[tuple[str, str, str]]:
    return [(f"{end - begin:.2f}", name, says[name]) for (_, begin), (name, end) in pairwise((("", 0.0), *kinds))]


def _falling(fall: float) -> str:
    return "falling to zero from the first step on" if fall == 1 else f"falling to zero in the last {fall:g} of the steps"


def _span(range_: degrade.Range) -> str:
    return f"{range_[0]:g} to {range_[1]:g}"


def _files(training: Training) -> list[str]:
    rows = [
        (file.name, side, file.content, licence_of(file, training.licences))
        for side, files in (("learned from", training.split.learned), ("held out", training.split.held_out))
        for file in files
    ]
    share = f"Held out are the files whose name's SHA-256 lies in the first {training.held_out_share:g} of all digests, at least one."
    listed = table(("file", "side", "SHA-256", "licence"), rows[:MOST_FILES])
    return [share, listed, *([f"and {len(rows) - MOST_FILES:,} more"] if len(rows) > MOST_FILES else [])]


def licence_of(file: Material, licences: Mapping[str, str]) -> str:
    """The licence of the first glob that the end of the address matches."""
    found = (licence for glob, licence in licences.items() if fnmatchcase(file.found.uri, f"*{glob}"))
    return next(found, "not stated")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text).replace("|", "\\|")
