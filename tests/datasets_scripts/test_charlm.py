"""Text files to the last character, cut by position."""

from __future__ import annotations

import gzip
from pathlib import Path

from hfcourse.data.documents import document_shards
from hfcourse.data.loading import load

from .build import built, failure, write

TEXT = "\n\n one\r\n\r\ntwo  \n\n\n\tthree é漢\n" * 10


def texts(folder: Path) -> dict[str, list[str]]:
    return {split: [row["text"] for row in rows] for split, rows in built("charlm", folder).items()}


def test_one_file_is_cut_at_nine_tenths(tmp_path: Path) -> None:
    path = write(tmp_path / "t" / "poem", TEXT)
    at = int(0.9 * len(TEXT))
    assert texts(tmp_path / "t") == {"train": [TEXT[:at]], "dev": [TEXT[at:]]}
    (shard,) = document_shards("charlm", data_dir=str(path))
    assert list(shard.documents()) == [TEXT[:at]]  # a document is the whole text, blank lines included


def test_names_make_splits_and_the_rest_is_cut(tmp_path: Path) -> None:
    for name in ("train-1.txt", "other.txt.gz", "valid.txt", "test.txt"):
        write(tmp_path / "t" / name, f"{name:<20}")
    write(tmp_path / "t" / "README.md", "no text of the corpus\n")
    assert texts(tmp_path / "t") == {
        "train": [f"{'train-1.txt':<20}", f"{'other.txt.gz':<20}"[:18]],
        "dev": [f"{'valid.txt':<20}", "  "],
        "test": [f"{'test.txt':<20}"],
    }


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "t" / "a.txt", "first text")
    assert texts(path.parent)["train"] == ["first tex"]
    write(path, "another text")
    assert texts(path.parent)["train"] == ["another te"]


def test_what_cannot_be_read(tmp_path: Path) -> None:
    write(tmp_path / "t" / "a.csv", "x")
    write(tmp_path / "t" / "b.csv", "x")
    assert "expected a text file, or a folder of .txt files" in failure("charlm", tmp_path / "t")
    (tmp_path / "u").mkdir()
    (tmp_path / "u" / "a.txt").write_bytes(b"good\nbad \xff\n")
    assert "line 2: not UTF-8" in failure("charlm", tmp_path / "u")
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "a.txt.gz").write_bytes(gzip.compress(b"good")[:-5])
    assert "damaged gzip file" in failure("charlm", tmp_path / "v")
    write(tmp_path / "w" / "a.txt", "")
    assert "is empty" in failure("charlm", tmp_path / "w")


def test_shakespeare_as_nanogpt_cuts_it(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "tinyshakespeare" / "input.txt"
    splits = load("charlm", data_dir=str(path), cache_dir=str(tmp_path / "cache"))
    assert [len(splits[split]["text"][0]) for split in ("train", "dev")] == [1_003_854, 111_540]
    assert splits["train"]["text"][0] + splits["dev"]["text"][0] == path.read_text()
