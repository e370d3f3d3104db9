"""Words, sub-words and windows: alignment worked out by hand, against a brute force, and on real corpora."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hfcourse.errors import DataError
from hfcourse.tasks.base import TaskContext
from hfcourse.tasks.tagging import Tagging, TaggingConfig, encode_words

from .conftest import byte_level, wordpiece

Write = Callable[[str, Any], Path]
Context = Callable[..., TaskContext]
ROWS = [
    {"tokens": ["the", "zoo", "playing"], "tags": ["O", "B-X", "I-X"]},
    {"tokens": ["cat", "sat"], "tags": ["B-X", "O"]},
]


def gold_logits(task: Tagging, split: str, rows: list[int]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Logits that say the label where there is one and class 0 (or the last, to be sure) elsewhere."""
    batch = task.collate(task.splits[split].take(rows), epoch=-1)
    labels = batch["labels"]
    wrong = torch.full_like(labels, len(task.head.labels) - 1)
    best = torch.where(labels >= 0, labels, wrong)
    return torch.nn.functional.one_hot(best, len(task.head.labels)).float(), batch


def answered_with_gold(task: Tagging, split: str, size: int = 64) -> list[dict[str, Any]]:
    predictions: list[Any] = []
    for start in range(0, len(task.splits[split]), size):
        rows = list(range(start, min(start + size, len(task.splits[split]))))
        predictions += task.predict(*gold_logits(task, split, rows))
    return task.answers(split, predictions)


def test_the_first_piece_of_a_word_carries_its_tag(write: Write, context: Context) -> None:
    task = TaggingConfig(data=str(write("train.jsonl", ROWS * 5))).build(context())
    assert task.head.labels == ("O", "B-X", "I-X")
    assert task.metric == "f1"
    found = {tuple(row["input_ids"]): row for row in task.splits["train"].take(range(len(task.splits["train"])))}
    row = next(row for ids, row in found.items() if len(ids) == 8)
    # [CLS] the z ##o ##o play ##ing [SEP]
    assert task.tokenizer.convert_ids_to_tokens(row["input_ids"])[1:7] == ["the", "z", "##o", "##o", "play", "##ing"]
    other = next(row for ids, row in found.items() if len(ids) == 4)
    batch = task.collate([row, other], epoch=0)
    assert batch["labels"].tolist() == [
        [-100, 0, 1, -100, -100, 2, -100, -100],
        [-100, 1, 0, -100, -100, -100, -100, -100],
    ]
    logits = torch.nn.functional.one_hot(torch.tensor([[2, 1, 0, 2, 2, 1, 2, 2], [0] * 8]), 3).float()
    first, second = task.predict(logits, batch)
    assert first[[1, 2, 5]].tolist() == [1, 0, 1]
    assert second.tolist() == [0] * 8


def test_answers_hold_words_and_tags(write: Write, context: Context) -> None:
    write("d/train.jsonl", ROWS)
    path = write("d/test.jsonl", ROWS)
    task = TaggingConfig(data=str(path.parent), dev_share=0.5).build(context())
    tags = [np.array([0, 1, 1, 0, 0, 2, 0, 0]), np.array([0, 1, 0, 0])]
    answers = task.answers("test", tags)
    assert answers[0]["tokens"] == ["the", "zoo", "playing"]
    assert answers[0]["prediction"] == ["B-X", "B-X", "I-X"]
    assert answers[0]["reference"] == ["O", "B-X", "I-X"]
    # Found: (0,0), (1,2) and (0,0); true: (1,2) and (0,0).
    assert task.score(answers) == pytest.approx({"f1": 0.8, "precision": 2 / 3, "recall": 1.0, "accuracy": 0.8})


@pytest.mark.parametrize("maker", [wordpiece, byte_level])
@pytest.mark.parametrize("stride", [0, 3])
def test_windows_lose_no_word_and_answer_none_twice(maker: Callable[[], Any], stride: int) -> None:
    tokenizer = maker()
    draw = random.Random(0)
    sentences = [
        [draw.choice(["the", "zoo", "playing", "x", "rabbit"]) for _ in range(draw.randint(1, 30))] for _ in range(20)
    ]
    columns = {"words": sentences, "sentence": list(range(20))}
    spaced = maker is byte_level
    rows = encode_words(columns, tokenizer=tokenizer, max_length=12, stride=stride, spaced=spaced)
    answered = sorted((s, w) for s, words in zip(rows["sentence"], rows["words"], strict=True) for w in words)
    assert answered == [(s, w) for s, words in enumerate(sentences) for w in range(len(words))]
    assert max(map(len, rows["input_ids"])) <= 12
    for ids, sentence, words, at in zip(rows["input_ids"], rows["sentence"], rows["words"], rows["at"], strict=True):
        for word, position in zip(words, at, strict=True):
            text = (" " if spaced and word else "") + sentences[sentence][word]
            first_piece = tokenizer(text, add_special_tokens=False)["input_ids"][0]
            assert ids[position] == first_piece  # never a later piece of the word


def test_a_word_belongs_to_the_window_where_it_lies_deepest() -> None:
    tokenizer = wordpiece()
    columns = {"words": [["cat"] * 14], "sentence": [7]}
    rows = encode_words(columns, tokenizer=tokenizer, max_length=10, stride=4, spaced=False)
    # Windows of 8 words that share 4: words 0-7, 4-11, 8-13.
    assert [len(ids) for ids in rows["input_ids"]] == [10, 10, 8]
    assert rows["words"] == [[0, 1, 2, 3, 4, 5], [6, 7, 8, 9], [10, 11, 12, 13]]
    assert rows["at"][1] == [3, 4, 5, 6]
    assert rows["sentence"] == [7, 7, 7]


