"""What a tagger is worth on videos it never learned from, by the measures of YouTube-8M.

    GAP@20    the 20 best tags of each video in one list, by score: average precision, divided by all labels of all videos
    Hit@1     share of videos whose best tag is right
    PERR      precision of a video's n best tags, n being the number of its labels; mean over videos
    mAP       average precision of each label over all videos; mean over labels
    MAP@K     the same over the segments that people rated for the label, the best K of them; mean over labels

Beside each stands what the labels' frequencies alone reach, the same for every video. Ties are one step of the ranking, as in scikit-learn, so that
no order of rows decides. Sources: Abu-El-Haija et al. 2016, the YouTube-8M challenge of 2019. Knows numbers only.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

BEST = 20  # tags of a video that GAP looks at
MOST_SEGMENTS = 100_000  # K of the challenge
ROWS = 1024  # videos that are ranked at once


@dataclass(frozen=True, slots=True)
class TaggerScore:
    """One measure."""

    metric: str
    prior: float  # reached by the labels' frequencies alone
    value: float
    over: str  # what it is an average of: "40 videos"


@dataclass(frozen=True, slots=True)
class Rated:
    """Segments that people rated, one entry for each pair of segment and label."""

    label: np.ndarray  # int [P], column of the label
    score: np.ndarray  # float [P], the tagger's
    right: np.ndarray  # bool [P], the people's


def scores_of(scores: np.ndarray, truth: np.ndarray, positives: np.ndarray, prior: np.ndarray, rated: Rated | None = None) -> list[TaggerScore]:
    """All measures.

    Args:
        scores: float [N, L].
        truth: bool [N, L].
        positives: int [N], labels of each video, also those that the tagger does not know.
        prior: float [L], how frequent each label is among what was learned from.
        rated: segments, where the corpus has any.
    """
    blind = np.broadcast_to(prior, scores.shape)
    videos, labels = f"{len(truth):,} videos", f"{int(truth.any(0).sum()):,} labels"

    def score(metric: str, over: str, measure: Callable[[np.ndarray], float]) -> TaggerScore:
        return TaggerScore(metric, measure(blind), measure(scores), over)

    found = [
        score(f"GAP@{BEST}", videos, lambda asked: global_average_precision(asked, truth, positives)),
        score("Hit@1", videos, lambda asked: hit_at_one(asked, truth)),
        score("PERR", videos, lambda asked: precision_at_equal_recall(asked, truth, positives)),
        score("mAP", labels, lambda asked: mean_average_precision(asked, truth)),
    ]
    if rated is not None and rated.right.any():
        over = f"{len(rated.label):,} rated pairs"
        found.append(TaggerScore(f"segments MAP@{MOST_SEGMENTS}", _share_right(rated), segments_precision(rated), over))
    return found


def average_precision(scores: np.ndarray, right: np.ndarray, positives: int) -> float:
    """The sum of precision times gain of recall, from the highest score down; equal scores are one step.

    Args:
        scores: float [N].
        right: bool [N].
        positives: what recall is of; at least as many as are right here.
    """
    if not positives:
        return 0.0
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(right[order])
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, [True] * bool(len(scores))))
    gained = np.diff(hits[ends], prepend=0)
    return float((hits[ends] / (ends + 1) * gained).sum() / positives)


def global_average_precision(scores: np.ndarray, truth: np.ndarray, positives: np.ndarray, *, best: int = BEST) -> float:
    """GAP: arguments as of `scores_of`."""
    listed = [(np.take_along_axis(part, top, 1), np.take_along_axis(right, top, 1)) for part, right, top in _ranked(scores, truth, best)]
    pooled, hits = (np.concatenate([entry[side].ravel() for entry in listed]) for side in (0, 1))
    return average_precision(pooled, hits, int(positives.sum()))


def hit_at_one(scores: np.ndarray, truth: np.ndarray) -> float:
    """The share of videos whose best tag is one of its labels."""
    return float(truth[np.arange(len(truth)), scores.argmax(1)].mean())


def precision_at_equal_recall(scores: np.ndarray, truth: np.ndarray, positives: np.ndarray) -> float:
    """PERR, over videos that have labels."""
    found, start = [], 0
    for _, right, top in _ranked(scores, truth, int(positives.max(initial=1))):
        counts = positives[start : start + len(top)]
        first = np.arange(top.shape[1]) < counts[:, None]
        found.append((np.take_along_axis(right, top, 1) & first).sum(1)[counts > 0] / counts[counts > 0])
        start += len(top)
    return float(np.concatenate(found).mean())


def mean_average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """mAP, over labels that some video has."""
    labels = np.flatnonzero(truth.any(0))
    return _mean([average_precision(scores[:, label], truth[:, label], int(truth[:, label].sum())) for label in labels])


def segments_precision(rated: Rated, *, most: int = MOST_SEGMENTS) -> float:
    """MAP@K: precision at each right one of the best K, divided by what K could hold; equal scores in the order they are given."""
    found = []
    for label in np.unique(rated.label[rated.right]):
        of = rated.label == label
        right = rated.right[of][np.argsort(-rated.score[of], kind="stable")][:most]
        precision = np.cumsum(right) / np.arange(1, len(right) + 1)
        found.append(float(precision[right].sum() / min(most, int(rated.right[of].sum()))))
    return _mean(found)


def _share_right(rated: Rated) -> float:
    """What no order at all reaches."""
    return _mean([float(rated.right[rated.label == label].mean()) for label in np.unique(rated.label[rated.right])])


def _ranked(scores: np.ndarray, truth: np.ndarray, best: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Some videos at a time: scores, truth, and the columns of the best scores, best first; of equal ones the first column."""
    for start in range(0, len(scores), ROWS):
        part = scores[start : start + ROWS]
        yield part, truth[start : start + ROWS], np.argsort(-part, axis=1, kind="stable")[:, :best]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
