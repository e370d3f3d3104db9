"""Entity scores against seqeval on random tags, and cases worked out by hand."""

from __future__ import annotations

import random
import warnings

import pytest
import seqeval.metrics
from seqeval.metrics.sequence_labeling import get_entities

from hfcourse.metrics import tagging

IOB = ["O", "B-A", "I-A", "B-B", "I-B"]
IOBES = [*IOB, "E-A", "S-A", "E-B", "S-B"]


@pytest.mark.parametrize("marks", [IOB[:3], IOB, IOBES])
def test_scores_equal_seqeval_on_any_tags(marks: list[str]) -> None:
    draw = random.Random(0)
    truth = [[draw.choice(marks) for _ in range(draw.randint(1, 9))] for _ in range(300)]
    guess = [[tag if draw.random() < 0.7 else draw.choice(marks) for tag in tags] for tags in truth]
    assert all(tagging.entities(tuple(tags)) == set(get_entities(tags)) for tags in truth)
    scores = tagging.entity_scores(guess, truth)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert scores["f1"] == pytest.approx(seqeval.metrics.f1_score(truth, guess))
        assert scores["precision"] == pytest.approx(seqeval.metrics.precision_score(truth, guess))
        assert scores["recall"] == pytest.approx(seqeval.metrics.recall_score(truth, guess))
        assert scores["accuracy"] == pytest.approx(seqeval.metrics.accuracy_score(truth, guess))


def test_entities_by_hand() -> None:
    tags = ("B-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-PER")
    assert tagging.entities(tags) == {("PER", 0, 1), ("LOC", 3, 3), ("LOC", 4, 4), ("PER", 5, 5)}
    assert tagging.entities(("U-A", "B-A", "I-A", "L-A")) == {("A", 0, 0), ("A", 1, 3)}  # BILOU
    assert tagging.entities(("B-creative-work", "I-creative-work")) == {("creative-work", 0, 1)}


def test_an_entity_counts_only_whole() -> None:
    truth, guess = [["B-A", "I-A", "O", "B-B"]], [["B-A", "O", "O", "B-B"]]
    assert tagging.entity_scores(guess, truth) == {"f1": 0.5, "precision": 0.5, "recall": 0.5, "accuracy": 0.75}


def test_degenerate_input_has_defined_values() -> None:
    zeros = {"f1": 0.0, "precision": 0.0, "recall": 0.0}
    assert tagging.entity_scores([["O", "O"]], [["O", "O"]]) == zeros | {"accuracy": 1.0}
    assert tagging.entity_scores([], []) == zeros | {"accuracy": 0.0}


def test_entity_tags_are_told_from_parts_of_speech() -> None:
    assert tagging.has_entities(["O", "B-PER", "I-PER"])
    assert not tagging.has_entities(["NOUN", "VERB", "X"])
    assert not tagging.has_entities(["O"])
