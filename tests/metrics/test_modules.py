"""The evaluate modules: offline, by name, with evaluate's own ways of filling them."""

from __future__ import annotations

import math
import socket
from typing import Any

import pytest

from hfcourse import metrics
from hfcourse.errors import ConfigError


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize(
    ("name", "predictions", "references", "expected"),
    [
        ("accuracy", [0, 1, 1, 0], [0, 1, 0, 0], {"accuracy": 0.75}),
        ("f1", [0, 1, 1, 0], [0, 1, 0, 0], {"f1": 2 / 3}),
        ("macro_f1", [0, 1, 1, 0], [0, 1, 0, 0], {"macro_f1": (0.8 + 2 / 3) / 2}),
        ("micro_f1", [[0, 1], []], [[1], [2]], {"micro_f1": 0.5}),
        ("matthews_correlation", [0, 1, 1, 0], [0, 1, 0, 0], {"mcc": 1 / math.sqrt(3)}),
        ("pearson", [1.0, 2.0, 4.0], [1.0, 2.0, 3.0], {"pearson": 3 / math.sqrt(28 / 3)}),
        ("spearman", [1.0, 2.0, 4.0], [1.0, 2.0, 3.0], {"spearman": 1.0}),
        ("squad", ["the Broncos", "x"], [["Broncos"], ["y"]], {"exact_match": 50.0, "f1": 50.0}),
        ("perplexity", [2.0, 6.0], [1.0, 3.0], {"perplexity": math.exp(2)}),
    ],
)
def test_modules_compute(name: str, predictions: Any, references: Any, expected: dict[str, float]) -> None:
    assert metrics.metric(name).compute(predictions=predictions, references=references) == pytest.approx(expected)


def test_modules_can_be_filled_in_batches() -> None:
    module = metrics.metric("seqeval")
    module.add_batch(predictions=[["B-A", "O"]], references=[["B-A", "O"]])
    module.add(prediction=["O", "O"], reference=["B-A", "O"])
    assert module.compute() == pytest.approx({"f1": 2 / 3, "precision": 1.0, "recall": 0.5, "accuracy": 0.75})


def test_f1_averages() -> None:
    f1 = metrics.metric("f1")
    assert f1.compute(predictions=[0, 1, 2], references=[0, 1, 1], average="macro") == pytest.approx({"f1": 5 / 9})
    assert f1.compute(predictions=[0, 1, 2], references=[0, 1, 1], average="micro") == pytest.approx({"f1": 2 / 3})


def test_squad_v2_by_hand() -> None:
    # Right span kept; no answer given rightly; a right span thrown away because its difference is above 0.
    predictions = [{"text": t, "no_answer": d} for t, d in (("cat", -2.0), ("dog", 3.0), ("bird", 1.0))]
    scores = metrics.metric("squad_v2").compute(predictions=predictions, references=[["cat"], [], ["bird"]])
    assert scores == pytest.approx(
        {
            "exact_match": 200 / 3,
            "f1": 200 / 3,
            "has_answer_exact_match": 50.0,
            "has_answer_f1": 50.0,
            "no_answer_exact_match": 100.0,
            "no_answer_f1": 100.0,
            "best_f1": 100.0,
            "best_f1_threshold": 1.0,
        }
    )


def test_every_name_makes_a_module_and_an_unknown_one_is_refused() -> None:
    assert len({metrics.metric(name).description for name in metrics.names()}) == len(metrics.names())
    with pytest.raises(ConfigError, match=r"unknown metric 'acuracy': did you mean 'accuracy'\?"):
        metrics.metric("acuracy")
