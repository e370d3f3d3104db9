"""Recordings as examples: surveyed once, decoded when a batch needs them, the next batch while this one is learned."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from hfcourse.data import audio
from hfcourse.data.audio import Part
from hfcourse.errors import DataError

if TYPE_CHECKING:
    import datasets

FRAMES_PER_SECOND = 100
"""Lengths are counted in frames of 10 ms, as tokens are of text."""
_Asked = tuple[int, int, int]
"""A row, the first sample and the number of samples that are wanted of it; 0 for all."""
_LONG = 600
"""Seconds; of longer recordings one at a time is surveyed, as each is held whole in memory."""
_one_long = Lock()
_SHOWN = 3
"""So many of the recordings that are left out are named for each fault."""


class Clips:
    """Recordings of one split at one rate (implements `hfcourse.tasks.base.Examples`).

    `take` gives rows without sound; `waveforms` decodes those that a batch needs, in threads (soundfile and the
    resampler leave Python alone meanwhile). What `expect` names is decoded ahead.
    """

    def __init__(self, table: datasets.Dataset, survey: Survey, *, rate: int, longest: float = 0.0) -> None:
        """Keep what the survey found sound.

        Args:
            table: rows with ``audio`` cells of bytes or a path (``start`` and ``duration`` where it is a part).
            survey: of the same table.
            rate: samples a second that `waveforms` gives.
            longest: seconds; longer recordings are cut to it by whoever collates. 0 for no bound.
        """
        self.table, self.rate = table, rate
        self.longest = round(longest * rate)
        """Samples; 0 for no bound."""
        self.kept = np.flatnonzero([not fault for fault in survey.faults])
        samples = survey.samples[self.kept]
        self.whole = samples
        """Of each recording, int64 (rows,), however long."""
        self.names = [survey.names[row] for row in self.kept]
        """Of each recording: its path, or its id."""
        self.samples = np.minimum(samples, self.longest) if longest else samples
        """Of each row as it is taken, int64 (rows,)."""
        self.lengths = -(-self.samples * FRAMES_PER_SECOND // rate)
        """The same in frames of 10 ms."""
        self._columns = [name for name in table.column_names if name not in _SOUND]
        self._light = table.select_columns(self._columns) if self._columns else None
        self._pool = ThreadPoolExecutor(max(1, min(8, (os.cpu_count() or 2) // 2)), thread_name_prefix="audio")
        self._ahead: dict[_Asked, Future[np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.kept)

    def take(self, rows: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Rows as dicts without their sound, in the order asked for; ``row`` is the number of each."""
        numbers = [int(row) for row in rows]
        found: list[dict[str, Any]] = [{"row": row, "source": self} for row in numbers]
        if self._light is not None:
            columns = self._light[[int(self.kept[row]) for row in numbers]]
            for at, row in enumerate(found):
                row.update({name: columns[name][at] for name in columns})
        return found

    def expect(self, rows: Sequence[int] | np.ndarray, parts: np.ndarray | None = None) -> None:
        """Begin to decode what will be asked for next; what was expected before and never asked for is dropped."""
        wanted = self._asked(rows, parts)
        for one in self._ahead.keys() - {*wanted}:
            self._ahead.pop(one).cancel()
        for one in wanted:
            if one not in self._ahead:
                self._ahead[one] = self._pool.submit(self._decode, *one)

    def waveforms(self, rows: Sequence[int] | np.ndarray, parts: np.ndarray | None = None) -> list[np.ndarray]:
        """The samples of each row, float32 (samples of the row,).

        Args:
            rows: their numbers, (B,).
            parts: the first sample and the number of samples that are wanted of each, int64 (B, 2); None for all.
        """
        wanted = self._asked(rows, parts)
        for one in wanted:
            if one not in self._ahead:
                self._ahead[one] = self._pool.submit(self._decode, *one)
        found = [self._ahead[one].result() for one in wanted]
        for one in wanted:
            self._ahead.pop(one, None)
        return found

    def _asked(self, rows: Sequence[int] | np.ndarray, parts: np.ndarray | None) -> list[_Asked]:
        numbers = [int(row) for row in rows]
        cuts = [(0, 0)] * len(numbers) if parts is None else parts.tolist()
        return [
            (row, begin, count) if count < self.whole[row] else (row, 0, 0)
            for row, (begin, count) in zip(numbers, cuts, strict=True)
        ]

    def _decode(self, row: int, begin: int, count: int) -> np.ndarray:
        part = Part.of(self.table[int(self.kept[row])])
        try:
            return audio.decode(part, self.rate, begin, count)
        except audio.UnreadableAudio as error:  # it was fine when it was surveyed
            raise DataError(f"{part.path}: {error}") from error


_SOUND = {"audio", "audio_pair", "clean", "sources"}
"""Columns that hold sound."""


class Survey:
    """What every recording of a table is worth, found by decoding each once; cached beside the table."""

    def __init__(self, table: datasets.Dataset, *, rate: int, shortest: int, column: str = "audio") -> None:
        from hfcourse.data.encode import mapped

        settings = {"rate": rate, "shortest": shortest, "column": column}
        found = mapped(table, survey, key=settings, arguments=settings)
        self.samples = np.asarray(found["samples"], dtype=np.int64)
        """Of each recording, at the rate asked for."""
        self.faults: list[str] = list(found["fault"])
        """Why a recording is left out; empty where it is sound."""
        self.names: list[str] = list(found["name"])

    def note(self, where: str, *, strict: bool) -> str:
        """One line for the log that counts and names what is left out; empty where nothing is.

        Raises:
            DataError: under `strict`, or where nothing is left.
        """
        bad = [(fault, name) for fault, name in zip(self.faults, self.names, strict=True) if fault]
        if not bad:
            return ""
        named: dict[str, list[str]] = {}
        for fault, name in bad:
            named.setdefault(fault.partition(":")[0].partition(" (")[0], []).append(name)
        kinds = Counter({fault: len(names) for fault, names in named.items()})
        parts = [
            f"{count} {fault} ({', '.join(named[fault][:_SHOWN])}{', ...' if count > _SHOWN else ''})"
            for fault, count in kinds.most_common()
        ]
        line = f"{where}: {len(bad)} of {len(self.faults)} recordings: {'; '.join(parts)}"
        if strict:
            raise DataError(f"{line}: mend or remove them, or leave out --strict")
        if len(bad) == len(self.faults):
            raise DataError(f"{line}: nothing is left")
        return f"{line}: left out"


def survey(columns: Mapping[str, list[Any]], *, rate: int, shortest: int, column: str) -> dict[str, list[Any]]:
    """Length at `rate`, fault and name of each recording; every one is decoded."""
    names = list(columns)
    rows = [dict(zip(names, cells, strict=True)) for cells in zip(*(columns[name] for name in names), strict=True)]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        found = list(pool.map(lambda row: _look(row, rate, shortest, column), rows))
    return {name: [one[name] for one in found] for name in ("samples", "fault", "name")}


def _look(row: dict[str, Any], rate: int, shortest: int, column: str) -> dict[str, Any]:
    part = Part.of(row, column)
    name = part.path or str(row.get("id", ""))
    try:
        own_samples, own_rate = audio.header(part)
        with _one_long if own_samples > _LONG * own_rate else nullcontext():
            samples = audio.decode(part, rate)
    except audio.UnreadableAudio as error:
        return {"samples": 0, "fault": str(error), "name": name}
    return {"samples": len(samples), "fault": audio.fault(samples, shortest), "name": name}
