"""Tiny tokenizers made by hand, tables written by the tests, and answers that are known in advance."""

from __future__ import annotations

import json
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from hfcourse.tasks.base import TaskContext

WORDS = "the cat sat on mat dog ran play ##ing ##ed who where".split()  # noqa: SIM905
ALPHABET = string.ascii_lowercase + string.digits + string.punctuation


def wordpiece(words: Sequence[str] = WORDS) -> PreTrainedTokenizerBase:
    """Some words and every letter: ``playing`` -> play ##ing, ``zoo`` -> z ##o ##o. Chinese goes by characters."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *ALPHABET, *(f"##{c}" for c in ALPHABET)]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def byte_level() -> PreTrainedTokenizerBase:
    """A byte-level BPE as GPT-2's: no special tokens around the input, spaces belong to the word behind them."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("Ġt", "h"), ("Ġth", "e"), ("t", "h"), ("th", "e")]
    pieces = [*alphabet, *("".join(pair) for pair in merges), "<|endoftext|>"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>", bos_token="<|endoftext|>"
    )


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerBase:
    return wordpiece()


@pytest.fixture
def context(tokenizer: PreTrainedTokenizerBase) -> Callable[..., TaskContext]:
    """A task context; settings by name."""

    def make(**settings: Any) -> TaskContext:
        return TaskContext(**({"tokenizer": tokenizer, "max_length": 32} | settings))

    return make


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, Any], Path]:
    """Write a file below tmp_path: text as it is, rows as jsonl, anything else as JSON."""

    def write_file(name: str, content: Any) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not isinstance(content, str):
            lines = isinstance(content, list) and name.endswith("jsonl")
            content = "\n".join(map(json.dumps, content)) if lines else json.dumps(content)
        path.write_text(content, encoding="utf-8")
        return path

    return write_file
