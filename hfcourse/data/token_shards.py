"""Text tokenised once into memory-mapped shards: what pretraining reads, whatever its size.

A store is a folder. Each shard of documents becomes one piece or, if it is large, several: ``<shard>.<piece>.tokens``
(uint16 or uint32), ``.offsets.npy`` (where each document starts, and the end) and ``.json`` (tokenizer, type and number
of the tokens, what they were made from, and how far into the shard they reach). A piece is written to side files and
renamed, its ``.json`` last, so an interrupted job goes on behind the last finished piece. ``manifest.json`` lists the
pieces of all finished shards.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcourse.data.documents import DocumentShard
from hfcourse.data.encode import tokenizer_key
from hfcourse.data.token_parts import Encoder, Part, batches
from hfcourse.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENS_A_PIECE = 50_000_000
"""How much work an interruption can cost, for each process."""
_BYTES_A_PROCESS = 100_000_000
"""Less than this is tokenised faster than another process starts; the tokenizer has threads of its own."""
_LAYOUT = "3"
"""Changes when files made by an earlier version are no longer right."""
_MANIFEST = "manifest.json"

Piece = dict[str, Any]


@dataclass(frozen=True)
class TokenStore:
    """Documents as token ids, mapped from disk."""

    folder: Path

    @classmethod
    def open(cls, folder: str | Path) -> TokenStore:
        """A store that `tokenise` made.

        Raises:
            DataError: there is none, or it is not finished.
        """
        store = cls(Path(folder))
        if not _read_json(store.folder / _MANIFEST).get("complete"):
            raise DataError(f"{folder}: no finished token store (its {_MANIFEST} is missing or not complete)")
        return store

    @cached_property
    def _entries(self) -> dict[str, Any]:
        return dict(_read_json(self.folder / _MANIFEST).get("shards", {}))

    @cached_property
    def shards(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(tokens, offsets) of each piece that holds any, in the order of the corpus."""
        pieces = [piece for name in sorted(self._entries, key=int) for piece in self._entries[name]["pieces"]]
        return [self._map(piece) for piece in pieces if piece["tokens"]]

    @cached_property
    def tokens(self) -> int:
        """Tokens in all."""
        return sum(len(tokens) for tokens, _ in self.shards)

    @cached_property
    def documents(self) -> int:
        """Documents in all."""
        return sum(len(offsets) - 1 for _, offsets in self.shards)

    @cached_property
    def unknown(self) -> int:
        """Tokens that stand for what the tokenizer does not know."""
        return sum(piece["unknown"] for entry in self._entries.values() for piece in entry["pieces"])

    def _map(self, piece: Piece) -> tuple[np.ndarray, np.ndarray]:
        if not _is_whole(self.folder, piece):
            raise DataError(
                f"{self.folder / piece['name']}.tokens: truncated or gone: remove {self.folder / _MANIFEST}"
            )
        tokens = np.memmap(self.folder / f"{piece['name']}.tokens", dtype=piece["dtype"], mode="r")
        return tokens, np.load(self.folder / f"{piece['name']}.offsets.npy", mmap_mode="r")


def cache_folder() -> Path:
    """Where stores live unless a folder is given: ``~/.cache/hfcourse``, or $HFCOURSE_CACHE."""
    return Path(os.environ.get("HFCOURSE_CACHE", "~/.cache/hfcourse")).expanduser()


def tokenise(
    shards: Sequence[DocumentShard],
    tokenizer: PreTrainedTokenizerBase,
    *,
    end: int | None = None,
    folder: Path | None = None,
    processes: int | None = None,
) -> TokenStore:
    """Tokenise every shard that is not there yet, in parallel; special tokens are left for whoever cuts examples.

    What looks like a special token in the text (``[MASK]`` in a tutorial) is text. Another run that wants the same
    store waits until this one is done.

    Args:
        shards: from `hfcourse.data.documents.document_shards`.
        tokenizer: any with a fast backend.
        end: a token that is put behind each document; none where not given.
        folder: the store; named after tokenizer and corpus in the cache where not given.
        processes: how many at once; as many as pay on this machine where not given.

    Raises:
        DataError: no document at all, one that cannot be read, or a folder that cannot be written.
    """
    from filelock import FileLock

    key = hashlib.sha256(f"{_LAYOUT}{tokenizer_key(tokenizer)}{'' if end is None else end}".encode()).hexdigest()
    corpus = hashlib.sha256("\n".join([key, *(shard.fingerprint for shard in shards)]).encode()).hexdigest()
    folder = folder or cache_folder() / "tokens" / corpus[:24]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock"):
            _complete(folder, key, shards, Encoder(tokenizer, end), processes)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot keep tokens here: {error.strerror or error}") from error
    store = TokenStore(folder)
    if not store.tokens:
        raise DataError(f"no text in {', '.join(shard.name for shard in shards[:3]) or 'the corpus'}")
    return store