def test_long_sentences_are_noted_or_refused(write: Write, context: Context) -> None:
    long = {"tokens": ["cat"] * 40, "tags": ["O"] * 39 + ["B-X"]}
    path = write("d/train.jsonl", [long, *ROWS])
    write("d/dev.jsonl", [long])
    given = context(max_length=16)
    task = TaggingConfig(data=str(path.parent)).build(given)
    assert any("long sentences" in note for note in given.notes)
    assert [a["prediction"] for a in answered_with_gold(task, "dev")] == [long["tags"]]
    with pytest.raises(DataError, match="exceed 16 tokens"):
        TaggingConfig(data=str(path.parent)).build(context(max_length=16, strict=True))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["cat", "sat"], "tags": ["O"]}, r"dev, row 2: 2 words but 1 tags"),
        ({"tokens": ["cat"], "tags": ["B-Y"]}, r"dev, row 2: label 'B-Y'.*did you mean 'B-X'"),
    ],
)
def test_wrong_tags_are_refused(write: Write, context: Context, row: dict[str, Any], message: str) -> None:
    path = write("d/train.jsonl", ROWS)
    write("d/dev.jsonl", [ROWS[0], row])
    with pytest.raises(DataError, match=message):
        TaggingConfig(data=str(path.parent)).build(context())


def test_an_entity_seen_to_begin_may_go_on_elsewhere(write: Write, context: Context) -> None:
    path = write("d/train.jsonl", [{"tokens": ["cat"], "tags": ["B-Y"]}, {"tokens": ["sat"], "tags": ["O"]}])
    write("d/dev.jsonl", [{"tokens": ["cat", "sat"], "tags": ["B-Y", "I-Y"]}])
    assert TaggingConfig(data=str(path.parent)).build(context()).head.labels == ("O", "B-Y", "I-Y")


def test_parts_of_speech_are_scored_by_accuracy(write: Write, context: Context) -> None:
    path = write("train.jsonl", [{"tokens": ["cat", "sat"], "tags": ["NOUN", "VERB"]}] * 10)
    task = TaggingConfig(data=str(path)).build(context())
    assert task.metric == "accuracy"
    assert set(task.score(answered_with_gold(task, "dev"))) == {"accuracy"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("new.conll", "the\nzoo\n\ncat\nsat\n"),  # words alone
        ("new.bio", "the\tO\nzoo\tB-X\n\ncat\tB-X\nsat\tO\n"),
        ("new.conll", "the\t_\nzoo\t_\n\ncat\t_\nsat\t_\n"),  # tags of no meaning
        ("new.txt", "the zoo\ncat sat\n"),
        ("new.jsonl", '{"tokens": ["the", "zoo"]}\n{"tokens": ["cat", "sat"]}\n'),
    ],
)
def test_new_sentences_need_no_tags(write: Write, context: Context, name: str, content: str) -> None:
    config = TaggingConfig(data=str(write("train.jsonl", ROWS)))
    task = config.build(context(model_labels=("O", "B-X", "I-X")), new=str(write(name, content)))
    answers = task.answers("test", [np.array([0, 0, 1, 0, 0, 0]), np.array([0, 2, 0, 0])])
    assert [answer["prediction"] for answer in answers] == [["O", "B-X"], ["I-X", "O"]]
    assert (answers[0]["reference"] is None) is (name != "new.bio")


def test_conll_files_of_a_user(write: Write, context: Context) -> None:
    text = "-DOCSTART- -X- O O\n\nthe DT B-NP O\nzoo NN I-NP I-ORG\n\ncat NN I-NP I-ORG\nsat VB B-VP O\n"
    write("ner/train.conll", text)
    path = write("ner/valid.conll", text)
    task = TaggingConfig(data=str(path.parent)).build(context())
    assert task.head.labels == ("O", "B-ORG", "I-ORG")  # IOB1 became IOB2
    assert [answer["reference"] for answer in answered_with_gold(task, "dev")] == [["O", "B-ORG"], ["B-ORG", "O"]]


@pytest.mark.parametrize("maker", [wordpiece, byte_level])
def test_gold_tags_of_wnut_come_back(shared_data: Path, maker: Callable[[], Any]) -> None:
    given = TaskContext(tokenizer=maker(), max_length=48, limit=300)
    task = TaggingConfig(data=str(shared_data / "wnut17_ner")).build(given)
    answers = answered_with_gold(task, "test")
    assert len(answers) == 300
    lost = sum(p != r for a in answers for p, r in zip(a["prediction"], a["reference"], strict=True))
    assert lost == 0
    assert task.score(answers)["f1"] == 1.0


def test_gold_tags_of_universal_dependencies_come_back(shared_data: Path) -> None:
    given = TaskContext(tokenizer=wordpiece(), max_length=64, limit=200)
    task = TaggingConfig(data=str(shared_data / "ud_english_ewt")).build(given)
    assert task.metric == "accuracy"
    assert {"NOUN", "VERB", "PUNCT"} <= set(task.head.labels)
    assert task.score(answered_with_gold(task, "dev")) == {"accuracy": 1.0}


def test_settings_are_plain_values() -> None:
    assert json.dumps(vars(TaggingConfig()))
