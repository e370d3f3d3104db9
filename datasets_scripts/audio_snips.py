"""Audio SNIPS (arXiv 2010.13105 uses it; slots of arXiv 1805.10190), as s3prl lays it out: what was asked, with slots.

``data_dir`` is the folder with ``train/``, ``valid/``, ``test/`` of ``SPEAKER-snips-SPLIT-NUMBER.wav`` (or .mp3) and
``all.iob.snips.txt``: a line a recording with its name, BOS, words, EOS, a tab, as many tags, of which the last is the
intent. The sixteen speakers are synthetic voices that all read the same sentences.
"""

from __future__ import annotations

from pathlib import Path

import datasets

from . import _files as files
from . import _lists as lists
from . import _speech as speech

CONFIGS = {
    "superb": "Eight voices to train, four others for dev, four others for test: SUPERB's.",
    "all": "All voices in every split, which differ in their sentences.",
}
SPEAKERS = {
    "train": ("Ivy", "Joanna", "Joey", "Justin", "Kendra", "Kimberly", "Matthew", "Salli"),
    "dev": ("Aditi", "Amy", "Geraint", "Nicole"),
    "test": ("Brian", "Emma", "Raveena", "Russell"),
}
INTENTS = (
    *("AddToPlaylist", "BookRestaurant", "GetWeather", "PlayMusic"),
    *("RateBook", "SearchCreativeWork", "SearchScreeningEvent"),
)
SLOTS = (
    *("album", "artist", "best_rating", "city", "condition_description", "condition_temperature", "country", "cuisine"),
    *("current_location", "entity_name", "facility", "genre", "geographic_poi", "location_name", "movie_name"),
    *("movie_type", "music_item", "object_location_type", "object_name", "object_part_of_series_type"),
    *("object_select", "object_type", "party_size_description", "party_size_number", "playlist", "playlist_owner"),
    *("poi", "rating_unit", "rating_value", "restaurant_name", "restaurant_type", "served_dish", "service", "sort"),
    *("spatial_relation", "state", "timeRange", "track", "year"),
)
TAGS = ("O", *(f"{mark}-{slot}" for slot in SLOTS for mark in "BI"))
_FOLDERS = {"train": "train", "dev": "valid", "test": "test"}
_TEXTS = "all.iob.snips.txt"
_ANY_CASE = {name.lower(): name for name in (*TAGS, *INTENTS)}


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return speech.fingerprint_of_corpus(__file__, data_dir)


class AudioSnips(speech.SpeechBuilder):
    """Rows are requests: words, a tag a word, and the intent."""

    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name, description=text) for name, text in CONFIGS.items()]  # noqa: RUF012
    DEFAULT_CONFIG_NAME = "superb"
    LAYOUT = f"a folder with train/, valid/, test/ of Aditi-snips-train-0.wav, ... and {_TEXTS}"

    def _info(self) -> datasets.DatasetInfo:
        tags = datasets.List(speech.classes(TAGS))
        return speech.columns(text=speech.STRING, tokens=speech.STRINGS, tags=tags, intent=speech.classes(INTENTS))

    def rows(self) -> dict[str, list[speech.Row]]:
        root = self.folder(_TEXTS)
        audio = {split: _recordings(root, folder) for split, folder in _FOLDERS.items()}
        voices = {split: {name.partition("-")[0] for name in found} for split, found in audio.items()}
        if self.config.name == "superb":
            voices = {split: found & set(SPEAKERS[split]) for split, found in voices.items()}
        splits: dict[str, list[speech.Row]] = {split: [] for split in _FOLDERS}
        of_folder = {folder: split for split, folder in _FOLDERS.items()}
        for where, line in lists.lines(files.needed(root, _TEXTS, "words and tags")):
            name, _, words = line.partition(" ")
            speaker, folder = (name.split("-") + [""] * 3)[0:3:2]
            split = of_folder[lists.one_of(folder, of_folder, where, f"the split in {name!r},")]
            if speaker in voices[split]:
                path = audio[split].get(name, root / folder / f"{name}.wav")
                splits[split].append({"id": name, "audio": path, "speaker": speaker} | _request(words, where))
        return splits


def _recordings(root: Path, folder: str) -> dict[str, Path]:
    """Files by name without ending."""
    found = files.child(root, folder)
    return {path.stem: path for path in files.matching(found, r".*\.(wav|mp3)")} if found is not None else {}


def _request(line: str, where: str) -> speech.Row:
    """Words, tags and intent of what follows a recording's name."""
    words, _, tags = line.partition("\t")
    tokens, marks = words.split(), tags.split()
    if len(tokens) < 2 or (tokens[0], tokens[-1]) != ("BOS", "EOS") or len(marks) != len(tokens):
        raise ValueError(
            f"{where}: expected BOS, words, EOS, a tab, a tag for each of these and the intent as the last"
        )
    known = [_ANY_CASE.get(mark.lower(), mark) for mark in marks[1:]]
    tags_ = [lists.one_of(mark, TAGS, where, "tag") for mark in known[:-1]]
    intent = lists.one_of(known[-1], INTENTS, where, "intent")
    return {"text": " ".join(tokens[1:-1]), "tokens": tokens[1:-1], "tags": tags_, "intent": intent}
