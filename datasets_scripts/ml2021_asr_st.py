"""ML2021_ASR_ST: lectures on machine learning in Mandarin with English terms, transcribed and translated into English.

``data_dir`` is a folder with the recordings (10 to 70 minutes each) and one table (.tsv, .csv or .parquet) with columns
``file``, ``transcription``, ``translation``: a row a recording. ``segments`` reads ``segments.tsv`` instead, with
``start`` and ``end`` in seconds besides: a row a stretch of a recording. `hfcourse align` writes it.

The recordings are in the order of their names, which is that of the course; the last tenth (at least one) is test, the
tenth before it (at least one) dev. With fewer than three, all are train. All configs share these splits.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets

from . import _files as files
from . import _lists as lists
from . import _speech as speech

CONFIGS = {
    "lectures": "A row a recording.",
    "segments": "A row a segment of a recording: start and duration in seconds.",
    "text": "A row a recording, without its sound: transcript and translation alone.",
}
_COLUMNS = ("file", "transcription", "translation")
_SEGMENTS = "segments.tsv"
_TABLES = r".*\.(tsv|csv|parquet)"
_HELD_OUT = 10
_CHARACTER = re.compile(r"([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])")
# Where it stands, the recording's name, and a row that lacks its sound.
Found = tuple[str, str, speech.Row]


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


class Ml2021AsrSt(speech.SpeechBuilder):
    """Rows are recordings or parts of them; in ``text`` a space stands between Chinese characters."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name, description=text) for name, text in CONFIGS.items()]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "lectures"
    LAYOUT = "a folder with wavs and a table of columns file, transcription, translation (.tsv, .csv or .parquet)"

    def _info(self) -> datasets.DatasetInfo:
        texts = {"text": speech.STRING, "translation": speech.STRING}
        if self.config.name == "text":
            return datasets.DatasetInfo(features=datasets.Features({"id": speech.STRING, **texts}))
        time = datasets.Value("float32")
        return speech.columns(**texts, **({"start": time, "duration": time} if self.config.name == "segments" else {}))

    def rows(self) -> dict[str, list[speech.Row]]:
        root = self.folder(_TABLES)
        lectures = list(_lectures(root))
        found = list(_segments(root)) if self.config.name == "segments" else lectures
        splits = split_of([file for _, file, _ in lectures or found])
        rows: dict[str, list[speech.Row]] = {"train": [], "dev": [], "test": []}
        for where, file, row in found:
            split = splits[lists.one_of(file, splits, where, "recording")]
            rows[split].append(row if self.config.name == "text" else row | {"audio": _sound(root, file)})
        return rows


def split_of(recordings: Iterable[str]) -> dict[str, str]:
    """The split of each recording, by its place in the course (week2 comes before week10)."""
    ordered = sorted(set(recordings), key=lambda file: [int(part) if part.isdigit() else part for part in _parts(file)])
    held_out = max(1, len(ordered) // _HELD_OUT) if len(ordered) > 2 else 0
    train = len(ordered) - 2 * held_out
    return {f: "train" if n < train else "dev" if n < train + held_out else "test" for n, f in enumerate(ordered)}


def _parts(name: str) -> list[str]:
    # Words and numbers take turns, so that like is compared with like.
    return re.split(r"(\d+)", name)


def spaced(text: str) -> str:
    """With one space between Chinese characters, and between them and words."""
    return " ".join(_CHARACTER.sub(r" \1 ", text).split())


def _lectures(root: Path) -> Iterator[Found]:
    seen = set()
    for path in files.matching(root, _TABLES):
        for where, cells in _cells(path, _COLUMNS) if path.name.lower() != _SEGMENTS else ():
            if cells["file"] in seen:
                raise ValueError(f"{where}: {cells['file']} is there twice")
            seen.add(cells["file"])
            yield where, cells["file"], {"id": str(Path(cells["file"]).with_suffix(""))} | _texts(cells)


def _segments(root: Path) -> Iterator[Found]:
    path = files.child(root, _SEGMENTS)
    if path is None:
        raise FileNotFoundError(f"{root}: no {_SEGMENTS}: 'hfcourse align' makes it and writes it beside the table")
    counts: Counter[str] = Counter()
    for where, cells in _cells(path, (*_COLUMNS, "start", "end")):
        file = cells["file"]
        start, end = (lists.number(cells[name], where, name) for name in ("start", "end"))
        if end <= start:
            raise ValueError(f"{where}: the segment ends at {end:g} s, before its start at {start:g} s")
        name = f"{Path(file).with_suffix('')}-{counts[file]:05d}"
        counts[file] += 1
        times = {"start": start, "duration": end - start, "seconds": end - start}
        yield where, file, {"id": name} | _texts(cells) | times


def _texts(cells: dict[str, str]) -> dict[str, str]:
    return {"text": spaced(cells["transcription"]), "translation": cells["translation"].strip()}


def _sound(root: Path, file: str) -> Path:
    """A recording, beside the table or in a folder beside it."""
    return next((path for folder in (root, *files.subfolders(root)) if (path := folder / file).is_file()), root / file)


def _cells(path: Path, names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
    if path.suffix.lower() != ".parquet":
        yield from lists.table(path, names)
        return
    import pyarrow
    from pyarrow import parquet

    try:
        rows = parquet.read_table(path, columns=list(names)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a parquet file with columns {', '.join(names)}") from error
    for number, row in enumerate(rows, start=1):
        where = f"{path}, row {number}"
        if lacking := [name for name in names if row.get(name) is None]:
            raise ValueError(f"{where}: no {lacking[0]}")
        yield where, {name: str(row[name]) for name in names}
