"""Text of any size as shards of documents: what token stores are made from, one shard at a time."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from hfcourse.data import files
from hfcourse.data.loading import SPLITS, is_builder, load, split_files
from hfcourse.errors import DataError


@dataclass(frozen=True)
class DocumentShard:
    """A piece of a corpus that can be read alone, in any process, in constant memory."""

    name: str
    """Where it comes from, for people."""
    fingerprint: str
    """Changes when the content does."""
    source: str
    """A file, a builder's name, or a Hub id."""
    column: str = "text"
    split: str = "train"
    data_dir: str | None = None
    revision: str = "main"
    start: int = 0
    """First row, for sources that are cut by rows."""
    stop: int | None = None

    def documents(self) -> Iterator[str]:
        """Its texts, in order; empty ones are left out.

        Raises:
            DataError: not UTF-8 or not JSON (with the line), a damaged file, or a column that is missing or no text.
        """
        for text in self._texts():
            if text is not None and not isinstance(text, str):
                raise DataError(f"{self.name}: column {self.column!r} holds {str(text)[:40]!r}, which is no text")
            if text and not text.isspace():
                yield text

    def _texts(self) -> Iterator[Any]:
        path = Path(self.source)
        if is_builder(self.source):
            table = load(self.source, data_dir=self.data_dir)[self.split]
            for row in table.select(range(self.start, self.stop if self.stop is not None else len(table))):
                yield row[self.column]
        elif path.is_file():
            yield from _file_texts(path, self.column)
        else:
            yield from islice(_hub_stream(self), self.start, self.stop)


ROWS_A_SHARD = 20_000


def document_shards(
    name: str, *, split: str = "train", column: str = "text", data_dir: str | None = None, revision: str = "main"
) -> list[DocumentShard]:
    """The shards of one split of a corpus: each file of a folder, pieces of a builder's table, or a Hub stream.

    In ``txt`` files a blank line ends a document; a file without blank lines is one line a document.

    Raises:
        DataError: no such source, split or column.
    """
    path = Path(name).expanduser()
    common: dict[str, Any] = {"column": column, "split": split, "data_dir": data_dir, "revision": revision}
    if is_builder(name):
        splits = load(name, data_dir=data_dir)
        if split not in splits:
            raise DataError(f"{name}: no split {split!r}: it has {', '.join(splits)}")
        table = splits[split]
        if column not in table.column_names:
            raise DataError(f"{name}: no column {column!r}: it has {', '.join(table.column_names)}")
        starts = range(0, len(table), ROWS_A_SHARD)
        return [
            DocumentShard(
                name=f"{name}[{start}:{min(start + ROWS_A_SHARD, len(table))}]",
                fingerprint=f"{table._fingerprint}-{start}",
                source=name,
                start=start,
                stop=min(start + ROWS_A_SHARD, len(table)),
                **common,
            )
            for start in starts
        ]
    if path.exists():
        found = _files_of(path, split)
        return [DocumentShard(str(file), _stamp(file), str(file), **common) for file in found]
    if name.startswith((".", "/", "~")) or files.kind_of(path) is not None:
        raise DataError(f"{name}: no such file or folder")
    key = hashlib.sha256(json.dumps([name, *common.values()]).encode()).hexdigest()
    return [DocumentShard(f"{name} ({split}, streamed)", key, name, **common)]


def document_splits(name: str, *, data_dir: str | None = None, revision: str = "main") -> list[str]:
    """The splits of a corpus, under our names for them; ``train`` alone where nothing tells any.

    Raises:
        DataError: no such builder or config.
    """
    path = Path(name).expanduser()
    if is_builder(name):
        return list(load(name, data_dir=data_dir))
    if path.exists():
        return list(_splits_of(path))
    try:
        return list(_hub_splits(name, revision))
    except Exception:  # a missing file, an unknown name, no network: reading `train` says which
        return ["train"]


def _splits_of(path: Path) -> dict[str, list[Path]]:
    """Files by split. One file is all there is to train on; so is a folder whose file names tell no split."""
    if path.is_file():
        return {"train": [path]}
    try:
        return split_files(path)
    except DataError:
        return {"train": [f for f in sorted(path.rglob("*")) if f.is_file() and files.kind_of(f) is not None]}


def _hub_splits(name: str, revision: str) -> dict[str, str]:
    """The Hub's names of the splits of a dataset, by ours."""
    import datasets

    return {SPLITS.get(split, split): split for split in datasets.get_dataset_split_names(name, revision=revision)}


def _files_of(path: Path, split: str) -> list[Path]:
    """The files of one split."""
    splits = _splits_of(path)
    if not splits.get(split):
        raise DataError(f"{path}: no files of split {split!r} (txt, csv, tsv, json, jsonl or parquet, also .gz)")
    return splits[split]


def _stamp(file: Path) -> str:
    status = file.stat()
    return f"{file.resolve()}-{status.st_size}-{status.st_mtime_ns}"


def _file_texts(path: Path, column: str) -> Iterator[Any]:
    kind = files.kind_of(path)
    if kind == "txt":
        yield from _paragraphs(path)
    elif kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(path)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path}: not a parquet file, or a damaged one") from error
        if column not in file.schema_arrow.names:
            raise DataError(f"{path}: no column {column!r}: it has {', '.join(file.schema_arrow.names)}")
        for batch in file.iter_batches(batch_size=1000, columns=[column]):
            yield from batch.column(0).to_pylist()
    elif kind == "jsonl":
        for number, line in enumerate(files.lines_of(path), start=1):
            if line.strip():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise DataError(f"{path}, line {number}: not JSON ({error.msg})") from error
                if not isinstance(row, dict):
                    raise DataError(f"{path}, line {number}: expected an object with named values")
                if column not in row:
                    raise DataError(f"{path}, line {number}: no column {column!r}: it has {', '.join(row)}")
                yield row[column]
    else:
        table = files.read(path)
        if column not in table.column_names:
            raise DataError(f"{path}: no column {column!r}: it has {', '.join(table.column_names)}")
        yield from table[column]


def _paragraphs(path: Path) -> Iterator[str]:
    """Documents between blank lines; a first stretch of many lines without one means a line each."""
    held: list[str] = []
    by_line = False
    for line in files.lines_of(path):
        if by_line:
            yield line
        elif line.strip():
            held.append(line)
            if len(held) == 10_000:  # no blank line so far: this corpus has one document a line
                by_line = True
                yield from held
                held = []
        elif held:
            yield "\n".join(held)
            held = []
    if held:
        yield "\n".join(held)


def _hub_stream(shard: DocumentShard) -> Iterator[str]:
    import datasets

    try:
        split = _hub_splits(shard.source, shard.revision).get(shard.split, shard.split)
        stream = datasets.load_dataset(shard.source, split=split, revision=shard.revision, streaming=True)
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"{shard.source!r}: neither a builder nor a path, and the Hub does not give it: {reason}"
        ) from error
    for row in stream:
        yield row[shard.column]
