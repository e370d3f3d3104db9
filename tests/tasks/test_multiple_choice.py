"""Choices in lists and in columns, rows with different numbers of them, and labels in every spelling."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from hfcourse.errors import DataError
from hfcourse.tasks.base import TaskContext
from hfcourse.tasks.multiple_choice import MultipleChoice, MultipleChoiceConfig

Write = Callable[[str, Any], Path]
Context = Callable[..., TaskContext]
ROWS = [
    {"context": "the cat", "question": "who sat?", "choices": ["dog", "the cat"], "label": 1},
    {"context": "a dog ran", "question": "who ran?", "choices": ["a dog", "the mat"], "label": 0},
]
UNEVEN = [ROWS[0], {"context": "a mat", "question": "where?", "choices": ["on a mat", "who", "dog"], "label": 2}]


def build(write: Write, context: TaskContext, rows: list[dict[str, Any]], **settings: Any) -> MultipleChoice:
    write("d/train.jsonl", rows)
    path = write("d/dev.jsonl", rows)
    return MultipleChoiceConfig(data=str(path.parent), **settings).build(context)


def test_every_choice_is_read_with_the_context(write: Write, context: Context) -> None:
    task = build(write, context(), ROWS)
    assert (task.text, task.question, task.columns, task.label) == ("context", "question", ["choices"], "label")
    rows = task.splits["dev"].take([1, 0])
    assert [row["row"] for row in rows] == [1, 0]
    batch = task.collate(rows, epoch=0)
    assert batch["input_ids"].shape[:2] == (2, 2)
    assert batch["attention_mask"].shape == batch["token_type_ids"].shape == batch["input_ids"].shape
    assert batch["labels"].tolist() == [0, 1]
    assert "choice_counts" not in batch
    words = task.tokenizer.decode(batch["input_ids"][1, 1], skip_special_tokens=True)
    assert words == "the cat who sat? the cat"
    # Rows of 2 choices x 10 and 2 x 11 tokens.
    assert task.splits["dev"].lengths.tolist() == [2 * 10, 2 * 11]


def test_answers_and_scores(write: Write, context: Context) -> None:
    task = build(write, context(), ROWS)
    batch = task.collate(task.splits["dev"].take([0, 1]), epoch=-1)
    answers = task.answers("dev", task.predict(torch.tensor([[0.0, 2.0], [0.0, 1.0]]), batch))
    assert [answer["prediction"] for answer in answers] == ["the cat", "the mat"]
    assert [answer["reference"] for answer in answers] == ["the cat", "a dog"]
    assert answers[0]["confidence"] == pytest.approx(torch.tensor([0.0, 2.0]).softmax(0)[1].item())
    assert task.score(answers) == {"accuracy": 0.5}


class Scores(torch.nn.Module):
    """A model that gives fixed scores and refuses what a model does not take."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, input_ids: torch.Tensor, attention_mask: Any = None, token_type_ids: Any = None) -> Any:
        assert input_ids.shape[:2] == self.logits.shape
        return type("Output", (), {"logits": self.logits})()


def test_choices_that_a_row_does_not_have_take_no_part(write: Write, context: Context) -> None:
    task = build(write, context(), UNEVEN)
    batch = task.collate(task.splits["dev"].take([0, 1]), epoch=0)
    assert batch["input_ids"].shape[:2] == (2, 3)
    assert batch["choice_counts"].tolist() == [2, 3]
    logits = torch.tensor([[1.0, 0.5, 9.0], [0.1, 0.2, 0.3]])
    output = task.objective(Scores(logits), batch, need_logits=True)
    alone = [F.cross_entropy(logits[:1, :2], torch.tensor([1])), F.cross_entropy(logits[1:], torch.tensor([2]))]
    assert output.losses["loss"].item() == pytest.approx((sum(alone) / 2).item())
    assert task.objective.counts(batch) == {"loss": 2}
    answers = task.answers("dev", task.predict(output.logits, batch))
    assert [answer["prediction"] for answer in answers] == ["dog", "dog"]


def test_a_column_for_each_choice(write: Write, context: Context) -> None:
    header = "sent1\tsent2\tending0\tending1\tending2\tlabel\n"
    text = header + "the cat\tit\tsat\tran\t\t0\n" + "a dog\tit\tsat\tran\tplaying\t2\n"
    write("s/train.tsv", text)
    task = MultipleChoiceConfig(data=str(write("s/dev.tsv", text).parent)).build(context())
    assert (task.text, task.question) == ("sent1", "sent2")
    answers = task.answers("dev", [(0, 1.0), (1, 1.0)])
    assert [answer["choices"] for answer in answers] == [["sat", "ran"], ["sat", "ran", "playing"]]
    assert [answer["reference"] for answer in answers] == ["sat", "playing"]


@pytest.mark.parametrize("label", [1, "1", "B", "b", "the cat"])
def test_labels_in_every_spelling(write: Write, context: Context, label: Any) -> None:
    rows = [{"question": "who?", "choices": ["dog", "the cat"], "answer": label}] * 3
    task = build(write, context(), rows)
    assert (task.text, task.question) == ("question", "")
    assert task.collate(task.splits["dev"].take([0]), epoch=0)["labels"].tolist() == [1]


def test_choices_with_keys(write: Write, context: Context) -> None:
    choices = {"text": ["dog", "cat", "mat"], "label": ["1", "2", "3"]}
    task = build(write, context(), [{"question": "who?", "choices": choices, "answerKey": "2"}] * 3)
    assert task.collate(task.splits["dev"].take([0]), epoch=0)["labels"].tolist() == [1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 5}, r"row 2: label '5' is none of the 2 choices"),
        ({"label": "bird"}, r"row 2: 'label' is 'bird', of another type"),
        ({"label": None}, r"row 2: no label"),
        ({"choices": ["one"]}, r"row 2: fewer than two choices"),
    ],
)
def test_wrong_rows_are_refused(write: Write, context: Context, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        build(write, context(), [ROWS[0], ROWS[1] | change])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": "contxt"}, r"unknown column 'contxt': did you mean 'context'"),
        ({"choices": ("choice",)}, r"unknown column 'choice': did you mean 'choices'"),
        ({"choices": ("context",)}, r"fewer than two choices: column 'context' must be a list"),
    ],
)
def test_wrong_columns_are_refused(write: Write, context: Context, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        build(write, context(), ROWS, **settings)


def test_data_must_be_given(context: Context) -> None:
    with pytest.raises(DataError, match=r"set --task\.data"):
        MultipleChoiceConfig().build(context())


def test_new_rows_need_no_label(write: Write, context: Context) -> None:
    new = write("new.jsonl", [{"question": "who?", "choices": ["dog", "cat"]}])
    task = MultipleChoiceConfig(data="gone").build(context(), new=str(new))
    assert "labels" not in task.collate(task.splits["test"].take([0]), epoch=-1)
    answer = task.answers("test", [(1, 0.9)])[0]
    assert (answer["prediction"], answer["reference"]) == ("cat", None)
