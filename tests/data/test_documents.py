"""Corpora of any kind as shards of documents."""

from __future__ import annotations

import gzip
import json
import pickle
from pathlib import Path
from typing import Any

import datasets
import pytest

from hfcourse.data.documents import document_shards, document_splits
from hfcourse.errors import DataError


def texts(name: Path | str, **settings: Any) -> list[list[str]]:
    return [list(shard.documents()) for shard in document_shards(str(name), **settings)]


def test_blank_lines_end_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n\n\nthree\n")
    with gzip.open(tmp_path / "b.txt.gz", "wt") as file:
        file.write("four\n\n \n\nfive")
    assert texts(tmp_path) == [["one\ntwo", "three"], ["four", "five"]]


def test_a_file_without_blank_lines_is_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("".join(f"line {n}\n" for n in range(12_000)))
    (found,) = texts(tmp_path / "a.txt")
    assert found == [f"line {n}" for n in range(12_000)]


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "json", "parquet"])
def test_tables_give_a_column(tmp_path: Path, ending: str) -> None:
    rows = {"body": ["first text", "", "second text"], "n": [1, 2, 3]}
    path, table = tmp_path / f"a.{ending}", datasets.Dataset.from_dict(rows)
    if ending == "parquet":
        table.to_parquet(path)
    elif ending in {"csv", "tsv"}:
        table.to_csv(path, sep="\t" if ending == "tsv" else ",", index=False)
    else:
        table.to_json(path, lines=ending == "jsonl")
    assert texts(path, column="body") == [["first text", "second text"]]
    with pytest.raises(DataError, match="text"):
        texts(path)


def test_splits_by_file_names(tmp_path: Path) -> None:
    for name in ("train-1", "train-2", "valid", "test"):
        (tmp_path / f"{name}.txt").write_text(f"of {name}")
    assert texts(tmp_path, split="train") == [["of train-1"], ["of train-2"]]
    assert texts(tmp_path, split="dev") == [["of valid"]]
    assert sorted(document_splits(str(tmp_path))) == ["dev", "test", "train"]


def test_one_file_is_to_train_on(tmp_path: Path) -> None:
    """It must not come back as its own dev split."""
    (tmp_path / "my-test-corpus.txt").write_text("some text")
    path = str(tmp_path / "my-test-corpus.txt")
    assert document_splits(path) == ["train"]
    assert texts(path) == [["some text"]]
    with pytest.raises(DataError, match="no files of split 'dev'"):
        document_shards(path, split="dev")


def test_a_folder_whose_names_tell_nothing(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": name}))
    assert document_splits(str(tmp_path)) == ["train"]
    assert texts(tmp_path) == [["a"], ["b"]]


def test_a_changed_file_has_another_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    (before,) = document_shards(str(path))
    assert document_shards(str(path)) == [before] == [pickle.loads(pickle.dumps(before))]
    path.write_text("other")
    assert document_shards(str(path))[0].fingerprint != before.fingerprint


def test_the_hub_names_splits_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def load_dataset(name: str, *, split: str, revision: str, streaming: bool) -> list[dict[str, str]]:
        assert streaming and revision == "v2"
        asked.append(f"{name} {split}")
        return [{"text": f"{split} {n}"} for n in range(3)]

    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, revision: ["train", "validation"])
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert document_splits("some/corpus", revision="v2") == ["train", "dev"]
    assert texts("some/corpus", split="dev", revision="v2") == [["validation 0", "validation 1", "validation 2"]]
    assert asked == ["some/corpus validation"]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        document_shards(str(tmp_path / "nowhere.txt"))
    with pytest.raises(DataError, match="neither a builder nor a path"):
        texts("some/corpus")
    (tmp_path / "bad.jsonl").write_text('{"text": "good"}\n{"txt": "bad"}\n')
    with pytest.raises(DataError, match=r"bad\.jsonl, line 2: no column 'text'"):
        texts(tmp_path / "bad.jsonl")
