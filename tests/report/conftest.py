"""Made-up run folders, one for each kind of answers, written as plain files (not by the code under test)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CLASSES = ["asyncio", "email", "json", "logging", "unittest"]
WORDS = ("the", "value", "of", "timeout", "is", "given", "to", "a", "socket", "and", "raises", "ValueError", "when")
TAGS = ["O", "B-PARAM", "B-TYPE", "B-ERROR"]


def classification(rng: np.random.Generator, count: int, skill: float) -> list[dict[str, Any]]:
    answers = []
    for number in range(count):
        truth = CLASSES[rng.integers(len(CLASSES)) if rng.random() < 0.6 else 0]
        right = rng.random() < skill
        guess = truth if right else CLASSES[rng.integers(len(CLASSES))]
        text = " ".join(rng.choice(WORDS, 25)) + " <b>if a & b</b>"
        sure = float(np.clip(rng.normal(0.8 if right else 0.6, 0.15), 0.2, 0.999))
        answers.append({"id": number, "prediction": guess, "reference": truth, "confidence": sure, "text": text})
    return answers


def tagging(rng: np.random.Generator, count: int, skill: float) -> list[dict[str, Any]]:
    answers = []
    for number in range(count):
        words = [str(word) for word in rng.choice(WORDS, rng.integers(5, 20))]
        truth = [TAGS[i] for i in rng.choice(4, len(words), p=[0.7, 0.1, 0.1, 0.1])]
        guess = [tag if rng.random() < skill else TAGS[rng.integers(4)] for tag in truth]
        answers.append({"id": number, "prediction": guess, "reference": truth, "words": words})
    return answers


def span_qa(rng: np.random.Generator, count: int, skill: float) -> list[dict[str, Any]]:
    answers = []
    for number in range(count):
        right = rng.random() < skill
        text = " ".join(rng.choice(WORDS, 120)) + " The default is 30 seconds. " + " ".join(rng.choice(WORDS, 50))
        answers.append(
            {
                "id": f"q{number}",
                "question": "What is the default of timeout?",
                "context": text,
                "prediction": "30 seconds" if right else "seconds",
                "reference": ["30 seconds", "30"],
                "confidence": float(rng.random()),
                "em": float(right),
                "f1": 1.0 if right else 2 / 3,
            }
        )
    return answers


def regression(rng: np.random.Generator, count: int, skill: float) -> list[dict[str, Any]]:
    truth = rng.uniform(0, 5, count).round(1)
    guess = skill * truth + (1 - skill) * rng.uniform(0, 5, count)
    return [
        {"id": i, "prediction": float(g), "reference": float(t), "text": "a plane takes off", "text_pair": "it flies"}
        for i, (g, t) in enumerate(zip(guess, truth, strict=True))
    ]


def scores_of(kind: str, answers: list[dict[str, Any]]) -> dict[str, float]:
    """Scores by other people's code, as the run would have recorded them."""
    truth, guess = ([answer[key] for answer in answers] for key in ("reference", "prediction"))
    if kind == "classification":
        from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

        macro = f1_score(truth, guess, average="macro")
        return {"accuracy": accuracy_score(truth, guess), "f1": macro, "mcc": matthews_corrcoef(truth, guess)}
    if kind == "tagging":
        from seqeval.metrics import accuracy_score as tag_accuracy
        from seqeval.metrics import f1_score as entity_f1

        return {"f1": entity_f1(truth, guess), "accuracy": tag_accuracy(truth, guess)}
    if kind == "span_qa":
        return {key: 100 * float(np.mean([answer[key] for answer in answers])) for key in ("f1", "em")}
    if kind == "regression":
        from scipy.stats import pearsonr, spearmanr

        return {"pearson": float(pearsonr(guess, truth)[0]), "spearman": float(spearmanr(guess, truth)[0])}
    return {"perplexity": 14.2, "masked_lm/accuracy": 0.48}


MAKERS: dict[str, Callable[..., list[dict[str, Any]]]] = {
    "classification": classification,
    "tagging": tagging,
    "span_qa": span_qa,
    "regression": regression,
}


def log_of(rng: np.random.Generator, metric: str, steps: int, speed: float) -> list[dict[str, Any]]:
    lines = []
    for step in range(5, steps + 1, 5):
        loss = 0.2 + 1.6 * math.exp(-speed * step / steps) + float(rng.normal(0, 0.05))
        warm = min(step / (0.1 * steps), 1 - (step - 0.1 * steps) / (0.9 * steps))
        lines.append(
            {
                "step": step, "epoch": 3 * step / steps, "loss": loss, "lr": 3e-4 * warm, "tokens": 4096,
                "grad_norm": float(rng.gamma(4, 0.3)), "tokens_per_s": float(rng.normal(9000, 400)),
                "seconds": step / 9,
            }
        )  # fmt: skip
        if step % (steps // 5) == 0:
            dev = 0.35 + 1.4 * math.exp(-speed * step / steps)
            lines.append({"step": step, "epoch": 3 * step / steps, "split": "dev", "loss": dev, metric: 1 - dev / 2})
    return lines


def make_run(path: Path, kind: str, *, skill: float = 0.8, seed: int = 0, steps: int = 400, **config: Any) -> Path:
    """Write a whole, finished run; same `seed` draws the same examples for any skill."""
    rng = np.random.default_rng(seed)
    (path / "predictions").mkdir(parents=True)
    answers = {
        split: MAKERS[kind](rng, count, skill) for split, count in (("dev", 150), ("test", 300)) if kind in MAKERS
    }
    scores = {split: scores_of(kind, found) for split, found in answers.items()} or {"dev": scores_of(kind, [])}
    metric = next(iter(scores["dev"]))
    split = "test" if answers else "dev"
    settings = {
        "seed": seed, "model": "bert-mini", "task": {"kind": kind, "data": "pydocs/topic"},
        "optim": {"lr": 3e-4, "betas": [0.9, 0.999]}, "train": {"epochs": 3.0}, **config,
    }  # fmt: skip
    metrics = {
        "recipe": "bert/finetune", "task": f"pydocs/{kind}", "seed": seed, "steps": steps, "epochs": 3.0,
        "score": {"name": metric, "split": split, "value": scores[split][metric]}, "scores": scores,
        "counts": {name: len(found) for name, found in answers.items()}, "wall_seconds": 93.2,
        "best_step": steps * 4 // 5, "versions": {"torch": "2.11.0", "transformers": "5.17.0"},
        "parameters": {"all": 11_170_560, "trained": 11_170_560},
        "hardware": {"device": "cpu", "threads": 2}, "commit": "0123abcd",
    }  # fmt: skip
    (path / "config.yaml").write_text(json.dumps(settings))  # JSON is YAML
    (path / "metrics.json").write_text(json.dumps(metrics))
    lines = log_of(rng, metric, steps, speed=1 + 4 * skill)
    (path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, found in answers.items():
        text = "".join(json.dumps(answer) + "\n" for answer in found)
        (path / "predictions" / f"{name}.jsonl").write_text(text)
    return path


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """``made("a", "tagging", skill=0.9)`` writes a run folder."""
    return lambda name, kind, **settings: make_run(tmp_path / name, kind, **settings)


@pytest.fixture
def draw() -> Callable[..., list[dict[str, Any]]]:
    """``draw("tagging")``: answers of one kind."""
    return lambda kind, count=120, skill=0.7: MAKERS[kind](np.random.default_rng(7), count, skill)


@pytest.fixture
def reference_scores() -> Callable[[str, list[dict[str, Any]]], dict[str, float]]:
    """Scores by sklearn, seqeval and scipy."""
    return scores_of
