"""Tokenizers of three kinds: the same text gives the same one, and plain transformers loads it."""

from __future__ import annotations

import io
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import sentencepiece
from transformers import PreTrainedTokenizerBase

from hfcourse.data import tokenizers
from hfcourse.data.tokenizers import TokenizerConfig
from hfcourse.errors import ConfigError, DataError, ModelError

KINDS = ["wordpiece", "bpe", "unigram"]
SIZE = 600


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Real English: docstrings of the standard library."""
    import argparse
    import email
    import json
    import logging
    import subprocess
    import unittest

    modules = [argparse, email, json, logging, subprocess, unittest]
    found = [value.__doc__ for module in modules for value in [module, *vars(module).values()]]
    return sorted({text for text in found if isinstance(text, str) and len(text) > 40})


@pytest.fixture(scope="module")
def trained(texts: list[str]) -> dict[str, PreTrainedTokenizerBase]:
    return {kind: tokenizers.train(texts, config(kind)) for kind in KINDS}


def config(kind: str, **settings: object) -> TokenizerConfig:
    return TokenizerConfig(**{"kind": kind, "vocab_size": SIZE, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_text_gives_the_same_tokenizer(
    kind: str, texts: list[str], trained: dict[str, PreTrainedTokenizerBase]
) -> None:
    again = tokenizers.train(iter(texts), config(kind))
    assert again.backend_tokenizer.to_str() == trained[kind].backend_tokenizer.to_str()


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_and_special_tokens(kind: str, trained: dict[str, PreTrainedTokenizerBase]) -> None:
    tokenizer = trained[kind]
    assert tokenizer.convert_tokens_to_ids(list(tokenizers.SPECIAL)) == [0, 1, 2, 3, 4]
    assert sorted(tokenizer.all_special_ids) == [0, 1, 2, 3, 4]
    assert len(tokenizer) <= SIZE
    first = tokenizer("return the value", add_special_tokens=False)["input_ids"]
    second = tokenizer("of a list", add_special_tokens=False)["input_ids"]
    both = tokenizer("return the value", "of a list")
    assert both["input_ids"] == [2, *first, 3, *second, 3]
    assert both["token_type_ids"] == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert tokenizer("return the value")["input_ids"] == [2, *first, 3]
    assert tokenizer.model_max_length == 512
    assert (
        " ".join(tokenizer.decode(both["input_ids"], skip_special_tokens=True).split()) == "return the value of a list"
    )
    assert 1 not in tokenizer("an ordinary sentence, in plain words (or not)")["input_ids"]


def test_plain_transformers_loads_it(trained: dict[str, PreTrainedTokenizerBase], tmp_path: Path) -> None:
    """In a process that cannot import hfcourse."""
    for kind in KINDS:
        trained[kind].save_pretrained(tmp_path / kind)
    code = (
        "import sys; sys.modules['hfcourse'] = None\n"
        "from transformers import AutoTokenizer\n"
        f"for kind in {KINDS!r}:\n"
        "    t = AutoTokenizer.from_pretrained(kind)\n"
        "    ids = t('Return the Values of it.', 'A list')['input_ids']\n"
        "    print(ids, t.model_max_length, t.mask_token_id, t.pad_token_id)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=True)
    for kind, line in zip(KINDS, done.stdout.splitlines(), strict=True):
        assert line == f"{trained[kind]('Return the Values of it.', 'A list')['input_ids']} 512 4 0"
        loaded = tokenizers.load(str(tmp_path / kind))
        assert loaded("a list", "of it")["input_ids"] == trained[kind]("a list", "of it")["input_ids"]


def test_unigram_is_sentencepiece(texts: list[str], trained: dict[str, PreTrainedTokenizerBase]) -> None:
    """The same pieces as the library's own encoder, on text with case, odd spaces, and compatibility characters."""
    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in texts for line in text.split("\n") if line.strip()),
        model_writer=written,
        vocab_size=SIZE,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf",
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        pad_piece="[PAD]",
        unk_piece="[UNK]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        control_symbols=["[MASK]"],
        num_threads=2,
        minloglevel=2,
    )
    theirs = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
    odd = ["  Two  spaces,\ta tab\nand a line ", "ﬁne ＡＢＣ ½ Straße", "__init__(self, *args)", "", "日本 x"]
    for text in [*texts[:200], *odd]:
        ours = trained["unigram"](text, add_special_tokens=False)["input_ids"]
        assert ours == theirs.encode(text), text


