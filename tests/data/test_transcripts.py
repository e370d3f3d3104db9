"""Which recording a text belongs to, whatever lies beside it and however it is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hfcourse.data import transcripts
from hfcourse.errors import DataError


def test_a_text_finds_the_recording_of_its_name(tmp_path: Path) -> None:
    audio, texts = tmp_path / "audio", tmp_path / "texts"
    for folder in (audio / "deep", texts / "deep"):
        folder.mkdir(parents=True)
    for name in ("a.json", "a.part2.wav", "a.wav", "b [1].flac", "deep/c.d.wav", "e.xyz"):
        (audio / name).touch()
    for name in ("a.txt", "b [1].txt", "deep/c.d.txt", "e.txt", "f.txt"):
        (texts / name).write_text("words\n")
    found = [text.audio.relative_to(audio).as_posix() for text in transcripts.read(audio, texts)]
    assert found == ["a.wav", "b [1].flac", "deep/c.d.wav", "e.xyz", "f"]


def test_a_table_finds_recordings_one_folder_below(tmp_path: Path) -> None:
    (tmp_path / "talk [2]").mkdir()
    (tmp_path / "talk [2]" / "x [3].wav").touch()
    (tmp_path / "y.wav").touch()
    table = tmp_path / "table.jsonl"
    rows = [{"file": name, "transcription": "words"} for name in ("x [3].wav", "y.wav")]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    first, second = transcripts.read(tmp_path, table)
    assert first.audio == tmp_path / "talk [2]" / "x [3].wav" and second.audio == tmp_path / "y.wav"
    table.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]))
    with pytest.raises(DataError, match=r"row 3: x \[3\].wav is there twice"):
        transcripts.read(tmp_path, table)
