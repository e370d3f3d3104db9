"""Corpora become token stores: the right tokens, kept through interruptions, made again when something changed."""

from __future__ import annotations

import itertools
import json
import os
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from hfcourse.data import token_parts, token_shards, tokenizers
from hfcourse.data.documents import DocumentShard, document_shards
from hfcourse.data.token_shards import TokenStore, tokenise
from hfcourse.data.tokenizers import TokenizerConfig
from hfcourse.errors import DataError


@dataclass(frozen=True)
class Lines(DocumentShard):
    """Documents made up as they are read; can fail in the middle."""

    count: int = 100
    fails_at: int = -1

    def documents(self) -> Iterator[str]:
        for number in range(self.count):
            if number == self.fails_at:
                raise RuntimeError("pulled the plug")
            yield f"document {number} of {self.name} " + "and words " * (number % 5)


def lines(name: str = "a", fingerprint: str = "1", **settings: int) -> Lines:
    return Lines(name=name, fingerprint=fingerprint, source="made up", **settings)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    texts = [text for name in "ab" for text in lines(name).documents()]
    return tokenizers.train(texts, TokenizerConfig(vocab_size=100))


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_shards, "TOKENS_A_PIECE", 200)
    monkeypatch.setattr(token_parts, "_CHARACTERS_AT_ONCE", 300)


def expected(tokenizer: PreTrainedTokenizerBase, *shards: DocumentShard) -> list[list[int]]:
    return [
        ids
        for shard in shards
        for text in shard.documents()
        if (ids := tokenizer(text, add_special_tokens=False)["input_ids"])
    ]


def read(store: TokenStore) -> list[list[int]]:
    return [
        tokens[start:end].tolist() for tokens, offsets in store.shards for start, end in itertools.pairwise(offsets)
    ]


def test_every_document_in_order(tokenizer: PreTrainedTokenizerBase, tmp_path: Path, small_pieces: None) -> None:
    shards = [lines("a"), lines("b", count=3), lines("c", count=0), lines("a", count=57)]
    store = tokenise(shards, tokenizer, folder=tmp_path / "store")
    wanted = expected(tokenizer, *shards)
    assert read(store) == read(TokenStore.open(tmp_path / "store")) == wanted
    assert (store.documents, store.tokens) == (160, sum(map(len, wanted)))
    assert len(store.shards) > 5  # cut into pieces
    assert all(isinstance(tokens, np.memmap) and tokens.dtype == np.uint16 for tokens, _ in store.shards)
    assert not list((tmp_path / "store").glob(".*.partial"))


def test_files_of_a_folder(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "one.txt").write_text("first document\nof two lines\n\nsecond document\n")
    (tmp_path / "corpus" / "two.jsonl").write_text(json.dumps({"text": "and words"}) + "\n" + json.dumps({"text": " "}))
    store = tokenise(document_shards(str(tmp_path / "corpus")), tokenizer, folder=tmp_path / "store")
    texts = ["first document\nof two lines", "second document", "and words"]
    assert read(store) == tokenizer(texts, add_special_tokens=False)["input_ids"]