def test_byte_pairs_lose_nothing(texts: list[str]) -> None:
    tokenizer = tokenizers.train(texts, config("bpe", lowercase=False))
    for text in [" Ünïcode 漢字 🤖\n\tdef f(x): ", "\x00\x7f", *texts[:50]]:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, clean_up_tokenization_spaces=False).removeprefix(" ") == text.removeprefix(" ")


def test_wordpiece_takes_the_longest_piece_first(trained: dict[str, PreTrainedTokenizerBase]) -> None:
    tokenizer = trained["wordpiece"]
    vocabulary = tokenizer.get_vocab()
    for word in ["arguments", "parser", "subprocesses", "unittest", "x", "value"]:
        pieces: list[str] = []
        rest = word
        while rest:
            mark = "##" if pieces else ""
            end = next(n for n in range(len(rest), 0, -1) if mark + rest[:n] in vocabulary)
            pieces.append(mark + rest[:end])
            rest = rest[end:]
        assert tokenizer.tokenize(word) == pieces
    assert tokenizer.tokenize("VALUE") == tokenizer.tokenize("válue") == tokenizer.tokenize("value")


def test_case_is_kept_where_asked(texts: list[str]) -> None:
    for kind in KINDS:
        tokenizer = tokenizers.train(texts, config(kind, lowercase=False))
        assert tokenizer("The")["input_ids"] != tokenizer("the")["input_ids"]


def test_rare_characters_take_no_room(texts: list[str]) -> None:
    """Characters seen once are left out: the vocabulary is for the words. Chinese ones, all common, have an entry."""
    characters = "".join(chr(0x4E00 + n) for n in range(1500))
    vocabulary = tokenizers.train([characters[:20], *texts * 10], config("wordpiece")).get_vocab()
    assert not any(piece[-1] in characters for piece in vocabulary)
    chinese = [characters[n : n + 100] for n in range(0, 1500, 100)] * 3
    vocabulary = tokenizers.train(chinese, config("wordpiece", vocab_size=6500)).get_vocab()
    assert all(char in vocabulary for char in characters)


def test_word_starts(trained: dict[str, PreTrainedTokenizerBase]) -> None:
    """Tokens that begin a word of the text, read off the characters between spaces and punctuation."""
    text = "the unittest framework: parses arguments (and subprocesses)"
    for kind in KINDS:
        ids = trained[kind](text, add_special_tokens=False)["input_ids"]
        starts = tokenizers.word_starts(trained[kind])
        assert len(starts) == len(trained[kind])
        words: list[str] = []
        for number in ids:
            piece = trained[kind].convert_ids_to_tokens(number).replace("##", "").strip("Ġ▁")
            words = [*words, piece] if starts[number] else [*words[:-1], words[-1] + piece]
        spaced = text.replace(":", " :").replace(")", " )").replace("(", "( " if kind == "wordpiece" else "(")
        assert words == spaced.split(), kind


def test_chinese_words_are_characters(texts: list[str]) -> None:
    for kind in ("wordpiece", "unigram"):
        tokenizer = tokenizers.train([*texts, "漢字假名交じり文" * 20, "漢字 文字 假名"], config(kind))
        ids = tokenizer("漢字文", add_special_tokens=False)["input_ids"]
        assert tokenizers.word_starts(tokenizer)[ids].all()


def test_the_sample_comes_from_all_over() -> None:
    texts = [f"{number:010d}" for number in range(3000)]
    sample = tokenizers._sample(texts, 5000)
    assert 450 <= len(sample) <= 550
    numbers = [int(text) for text in sample]
    assert numbers[0] < 20 and numbers[-1] > 2950 and max(b - a for a, b in pairwise(numbers)) < 20
    assert tokenizers._sample(texts, 10**6) == texts
    read: list[int] = []

    def endless() -> object:
        while True:
            read.append(1)
            yield "x" * 100

    assert sum(map(len, tokenizers._sample(endless(), 1000))) == pytest.approx(1000, rel=0.3)  # type: ignore[arg-type]
    assert len(read) < 300
    assert tokenizers._sample(["y" * 10**6], 1000) == ["y" * 1000]


def test_trained_once(texts: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "run" / "tokenizer"

    def broken() -> object:
        yield from texts[:3]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="disk"):
        tokenizers.train_once(broken(), config("bpe"), folder)  # type: ignore[arg-type]
    assert not folder.exists() and not list(folder.parent.iterdir())
    first = tokenizers.train_once(texts, config("bpe"), folder)
    again = tokenizers.train_once(broken(), config("bpe"), folder)  # type: ignore[arg-type]
    assert again.get_vocab() == first.get_vocab()
    assert [path.name for path in folder.parent.iterdir()] == ["tokenizer"]


