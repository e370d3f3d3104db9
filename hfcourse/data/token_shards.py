"""Text tokenised once into memory-mapped shards: what pretraining reads, whatever its size.

A store is a folder: for each shard of documents ``<n>.tokens`` (uint16 or uint32) and ``<n>.offsets.npy`` (where each
document starts, and the end), and ``manifest.json``, which names what every file was made from. A shard is written to
side files, renamed, and then entered in the manifest, so an interrupted job keeps what it finished.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcourse.data.documents import DocumentShard
from hfcourse.data.encode import tokenizer_key
from hfcourse.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_DOCUMENTS_AT_ONCE = 1000
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class TokenStore:
    """Documents as token ids, mapped from disk."""

    folder: Path

    @cached_property
    def shards(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(tokens, offsets) of each shard."""
        entries = _read_manifest(self.folder)["shards"]
        return [self._map(name, entries[name]) for name in sorted(entries, key=int)]

    @cached_property
    def tokens(self) -> int:
        """Tokens in all."""
        return sum(len(tokens) for tokens, _ in self.shards)

    @cached_property
    def documents(self) -> int:
        """Documents in all."""
        return sum(len(offsets) - 1 for _, offsets in self.shards)

    def _map(self, name: str, entry: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        if not entry["tokens"]:
            return np.zeros(0, dtype=entry["dtype"]), np.zeros(1, dtype=np.int64)
        tokens = np.memmap(self.folder / f"{name}.tokens", dtype=entry["dtype"], mode="r")
        return tokens, np.load(self.folder / f"{name}.offsets.npy", mmap_mode="r")


def cache_folder() -> Path:
    """Where stores live unless a folder is given: ``~/.cache/hfcourse``, or $HFCOURSE_CACHE."""
    return Path(os.environ.get("HFCOURSE_CACHE", "~/.cache/hfcourse")).expanduser()


def tokenise(
    shards: Sequence[DocumentShard],
    tokenizer: PreTrainedTokenizerBase,
    *,
    folder: Path | None = None,
    processes: int | None = None,
) -> TokenStore:
    """Tokenise every shard that is not there yet, in parallel; special tokens are left for whoever cuts examples.

    Args:
        shards: from `hfcourse.data.documents.document_shards`.
        tokenizer: any with a fast backend.
        folder: the store; named after tokenizer and corpus in the cache where not given.
        processes: how many at once; the machine's cores where not given.

    Raises:
        DataError: no document at all, or one that cannot be read.
    """
    key = tokenizer_key(tokenizer)
    corpus = hashlib.sha256("\n".join([key, *(shard.fingerprint for shard in shards)]).encode()).hexdigest()
    folder = folder or cache_folder() / "tokens" / corpus[:24]
    folder.mkdir(parents=True, exist_ok=True)
    manifest = _read_manifest(folder)
    if manifest.get("tokenizer") != key:
        manifest = {"tokenizer": key, "shards": {}}
    wanted = {str(number): shard for number, shard in enumerate(shards)}
    kept = {n: e for n, e in manifest["shards"].items() if n in wanted and _is_whole(folder, n, e, wanted[n])}
    manifest["shards"] = kept
    todo = [(folder, number, shard) for number, shard in wanted.items() if number not in kept]
    if todo:
        for number, entry in _in_parallel(todo, tokenizer, processes):
            kept[number] = entry
            _write_manifest(folder, manifest)
    store = TokenStore(folder)
    if not store.tokens:
        raise DataError(f"no text in {', '.join(shard.name for shard in shards[:3]) or 'the corpus'}")
    return store


def _in_parallel(todo: list[tuple[Path, str, DocumentShard]], tokenizer: Any, processes: int | None) -> Any:
    """Results as they come. One process where there is one shard: the tokenizer is parallel in itself."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(processes or cores, len(todo))
    if count == 1:
        yield from (_tokenise_shard((*job, tokenizer)) for job in todo)
        return
    with get_context("spawn").Pool(count) as pool:
        yield from pool.imap_unordered(_tokenise_shard, [(*job, tokenizer) for job in todo])


def _tokenise_shard(job: tuple[Path, str, DocumentShard, Any]) -> tuple[str, dict[str, Any]]:
    """One shard to its two files; runs in a worker."""
    folder, number, shard, tokenizer = job
    dtype = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
    lengths: list[np.ndarray] = []
    side = folder / f".{number}.tokens.partial"
    held: list[str] = []
    with side.open("wb") as file:

        def flush() -> None:
            encoded = tokenizer(held, add_special_tokens=False, return_attention_mask=False, verbose=False)["input_ids"]
            lengths.append(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
            file.write(np.concatenate([np.asarray(ids, dtype=dtype) for ids in encoded]).tobytes())
            held.clear()

        for text in shard.documents():
            held.append(text)
            if len(held) == _DOCUMENTS_AT_ONCE:
                flush()
        if held:
            flush()
    counts = np.concatenate(lengths) if lengths else np.zeros(0, dtype=np.int64)
    offsets = np.concatenate([[0], counts[counts > 0].cumsum()]).astype(np.int64)
    with (folder / f".{number}.offsets.partial").open("wb") as file:
        np.save(file, offsets)
    (folder / f".{number}.offsets.partial").replace(folder / f"{number}.offsets.npy")
    side.replace(folder / f"{number}.tokens")
    entry = {"source": shard.fingerprint, "name": shard.name, "dtype": dtype.name, "tokens": int(offsets[-1])}
    return number, entry | {"documents": len(offsets) - 1}


def _is_whole(folder: Path, number: str, entry: dict[str, Any], shard: DocumentShard) -> bool:
    """Whether the files of a shard are as the manifest says, and made from what the shard holds now."""
    tokens, offsets = folder / f"{number}.tokens", folder / f"{number}.offsets.npy"
    if entry["source"] != shard.fingerprint or not tokens.is_file() or not offsets.is_file():
        return False
    return tokens.stat().st_size == entry["tokens"] * np.dtype(entry["dtype"]).itemsize


def _read_manifest(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / _MANIFEST).read_text())  # type: ignore[no-any-return]
    except (OSError, ValueError):
        return {"shards": {}}


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    side = folder / f".{_MANIFEST}.partial"
    side.write_text(json.dumps(manifest, indent=1))
    side.replace(folder / _MANIFEST)