def test_special_tokens_in_the_text_are_text(tmp_path: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    (tmp_path / "corpus.txt").write_text("the [MASK] and [SEP] of bert")
    store = tokenise(document_shards(str(tmp_path / "corpus.txt")), tokenizer, folder=tmp_path / "store")
    ids = store.shards[0][0]
    assert len(ids) > 6 and not np.isin(ids, [tokenizer.mask_token_id, tokenizer.sep_token_id]).any()
    assert not tokenizer.backend_tokenizer.encode_special_tokens  # the caller's tokenizer is as it was


def test_a_left_over_truncation_does_not_cut(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    tokenizer(["and words " * 50], truncation=True, max_length=4, padding="max_length")
    store = tokenise([lines()], tokenizer, folder=tmp_path)
    tokenizer.backend_tokenizer.no_truncation()
    tokenizer.backend_tokenizer.no_padding()
    assert read(store) == expected(tokenizer, lines())


def test_large_vocabularies_take_four_bytes(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    class Large:
        """As a tokenizer without a fast backend, with ids beyond 16 bits."""

        def __len__(self) -> int:
            return 70_000

        def get_vocab(self) -> dict[str, int]:
            return {"x": 69_999}

        def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
            return {"input_ids": [[69_999] * len(text.split()) for text in texts]}

    store = tokenise([lines()], Large(), folder=tmp_path)  # type: ignore[arg-type]
    tokens, _ = store.shards[0]
    assert tokens.dtype == np.uint32 and (tokens == 69_999).all()
    assert store.tokens == sum(len(text.split()) for text in lines().documents())


def times(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*.tokens")}


def test_an_interrupted_job_goes_on(tokenizer: PreTrainedTokenizerBase, tmp_path: Path, small_pieces: None) -> None:
    with pytest.raises(RuntimeError, match="plug"):
        tokenise([lines("a"), lines("b", fails_at=60)], tokenizer, folder=tmp_path)
    with pytest.raises(DataError, match="no finished token store"):
        TokenStore.open(tmp_path)
    before = times(tmp_path)
    pieces_of_b = [name for name in before if name.startswith("1.")]
    assert len(pieces_of_b) >= 2
    (tmp_path / ".1.99.tokens.partial").write_bytes(b"left by a killed process")
    store = tokenise([lines("a"), lines("b")], tokenizer, folder=tmp_path)
    assert read(store) == expected(tokenizer, lines("a"), lines("b"))
    after = times(tmp_path)
    assert {name: after[name] for name in before} == before and len(after) > len(before)


def test_nothing_is_done_twice(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    tokenise([lines("a"), lines("b")], tokenizer, folder=tmp_path)
    before = times(tmp_path), (tmp_path / "manifest.json").stat().st_mtime_ns
    tokenise([lines("a"), lines("b", fails_at=0)], tokenizer, folder=tmp_path)
    assert (times(tmp_path), (tmp_path / "manifest.json").stat().st_mtime_ns) == before


def test_what_changed_is_made_again(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    tokenise([lines("a"), lines("b")], tokenizer, folder=tmp_path)
    before = times(tmp_path)
    changed = lines("c", fingerprint="2", count=5)
    assert read(tokenise([lines("a"), changed], tokenizer, folder=tmp_path)) == expected(tokenizer, lines("a"), changed)
    after = times(tmp_path)
    assert after["0.0.tokens"] == before["0.0.tokens"] and after["1.0.tokens"] != before["1.0.tokens"]
    other = tokenizers.train(["other words"], TokenizerConfig(vocab_size=100))
    assert read(tokenise([lines("a"), changed], other, folder=tmp_path)) == expected(other, lines("a"), changed)
    assert read(tokenise([lines("a")], other, folder=tmp_path)) == expected(other, lines("a"))


@pytest.mark.parametrize("name", ["0.0.tokens", "0.0.offsets.npy"])
@pytest.mark.parametrize("damage", ["truncated", "gone"])
def test_a_damaged_file_is_made_again(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, name: str, damage: str
) -> None:
    tokenise([lines("a"), lines("b")], tokenizer, folder=tmp_path)
    if damage == "gone":
        (tmp_path / name).unlink()
    else:
        os.truncate(tmp_path / name, (tmp_path / name).stat().st_size - 2)
    assert read(tokenise([lines("a"), lines("b")], tokenizer, folder=tmp_path)) == expected(
        tokenizer, lines("a"), lines("b")
    )


@pytest.mark.parametrize("left", [-2, -1, 0])
def test_a_store_that_was_cut_since_is_refused(tokenizer: PreTrainedTokenizerBase, tmp_path: Path, left: int) -> None:
    tokenise([lines()], tokenizer, folder=tmp_path)
    path = tmp_path / "0.0.tokens"
    os.truncate(path, path.stat().st_size + left if left else 0)
    with pytest.raises(DataError, match=r"0\.0\.tokens: truncated or gone") as refused:
        TokenStore.open(tmp_path).shards  # noqa: B018
    assert "\n" not in str(refused.value)


def test_a_piece_says_what_it_holds(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    store = tokenise([lines()], tokenizer, folder=tmp_path)
    piece = json.loads((tmp_path / "0.0.json").read_text())
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert piece["tokenizer"] == manifest["tokenizer"] and piece["dtype"] == "uint16"
    assert piece["tokens"] == store.tokens == (tmp_path / "0.0.tokens").stat().st_size // 2
    assert piece["documents"] == 100


def test_documents_may_end_with_a_token(tokenizer: PreTrainedTokenizerBase, tmp_path: Path, small_pieces: None) -> None:
    with_end = tokenise([lines("a"), lines("b")], tokenizer, end=7, folder=tmp_path / "end")
    plain = expected(tokenizer, lines("a"), lines("b"))
    assert read(with_end) == [[*ids, 7] for ids in plain]
    assert read(tokenise([lines("a"), lines("b")], tokenizer, folder=tmp_path / "end")) == plain  # made again


def test_what_is_unknown_is_counted(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    (tmp_path / "corpus.txt").write_text("words \u6f22\n\nand \u6f22 \u5b57\n")
    store = tokenise(document_shards(str(tmp_path / "corpus.txt")), tokenizer, folder=tmp_path / "store")
    assert store.unknown == 3 == sum(ids.count(tokenizer.unk_token_id) for ids in read(store))


@pytest.mark.parametrize("kind", ["wordpiece", "bpe", "unigram", "char"])
def test_a_long_document_in_parts_has_the_same_tokens(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n\n  And words,\twords\n".join(f"document {n} it's  of (many) parts" for n in range(300))
    own = tokenizers.train([text], TokenizerConfig(kind=kind, vocab_size=400))  # type: ignore[arg-type]
    (tmp_path / "corpus.jsonl").write_text(json.dumps({"text": text}) + "\n" + json.dumps({"text": "and a last"}))
    shards = document_shards(str(tmp_path / "corpus.jsonl"))
    monkeypatch.setattr(token_parts, "_LONGEST", 37)
    monkeypatch.setattr(token_parts, "_CHARACTERS_AT_ONCE", 500)
    assert len(list(token_parts.parts_of(text))) > 200
    assert read(tokenise(shards, own, folder=tmp_path / "store")) == [
        own(one, add_special_tokens=False)["input_ids"] for one in (text, "and a last")
    ]


def test_a_damaged_manifest_is_made_again(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    tokenise([lines("a")], tokenizer, folder=tmp_path)
    before = times(tmp_path)
    for text in ("{", "[]", "{}"):
        (tmp_path / "manifest.json").write_text(text)
        assert read(tokenise([lines("a")], tokenizer, folder=tmp_path)) == expected(tokenizer, lines("a"))
    assert times(tmp_path) == before


def test_several_processes_give_the_same(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    for number in range(3):
        text = "\n\n".join(f"document {n} of part {number}" for n in range(50))
        (tmp_path / f"part{number}.txt").write_text(text)
    shards = document_shards(str(tmp_path))
    one = tokenise(shards, tokenizer, folder=tmp_path / "one", processes=1)
    two = tokenise(shards, tokenizer, folder=tmp_path / "two", processes=2)
    assert read(one) == read(two) == expected(tokenizer, *shards)


def test_two_runs_at_once_share_a_store(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    """The second one waits, and then finds everything done."""
    run = threading.Thread(target=tokenise, args=([lines("a")], tokenizer), kwargs={"folder": tmp_path})
    with FileLock(tmp_path / ".lock"):
        run.start()
        run.join(0.3)
        assert run.is_alive() and not (tmp_path / "manifest.json").exists()
    run.join(20)
    assert read(TokenStore.open(tmp_path)) == expected(tokenizer, lines("a"))


def test_memory_does_not_grow_with_the_corpus(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_parts, "_CHARACTERS_AT_ONCE", 20_000)
    peaks = []
    for count in (2000, 20_000):
        tracemalloc.start()
        tokenise([lines(count=count)], tokenizer, folder=tmp_path / str(count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 3 * peaks[0]  # for ten times the text: where documents begin is kept for all


def test_the_cache_folder_follows_the_environment(
    tokenizer: PreTrainedTokenizerBase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HFCOURSE_CACHE", str(tmp_path / "cache"))
    first = tokenise([lines("a")], tokenizer).folder
    assert first.parent == tmp_path / "cache" / "tokens"
    assert tokenise([lines("a", fingerprint="2")], tokenizer).folder != first


def test_errors(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text in empty"):
        tokenise([lines("empty", count=0)], tokenizer, folder=tmp_path / "store")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="file") as refused:
        tokenise([lines()], tokenizer, folder=tmp_path / "file" / "store")
    assert "\n" not in str(refused.value)
    with pytest.raises(DataError, match="nowhere"):
        TokenStore.open(tmp_path / "nowhere")
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"good line\nbad \xff line\n")
    with pytest.raises(DataError, match=r"bad\.txt.*2"):
        tokenise(document_shards(str(bad)), tokenizer, folder=tmp_path / "other")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_named(tokenizer: PreTrainedTokenizerBase, tmp_path: Path) -> None:
    (tmp_path / ".0.0.tokens.partial").symlink_to("/dev/full")
    with pytest.raises(DataError, match="No space left"):
        tokenise([lines()], tokenizer, folder=tmp_path)
