"""Encoded examples: a pure function over a table, cached under what decides its result; and padding."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcourse import __version__

if TYPE_CHECKING:
    import datasets
    import torch
    from transformers import PreTrainedTokenizerBase

Columns = dict[str, list[Any]]


class EncodedExamples:
    """A table of encoded rows (implements `hfcourse.tasks.base.Examples`)."""

    def __init__(self, table: datasets.Dataset, length: str = "input_ids") -> None:
        self.table = table
        self.lengths = column_lengths(table, length)

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Rows as dicts, in the order asked for; ``row`` is the number of each."""
        numbers = [int(row) for row in rows]
        columns = self.table[numbers]
        return [{"row": row, **{name: columns[name][at] for name in columns}} for at, row in enumerate(numbers)]


def encode(
    table: datasets.Dataset,
    function: Callable[..., Columns],
    *,
    key: Mapping[str, Any],
    keep: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
    length: str = "input_ids",
) -> EncodedExamples:
    """Encode a table in batches (`mapped`); `length` names the encoded column whose items are the tokens of a row."""
    return EncodedExamples(mapped(table, function, key=key, keep=keep, arguments=arguments), length)


def mapped(
    table: datasets.Dataset,
    function: Callable[..., Columns],
    *,
    key: Mapping[str, Any],
    keep: Sequence[str] = (),
    arguments: Mapping[str, Any] | None = None,
) -> datasets.Dataset:
    """A pure function over a table, in batches; the result is cached on disk beside the table's own files.

    Args:
        table: the examples.
        function: ``(columns, **arguments) -> columns``, pure; may return more or fewer rows than it got.
        key: all that decides the result beside the table and the function's source file, as plain values; put
            `tokenizer_key` there, never the tokenizer (its mutable state would change the name of the cache).
        keep: columns of the table that stay beside the encoded ones (only where the number of rows stays).
        arguments: what the function needs.
    """
    import datasets

    bound = dict(arguments or {})
    # The whole file, and the version: a function is no better than the helpers it calls.
    source = Path(inspect.getfile(function)).read_text(encoding="utf-8")
    code = [__version__, function.__module__, function.__qualname__, source]
    settings = json.dumps([dict(key), list(keep)], sort_keys=True)
    fingerprint = hashlib.sha256("\0".join([table._fingerprint, *code, settings]).encode()).hexdigest()[:32]
    drop = [name for name in table.column_names if name not in keep]
    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        return table.map(
            lambda columns: function(columns, **bound),
            batched=True,
            remove_columns=drop,
            new_fingerprint=fingerprint,
        )
    finally:
        if not bars:
            datasets.enable_progress_bars()


def tokenizer_key(tokenizer: PreTrainedTokenizerBase) -> str:
    """A hash of what a tokenizer does, without the truncation and padding that a call left behind."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return hashlib.sha256(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode()).hexdigest()
    settings = json.loads(backend.to_str())
    settings["truncation"] = settings["padding"] = None
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def column_lengths(table: datasets.Dataset, name: str) -> np.ndarray:
    """Items in each cell of a list column, int64 (rows,), read off Arrow's offsets."""
    import pyarrow.compute as pc

    if not len(table):
        return np.zeros(0, dtype=np.int64)
    column = table.with_format("arrow")[:][name]
    return np.asarray(pc.list_value_length(column)).astype(np.int64)


def pad(rows: Sequence[Mapping[str, Any]], name: str, value: int) -> torch.Tensor:
    """One ragged column, padded on the right with `value`: int64 (rows, longest)."""
    import torch

    lengths = np.fromiter((len(row[name]) for row in rows), dtype=np.int64, count=len(rows))
    padded = np.full((len(rows), int(lengths.max())), value, dtype=np.int64)
    inside = np.arange(padded.shape[1]) < lengths[:, None]
    padded[inside] = np.concatenate([np.asarray(row[name], dtype=np.int64) for row in rows])
    return torch.from_numpy(padded)


def pad_inputs(rows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """``input_ids`` (rows, longest), ``attention_mask`` if anything is padded, ``token_type_ids`` if rows have them."""
    import torch

    batch = {"input_ids": pad(rows, "input_ids", tokenizer.pad_token_id)}
    lengths = torch.tensor([len(row["input_ids"]) for row in rows])
    if int(lengths.min()) < batch["input_ids"].shape[1]:
        batch["attention_mask"] = (torch.arange(batch["input_ids"].shape[1]) < lengths[:, None]).long()
    if "token_type_ids" in rows[0]:
        batch["token_type_ids"] = pad(rows, "token_type_ids", tokenizer.pad_token_type_id)
    return batch
