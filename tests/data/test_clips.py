"""Recordings as examples: what is left out is named, rows keep their order, what is expected is decoded once."""

from __future__ import annotations

import os
import time
from typing import Any

import datasets
import numpy as np
import pytest

from hfcourse.data import audio
from hfcourse.data import clips as module
from hfcourse.data.clips import Clips, Survey, survey
from hfcourse.errors import DataError
from tests.sounds import RATE, cell, tone

LENGTHS = (0.3, 0.5, 1.2, 0.4)


@pytest.fixture
def table() -> datasets.Dataset:
    """Four recordings, between them one that is no audio and one that is silent."""
    cells = [cell(tone(300 + n, seconds, seed=n), name=f"{n}.flac") for n, seconds in enumerate(LENGTHS)]
    cells.insert(1, {"bytes": b"junk", "path": "junk.wav"})
    cells.insert(3, cell(np.zeros(8000, dtype=np.float32), name="silent.flac"))
    return datasets.Dataset.from_dict({"audio": cells, "id": [f"r{n}" for n in range(6)]})


def clips(table: datasets.Dataset, longest: float = 0.0) -> Clips:
    return Clips(table, Survey(table, rate=RATE, shortest=400), rate=RATE, longest=longest)


def test_faults_are_counted_and_named(table: datasets.Dataset) -> None:
    survey = Survey(table, rate=RATE, shortest=400)
    assert survey.note("toy, train", strict=False) == (
        "toy, train: 2 of 6 recordings: 1 not audio (junk.wav); 1 silent (silent.flac): left out"
    )
    with pytest.raises(DataError, match=r"2 of 6 .*junk.wav.*: mend or remove them, or leave out --strict"):
        survey.note("toy, train", strict=True)
    bad = table.select([1, 3])
    with pytest.raises(DataError, match="nothing is left"):
        Survey(bad, rate=RATE, shortest=400).note("toy", strict=False)
    assert Survey(table.select([0]), rate=RATE, shortest=400).note("toy", strict=True) == ""


def test_rows_keep_order_and_lengths(table: datasets.Dataset) -> None:
    found = clips(table)
    assert len(found) == 4 and [row["id"] for row in found.take([3, 0, 1])] == ["r5", "r0", "r2"]
    assert found.samples.tolist() == [round(s * RATE) for s in LENGTHS]
    assert found.lengths.tolist() == [30, 50, 120, 40]  # frames of 10 ms
    waves = found.waveforms([2, 0])
    assert [len(wave) for wave in waves] == [19_200, 4800]
    assert np.allclose(waves[1], tone(300, 0.3, seed=0), atol=1e-4)
    assert clips(table, longest=0.45).samples.tolist() == [4800, 7200, 7200, 6400]


def test_what_is_expected_is_decoded_once(table: datasets.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    found, calls = clips(table), []
    true = audio.decode

    def counted(part: Any, rate: int, *cut: int) -> np.ndarray:
        calls.append(part.path)
        return true(part, rate, *cut)

    monkeypatch.setattr(audio, "decode", counted)
    found.expect([0, 1])
    first = found.waveforms([1, 0, 1])
    assert sorted(calls) == ["0.flac", "1.flac"] and np.array_equal(first[0], first[2])
    found.expect([2])
    found.expect([3])  # plans change: what nobody asks for is dropped
    found.waveforms([3])
    assert found._ahead == {}


def test_parts_are_read_alone(table: datasets.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    found, asked, true = clips(table, longest=0.45), [], audio.decode
    whole = found.waveforms(range(4))

    def noted(*how: Any) -> np.ndarray:
        asked.append(how[2:])
        return true(*how)

    monkeypatch.setattr(audio, "decode", noted)
    parts = np.array([[0, 4800], [500, 7200]])  # all of the first, a part of the third
    found.expect([0, 2], parts)
    first, third = found.waveforms([0, 2], parts)
    assert sorted(asked) == [(0, 0), (500, 7200)] and found._ahead == {}
    assert np.array_equal(first, whole[0]) and np.array_equal(third, whole[2][500:7700])


def test_long_recordings_are_surveyed_one_at_a_time(table: datasets.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    now, most, true = [0], [0], audio.decode

    def slow(part: Any, rate: int) -> np.ndarray:
        now[0] += 1
        most[0] = max(most[0], now[0])
        time.sleep(0.02)
        now[0] -= 1
        return true(part, rate)

    monkeypatch.setattr(audio, "decode", slow)
    rows = table.select([0, 2, 4, 5]).to_dict()
    for longest, at_once in ((0.1, 1), (600, os.cpu_count())):
        monkeypatch.setattr(module, "_LONG", longest)
        most[0] = 0
        assert survey(rows, rate=RATE, shortest=400, column="audio")["fault"] == [""] * 4
        assert most[0] == min(4, at_once or 1)
