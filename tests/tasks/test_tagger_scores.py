"""Every measure by hand on a few videos, against scikit-learn on many, and whatever the order of the rows."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score

from tasks.tagger_scores import (
    Rated,
    average_precision,
    global_average_precision,
    hit_at_one,
    mean_average_precision,
    precision_at_equal_recall,
    scores_of,
    segments_precision,
)

# Two videos, three labels. Pooled: .9 right, .8 wrong, .7 right, .4 wrong, .3 right, .1 wrong.
SCORES = np.array([[0.9, 0.8, 0.3], [0.1, 0.7, 0.4]])
TRUTH = np.array([[True, False, True], [False, True, False]])
ALL = TRUTH.sum(1)


def test_gap_by_hand() -> None:
    assert global_average_precision(SCORES, TRUTH, ALL) == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 3)


def test_gap_looks_at_the_best_of_each_video_and_divides_by_all_labels() -> None:
    assert global_average_precision(SCORES, TRUTH, ALL, best=1) == pytest.approx((1 + 1) / 3)
    assert global_average_precision(SCORES, TRUTH, ALL, best=2) == pytest.approx((1 + 2 / 3) / 3)
    assert global_average_precision(SCORES, TRUTH, ALL + 2) == pytest.approx((1 / 1 + 2 / 3 + 3 / 5) / 7)


def test_hit_at_one_by_hand() -> None:
    assert hit_at_one(SCORES, TRUTH) == 1
    assert hit_at_one(-SCORES, TRUTH) == 0.5


def test_perr_by_hand() -> None:
    """The first video has two labels and one of its two best is right; the second has one, and its best is right."""
    assert precision_at_equal_recall(SCORES, TRUTH, ALL) == pytest.approx((1 / 2 + 1) / 2)
    assert precision_at_equal_recall(SCORES, TRUTH, np.array([4, 1])) == pytest.approx((2 / 4 + 1) / 2)
    assert precision_at_equal_recall(SCORES, TRUTH & [[True], [False]], np.array([2, 0])) == pytest.approx(1 / 2)


def test_map_by_hand() -> None:
    """The labels' rankings: right wrong; wrong right ... of .8 wrong, .7 right; .4 wrong, .3 right."""
    assert mean_average_precision(SCORES, TRUTH) == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)
    assert mean_average_precision(SCORES, TRUTH & [True, False, False]) == 1


def test_segments_by_hand() -> None:
    """Label 0: wrong, right, right; label 2: right; label 1 has no right one and does not count."""
    rated = Rated(np.array([0, 0, 0, 2, 1]), np.array([0.5, 0.9, 0.7, 0.1, 0.2]), np.array([True, False, True, True, False]))
    assert segments_precision(rated) == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 2)
    assert segments_precision(rated, most=2) == pytest.approx(((1 / 2) / 2 + 1) / 2)
    assert segments_precision(rated, most=1) == pytest.approx((0 + 1) / 2)


ROUGH = st.integers(0, 6).map(lambda number: number / 6)  # so that there are ties


@given(arrays(np.float64, 30, elements=ROUGH), arrays(np.bool_, 30))
def test_average_precision_is_scikit_learns(scores: np.ndarray, right: np.ndarray) -> None:
    wanted = average_precision_score(right, scores) if right.any() else 0.0
    assert average_precision(scores, right, int(right.sum())) == pytest.approx(wanted)


@given(arrays(np.float64, (12, 4), elements=ROUGH), arrays(np.bool_, (12, 4)))
def test_gap_and_map_are_scikit_learns(scores: np.ndarray, truth: np.ndarray) -> None:
    truth[0] = True
    assert global_average_precision(scores, truth, truth.sum(1)) == pytest.approx(average_precision_score(truth, scores, average="micro"))
    assert mean_average_precision(scores, truth) == pytest.approx(average_precision_score(truth, scores, average="macro"))


@given(st.permutations(range(12)), st.integers(0, 1000))
def test_no_order_of_videos_decides(order: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    scores, truth, prior = random.integers(0, 4, (12, 5)) / 4, random.random((12, 5)) < 0.4, random.random(5)
    found = scores_of(scores, truth, truth.sum(1), prior)
    assert [(score.value, score.prior) for score in scores_of(scores[order], truth[order], truth[order].sum(1), prior)] == [
        (pytest.approx(score.value), pytest.approx(score.prior)) for score in found
    ]
    assert all(0 <= score.value <= 1 for score in found)


def test_rows_are_ranked_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    scores, truth = random.random((50, 30)), random.random((50, 30)) < 0.2
    whole = scores_of(scores, truth, truth.sum(1), np.ones(30))
    monkeypatch.setattr("tasks.tagger_scores.ROWS", 7)
    assert scores_of(scores, truth, truth.sum(1), np.ones(30)) == whole


def test_a_perfect_tagger_has_full_marks_and_the_frequencies_have_not() -> None:
    truth = np.eye(8, 4, dtype=bool) | np.eye(8, 4, k=-4, dtype=bool)
    rated = Rated(np.array([0, 0]), np.array([0.9, 0.1]), np.array([True, False]))
    found = scores_of(truth.astype(float), truth, truth.sum(1), truth.mean(0), rated)
    assert [(score.metric, score.value, score.over) for score in found] == [
        ("GAP@20", 1, "8 videos"), ("Hit@1", 1, "8 videos"), ("PERR", 1, "8 videos"), ("mAP", 1, "4 labels"),
        ("segments MAP@100000", 1, "2 rated pairs"),
    ]  # fmt: skip
    assert {score.metric: score.prior for score in found} == {
        "GAP@20": 0.25, "Hit@1": 0.25, "PERR": 0.25, "mAP": 0.25, "segments MAP@100000": 0.5,
    }  # fmt: skip
