"""SQuAD scores worked out by hand, the best threshold against all thresholds, Chinese by characters."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from hfcourse.metrics import qa


def test_english_normalisation() -> None:
    assert qa.normalise("  The  Cat's, an 'A'-team! ") == "cats ateam"
    assert qa.words("a theatre") == ["theatre"]  # articles go as whole words only


def test_exact_match_and_f1_by_hand() -> None:
    assert qa.exact_match("the Denver Broncos.", ["Carolina", "Denver Broncos"]) == 1.0
    assert qa.exact_match("Denver", ["Denver Broncos"]) == 0.0
    # {denver, broncos} against {denver, broncos, of, 2015}: precision 1, recall 1/2.
    assert qa.f1("Denver Broncos", ["Denver Broncos of 2015"]) == pytest.approx(2 / 3)
    # Repeated words count as often as both have them: 1 shared of 2 and 3.
    assert qa.f1("to to", ["to be him"]) == pytest.approx(2 / 5)
    assert qa.f1("x", ["y", "x z"]) == pytest.approx(2 / 3)  # the nearest reference


def test_no_answer_is_right_only_where_there_is_none() -> None:
    assert qa.exact_match("", []) == qa.f1("", []) == 1.0
    assert qa.exact_match("word", []) == qa.f1("word", []) == 0.0
    assert qa.exact_match("", ["word"]) == qa.f1("", ["word"]) == 0.0
    # A reference of nothing but articles is no reference (as in SQuAD v2's script).
    assert qa.exact_match("", ["the", "word"]) == 0.0


def test_chinese_by_characters() -> None:
    assert qa.characters("在BERT-base，2018年 New York。") == ["在", "bert", "base", "2018", "年", "new", "york"]
    units = qa.segmenter("梵語的研究")
    assert units is qa.characters
    assert qa.segmenter("the word 梵語 in an English text") is qa.words
    assert qa.exact_match("「梵語」", ["梵語"], units) == 1.0
    # 歐, 洲 shared of 2 and 5.
    assert qa.f1("歐洲", ["歐洲大部分"], units) == pytest.approx(2 * 2 / 7)


def test_best_threshold_equals_trying_all() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        differences = rng.integers(-3, 4, 7).astype(float)  # with ties
        with_answer, without = rng.random(7), rng.integers(0, 2, 7).astype(float)
        tried = {at: np.where(differences > at, without, with_answer).mean() for at in np.arange(-4.5, 5, 0.5).tolist()}
        threshold = qa.best_threshold(differences.tolist(), with_answer.tolist(), without.tolist())
        found = np.where(differences > threshold, without, with_answer).mean()
        assert found == pytest.approx(max(tried.values()))
    assert qa.best_threshold([], [], []) == 0.0


def test_scores_are_symmetric_in_order_of_references() -> None:
    references = ["one two", "two", "three four five"]
    values = {qa.f1("two three", list(order)) for order in itertools.permutations(references)}
    assert len(values) == 1
