"""One table from one file: text stays as it stands, and what does not fit is named with its line."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from hfcourse.data import files
from hfcourse.errors import DataError

WORDS = ["NA", "null", "None", "", "nan", "1", "a, b", 'she said "no"', "two\nlines", "tab\there", "漢字 é"]


def written(path: Path, text: str | bytes) -> Path:
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    return list(files.read(path))


def failure(path: Path, text: str | bytes) -> str:
    with pytest.raises(DataError) as error:
        files.read(written(path, text))
    message = str(error.value)
    assert "\n" not in message and message.startswith(str(path))
    return message.removeprefix(str(path))


def as_table(kind: str, values: list[str]) -> str:
    """What Python's own writers make of a column of text and one of numbers."""
    import io

    found = [{"text": value, "n": number} for number, value in enumerate(values)]
    if kind == "jsonl":
        return "\n".join(json.dumps(row) for row in found)
    if kind == "json":
        return json.dumps(found, indent=2)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, ["text", "n"], delimiter="," if kind == "csv" else "\t")
    writer.writeheader()
    writer.writerows(found)
    return stream.getvalue()


@pytest.mark.parametrize("ending", ["csv", "tsv", "json", "jsonl", "csv.gz", "tsv.gz", "json.gz", "jsonl.gz", "CSV"])
def test_what_is_written_is_read(tmp_path: Path, ending: str) -> None:
    kind = ending.lower().removesuffix(".gz")
    path = written(tmp_path / f"a.{ending}", as_table(kind, WORDS))
    numbers: list[Any] = list(range(len(WORDS))) if "json" in kind else [str(n) for n in range(len(WORDS))]
    assert rows(path) == [{"text": text, "n": n} for text, n in zip(WORDS, numbers, strict=True)]


def test_parquet(tmp_path: Path) -> None:
    datasets.Dataset.from_dict({"text": WORDS}).to_parquet(tmp_path / "a.parquet")
    assert [row["text"] for row in rows(tmp_path / "a.parquet")] == WORDS
    assert "not a parquet file" in failure(tmp_path / "b.parquet", "no parquet at all")


