"""Encoding is done once for what decides it, and again when that changes; padding against plain loops."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from hfcourse.data import tokenizers
from hfcourse.data.encode import EncodedExamples, column_lengths, encode, pad, pad_inputs, tokenizer_key
from hfcourse.data.tokenizers import TokenizerConfig

CALLS: list[int] = []


def letters(columns: dict[str, list[Any]], shift: int = 0) -> dict[str, list[Any]]:
    CALLS.append(len(columns["text"]))
    return {"input_ids": [[ord(char) + shift for char in text] for text in columns["text"]]}


def twice(columns: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {
        "input_ids": [[n] * n for n in columns["number"] for _ in range(2)],
        "of": [n for n in columns["number"] for _ in "ab"],
    }


@pytest.fixture
def table(tmp_path: Path) -> datasets.Dataset:
    """On disk, as builders leave theirs."""
    texts = ["x" * (n % 7) + "y" for n in range(2500)]
    made = datasets.Dataset.from_dict({"text": texts, "number": [n % 4 for n in range(2500)]})
    made.save_to_disk(tmp_path / "table")
    return datasets.load_from_disk(tmp_path / "table")


def encoded(table: datasets.Dataset, shift: int = 0, **settings: Any) -> tuple[EncodedExamples, int]:
    """The examples, and how many rows had to be encoded for them."""
    CALLS.clear()
    return encode(table, letters, key={"shift": shift}, arguments={"shift": shift}, **settings), sum(CALLS)


def test_rows_lengths_and_order(table: datasets.Dataset) -> None:
    examples, _ = encoded(table, keep=["number"])
    assert len(examples) == 2500
    assert examples.lengths.tolist() == [n % 7 + 1 for n in range(2500)] and examples.lengths.dtype == np.int64
    rows = examples.take(np.array([2400, 3, 3]))
    assert rows == [
        {"row": n, "number": n % 4, "input_ids": [ord(char) for char in table[n]["text"]]} for n in (2400, 3, 3)
    ]
    assert examples.take([]) == []


def test_encoded_once(table: datasets.Dataset, tmp_path: Path) -> None:
    assert encoded(table)[1] == 2500
    assert encoded(table)[1] == 0
    assert encoded(datasets.load_from_disk(tmp_path / "table"))[1] == 0
    assert encoded(table, shift=1)[1] == 2500
    assert encoded(table, shift=1)[0].take([0])[0]["input_ids"] == [ord("y") + 1]
    kept, count = encoded(table, keep=["number"])
    assert count == 2500 and kept.take([6])[0]["number"] == 2
    assert encoded(table.select(range(10)))[1] == 10


def test_a_changed_function_encodes_again(
    table: datasets.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A helper counts as well."""
    monkeypatch.syspath_prepend(tmp_path)
    results = []
    for value in (1, 2):
        name = f"changing_{value}"
        function = "def function(columns):\n    return {'input_ids': [[helper()] for _ in columns['text']]}\n"
        code = f"def helper():\n    return {value}\n\n\n{function}"
        (tmp_path / f"{name}.py").write_text(code)
        module = __import__(name)
        module.function.__module__ = "changing"
        results.append(encode(table, module.function, key={}).take([0])[0]["input_ids"])
    assert results == [[1], [2]]


def test_rows_may_become_more(table: datasets.Dataset) -> None:
    examples = encode(table, twice, key={})
    assert len(examples) == 5000 and examples.lengths[:8].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert examples.take([7])[0] == {"row": 7, "input_ids": [3, 3, 3], "of": 3}


def test_the_tokenizers_state_does_not_count() -> None:
    tokenizer = tokenizers.train(["a small text to learn from"], TokenizerConfig(vocab_size=100))
    key = tokenizer_key(tokenizer)
    tokenizer(["a small", "text"], truncation=True, max_length=4, padding=True)
    assert tokenizer.backend_tokenizer.truncation is not None
    assert tokenizer_key(tokenizer) == key
    other = tokenizers.train(["another text to learn from"], TokenizerConfig(vocab_size=100))
    assert tokenizer_key(other) != key


def test_lengths_of_a_selection(table: datasets.Dataset) -> None:
    examples, _ = encoded(table)
    chosen = examples.table.select([5, 1, 2499])
    assert column_lengths(chosen, "input_ids").tolist() == [6, 2, 1]
    assert column_lengths(chosen.select([]), "input_ids").tolist() == []


def test_take_is_quick(table: datasets.Dataset) -> None:
    """Thousands of batches a second would be wasted on training; hundreds are needed."""
    examples, _ = encoded(table)
    rows = np.random.default_rng(0).permutation(2500)[:32]
    examples.take(rows)
    started = time.perf_counter()
    for _ in range(20):
        examples.take(rows)
    assert (time.perf_counter() - started) / 20 < 0.02


def test_pad() -> None:
    rows = [{"tags": [1, 2, 3]}, {"tags": []}, {"tags": [4]}]
    padded = pad(rows, "tags", -100)
    assert padded.tolist() == [[1, 2, 3], [-100] * 3, [4, -100, -100]] and padded.dtype == torch.int64


def test_pad_inputs() -> None:
    tokenizer = tokenizers.train(["a small text to learn from"], TokenizerConfig(vocab_size=100))
    rows = [dict(tokenizer("a small text")), dict(tokenizer("a", "text to learn"))]
    batch = pad_inputs([{"input_ids": r["input_ids"], "token_type_ids": r["token_type_ids"]} for r in rows], tokenizer)
    theirs = tokenizer.pad(rows, return_tensors="pt")
    assert set(batch) == {"input_ids", "attention_mask", "token_type_ids"}
    assert all(torch.equal(batch[name], theirs[name]) for name in batch)
    same = pad_inputs([{"input_ids": [2, 7, 3]}, {"input_ids": [2, 8, 3]}], tokenizer)
    assert set(same) == {"input_ids"}  # nothing is padded
