"""Decoding against soundfile and scipy, and every way in which a recording can be no sound."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import resample_poly

from hfcourse.data.audio import Part, UnreadableAudio, decode, fault, header, resampled_length
from hfcourse.errors import DataError
from tests.sounds import RATE, cell, tone


def part(samples: np.ndarray, **how: object) -> Part:
    return Part.of({"audio": cell(samples, **how)})  # type: ignore[arg-type]


@pytest.mark.parametrize(("container", "precision"), [("FLAC", 2e-4), ("WAV", 2e-4), ("OGG", 0.1), ("MP3", 0.1)])
def test_containers_decode_to_what_was_written(container: str, precision: float) -> None:
    samples = tone(440, 0.5, noise=0.0)
    found = decode(part(samples, container=container), RATE)
    assert found.dtype == np.float32 and abs(len(found) - len(samples)) <= (0 if precision < 0.01 else 2000)
    spectrum, true = (np.abs(np.fft.rfft(wave, 2**14)) for wave in (found, samples))
    assert spectrum.argmax() == pytest.approx(true.argmax(), abs=1)
    if precision < 0.01:
        assert np.abs(found - samples).max() < precision


@pytest.mark.parametrize("own_rate", [8000, 11_025, 22_050, 44_100, 48_000])
def test_any_rate_becomes_the_backbones(own_rate: int) -> None:
    samples = tone(500, 0.3, rate=own_rate, noise=0.0)
    found = decode(part(samples, rate=own_rate), RATE)
    assert len(found) == resampled_length(len(samples), own_rate, RATE) == -(-len(samples) * RATE // own_rate)
    true = resample_poly(samples, RATE, own_rate)[: len(found)]  # another filter: alike but at the edges
    inner = slice(400, -400)
    assert np.abs(found[: len(true)][inner] - true[inner]).max() < 0.01


def test_channels_are_averaged() -> None:
    left, right = tone(300, 0.1), tone(900, 0.1, seed=1)
    found = decode(part(np.stack([left, right], axis=1)), RATE)
    assert np.allclose(found, (left + right) / 2, atol=1e-4)


def test_a_part_of_a_file(tmp_path: Path) -> None:
    samples = tone(300, 1.0)
    soundfile.write(tmp_path / "a.wav", samples, RATE)
    row = {"audio": {"path": str(tmp_path / "a.wav"), "bytes": None}, "start": 0.25, "duration": 0.5}
    assert np.allclose(decode(Part.of(row), RATE), samples[4000:12_000], atol=1e-4)
    assert header(Part.of(row)) == (8000, RATE)
    assert len(decode(Part.of(row | {"duration": 0.0}), RATE)) == 12_000
    with pytest.raises(UnreadableAudio, match=r"ends at 1.00 s, before the part that begins at 3.00 s"):
        decode(Part.of(row | {"start": 3.0}), RATE)


@pytest.mark.parametrize("own_rate", [8000, 16_000, 22_050, 44_100])
def test_some_samples_are_those_of_the_whole(own_rate: int, tmp_path: Path) -> None:
    """From the first ones to the last, of a part and of two channels; and no more is read."""
    samples = np.stack([tone(300, 3.0, rate=own_rate), tone(900, 3.0, rate=own_rate, seed=1)], axis=1)
    soundfile.write(tmp_path / "a.wav", samples, own_rate)
    cut = Part(path=str(tmp_path / "a.wav"), start=0.25, duration=2.5)
    whole = decode(cut, RATE)
    for begin, count in ((0, 500), (7, 1), (12_345, 8000), (len(whole) - 300, 300)):
        found = decode(cut, RATE, begin, count)
        if own_rate == RATE:
            assert np.array_equal(found, whole[begin : begin + count])
        np.testing.assert_allclose(found, whole[begin : begin + count], atol=1e-6)


def test_columns_that_cut_hold_seconds() -> None:
    """A length alone cuts nothing: many tables tell one, rounded or in other units."""
    row = {"audio": cell(tone(300, 1.0))}
    assert (
        len(decode(Part.of(row | {"duration": "0.7 s"}), RATE))
        == len(decode(Part.of(row | {"start": 9}), RATE))
        == RATE
    )
    assert len(decode(Part.of(row | {"start": "0.25", "duration": "0.5"}), RATE)) == 8000
    assert len(decode(Part.of(row | {"start": None, "duration": None}), RATE)) == RATE
    for wrong in ("00:01:02", -1.0, float("nan")):
        with pytest.raises(
            DataError, match=rf"column 'start' holds '{wrong}': .* write numbers, or rename the columns"
        ):
            Part.of(row | {"start": wrong, "duration": 0.5})


def test_what_is_no_audio_says_so(tmp_path: Path) -> None:
    with pytest.raises(UnreadableAudio, match="no such file"):
        decode(Part(path=str(tmp_path / "none.wav")), RATE)
    with pytest.raises(UnreadableAudio, match="not audio"):
        decode(Part(path="junk.wav", content=b"RIFF and nothing more"), RATE)
    whole = cell(tone(300, 1.0), container="FLAC")["bytes"]
    with pytest.raises(UnreadableAudio, match=r"truncated|damaged"):
        decode(Part(path="cut.flac", content=whole[: len(whole) // 2]), RATE)
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(0, dtype=np.float32), RATE, format="WAV")
    assert fault(decode(Part(path="empty.wav", content=stream.getvalue()), RATE), 400) == "empty"


def test_faults() -> None:
    good = tone(300, 0.5)
    assert fault(good, 400) == ""
    assert fault(good[:1], 400) == "too short: 1 samples, and the model needs 400"
    assert fault(good[:0], 400) == "empty"
    assert fault(np.zeros(8000, dtype=np.float32), 400) == "silent"
    assert fault(np.where(np.arange(len(good)) == 5, np.nan, good), 400) == "holds nan or inf"


@pytest.mark.parametrize("rate", [RATE, 8000, 44_100])
def test_clipped_at_any_rate_and_in_any_channel(rate: int) -> None:
    good = tone(300, 0.5)
    loud = 0.9 * good / np.abs(good).max()  # is not clipped
    cut = np.clip(30 * good, -1, 1)
    assert len(decode(part(loud, rate=rate), RATE)) > 0
    for samples in (cut, np.stack([loud, cut], axis=1)):
        with pytest.raises(UnreadableAudio, match="clipped"):
            decode(part(samples, rate=rate), RATE)


def test_truncated_riff_files() -> None:
    whole = cell(tone(300, 1.0), container="WAV")["bytes"]
    decode(Part(path="whole.wav", content=whole), RATE)
    with pytest.raises(UnreadableAudio, match="truncated: 15956 of 32000 bytes"):
        decode(Part(path="cut.wav", content=whole[:16_000]), RATE)
    at = whole.index(b"data") + 4
    piped = whole[:at] + b"\xff\xff\xff\xff" + whole[at + 4 :]  # its size was not known when it was written
    assert len(decode(Part(path="piped.wav", content=piped), RATE)) == RATE


def test_other_rates_without_sound_or_measure() -> None:
    stream = io.BytesIO()
    soundfile.write(stream, np.zeros(0, dtype=np.float32), 8000, format="WAV")
    assert fault(decode(Part(path="empty.wav", content=stream.getvalue()), RATE), 400) == "empty"
    with pytest.raises(UnreadableAudio, match="44101 samples a second cannot be made 16000"):
        decode(part(tone(300, 0.1), rate=44_101), RATE)
