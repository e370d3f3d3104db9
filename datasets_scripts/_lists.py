"""Lists and tables of speech corpora, line by line; what is wrong in them is named with its line."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from .base import read_text


def lines(path: Path) -> Iterator[tuple[str, str]]:
    """(where it stands, line) of all lines that are not blank; of any size.

    Raises:
        ValueError: a line that is not UTF-8.
    """
    with path.open("rb") as stream:
        for number, raw in enumerate(stream, start=1):
            where = f"{path}, line {number}"
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise ValueError(f"{where}: not UTF-8 (byte {raw[error.start]:#04x}): convert the file") from error
            if line.strip():
                yield where, line


def fields(path: Path, count: int, example: str, *, rest: bool = False) -> Iterator[tuple[str, list[str]]]:
    """(where it stands, its cells) of each line of a list whose cells stand between blanks.

    Args:
        path: the list.
        count: cells that a line has at least.
        example: a line, for the error.
        rest: the last of these cells is all that follows, blanks and all.

    Raises:
        ValueError: a line with fewer cells.
    """
    for where, line in lines(path):
        cells = line.strip().split(None, count - 1 if rest else -1)
        if len(cells) < count:
            raise ValueError(f"{where}: expected a line such as {example!r}, found {line[:80]!r}")
        yield where, cells


def table(path: Path, names: Collection[str], *, escaped: bool = False) -> Iterator[tuple[str, dict[str, str]]]:
    """(where it stands, cells by column) of each row of a table with a header line: commas in a .csv file, else tabs.

    Between tabs quotes are ordinary characters, as the corpora have them.

    Args:
        path: the table.
        names: columns that it has to have; others come too.
        escaped: a backslash stands before characters that are meant as they are.

    Raises:
        ValueError: a missing column, or a row that does not fit the header.
    """
    rows = _between_commas(path) if path.suffix.lower() == ".csv" else _between_tabs(path, escaped)
    where, header = next(rows, (f"{path}, line 1", []))
    if lacking := [name for name in names if name not in header]:
        raise ValueError(f"{where}: expected a column {lacking[0]!r}, found {', '.join(header)[:200]}")
    for where, cells in rows:
        if len(cells) != len(header):
            raise ValueError(f"{where}: {len(cells)} cells under {len(header)} column names")
        yield where, dict(zip(header, cells, strict=True))


def _between_tabs(path: Path, escaped: bool) -> Iterator[tuple[str, list[str]]]:
    for where, line in lines(path):
        if escaped and "\\" in line:
            yield where, [re.sub(r"\\(.)", r"\1", cell) for cell in re.split(r"(?<!\\)\t", line)]
        else:
            yield where, line.split("\t")


def _between_commas(path: Path) -> Iterator[tuple[str, list[str]]]:
    csv.field_size_limit(2**31 - 1)  # whole lectures stand in one cell
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield f"{path}, line {reader.line_num}", cells
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: not a table between commas ({error})") from error


def one_of(value: str, known: Collection[str], where: str, what: str) -> str:
    """`value`, if it is known.

    Raises:
        ValueError: it is not.
    """
    if value not in known:
        names = [*list(known)[:15], "..."] if len(known) > 15 else list(known)
        raise ValueError(f"{where}: {what} {value!r} is none of {', '.join(names)}")
    return value


def number(text: str, where: str, what: str) -> float:
    """A finite number of seconds.

    Raises:
        ValueError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise ValueError(f"{where}: {what} {text!r} is no time in seconds")
    return value