def test_txt_is_a_line_a_row(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", "\ufeffone\r\n\r\n  two \n\u2028\x0bthree, four\t5")
    assert [row["text"] for row in rows(path)] == ["one", "  two ", "\u2028\x0bthree, four\t5"]


def test_bare_quotes_in_tsv_are_characters(tmp_path: Path) -> None:
    text = 'text\tlabel\n"Well", he said\t1\n" opening only\t0\nclosing only "\t1\n"all of it"\t0\n'
    assert [row["text"] for row in rows(written(tmp_path / "a.tsv", text))] == [
        '"Well", he said',
        '" opening only',
        'closing only "',
        '"all of it"',
    ]


def test_a_spreadsheets_tsv_is_unquoted(tmp_path: Path) -> None:
    """Doubled quotes inside wrapped cells show it."""
    text = 'text\tlabel\n"she said ""no"""\t1\nplain\t0\n'
    assert rows(written(tmp_path / "a.tsv", text))[0]["text"] == 'she said "no"'


def test_doubled_quotes_that_are_no_quoting_stay(tmp_path: Path) -> None:
    """One row looks like quoting, another cannot be: nothing is taken away, nothing refused."""
    text = 'text\tlabel\n"she said ""no"""\t1\n"open\t0\n'
    assert [row["text"] for row in rows(written(tmp_path / "a.tsv", text))] == ['"she said ""no"""', '"open']


def test_layouts_of_json(tmp_path: Path) -> None:
    wanted = [{"a": 1, "b": "x"}, {"a": 2, "b": None}]
    lines = '{"a": 1, "b": "x"}\n\n{"a": 2}\n'
    for name, text in (
        ("list.json", json.dumps([{"a": 1, "b": "x"}, {"a": 2}])),
        ("data.json", json.dumps({"version": 1, "data": wanted})),
        ("lines.json", lines),
        ("lines.jsonl", lines),
    ):
        assert rows(written(tmp_path / name, text)) == wanted, name
    assert rows(written(tmp_path / "one.json", '{"a": 1}')) == [{"a": 1}]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "a,b\n1,2\n1,2,3\n", ", line 3: 3 cells under 2 column names"),
        ("a.csv", 'a,b\n1,"x\ny"\n1\n', ", line 4: 1 cells under 2 column names"),
        ("a.csv", 'a,b\n1,2\n3,"open\n4,5\n6,7\n', ", line 3: a quote is not closed"),
        ("a.tsv", "a\tb\n1\t2\n\n3\n", ", line 4: 1 cells under 2 column names"),
        ("a.tsv", 'a\tb\n1\t2\n"x\t3\n4\n"y\t5\n', ", line 4: 1 cells under 2 column names"),
        ("a.csv", "a,a\n1,2\n", ", line 1: column names must be there and differ"),
        ("a.csv", "a,,c\n1,2,3\n", ", line 1: column names must be there and differ"),
        ("a.csv", "", ": no rows"),
        ("a.csv", "a,b\n", ": no rows"),
        ("a.jsonl", "\n\n", ": no rows"),
        ("a.json", "[]", ": no rows"),
        ("a.jsonl", '{"a": 1}\n{"a": \n', ", line 2: not JSON"),
        ("a.jsonl", '{"a": 1}\n[1, 2]\n', ", line 2: expected an object with named values"),
        ("a.json", '[\n{"a": 1},\n{"a": }\n]', ", line 3: not JSON"),
        ("a.json", '{"a": 1}\n{"a": oh}\n', ", line 2: not JSON"),
        ("a.json", "[1, 2]", ": expected a list of objects"),
        ("a.json", '{"data": {"a": 1}}', ": expected a list of objects"),
        ("a.jsonl", '{"a": 1}\n{"a": "x"}\n', ", row 2: 'a' is 'x', of another type"),
        ("a.jsonl", '{"a": 1}\n{"a": true}\n', ", row 2: 'a' is 'True', of another type"),
        ("a.jsonl", '{"a": [1]}\n{"a": ["x"]}\n', ": a column holds values of different types"),
        ("a.jsonl", '{"a": 1}\n{"a": 100000000000000000000}\n', ", row 2: 'a' is 100000000000000000000, too large"),
        ("a.csv", b"a,b\n1,2\nx,\xe9\n", ", line 3: not UTF-8 (byte 0xe9)"),
        ("a.txt", b"\xef\xbb\xbfone\n\xe9", ", line 2: not UTF-8 (byte 0xe9)"),
        ("a.jsonl.gz", b'{"a": "\xff"}', ", line 1: not UTF-8 (byte 0xff)"),
        ("a.csv", "a,b\n1,2\n".encode("utf-16"), ", line 1: not UTF-8 (byte 0xff)"),
        ("a.xlsx", "x", ": unknown kind of file"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    assert failure(tmp_path / name, text).startswith(message)


def test_damaged_archives(tmp_path: Path) -> None:
    whole = gzip.compress(b"text\n" + bytes(range(65, 91)) * 50)
    damaged = bytearray(whole)
    damaged[12:16] = b"\xff\xff\xff\xff"
    for number, raw in enumerate((b"no archive", whole[:-12], whole[:20], bytes(damaged))):
        path = tmp_path / f"{number}.txt.gz"
        path.write_bytes(raw)
        with pytest.raises(DataError, match=r"\.txt\.gz: damaged gzip file \(.*\)$"):
            files.read(path)
        with pytest.raises(DataError, match=r"\.txt\.gz: damaged gzip file \(.*\)$"):
            list(files.lines_of(path))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for read in (files.read, files.read_text, lambda path: list(files.lines_of(path))):
        with pytest.raises(DataError, match=r"away\.txt: cannot be read: No such file"):
            read(tmp_path / "away.txt")


def test_lines_of(tmp_path: Path) -> None:
    for name in ("a.txt", "a.txt.gz"):
        path = written(tmp_path / name, "\ufeffone\r\n\n two\u2028\n")
        assert list(files.lines_of(path)) == ["one", "", " two\u2028"]
    reader = files.lines_of(written(tmp_path / "b.txt", b"good\nb\xe9d\n"))
    assert next(reader) == "good"
    with pytest.raises(DataError, match=r"b\.txt, line 2: not UTF-8 \(byte 0xe9\)"):
        next(reader)


def test_kinds() -> None:
    kinds = {"a.csv": "csv", "a.b.TSV": "tsv", "a.jsonl.gz": "jsonl", "a.gz": None, "a": None, "a.txt.zip": None}
    assert {name: files.kind_of(Path(name)) for name in kinds} == kinds
