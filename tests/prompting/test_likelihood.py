"""Cases worked by hand."""

from __future__ import annotations

import math

import pytest

from hfcourse.prompting import likelihood
from hfcourse.prompting.requests import OptionScore


def scores(*probabilities: float, tokens: int = 1) -> list[OptionScore]:
    return [OptionScore(math.log(p), tokens, greedy=False) for p in probabilities]


def test_lengths() -> None:
    options = [OptionScore(-6.0, 2, greedy=False), OptionScore(-4.0, 1, greedy=True)]
    texts = ["schöner", "ok"]
    assert likelihood.total(options) == [-6, -4]
    assert likelihood.per_token(options) == [-3, -4]
    assert likelihood.per_character(options, texts) == [-6 / 7, -2]
    assert likelihood.per_byte(options, texts) == [-6 / 8, -2]
    assert likelihood.best(likelihood.total(options)) == 1
    assert likelihood.best(likelihood.per_token(options)) == 0
    for way in (likelihood.per_character, likelihood.per_byte):
        assert way(options, ["", "ok"]) == [-math.inf, -2]  # a choice without text is none
    with pytest.raises(ValueError, match="shorter"):
        likelihood.per_byte(options, ["one"])


def test_what_is_likely_anyway_counts_less() -> None:
    options, alone = scores(0.5, 0.2), scores(0.6, 0.1)
    assert likelihood.against_unconditional(options, alone) == pytest.approx([math.log(5 / 6), math.log(2)])
    assert likelihood.best(likelihood.against_unconditional(options, alone)) == 1


def test_calibration_is_the_paper_s() -> None:
    """p = (.7, .3); the inputs without content give (.8, .2) and (.6, .4), so p_cf = (.7, .3) and nothing is left."""
    options, free = scores(0.07, 0.03), [scores(0.4, 0.1), scores(0.06, 0.04)]
    assert likelihood.calibrated(options, free) == pytest.approx([math.log(0.5)] * 2)
    one = likelihood.calibrated(scores(0.6, 0.3), [scores(0.5, 0.1)])
    assert [math.exp(value) for value in one] == pytest.approx([0.8 / (0.8 + 2.0), 2.0 / (0.8 + 2.0)])


def test_ties_go_to_the_first() -> None:
    assert likelihood.best([-2.0, -1.0, -1.0]) == 1
    assert likelihood.best([-1.0 - 1e-8, -1.0]) == 0
    assert likelihood.best([-1.001, -1.0]) == 1
