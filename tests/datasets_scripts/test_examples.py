"""Tasks for prompts: a config a file, examples apart from questions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hfcourse.data.loading import load

from .build import built, failure, write

LINES = [{"context": f"\n\nQ: What is {a} plus 2?\n\nA:", "completion": f" {a + 2}"} for a in range(40)]


def as_lines(items: list[dict[str, str]]) -> str:
    return "".join(json.dumps(item) + "\n" for item in items)


def every(name: str, data_dir: Path) -> list[dict[str, str]]:
    return [row for split in built(name, data_dir).values() for row in split]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "tasks" / "plus.jsonl", as_lines(LINES))
    write(
        tmp_path / "tasks" / "scrambled-words.jsonl.gz", as_lines([{"context": "\nasinoc =", "completion": " casino"}])
    )
    write(tmp_path / "tasks" / "past.json", json.dumps([{"output": f"{w}ed", "input": w} for w in "abcdefghijklmnop"]))
    write(tmp_path / "tasks" / "country-capital.json", '[{"input": " Peru ", "output": "Lima"}]')
    return tmp_path / "tasks"


def test_a_config_a_file(folder: Path) -> None:
    assert sorted(row["context"] + row["completion"] for row in every("gpt3_tasks/plus", folder)) == sorted(
        f"Q: What is {a} plus 2?\n\nA: {a + 2}" for a in range(40)
    )
    assert every("gpt3_tasks/scrambled-words", folder) == [{"context": "asinoc =", "completion": " casino"}]
    assert every("word_pairs/country-capital", folder) == [{"input": "Peru", "output": "Lima"}]
    assert {row["input"]: row["output"] for row in every("word_pairs/past", folder)} == {
        letter: f"{letter}ed" for letter in "abcdefghijklmnop"
    }


def test_a_single_file_needs_no_config(folder: Path) -> None:
    assert built("gpt3_tasks", folder / "plus.jsonl") == built("gpt3_tasks/plus", folder)
    assert built("word_pairs", folder / "past.json") == built("word_pairs/past", folder)


@pytest.mark.parametrize(
    ("context", "completion", "row"),
    [
        ("\n\nQ: 1?\n\nA:", " 2\n", ("Q: 1?\n\nA:", " 2")),
        ("Q: 1? A: ", "2", ("Q: 1? A:", " 2")),  # tokenizers see the blank with the word
        ("Reverse:", "\nabc", ("Reverse:", "\nabc")),
        ("一加一等於", "二", ("一加一等於", "二")),
    ],
)
def test_blanks_stand_before_the_completion(
    tmp_path: Path, context: str, completion: str, row: tuple[str, str]
) -> None:
    path = write(tmp_path / "t" / "one.jsonl", as_lines([{"context": context, "completion": completion}]))
    (found,) = every("gpt3_tasks", path)
    assert (found["context"], found["completion"]) == row


def test_examples_are_no_questions_and_stay_where_they_are(tmp_path: Path) -> None:
    rows = [{"context": f"{n} =", "completion": str(answer)} for n in range(400) for answer in (n, n + 1)]
    few = built("gpt3_tasks", write(tmp_path / "few" / "t.jsonl", as_lines(rows[:200])))
    many = built("gpt3_tasks", write(tmp_path / "many" / "t.jsonl", as_lines(rows[::-1])))
    contexts = {split: {row["context"] for row in table} for split, table in many.items()}
    assert not contexts["train"] & contexts["test"] and len(contexts["train"] | contexts["test"]) == 400
    assert 70 < len(contexts["train"]) < 130
    for split, table in few.items():
        assert {row["context"] for row in table} <= contexts[split]


def test_a_mirrored_pair_gives_no_answer_away(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(300)]
    pairs = [(word, word[::-1]) for word in words] + [(word[::-1], word) for word in words]
    pairs += [("w1", "other"), ("other", "w1"), ("other", "more"), ("more", "w1")]
    path = write(tmp_path / "t" / "antonym.json", json.dumps([{"input": a, "output": b} for a, b in pairs]))
    splits = built("word_pairs", path)
    sides = {split: {(row["input"], row["output"]) for row in table} for split, table in splits.items()}
    assert not {(b, a) for a, b in sides["train"]} & sides["test"]
    assert not {a for a, _ in sides["train"]} & {a for a, _ in sides["test"]}
    assert len(sides["train"]) > 50 and sum(map(len, sides.values())) == len(pairs)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"context": "1 =", "completion": "2"}\n\n{"context": "1 ="}\n', "line 3: no completion, only context"),
        ('{"context": "1 =", "completion": "2"}\n{"context": \n', "line 2: not JSON (Expecting value)"),
        ('["1 =", "2"]\n', "line 1: expected an object with context and completion"),
        ("{}\n", "line 1: no context, only an empty object"),
        ('{"context": "1 =", "completion": 2}\n', "line 1: completion must be a text, not '2'"),
        ('{"context": " ", "completion": "2"}\n', "line 1: context must be a text, not ' '"),
        ("\n\n", "the file holds no examples"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "t" / "task.jsonl", text)
    assert f"{path}" in failure("gpt3_tasks", path.parent) and message in failure("gpt3_tasks", path.parent)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"input": "a", "output": "b"}, {"input": "a"}]', "item 2: no output, only input"),
        ('[{"input": "a", "output": null}]', "item 1: output must be a text, not 'None'"),
        ('[\n{"input": "a",\n "output": b}]', "line 3: not JSON"),
        ('{"input": "a", "output": "b"}', "expected a list of objects with input and output"),
        ("[]", "the file holds no examples"),
    ],
)
def test_a_bad_pair_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "t" / "task.json", text)
    assert f"{path}" in failure("word_pairs", path.parent) and message in failure("word_pairs", path.parent)


def test_unknown_configs_and_folders(folder: Path, tmp_path: Path) -> None:
    assert "unknown config of gpt3_tasks 'pluss': did you mean 'plus'?" in failure("gpt3_tasks/pluss", folder)
    assert "needs a config, such as word_pairs/country-capital: one of country-capital, past" in failure(
        "word_pairs", folder
    )
    (tmp_path / "empty").mkdir()
    assert "expected a folder of .jsonl or .jsonl.gz files" in failure("gpt3_tasks/plus", tmp_path / "empty")


@pytest.mark.parametrize(("name", "counted"), [("two_digit_addition", 2000), ("reversed_words", 10_000)])
def test_public_gpt3_tasks(shared_data: Path, tmp_path: Path, name: str, counted: int) -> None:
    folder = str(shared_data / "gpt3_synthetic_tasks")
    splits = load(f"gpt3_tasks/{name}", data_dir=folder, cache_dir=str(tmp_path))
    assert sum(map(len, splits.values())) == counted
    assert not set(splits["train"]["context"]) & set(splits["test"]["context"])
    for row in [*splits["train"], *splits["test"]]:
        if name == "reversed_words":
            assert row["context"] == f"{row['completion'].strip()[::-1]} ="
        else:
            numbers = [int(word) for word in row["context"].replace("?", "").split() if word.isdigit()]
            assert row["context"].startswith("Q: What is ") and row["completion"] == f" {sum(numbers)}"


@pytest.mark.parametrize(("name", "counted"), [("antonym", 2398), ("landmark-country", 836), ("english-french", 4698)])
def test_public_word_pairs(shared_data: Path, tmp_path: Path, name: str, counted: int) -> None:
    folder = str(shared_data / "icl_word_tasks")
    splits = load(f"word_pairs/{name}", data_dir=folder, cache_dir=str(tmp_path))
    train, test = ({(row["input"], row["output"]) for row in splits[split]} for split in ("train", "test"))
    assert len(splits["train"]) + len(splits["test"]) == counted
    assert 0.2 < len(splits["train"]) / counted < 0.3
    assert not {a for a, _ in train} & {a for a, _ in test} and not {(b, a) for a, b in train} & test
