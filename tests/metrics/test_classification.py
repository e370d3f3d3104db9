"""Scores against scikit-learn and scipy, and their degenerate cases."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from sklearn.preprocessing import MultiLabelBinarizer

from hfcourse.metrics import classification


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("seed", range(3))
def test_class_scores_equal_scikit_learn(classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, 60)
    guess = np.where(rng.random(60) < 0.6, truth, rng.integers(0, classes, 60))
    p, r = guess.tolist(), truth.tolist()
    assert classification.accuracy(p, r) == pytest.approx(sklearn.metrics.accuracy_score(r, p))
    assert classification.f1(p, r) == pytest.approx(sklearn.metrics.f1_score(r, p, average="macro"))
    assert classification.f1(p, r, positive=1) == pytest.approx(
        sklearn.metrics.f1_score(r, p, labels=[1], average="macro")
    )
    assert classification.matthews(p, r) == pytest.approx(sklearn.metrics.matthews_corrcoef(r, p))


def test_label_set_scores_equal_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    names = list("abcde")
    truth = [[n for n in names if rng.random() < 0.4] for _ in range(50)]
    guess = [[n for n in row if rng.random() < 0.7] + [n for n in "ab" if n not in row] for row in truth]
    binarizer = MultiLabelBinarizer(classes=names)
    r, p = binarizer.fit_transform(truth), binarizer.transform(guess)
    assert classification.micro_f1(guess, truth) == pytest.approx(sklearn.metrics.f1_score(r, p, average="micro"))


@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e200])
def test_correlations_equal_scipy(scale: float) -> None:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 8, 80).astype(float)  # with ties
    y = x + rng.normal(size=80)
    assert classification.pearson(x * scale, y) == pytest.approx(scipy.stats.pearsonr(x, y).statistic)
    assert classification.spearman(x * scale, y) == pytest.approx(scipy.stats.spearmanr(x, y).statistic)


def test_degenerate_input_has_defined_values_without_warnings() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert classification.matthews([1, 1, 1], [0, 1, 0]) == 0.0
        assert classification.matthews([1, 1], [1, 1]) == 0.0
        assert classification.f1([0, 0], [0, 0], positive=1) == 0.0
        assert classification.f1([0, 0], [0, 0]) == 1.0
        assert classification.micro_f1([[]], [[]]) == 0.0
        assert classification.accuracy([], []) == classification.f1([], []) == classification.matthews([], []) == 0.0
        assert classification.pearson([2.0, 2.0, 2.0], [1.0, 2.0, 3.0]) == 0.0
        assert classification.pearson([0.1, 0.1 + 1e-9], [2.0, 1.0]) == pytest.approx(-1.0)
        assert classification.spearman([1.0], [1.0]) == classification.pearson([], []) == 0.0


def test_perplexity_is_weighted_by_tokens() -> None:
    # Two texts of 1 and 3 tokens: exp((2 + 6) / 4), whatever each one's own mean is.
    assert classification.perplexity(2.0 + 6.0, 1 + 3) == pytest.approx(math.exp(2))
    assert classification.perplexity(1e6, 1) == math.inf
    assert classification.perplexity(0.0, 0) == 1.0