def _complete(folder: Path, key: str, shards: Sequence[DocumentShard], encoder: Encoder, processes: int | None) -> None:
    """Bring every shard and the manifest up to date."""
    manifest = _read_json(folder / _MANIFEST)
    known = manifest.get("shards", {}) if manifest.get("tokenizer") == key else {}
    entries: dict[str, Any] = {}
    jobs = []
    for number, shard in enumerate(shards):
        made_from = f"{key}/{shard.fingerprint}"
        entry = known.get(str(number), {})
        if entry.get("source") == made_from and all(_is_whole(folder, piece) for piece in entry["pieces"]):
            entries[str(number)] = entry
        else:
            jobs.append(_Job(folder, number, shard, key, encoder))
    if not jobs and entries == known and manifest.get("complete"):
        return
    for number, pieces in _in_parallel(jobs, processes):
        shard = shards[number]
        entries[str(number)] = {"name": shard.name, "source": f"{key}/{shard.fingerprint}", "pieces": pieces}
        _write_json(folder / _MANIFEST, {"tokenizer": key, "complete": False, "shards": entries})
    _write_json(folder / _MANIFEST, {"tokenizer": key, "complete": True, "shards": entries})


@dataclass(frozen=True)
class _Job:
    """One shard's work; goes to a worker as it is."""

    folder: Path
    number: int
    shard: DocumentShard
    key: str
    """Of the tokenizer."""
    encoder: Encoder

    @property
    def made_from(self) -> str:
        """Changes when the piece must be made again."""
        return f"{self.key}/{self.shard.fingerprint}"


def _in_parallel(jobs: list[_Job], processes: int | None) -> Iterator[tuple[int, list[Piece]]]:
    """The pieces of each shard, as they come."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    sources = [Path(job.shard.source) for job in jobs]
    worth = 1 + sum(path.stat().st_size for path in sources if path.is_file()) // _BYTES_A_PROCESS
    count = min(processes or min(cores, worth), len(jobs))
    if count <= 1:
        yield from map(_tokenise_shard, jobs)
        return
    with get_context("spawn").Pool(count, initializer=_one_thread) as pool:
        yield from pool.imap_unordered(_tokenise_shard, jobs)


def _one_thread() -> None:
    """Where there are processes, each tokenizer keeps to one thread."""
    os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}


def _tokenise_shard(job: _Job) -> tuple[int, list[Piece]]:
    """The pieces of one shard, those of an earlier attempt among them; runs in a worker."""
    pieces: list[Piece] = []
    while (piece := _finished_piece(job, len(pieces))) is not None:
        pieces.append(piece)
    if pieces and pieces[-1]["last"]:
        return job.number, pieces
    found = batches(islice(job.shard.documents(), pieces[-1]["read"] if pieces else 0, None))
    last = False
    while not last:
        piece = {"name": f"{job.number}.{len(pieces)}", "source": job.made_from}
        piece |= {"tokenizer": job.key, "dtype": job.encoder.dtype.name}
        read = pieces[-1]["read"] if pieces else 0
        piece |= _write_piece(job.folder / piece["name"], found, job.encoder, read)
        _write_json(job.folder / f"{piece['name']}.json", piece)
        pieces.append(piece)
        last = piece["last"]
    return job.number, pieces


def _write_piece(path: Path, found: Iterator[list[Part]], encoder: Encoder, read: int) -> Piece:
    """Documents up to about `TOKENS_A_PIECE`; `read` counts those of the shard that are done."""
    tokens, offsets = path.with_name(f"{path.name}.tokens"), path.with_name(f"{path.name}.offsets.npy")
    lengths: list[int] = [0]  # of the documents; the last one may still go on
    total = unknown = 0
    last = True
    with _side(tokens).open("wb") as file:
        for parts in found:
            for ids, (_, ends) in zip(encoder(parts), parts, strict=True):
                file.write(ids.tobytes())
                unknown += encoder.unknown_among(ids)
                lengths[-1] += len(ids)
                total += len(ids)
                if ends:
                    lengths.append(0)
            read += sum(ends for _, ends in parts)
            if total >= TOKENS_A_PIECE and parts[-1][1]:
                last = False
                break
    counts = np.asarray(lengths, dtype=np.int64)
    starts = np.concatenate([[0], counts[counts > 0].cumsum()]).astype(np.int64)
    with _side(offsets).open("wb") as file:
        np.save(file, starts)
    sizes = [_side(path).stat().st_size for path in (tokens, offsets)]
    for file_path in (tokens, offsets):
        _side(file_path).replace(file_path)
    held = {"tokens": total, "documents": len(starts) - 1, "unknown": unknown}
    return {**held, "read": read, "last": last, "bytes": sizes}


def _finished_piece(job: _Job, number: int) -> Piece | None:
    """A piece that an earlier attempt finished, if it is whole and made from what the shard holds now."""
    piece = _read_json(job.folder / f"{job.number}.{number}.json")
    return piece if piece.get("source") == job.made_from and _is_whole(job.folder, piece) else None


def _is_whole(folder: Path, piece: Piece) -> bool:
    """Whether the files of a piece are there and as long as they were."""
    paths = (folder / f"{piece['name']}.tokens", folder / f"{piece['name']}.offsets.npy")
    sizes: list[int] = piece["bytes"]
    return [path.stat().st_size if path.is_file() else -1 for path in paths] == sizes


def _side(path: Path) -> Path:
    return path.with_name(f".{path.name}.partial")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    _side(path).write_text(json.dumps(value, indent=1))
    _side(path).replace(path)
