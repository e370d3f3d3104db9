"""`predict` on a finished run against the saved model used by hand, one row at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from transformers import AutoModelForSequenceClassification, AutoModelForTokenClassification, AutoTokenizer

from hfcourse import model
from hfcourse.config import to_dict
from hfcourse.engine.predict import predict
from hfcourse.errors import DataError, ModelError, RunFolderError
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.base import TaskContext
from hfcourse.tasks.classification import ClassificationConfig
from hfcourse.tasks.multiple_choice import MultipleChoiceConfig
from hfcourse.tasks.span_qa import SpanQAConfig
from hfcourse.tasks.tagging import TaggingConfig

from ..tasks.conftest import wordpiece

Run = Callable[..., Path]
TEXTS = ["the cat sat", "who ran on the mat", "a dog playing", "zoo", "the mat sat on the cat the dog ran"]


@pytest.fixture
def finished(tmp_path: Path) -> Run:
    """A run folder as training leaves it, with fresh weights."""

    def make(settings: Any, rows: list[dict[str, Any]], **more: Any) -> Path:
        data = tmp_path / "train.jsonl"
        data.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        settings = type(settings)(**(vars(settings) | {"data": str(data)}))
        tokenizer = wordpiece()
        task = settings.build(TaskContext(tokenizer=tokenizer, max_length=32))
        net = model.build("bert-tiny", task.head, tokenizer=tokenizer, seed=3)
        run = RunFolder.create(tmp_path / "run", {"recipe": "bert/finetune", "max_length": 32} | more)
        saved = {"kind": settings.kind} | to_dict(settings)
        run.write_text("config.yaml", json.dumps(run.config | {"task": saved}))
        with torch.no_grad():  # far from even scores, so that a small difference cannot hide
            for name, weight in net.named_parameters():
                if "classifier" in name or "qa_outputs" in name or "projection" in name:
                    weight.normal_(generator=torch.Generator().manual_seed(len(name)))
        net.save_pretrained(run.model_dir)
        tokenizer.save_pretrained(run.model_dir)
        data.unlink()  # new rows need nothing of the old ones
        return run.path

    return make


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(tmp_path: Path, name: str = "new.tsv", header: str = "question") -> Path:
    path = tmp_path / name
    path.write_text("\n".join([header, *TEXTS]) + "\n", encoding="utf-8")
    return path


def classes(finished: Run, **settings: Any) -> Path:
    rows = [{"question": text, "kind": "abc"[n % 3]} for n, text in enumerate(TEXTS * 4)]
    return finished(ClassificationConfig(text="question", label="kind", **settings), rows)


def test_new_sentences_get_the_saved_models_classes(finished: Run, tmp_path: Path) -> None:
    run = classes(finished)
    out = predict(run, table(tmp_path))
    assert out == tmp_path / "new.predictions.jsonl"
    net = AutoModelForSequenceClassification.from_pretrained(run / "model")
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    answers = lines(out)
    assert [answer["text"] for answer in answers] == TEXTS
    for text, answer in zip(TEXTS, answers, strict=True):
        probabilities = net(**tokenizer(text, return_tensors="pt")).logits.detach().softmax(-1)[0]
        assert answer["prediction"] == net.config.id2label[int(probabilities.argmax())]
        assert answer["confidence"] == pytest.approx(float(probabilities.max()), abs=1e-4)
        assert "reference" not in answer
    assert len({answer["prediction"] for answer in answers}) > 1
    assert not list(tmp_path.glob(".*partial"))


def test_precision_of_an_earlier_run_is_left_behind(finished: Run, tmp_path: Path) -> None:
    """As in a notebook that has just trained in bf16."""
    run = classes(finished)
    plain = lines(predict(run, table(tmp_path)))
    AcceleratorState._reset_state()
    Accelerator(mixed_precision="bf16")
    assert lines(predict(run, table(tmp_path), out=tmp_path / "again.jsonl")) == plain


@pytest.mark.parametrize("ending", ["tsv", "csv"])
def test_answers_as_a_table(finished: Run, tmp_path: Path, ending: str) -> None:
    out = predict(classes(finished), table(tmp_path), tmp_path / f"answers.{ending}")
    with out.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t" if ending == "tsv" else ","))
    assert [row["text"] for row in rows] == TEXTS
    assert {row["prediction"] for row in rows} <= {"a", "b", "c"}


def test_labels_of_new_rows_are_kept_if_they_fit(finished: Run, tmp_path: Path) -> None:
    run = classes(finished)
    path = tmp_path / "new.csv"
    path.write_text("question,kind\nthe cat,a\nthe dog,c\n", encoding="utf-8")
    assert [answer["reference"] for answer in lines(predict(run, path))] == ["a", "c"]
    path.write_text("question,kind\nthe cat,a\nthe dog,z\n", encoding="utf-8")
    assert not any("reference" in answer for answer in lines(predict(run, path)))


def test_a_regression_stays_one_without_labels(finished: Run, tmp_path: Path) -> None:
    rows = [{"question": text, "kind": n / 3} for n, text in enumerate(TEXTS * 4)]
    run = finished(ClassificationConfig(text="question", label="kind"), rows)
    assert all(isinstance(answer["prediction"], float) for answer in lines(predict(run, table(tmp_path))))


def test_several_labels_and_a_head_of_ours(finished: Run, tmp_path: Path) -> None:
    rows = [{"question": text, "kind": ["x", "y"][: n % 3]} for n, text in enumerate(TEXTS * 4)]
    run = finished(ClassificationConfig(text="question", label="kind", pooling="mean"), rows)
    answers = lines(predict(run, table(tmp_path)))
    assert all(isinstance(answer["prediction"], list) and set(answer["prediction"]) <= {"x", "y"} for answer in answers)


def test_new_words_get_tags(finished: Run, tmp_path: Path) -> None:
    rows = [{"tokens": text.split(), "tags": ["B-X" if w == "cat" else "O" for w in text.split()]} for text in TEXTS]
    run = finished(TaggingConfig(), rows * 3)
    path = tmp_path / "new.conll"
    path.write_text("\n\n".join("\n".join(text.split()) for text in TEXTS) + "\n", encoding="utf-8")
    net = AutoModelForTokenClassification.from_pretrained(run / "model")
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    answers = lines(predict(run, path))
    assert [answer["tokens"] for answer in answers] == [text.split() for text in TEXTS]
    for text, answer in zip(TEXTS, answers, strict=True):
        encoded = tokenizer(text.split(), is_split_into_words=True, return_tensors="pt")
        best = net(**encoded).logits[0].argmax(-1).tolist()
        first = [encoded.word_ids().index(word) for word in range(len(text.split()))]
        assert answer["prediction"] == [net.config.id2label[best[at]] for at in first]


def squad(tmp_path: Path) -> Path:
    questions = [{"id": str(n), "question": "who sat?"} for n in range(3)]
    data = {
        "data": [
            {
                "paragraphs": [
                    {"context": text + " on the mat", "qas": [q]} for text, q in zip(TEXTS, questions, strict=False)
                ]
            }
        ]
    }
    path = tmp_path / "new.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def test_new_questions_get_spans(finished: Run, tmp_path: Path) -> None:
    rows = [
        {"id": str(n), "question": "who?", "context": text, "answers": text.split()[0]} for n, text in enumerate(TEXTS)
    ]
    run = finished(SpanQAConfig(), rows * 3)
    answers = lines(predict(run, squad(tmp_path)))
    assert [answer["id"] for answer in answers] == ["0", "1", "2"]
    assert all(answer["prediction"] and answer["prediction"] in answer["text"] for answer in answers)


def test_a_run_that_knew_no_answer_may_give_none(finished: Run, tmp_path: Path) -> None:
    rows = [{"question": "who?", "context": text, "answers": [text.split()[0]]} for text in TEXTS]
    run = finished(SpanQAConfig(), rows * 3)
    net, tokenizer = model.load(run / "model"), AutoTokenizer.from_pretrained(run / "model")
    with torch.no_grad():  # a head that likes the first state best
        states = net.bert(**tokenizer("who sat?", TEXTS[0], return_tensors="pt")).last_hidden_state[0]
        net.qa_outputs.weight[:] = states[0] - states[1:].mean(0)
    net.save_pretrained(run / "model")
    assert all(answer["prediction"] for answer in lines(predict(run, squad(tmp_path))))
    # Answers of the run's own dev split that weigh "no answer" tell that its data knew it.
    RunFolder.open(run).write_predictions("dev", [{"id": 0, "prediction": "", "null_difference": 1.0}])
    answers = lines(predict(run, squad(tmp_path)))
    assert not any(answer["prediction"] for answer in answers)
    assert all("null_difference" not in answer for answer in answers)


def test_new_choices(finished: Run, tmp_path: Path) -> None:
    rows = [{"question": text, "choices": ["cat", "dog", "mat"], "label": n % 3} for n, text in enumerate(TEXTS * 2)]
    run = finished(MultipleChoiceConfig(), rows)
    path = tmp_path / "new.jsonl"
    path.write_text("\n".join(json.dumps({"question": t, "choices": ["dog", "cat"]}) for t in TEXTS), encoding="utf-8")
    assert {answer["prediction"] for answer in lines(predict(run, path))} <= {"dog", "cat"}


def test_what_cannot_be_answered_is_said_in_one_line(finished: Run, tmp_path: Path) -> None:
    run = classes(finished)
    file = table(tmp_path)
    cases: list[tuple[type[Exception], str, Path, Path, Path | None]] = [
        (RunFolderError, "is not there", tmp_path / "nothing", file, None),
        (DataError, "no such file", run, tmp_path / "gone.tsv", None),
        (
            DataError,
            "unknown column 'question': did you mean 'questions'",
            run,
            table(tmp_path, "b.tsv", "questions"),
            None,
        ),
        (DataError, "name a .jsonl, .tsv or .csv", run, file, tmp_path / "out.xlsx"),
        (RunFolderError, "cannot write here", run, file, tmp_path / "no" / "such" / "out.jsonl"),
    ]
    for error, message, where, rows, out in cases:
        with pytest.raises(error) as caught:
            predict(where, rows, out)
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


def test_runs_that_answer_nothing(tmp_path: Path) -> None:
    file = table(tmp_path)
    tour = RunFolder.create(tmp_path / "tour", {"recipe": "bert/tour"})
    tour.child("topic-random", {"recipe": "bert/finetune"})
    with pytest.raises(RunFolderError, match="name one of the runs in it: topic-random"):
        predict(tour.path, file)
    pretraining = RunFolder.create(tmp_path / "pre", {"task": {"kind": "pretraining"}})
    with pytest.raises(RunFolderError, match="fine-tune its model first"):
        predict(pretraining.path, file)
    begun = RunFolder.create(tmp_path / "begun", {"task": {"kind": "classification"}})
    with pytest.raises(RunFolderError, match="no model here yet"):
        predict(begun.path, file)


def test_a_damaged_model_is_named(finished: Run, tmp_path: Path) -> None:
    run = classes(finished)
    weights = run / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="cannot load the weights"):
        predict(run, table(tmp_path))
