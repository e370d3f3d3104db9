"""Intervals against scipy, against theory, and against other people's scores on explicit resamples."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import stats

from hfcourse.report.bootstrap import Statistic, difference, interval
from hfcourse.report.constant import constant
from hfcourse.report.statistics import find, kind_of

Draw = Callable[..., list[dict[str, Any]]]
Scores = Callable[[str, list[dict[str, Any]]], dict[str, float]]


def test_the_interval_of_a_mean_is_scipys() -> None:
    values = np.random.default_rng(0).normal(3, 2, 200)
    statistic = Statistic(values[:, None], lambda w, u: (w @ u[:, 0]) / w.sum(1))
    ours = interval(statistic, resamples=20_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.012)


def test_the_interval_of_an_accuracy_is_the_binomials() -> None:
    answers = [{"id": i, "prediction": "a", "reference": "a" if i < 300 else "b"} for i in range(400)]
    statistic = find("accuracy", "classification", answers, 0.75)
    assert statistic is not None
    ours = interval(statistic, resamples=20_000)
    low, high = stats.binom(400, 0.75).ppf([0.025, 0.975]) / 400
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.003)


@pytest.mark.parametrize("kind", ["classification", "tagging", "span_qa", "regression"])
def test_weights_score_like_the_resample_they_stand_for(kind: str, draw: Draw, reference_scores: Scores) -> None:
    """Scores under weights are those that sklearn, seqeval and scipy give the resample written out."""
    answers = draw(kind)
    recorded = reference_scores(kind, answers)
    rng = np.random.default_rng(3)
    for _ in range(5):
        drawn = rng.integers(len(answers), size=len(answers))
        weights = np.bincount(drawn, minlength=len(answers))[None].astype(float)
        expected = reference_scores(kind, [answers[i] for i in drawn])
        for name, value in recorded.items():
            statistic = find(name, kind_of(answers), answers, value)
            assert statistic is not None, name
            assert statistic.point == pytest.approx(value, abs=1e-9)
            assert statistic.apply(weights, statistic.units)[0] == pytest.approx(expected[name], abs=1e-9), name


def test_chunks_and_distinct_cases_change_nothing_but_the_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(0, 1, 300)
    statistic = Statistic(values[:, None], lambda w, u: (w @ u[:, 0]) / w.sum(1))
    whole = interval(statistic)
    monkeypatch.setattr("hfcourse.report.bootstrap._CELLS", 1000)
    again = interval(statistic)
    assert (again.low, again.high) == pytest.approx((whole.low, whole.high), rel=1e-9)
    assert interval(statistic, seed=1).low != pytest.approx(whole.low, rel=1e-9)


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(1000)
    ours, other = (hard < 0.80).astype(float), (hard < 0.77).astype(float)

    def mean(values: np.ndarray) -> Statistic:
        return Statistic(values[:, None], lambda w, u: (w @ u[:, 0]) / w.sum(1))

    found = difference(mean(ours), mean(other))
    share = (ours - other).mean()
    spread = 1.96 * math.sqrt(share * (1 - share) / 1000)
    assert found.value == pytest.approx(share)
    assert found.certain
    assert (found.low, found.high) == pytest.approx((share - spread, share + spread), abs=0.002)
    assert not difference(mean(ours), mean(ours)).certain


def test_a_score_that_the_answers_do_not_give_has_no_interval(draw: Draw, reference_scores: Scores) -> None:
    answers = draw("classification")
    right = reference_scores("classification", answers)["accuracy"]
    assert find("accuracy", "classification", answers, right + 0.01) is None
    assert find("bleu", "classification", answers, right) is None
    assert find("accuracy", "classification", [], right) is None


@pytest.mark.parametrize("average", ["binary", "macro", "micro", "weighted"])
def test_the_average_is_found_from_the_recorded_value(average: Any) -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    truth = rng.integers(2, size=200)
    guess = np.where(rng.random(200) < 0.7, truth, 0)
    answers = [
        {"id": i, "prediction": int(g), "reference": int(t)} for i, (g, t) in enumerate(zip(guess, truth, strict=True))
    ]
    value = float(f1_score(truth, guess, average=average))
    statistic = find("f1", "classification", answers, value)
    assert statistic is not None
    drawn = rng.integers(200, size=200)
    weights = np.bincount(drawn, minlength=200)[None].astype(float)
    assert statistic.apply(weights, statistic.units)[0] == pytest.approx(
        f1_score(truth[drawn], guess[drawn], average=average)
    )


def test_labels_in_sets() -> None:
    from sklearn.metrics import f1_score

    rng = np.random.default_rng(0)
    truth, guess = rng.integers(2, size=(2, 80, 3))
    names = np.array(["x", "y", "z"])
    answers = [
        {"id": i, "prediction": names[g == 1].tolist(), "reference": names[t == 1].tolist()}
        for i, (g, t) in enumerate(zip(guess, truth, strict=True))
    ]
    for average in ("micro", "macro"):
        value = float(f1_score(truth, guess, average=average))
        assert find(f"{average}_f1", kind_of(answers, "classification"), answers, value) is not None


def test_pretraining_blocks_have_intervals_too() -> None:
    blocks = [{"nll": 20.0 + i, "words": 10.0, "right_words": 4.0, "right_pairs": float(i % 2)} for i in range(10)]
    answers = [{"id": i, "prediction": block, "reference": True} for i, block in enumerate(blocks)]
    found = find("perplexity", kind_of(answers), answers, math.exp(2.45))
    assert found is not None
    assert interval(found).low < math.exp(2.45) < interval(found).high


def test_the_constant_answer(draw: Draw, reference_scores: Scores) -> None:
    answers = draw("classification")
    often = max(sum(a["reference"] == b["reference"] for a in answers) for b in answers) / len(answers)
    right = reference_scores("classification", answers)
    assert constant("accuracy", "classification", answers, right["accuracy"]) == pytest.approx(often)
    assert constant("mcc", "classification", answers, right["mcc"]) == 0
    tagged = draw("tagging")
    assert constant("f1", "tagging", tagged, reference_scores("tagging", tagged)["f1"]) == 0
    spans = draw("span_qa")
    assert constant("f1", "span_qa", spans, reference_scores("span_qa", spans)["f1"]) == 0
    numbers = draw("regression")
    assert constant("pearson", "regression", numbers, reference_scores("regression", numbers)["pearson"]) is None


def test_a_large_test_set_stays_cheap() -> None:
    rng = np.random.default_rng(0)
    truth = rng.integers(10, size=20_000)
    guess = np.where(rng.random(20_000) < 0.8, truth, rng.integers(10, size=20_000))
    answers = [
        {"id": i, "prediction": int(g), "reference": int(t)} for i, (g, t) in enumerate(zip(guess, truth, strict=True))
    ]

    started = time.perf_counter()
    for name in ("accuracy", "macro_f1", "mcc"):
        statistic = find(name, "classification", answers, None)
        assert statistic is not None
        interval(statistic)
    assert time.perf_counter() - started < 2