GPT = {"style": "gpt", "lowercase": False}


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_in_gpts_style_texts_stay_as_they_are(kind: str, texts: list[str], tmp_path: Path) -> None:
    tokenizer = tokenizers.train(texts, config(kind, **GPT, max_length=64))
    pad, unk, end = tokenizer.convert_tokens_to_ids(list(tokenizers.GPT_SPECIAL))
    assert (pad, unk, end) == (0, 1, 2) == (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id)
    assert tokenizer.bos_token_id == end and tokenizer.cls_token_id is tokenizer.sep_token_id is None
    text = " The  Value\n\n    of it\n"
    ids = tokenizer(text)["input_ids"]
    assert not set(ids) & {pad, unk, end} and tokenizer.decode(ids) == text
    assert tokenizer("a", text).data.keys() == {"input_ids", "attention_mask"}
    assert tokenizer("a", text)["input_ids"] == [*tokenizer("a")["input_ids"], end, *ids]
    tokenizer.save_pretrained(tmp_path)
    loaded = tokenizers.load(str(tmp_path))
    assert loaded(text)["input_ids"] == ids and loaded.decode(ids) == text
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.model_max_length) == (pad, end, 64)


def test_characters(texts: list[str]) -> None:
    whole = "".join(texts)
    tokenizer = tokenizers.train(texts, config("char", **GPT))
    known = sorted(set(whole))
    assert tokenizer.convert_ids_to_tokens(list(range(3, len(tokenizer)))) == known
    ids = tokenizer(whole, verbose=False)["input_ids"]
    assert [number - 3 for number in ids] == [known.index(char) for char in whole]
    assert tokenizer.decode(ids) == whole
    strange = tokenizer("a\U0001f916\u6f22b")["input_ids"]
    assert strange[1:3] == [tokenizer.unk_token_id] * 2 and tokenizer.decode(strange) == "a<|unk|><|unk|>b"
    # The commonest, where there is no room for all; every text counts, however long the corpus.
    few = tokenizers.train([*("ab" * 9, "c"), chr(0x4E00) * 30], config("char", **GPT, sample_bytes=1))
    assert set(few.get_vocab()) == {*tokenizers.GPT_SPECIAL, "a", "b", "c", chr(0x4E00)}
    letters = "".join(chr(0x4E00 + n) * (200 - n) for n in range(200))
    assert set(tokenizers.train([letters], config("char", vocab_size=105, lowercase=True)).get_vocab()) == {
        *tokenizers.SPECIAL,
        *(chr(0x4E00 + n) for n in range(100)),
    }


def test_a_preset_gets_a_tokenizer_of_its_kind(
    monkeypatch: pytest.MonkeyPatch, texts: list[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(tokenizers, "texts_of", lambda name: iter(texts))
    gpt = tokenizers.for_model("llama-tiny", "", tmp_path / "gpt")
    bert = tokenizers.for_model("bert-tiny", "", tmp_path / "bert")
    assert gpt.eos_token == "<|endoftext|>" and gpt.cls_token is None and bert.cls_token == "[CLS]"
    assert tokenizers.for_model("bert-tiny", str(tmp_path / "gpt"), tmp_path / "none").eos_token == "<|endoftext|>"


def test_errors(tmp_path: Path) -> None:
    for empty in ([], ["", " \n"]):
        with pytest.raises(DataError, match="no text"):
            tokenizers.train(empty, TokenizerConfig())
    with pytest.raises(ConfigError, match="vocab_size is 50"):
        TokenizerConfig(vocab_size=50)
    with pytest.raises(ConfigError, match=r"vocab_size is 200.*kind bpe"):
        TokenizerConfig(kind="bpe", vocab_size=200)
    with pytest.raises(ConfigError, match=r"style is gpt and train_tokenizer\.kind is unigram"):
        TokenizerConfig(kind="unigram", style="gpt")
    with pytest.raises(ModelError, match="has no tokenizer"):
        tokenizers.load("bert-tiny")
    with pytest.raises(ModelError) as missing:
        tokenizers.load(str(tmp_path / "nowhere"))
    assert "\n" not in str(missing.value) and "nowhere" in str(missing.value)
    with pytest.raises(ModelError, match=r"unknown model 'bert-mnii': did you mean 'bert-mini'"):
        tokenizers.load("bert-mnii")
    for name, text in (("broken", "{"), ("empty", "{}")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tokenizer.json").write_text(text)
        with pytest.raises(ModelError, match="no tokenizer here") as broken:
            tokenizers.load(str(tmp_path / name))
        assert "\n" not in str(broken.value)
