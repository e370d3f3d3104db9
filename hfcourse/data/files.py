"""Reading one local file as a table: csv, tsv, json, jsonl, parquet, txt, also gzipped."""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcourse.errors import DataError

if TYPE_CHECKING:
    import datasets

KINDS = ("csv", "tsv", "json", "jsonl", "parquet", "txt")


def kind_of(path: Path) -> str | None:
    """The kind of table by the ending (``.gz`` aside); None for other files."""
    endings = [ending.lstrip(".").lower() for ending in path.suffixes[-2:]]
    if endings and endings[-1] == "gz":
        endings.pop()
    return endings[-1] if endings and endings[-1] in KINDS else None


def read(path: Path) -> datasets.Dataset:
    """One file as a table. Text cells stay text: ``NA``, ``null`` and ``None`` are words.

    Raises:
        DataError: unknown ending, not UTF-8 (with the line), or rows that do not fit (with the line).
    """
    import datasets
    from pyarrow import ArrowInvalid, ArrowTypeError

    kind = kind_of(path)
    if kind is None:
        raise DataError(f"{path}: unknown kind of file: expected {', '.join(KINDS)} (also .gz)")
    if kind == "parquet":
        try:
            return datasets.Dataset.from_parquet(str(path))
        except Exception as error:  # the library wraps whatever Arrow says
            raise DataError(f"{path}: not a parquet file, or a damaged one") from error
    text = read_text(path)
    if kind == "txt":
        return datasets.Dataset.from_dict({"text": [line for line in text.split("\n") if line.strip()]})
    rows = _json_rows(path, text, lines=kind == "jsonl") if kind in {"json", "jsonl"} else _table_rows(path, text, kind)
    try:
        return datasets.Dataset.from_dict(_columns(rows, path))
    except (ArrowInvalid, ArrowTypeError, OverflowError, UnicodeEncodeError) as error:
        raise DataError(_mixed(rows, path)) from error


def read_text(path: Path) -> str:
    """A whole text file, gzipped or not.

    Raises:
        DataError: a byte that is not UTF-8 (with its line), a damaged archive, or a file that cannot be read.
    """
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if path.suffix == ".gz" else raw
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error
    try:
        return raw.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error.object.count(b"\n", 0, error.start) + 1, error) from error


def lines_of(path: Path) -> Iterator[str]:
    """The lines of a text file of any size, one at a time.

    Raises:
        DataError: a line that is not UTF-8, a damaged archive, or a file that cannot be read.
    """
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            for number, raw in enumerate(stream, start=1):
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, number, error) from error
    except (OSError, EOFError, zlib.error) as error:
        raise _unreadable(path, error) from error


def _not_utf8(path: Path, line: int, error: UnicodeDecodeError) -> DataError:
    return DataError(f"{path}, line {line}: not UTF-8 (byte {error.object[error.start]:#04x}): convert the file")


def _unreadable(path: Path, error: Exception) -> DataError:
    if isinstance(error, OSError) and error.errno is not None:
        return DataError(f"{path}: cannot be read: {error.strerror}")
    return DataError(f"{path}: damaged gzip file ({error})")


def _table_rows(path: Path, text: str, kind: str) -> list[dict[str, Any]]:
    """Rows of a csv or tsv file with a header line.

    csv follows the usual quoting. In tsv a quote is quoting only where the cells show it and that reads every row with
    the header's number of cells, and an ordinary character otherwise: many corpora contain bare quotes.
    """
    if kind == "csv":
        header, rows, wrong = _cells(path, text, ",", csv.QUOTE_MINIMAL)
    else:
        header, rows, wrong = _cells(path, text, "\t", csv.QUOTE_NONE)
        if wrong or _looks_quoted(rows):
            quoted_header, quoted_rows, not_quoted = _cells(path, text, "\t", csv.QUOTE_MINIMAL)
            if not not_quoted:
                header, rows, wrong = quoted_header, quoted_rows, ""
    if len(set(header)) != len(header) or not all(header):
        raise DataError(f"{path}, line 1: column names must be there and differ: {str(header)[:200]}")
    if wrong:
        raise DataError(f"{wrong}: mend the row, or save the file as jsonl")
    return [dict(zip(header, cells, strict=True)) for cells in rows]


def _cells(path: Path, text: str, delimiter: str, quoting: Any) -> tuple[list[str], list[list[str]], str]:
    """Header, the cells of each row, and what is wrong with the first row that does not fit (then it ends there)."""
    csv.field_size_limit(2**31 - 1)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    header: list[str] = []
    rows: list[list[str]] = []
    line = 1
    try:
        header = next(reader, [])
        line = reader.line_num + 1
        for cells in reader:
            if cells and len(cells) != len(header):
                return header, rows, f"{path}, line {line}: {len(cells)} cells under {len(header)} column names"
            if cells:
                rows.append(cells)
            line = reader.line_num + 1  # a row may span several lines: name the first one
    except csv.Error as error:
        return header, rows, f"{path}, line {line}: a quote is not closed, or text follows the closing one ({error})"
    return header, rows, ""


def _looks_quoted(rows: list[list[str]]) -> bool:
    """Whether cells are wrapped in quotes as a spreadsheet writes them: quotes inside are doubled."""
    wrapped = [c for row in rows for c in row if len(c) > 1 and c[0] == c[-1] == '"']
    return any('""' in cell[1:-1] for cell in wrapped)


def _json_rows(path: Path, text: str, *, lines: bool) -> list[dict[str, Any]]:
    """A list of objects, ``{"data": [...]}``, or one object a line."""
    if not lines:
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            if error.msg != "Extra data":  # what follows a whole value may be a second line with one
                raise DataError(f"{path}, line {error.lineno}: not JSON ({error.msg})") from error
        else:
            value = value.get("data", [value]) if isinstance(value, dict) else value
            if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
                raise DataError(f"{path}: expected a list of objects, or one object a line")
            return value
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(row, dict):
            raise DataError(f"{path}, line {number}: expected an object with named values")
        rows.append(row)
    return rows


def _mixed(rows: list[dict[str, Any]], path: Path) -> str:
    """Which cell is of another type than the ones above it."""
    kinds: dict[str, type] = {}
    for number, row in enumerate(rows, start=1):
        for name, cell in row.items():
            if cell is None:
                continue
            if isinstance(cell, int) and not -(2**63) <= cell < 2**63:
                return f"{path}, row {number}: {name!r} is {str(cell)[:40]}, too large a whole number"
            kind = float if isinstance(cell, int) and not isinstance(cell, bool) else type(cell)
            if kinds.setdefault(name, kind) is not kind:
                return f"{path}, row {number}: {name!r} is {str(cell)[:40]!r}, of another type than in the rows above"
    return f"{path}: a column holds values of different types inside its lists or objects"


def _columns(rows: list[dict[str, Any]], path: Path) -> dict[str, list[Any]]:
    """Rows to columns; a name that some rows lack is empty there."""
    if not rows:
        raise DataError(f"{path}: no rows")
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: [row.get(name) for row in rows] for name in names}
