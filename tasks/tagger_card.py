"""The card of a trained tagger, in Markdown: what it is, from what and how it was learned, what it is worth, the command that repeats it.

Knows what a training knows; opens no table.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from models.tagger import METADATA, TaggerShape, network_of
from tasks.card import table
from tasks.learn_tagger import DECAY, VERSION, TaggerRecipe
from tasks.tagger_corpus import Corpus
from tasks.tagger_scores import TaggerScore

SCORE_COLUMNS = ("measure", "frequencies alone", "tagger", "over")
MOST_LABELS = 100  # that a card lists
NETWORKS = {
    "moe": "the mean over frames, then a mixture of experts for each label",
    "lstm": "an LSTM's last state, then a mixture of experts for each label",
    "netvlad": "gated NetVLAD, then a mixture of experts for each label",
    "transformer": "a Transformer's mean over frames, then a mixture of experts for each label",
}
PLAINLY = (
    "Learned on this machine from the features below and on nothing else. vidmill ships no tagger and claims no score on the real YouTube-8M; "
    "whoever trains on it gets scores of their own here."
)


@dataclass(frozen=True, slots=True)
class TaggerTraining:
    """What is known when it is over."""

    recipe: TaggerRecipe
    shape: TaggerShape
    corpus: Corpus
    digest: str
    command: str
    elapsed_s: float
    machines: Sequence[str]
    scores: Sequence[TaggerScore]


def metadata(training: TaggerTraining, step: int) -> dict[str, str]:
    """What the weights file says of itself."""
    return {
        METADATA: training.shape.encoded(),
        "recipe_sha256": training.digest,
        "steps": str(step),
        "scores": json.dumps([asdict(score) for score in training.scores]),
    }


def scores_in(found: Mapping[str, str]) -> list[TaggerScore]:
    """The scores of a weights file."""
    return [TaggerScore(**score) for score in json.loads(found.get("scores", "[]"))]


def score_row(score: TaggerScore) -> tuple[str, str, str, str]:
    """As text."""
    return score.metric, f"{score.prior:.4f}", f"{score.value:.4f}", score.over


def card(training: TaggerTraining, *, name: str, weights_sha256: str, weights_bytes: int) -> str:
    """The whole card."""
    shape, corpus = training.shape, training.corpus
    parameters = sum(weight.numel() for weight in network_of(shape).parameters())
    parts = [
        f"# {name}",
        f"Tags clips by stored features: {NETWORKS[shape.network]}.",
        PLAINLY,
        "## Weights",
        table(("", ""), [
            ("file", f"{name}.safetensors, {weights_bytes:,} bytes, float32"),
            ("SHA-256", weights_sha256),
            ("network", f"{shape.network}, {parameters:,} parameters"),
            ("inputs", ", ".join(f"{source} [{found.width}]" for source, found in zip(training.recipe.inputs, shape.inputs, strict=True))),
            ("labels", f"{len(shape.labels):,}"),
            ("recipe", f"SHA-256 {training.digest}, learning version {VERSION}"),
        ]),
        "## Held-out scores",
        f"Over {min(corpus.held_out, training.recipe.judged):,} of {corpus.held_out:,} held-out clips, which were never learned from. GAP and PERR "
        "count every label of a clip, also those that the tagger does not know. Beside each score stands what the labels' frequencies alone reach.",
        table(SCORE_COLUMNS, [score_row(score) for score in training.scores]),
        "## How it was learned",
        table(("", ""), _learning(training)),
        "## Data",
        *_data(training),
        "## Make it again",
        f"```sh\n{training.command}\n```",
        "On one worker of the same kind of CPU, with the same number of threads and the same torch, the same weights come out, bit for bit.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _learning(training: TaggerTraining) -> list[tuple[str, str]]:
    recipe, corpus = training.recipe, training.corpus
    clips = recipe.steps * recipe.batch * recipe.workers
    return [
        ("steps", f"{recipe.steps:,}, {clips / corpus.learned:.1f} times through the clips"),
        ("batch", f"{recipe.batch} clips of at most {recipe.frames} frames, in each of {recipe.workers} worker(s)"),
        ("sizes", f"hidden {recipe.hidden}, experts {recipe.experts}, clusters {recipe.clusters}, layers {recipe.layers}, heads {recipe.heads}"),
        ("rate", f"AdamW, {recipe.rate:g} falling to zero, decay {DECAY:g}"),
        ("loss", "cross entropy of each label, summed"),
        ("seed", str(recipe.seed)),
        ("machine", "; then ".join(training.machines)),
        ("wall time", f"{training.elapsed_s / 3600:.2f} h"),
    ]


def _data(training: TaggerTraining) -> list[str]:
    corpus, sides = training.corpus, training.corpus.sides
    by = f"of the split {sides.split}" if sides.split is not None else f"whose video's SHA-256 lies in the first {sides.share:g} of all digests"
    labels = [(label.name, f"{label.count:,}") for label in corpus.labels[:MOST_LABELS]]
    rest = len(corpus.labels) - MOST_LABELS
    return [
        f"{corpus.learned:,} clips were learned from, {corpus.held_out:,} held out: those {by}. {corpus.unlabelled:,} clips without a label and "
        f"{corpus.incomplete:,} without a row in every input were left out.",
        table(("label", "clips learned from"), labels),
        *([f"and {rest:,} more"] if rest > 0 else []),
    ]
