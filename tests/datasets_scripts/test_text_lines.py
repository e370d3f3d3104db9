"""Plain text as rows: lines, paragraphs or files."""

from __future__ import annotations

import gzip
from pathlib import Path

from hfcourse.data.loading import load

from .build import built, counts, failure, write

TEXT = "one\n two \n\n \nthree\r\nfour\n"


def texts(config: str, folder: Path) -> dict[str, list[str]]:
    return {split: [row["text"] for row in rows] for split, rows in built(config, folder).items()}


def test_lines_paragraphs_and_files(tmp_path: Path) -> None:
    write(tmp_path / "t" / "a.txt", TEXT)
    write(tmp_path / "t" / "b.txt.gz", "\ufefffive\n")
    folder = tmp_path / "t"
    assert texts("text_lines", folder) == {"train": ["one", "two", "three", "four", "five"]}
    assert texts("text_lines/paragraph", folder) == {"train": ["one\n two", "three\nfour", "five"]}
    assert texts("text_lines/document", folder) == {"train": ["one\n two \n\n \nthree\nfour", "five"]}


def test_splits_by_names_of_files_and_folders(tmp_path: Path) -> None:
    for name in ("wiki.train.tokens", "wiki.valid.tokens", "test/part-1.txt", "more.txt"):
        write(tmp_path / "t" / name, f"of {name}\n")
    write(tmp_path / "t" / "notes.md", "no text of the corpus\n")
    assert texts("text_lines", tmp_path / "t") == {
        "train": ["of wiki.train.tokens", "of more.txt"],
        "dev": ["of wiki.valid.tokens"],
        "test": ["of test/part-1.txt"],
    }


def test_a_single_file_may_be_called_anything(tmp_path: Path) -> None:
    path = write(tmp_path / "t" / "corpus.en", "one\n")
    assert texts("text_lines", path.parent) == {"train": ["one"]}
    assert texts("text_lines", path) == {"train": ["one"]}
    write(tmp_path / "t" / "corpus.de", "eins\n")
    assert "expected .txt or .txt.gz files" in failure("text_lines", tmp_path / "t")
    assert "unknown config of text_lines 'lines': did you mean 'line'?" in failure("text_lines/lines", tmp_path / "t")


def test_damaged_files(tmp_path: Path) -> None:
    path = write(tmp_path / "t" / "a.txt.gz", TEXT)
    path.write_bytes(path.read_bytes()[:-9])
    assert f"{path}: damaged gzip file" in failure("text_lines", path.parent)


def test_public_files(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "wikitext2_valid_test"
    files = {"dev": folder / "valid.txt.gz", "test": folder / "test.txt.gz"}
    raw = {split: gzip.decompress(path.read_bytes()).decode() for split, path in files.items()}
    filled = {split: sum(bool(line.strip()) for line in text.split("\n")) for split, text in raw.items()}
    found = counts("text_lines", folder, tmp_path / "cache")
    assert found == filled
    path = shared_data / "tinyshakespeare" / "input.txt"
    (table,) = load("text_lines/document", data_dir=str(path), cache_dir=str(tmp_path / "cache")).values()
    assert len(table) == 1 and len(table["text"][0]) == 1_115_394 - 1  # but for the last line's end
