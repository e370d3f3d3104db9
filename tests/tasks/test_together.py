"""Four kinds of tasks as one: every batch is its task's own, and so are answers and scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hfcourse import model as models
from hfcourse.engine.evaluate import evaluate
from hfcourse.engine.settings import BatchConfig
from hfcourse.errors import ConfigError, DataError
from hfcourse.tasks.base import TaskContext
from hfcourse.tasks.together import Together, TogetherConfig

Write = Callable[[str, Any], Path]
Context = Callable[..., TaskContext]

TABLES: dict[str, list[dict[str, Any]]] = {
    "kind": [{"text": f"the cat sat {'on' if n % 2 else 'mat'}", "label": "ab"[n % 2]} for n in range(8)],
    "number": [{"text": f"the dog {'ran ' * n}", "label": n + 0.5} for n in range(6)],
    "tags": [{"tokens": ["the", "cat", "ran"], "tags": ["O", "B-X", "O"]} for _ in range(5)],
    "span": [
        {
            "id": f"q{n}",
            "question": "who sat?",
            "context": "the cat sat",
            "answers": {"text": ["cat"], "answer_start": [4]},
        }
        for n in range(4)
    ],
    "choice": [{"context": "the cat", "choices": ["dog", "cat", "mat"][: 2 + n % 2], "label": 1} for n in range(4)],
}
KINDS = {"kind": "classification", "number": "classification", "tags": "tagging", "span": "span_qa"}


@pytest.fixture
def members(write: Write) -> tuple[str, ...]:
    found = []
    for name, rows in TABLES.items():
        write(f"{name}/train.jsonl", rows)
        place = write(f"{name}/dev.jsonl", rows).parent
        found.append(f"{name}={KINDS.get(name, 'multiple_choice')}:{place}")
    return tuple(found)


@pytest.fixture
def task(members: tuple[str, ...], context: Context) -> Together:
    return TogetherConfig(members=members).build(context())


class Pinned(torch.nn.Module):
    """A model of several heads that always answers with the same one."""

    def __init__(self, inner: torch.nn.Module, head: str) -> None:
        super().__init__()
        self.inner, self.head = inner, head

    def forward(self, **batch: torch.Tensor) -> Any:
        return self.inner(**batch, head=self.head)


def test_answers_and_scores_are_the_members_own(task: Together, context: Context) -> None:
    """Loss, predictions and scores of each task as if it were evaluated alone."""
    net = models.build("bert-tiny", task.head, tokenizer=context().tokenizer).eval()
    batch = BatchConfig(eval_tokens=40)
    whole = evaluate(net, task, "dev", batch=batch)
    assert [answer["task"] for answer in whole.answers] == [name for name, rows in TABLES.items() for _ in rows]
    main = []
    for name, member in task.members.items():
        alone = evaluate(Pinned(net, name), member, "dev", batch=batch)
        assert whole.losses[name] == pytest.approx(alone.losses["loss"], rel=1e-6)
        mine = [answer for answer in whole.answers if answer["task"] == name]
        assert mine == [{**answer, "id": f"{name}/{answer['id']}", "task": name} for answer in alone.answers]
        each = {f"{name}/{score}": value for score, value in alone.scores.items() if score != "loss"}
        assert each.items() <= whole.scores.items()
        main.append(alone.scores[member.metric])
    assert whole.scores["mean"] == pytest.approx(sum(main) / 5)
    assert whole.scores["loss"] == pytest.approx(sum(whole.losses.values()))


def test_rows_of_every_task_under_one_numbering(task: Together) -> None:
    rows = task.splits["train"]
    assert len(rows) == 8 + 6 + 5 + 4 + 4
    taken = rows.take([26, 7, 8, 19])
    assert [(row["row"], row["task"], row["inner"]["row"]) for row in taken] == [
        (26, "choice", 3),
        (7, "kind", 7),
        (8, "number", 0),
        (19, "span", 0),
    ]
    assert [int(rows.lengths[n]) for n in (26, 8)] == [
        int(task.members["choice"].splits["train"].lengths[3]),
        int(task.members["number"].splits["train"].lengths[0]),
    ]
    assert task.splits.keys() == {"train", "dev"}  # each task is tested by itself
    with pytest.raises(ValueError, match="too many values"):
        task.collate(rows.take([0, 8]), epoch=0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"members": ("a=classification:x",)}, "name two tasks or more, each once"),
        ({"members": ("a=classification:x", "a=tagging:y")}, "each once"),
        ({"members": ("a=classification:x", "b:y")}, "'b:y': write name=kind:data"),
        ({"members": ("a=classification:x", "b=taging:y")}, "b: unknown kind of task 'taging': did you mean 'tagging'"),
        ({"power": 2.0}, "task.power is 2.0"),
    ],
)
def test_settings_that_cannot_be(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TogetherConfig(**given)


def test_a_member_without_rows_is_named(write: Write, context: Context, members: tuple[str, ...]) -> None:
    broken = members[0].rsplit("/", 1)[0] + "/nowhere"
    with pytest.raises(DataError, match="nowhere"):
        TogetherConfig(members=(broken, members[1])).build(context())
    only = write("only/test.jsonl", TABLES["kind"]).parent
    with pytest.raises(DataError, match="x: the training split is missing or empty: leave the task out"):
        TogetherConfig(members=(f"x=classification:{only}", members[1])).build(context())
    with pytest.raises(ConfigError, match="name a run of that task"):
        TogetherConfig(members=members).build(context(), new="rows.tsv")
