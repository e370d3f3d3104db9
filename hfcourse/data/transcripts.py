"""What is said in recordings: a text file each, or a table of them; and the tokens of it that a CTC model can tell."""

from __future__ import annotations

import glob
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hfcourse.data import files
from hfcourse.data.audio import ENDINGS
from hfcourse.errors import DataError

COLUMNS = ("file", "transcription")
"""That a table of transcripts has; ``translation`` where there is one."""
_CHINESE = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_CHINESE}]|[^\s{_CHINESE}]+")
STAR = -1
"""What stands for a character that the vocabulary lacks: anything may be said there."""


@dataclass(frozen=True)
class Transcript:
    """What is said in one recording."""

    file: str
    """The recording's name, as the table or the folder has it."""
    audio: Path
    lines: tuple[str, ...]
    """Utterances."""
    translations: tuple[str, ...] = ()
    """One for each line; empty where lines and their translation do not pair."""
    notes: tuple[str, ...] = ()
    """What was left out of it."""


def read(audio: Path, transcript: Path) -> list[Transcript]:
    """The transcripts of a recording, or of all in a folder.

    Args:
        audio: a recording, or a folder of them.
        transcript: a text file with an utterance a line; a folder of such files, named as the recordings; or a table
            (.tsv, .csv, .parquet, .jsonl) of the columns ``file``, ``transcription`` and perhaps ``translation``.

    Raises:
        DataError: a path that is not there, a folder or table without transcripts, columns that are missing.
    """
    for path in (audio, transcript):
        if not path.exists():
            raise DataError(f"{path}: no such file or folder")
    if transcript.is_dir():
        texts = sorted(path for path in transcript.rglob("*.txt") if not path.name.startswith("."))
        if not texts:
            raise DataError(f"{transcript}: no text files in here: name them as the recordings, with .txt")
        return [_of_text(_beside(audio, path.relative_to(transcript)), path, audio) for path in texts]
    if transcript.suffix.lower() == ".txt":
        if audio.is_dir():
            raise DataError(f"{transcript}: one text for a folder of recordings: name a folder of texts, or a table")
        return [_of_text(audio, transcript, audio)]
    return _of_table(audio, transcript)


def _beside(audio: Path, text: Path) -> Path:
    """The recording of a text's name."""
    if audio.is_file():
        return audio
    named = sorted((audio / text.parent).glob(f"{glob.escape(text.stem)}.*"))
    same = [path for path in named if path.stem == text.stem and path.suffix.lower() != ".txt"]
    # Tables and the like may lie beside a recording; of another ending it is taken where there is nothing else.
    found = [path for path in same if path.suffix.lower() in ENDINGS] or same
    return found[0] if found else audio / text.with_suffix("")


def _of_text(recording: Path, text: Path, audio: Path) -> Transcript:
    file = recording.name if audio.is_file() else recording.relative_to(audio).as_posix()
    return _transcript(file, recording, files.read_text(text).rstrip("\n"), "")


def _of_table(audio: Path, place: Path) -> list[Transcript]:
    table = files.read(place)
    for name in COLUMNS:
        if name not in table.column_names:
            raise DataError(f"{place}: no column {name!r}: it has {', '.join(table.column_names)}")
    found: dict[str, Transcript] = {}
    for number, row in enumerate(table, start=1):
        file, text = (str(row[name] or "").strip() for name in COLUMNS)
        if not file:
            raise DataError(f"{place}, row {number}: no file")
        if file in found:
            raise DataError(f"{place}, row {number}: {file} is there twice")
        found[file] = _transcript(file, _recording(audio, file), text, str(row.get("translation") or "").strip())
    return list(found.values())


def _recording(audio: Path, file: str) -> Path:
    """A recording by its name, in a folder or in one right below it."""
    if audio.is_file():
        return audio if audio.name == Path(file).name else audio.with_name(file)
    places = [audio / file, *sorted(audio.glob(f"*/{glob.escape(file)}"))]
    return next((place for place in places if place.is_file()), places[0])


def _transcript(file: str, audio: Path, text: str, translation: str) -> Transcript:
    lines, translated = text.split("\n"), translation.split("\n")
    pairs = list(zip(lines, translated, strict=True)) if len(lines) == len(translated) else [(one, "") for one in lines]
    kept = [(" ".join(line.split()), " ".join(other.split())) for line, other in pairs if line.strip()]
    notes = []
    if text.strip() and len(kept) < len(pairs):
        notes.append(f"{len(pairs) - len(kept)} empty lines left out")
    if translation and len(lines) != len(translated):
        notes.append(f"{len(translated)} lines of translation beside {len(lines)} of transcript: left empty")
    return Transcript(file, audio, tuple(one for one, _ in kept), tuple(other for _, other in kept), tuple(notes))


def words_of(line: str) -> list[str]:
    """Words of a line; each Chinese character is one."""
    return _WORD.findall(line)


class Spelling:
    """A text's tokens: numbers of a vocabulary's entries, `STAR` for what it lacks.

    Spaces are no tokens: a model that has a sign for them means a pause by it. Nor are other signs that it lacks, as
    nobody speaks them. A letter of the other case stands for one that it lacks.
    """

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` of a CTC model: one of characters (with a sign for the space), or any other."""
        self.tokenizer = tokenizer
        self.delimiter: str = getattr(tokenizer, "word_delimiter_token", None) or ""
        entries: Mapping[str, int] = tokenizer.get_vocab()
        special = {*tokenizer.all_special_tokens, self.delimiter}
        self.characters = {entry: number for entry, number in entries.items() if entry not in special}
        self.of_characters = bool(self.delimiter)

    def words(self, words: Sequence[str]) -> tuple[list[int], list[int], dict[str, int]]:
        """(tokens of the words one after another, number of tokens of each word, how often what was not known)."""
        tokens: list[int] = []
        counts: list[int] = []
        lacking: dict[str, int] = {}
        for word in words:
            own = self._spelt(word, lacking) if self.of_characters else self._tokenized(word, lacking)
            # One star takes as long as it likes.
            kept = [one for at, one in enumerate(own) if one != STAR or at == 0 or own[at - 1] != STAR]
            tokens += kept
            counts.append(len(kept))
        return tokens, counts, lacking

    def _spelt(self, word: str, lacking: dict[str, int]) -> list[int]:
        found = []
        for character in unicodedata.normalize("NFKC", word):
            forms = (character, character.upper(), character.lower())
            number = next((self.characters[form] for form in forms if form in self.characters), None)
            if number is not None:
                found.append(number)
            elif unicodedata.category(character)[0] in "LN":
                found.append(STAR)
                lacking[character] = lacking.get(character, 0) + 1
        return found

    def _tokenized(self, word: str, lacking: dict[str, int]) -> list[int]:
        numbers = self.tokenizer(word, add_special_tokens=False).input_ids
        if self.tokenizer.unk_token_id in numbers:
            lacking[word] = lacking.get(word, 0) + 1
        return [STAR if number == self.tokenizer.unk_token_id else number for number in numbers]
