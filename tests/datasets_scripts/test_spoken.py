from __future__ import annotations

import hashlib
import io
import subprocess
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
from hfcourse_datasets import _espeak, _spoken_rows, _spoken_scenes, spoken
from hfcourse_datasets import _spoken_texts as texts
from hfcourse_datasets._espeak import Espeak
from hfcourse_datasets._spoken_languages import SOURCES, WORDS, phrase
from hfcourse_datasets._spoken_lecture import lecture
from hfcourse_datasets._spoken_phones import PHONES
from hfcourse_datasets._spoken_voices import VARIANTS, Speaker, speakers
from hfcourse_datasets._studio import RATE, Studio
from hfcourse_datasets._templates import drawn, filled, lists, parallel, split_of, tables, written

from hfcourse.data.loading import load

pytest.importorskip("espeakng_loader")
Row = dict[str, Any]
SPLITS = ("train", "dev", "test")


@cache
def rows(config: str, split: str = "test", count: int = 4) -> list[Row]:
    return list(spoken.made(config, split, count))


def heard(audio: Row) -> np.ndarray:
    """16-bit samples of a row's sound."""
    samples, rate = soundfile.read(io.BytesIO(audio["bytes"]), dtype="int16")
    assert rate == RATE and samples.ndim == 1
    return samples


def level(samples: np.ndarray) -> float:
    """Decibels of full scale."""
    return 20 * float(np.log10(np.sqrt(np.mean((samples / 32768.0) ** 2)) + 1e-9))


def variants(row: Row) -> set[str]:
    return {name.rpartition("-")[0] for name in row["speaker"].split()}


# The builder


def test_two_builds_are_equal_to_the_byte(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(spoken.SIZES, "verification", {"train": 3, "dev": 2, "test": 1})
    one, two = (load("spoken/verification", cache_dir=str(tmp_path / name)) for name in ("one", "two"))
    assert {split: len(table) for split, table in one.items()} == {"train": 3, "dev": 2, "test": 1}
    assert all(one[split].to_list() == two[split].to_list() for split in SPLITS)


def test_rows_depend_on_nothing_that_the_process_did_before() -> None:
    script = (
        "import hashlib\nfrom hfcourse_datasets import _spoken_rows\nfrom hfcourse_datasets._studio import *\n"
        "with Espeak() as espeak:\n"
        "    made = list(_spoken_rows.voices(Studio(espeak, 'speakers', 'train'), 8))\n"
        "print(hashlib.sha256(repr(made).encode()).hexdigest())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(repr(rows("speakers", "train", 8)).encode()).hexdigest()


@pytest.mark.parametrize("config", spoken.CONFIGS)
def test_rows_are_what_the_columns_say(config: str) -> None:
    features = spoken.Spoken(config_name=config, hash=config).info.features
    made = rows(config)
    assert all(list(row) and set(row) == set(features) for row in made)
    table = datasets.Dataset.from_list([features.encode_example(row) for row in made], features=features)
    assert [row["id"] for row in table] == [f"{config}-test-{number:05d}" for number in range(len(made))]
    for row in table:
        samples = heard(row["audio"])
        assert row["audio"]["path"] == row["id"] + ".flac"
        assert row["seconds"] == pytest.approx(len(samples) / RATE)
        assert -60 < level(samples) < -10 and 0.3 < row["seconds"] < 20


def test_draws_differ_by_config_split_and_row() -> None:
    places = [("a", "train", 1), ("b", "train", 1), ("a", "test", 1), ("a", "train", 2), ("a", "train", "babble")]
    assert len({Studio.rng(fake(config, split), key).random() for config, split, key in places}) == len(places)


def test_fewer_rows_are_the_first_ones() -> None:
    assert rows("intents", count=2) == rows("intents")[:2]


@pytest.mark.parametrize("config", sorted(set(spoken.CONFIGS) - {"speakers"}))
def test_voices_of_a_split_are_its_own(config: str) -> None:
    for split in ("train", "test"):
        allowed = set(VARIANTS[split])
        for row in rows(config, split):
            assert variants(row) <= allowed
            assert row["speaker"] or row.get("label") == "silence"


def test_speakers_are_the_same_in_all_splits() -> None:
    names = spoken.Spoken(config_name="speakers", hash="s").info.features["label"].names
    assert len(names) == len(set(names)) == sum(map(len, VARIANTS.values()))
    for split in SPLITS:
        assert all(row["label"] == row["speaker"] and row["label"] in names for row in rows("speakers", split))


def test_what_a_fingerprint_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    before = spoken.fingerprint(None)
    assert spoken.fingerprint(None) == before
    monkeypatch.setattr(_espeak, "version", lambda: "0.9")
    assert spoken.fingerprint(None) != before
    monkeypatch.undo()
    read = Path.read_text
    names = {path.name for path in Path(spoken.__file__).parent.glob("_spoken_*.py")} | {"_studio.py", "_augment.py"}
    for name in names:
        changed = lambda path, *a, name=name, **k: read(path, *a, **k) + "#" * (path.name == name)  # noqa: E731
        monkeypatch.setattr(Path, "read_text", changed)
        assert spoken.fingerprint(None) != before, name


# Texts


def test_lists_and_tables() -> None:
    assert lists("a: one two\nb: big dog | small\n    cat\n") == {"a": ["one", "two"], "b": ["big dog", "small cat"]}
    assert tables("who:\n    you | du\n    me | ich\n") == {"who": [("you", "du"), ("me", "ich")]}
    assert tables("so:\n    |\n") == {"so": [("", "")]}


def test_filled_and_parallel_templates() -> None:
    rng = np.random.default_rng(0)
    named = {"TIME": ["half past {hour}"], "hour": ["two"], "thing": ["old {hour}"]}
    assert list(filled(rng, "ring {TIME} the {thing}", named)) == [
        ("ring", ""),
        *((word, "time") for word in ("half", "past", "two")),
        *((word, "") for word in ("the", "old", "two")),
    ]
    both = [("{who} and {who2} {so} go", "{so} gehen {who} und {who2}")]
    rows = {"who": [("you", "du"), ("me", "ich")], "so": [("", "")]}
    found = {tuple(parallel(np.random.default_rng(seed), both, rows)) for seed in range(20)}
    assert found == {("you and me go", "gehen du und ich"), ("me and you go", "gehen ich und du")}


def test_transcripts() -> None:
    assert (
        written("Mein Bruder spricht Französisch, s'il vous plaît.")
        == "mein bruder spricht französisch s'il vous plaît"
    )
    assert written("那 batch size 调小一点") == "那 batch size 调 小 一 点"
    assert written("parlez-vous russe") == "parlez-vous russe"


MAKERS = {
    "sentence": (texts.sentence, str),
    "order": (texts.order, lambda found: found[0]),
    "request": (texts.request, lambda found: " ".join(found[0])),
    "german": (lambda rng: phrase(rng, "german"), lambda found: found[1]),
    "french": (lambda rng: phrase(rng, "french"), lambda found: found[1]),
    "lecture": (lecture, lambda found: found[1]),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_no_two_splits_say_the_same(kind: str) -> None:
    make, text = MAKERS[kind]
    found = {}
    for split in SPLITS:
        studio = SimpleNamespace(split=split, rng=lambda key, split=split: Studio.rng(fake(kind, split), key))
        found[split] = [text(item) for _, _, item in _spoken_rows.new_texts(studio, 300, make, text)]
        assert len(set(found[split])) >= 298
    assert not set(found["train"]) & set(found["test"]) and not set(found["dev"]) & set(found["train"] + found["test"])


def fake(config: str, split: str) -> Any:
    return SimpleNamespace(config=config, split=split)


def test_shares_of_the_splits() -> None:
    splits = [split_of(f"text {number}") for number in range(2000)]
    assert [splits.count(split) / 2000 for split in SPLITS] == pytest.approx([0.5, 0.2, 0.3], abs=0.04)


def test_few_texts_are_repeated_and_none_is_an_error() -> None:
    here = split_of("one")
    said: set[str] = set()
    assert [drawn(lambda: "one", here, said) for _ in range(2)] == ["one", "one"] and said == {"one"}
    other = next(split for split in SPLITS if split != here)
    with pytest.raises(ValueError, match=f"no text of split {other!r}"):
        drawn(lambda: "one", other, said)


def test_all_classes_turn_up() -> None:
    rng = np.random.default_rng(0)
    orders = [texts.order(rng) for _ in range(800)]
    assert [{order[k] for order in orders} for k in (1, 2, 3)] == [
        set(texts.ACTIONS),
        set(texts.OBJECTS),
        set(texts.LOCATIONS),
    ]
    requests = [texts.request(rng) for _ in range(800)]
    tags = {tag for _, found in requests for tag in found}
    single = {"I-rating", "I-cuisine"}  # slots that are always one word
    assert tags == set(texts.TAGS) - single
    for words, found in requests:
        assert len(words) == len(found) and not any("{" in word for word in words)
        for before, tag in zip(["O", *found], found, strict=False):
            assert not tag.startswith("I-") or before[2:] == tag[2:]
    assert {row["label"] for row in rows("commands", "train", 80)} == set(_spoken_rows.COMMANDS)


def test_orders_say_what_they_are_labelled_with() -> None:
    rng = np.random.default_rng(1)
    for text, action, thing, location in (texts.order(rng) for _ in range(500)):
        assert (f" in the {location}" in text) == (location != "none")
        assert action != "bring" or any(name in text for name in texts._NAMES[thing])
        if {"off", "down", "decrease", "lower"} & set(text.split()):
            assert action in {"deactivate", "decrease"}
        if {"increase", "raise"} & set(text.split()):
            assert action == "increase"


# What is heard


def test_words_take_a_second() -> None:
    for row in [*rows("commands"), *rows("digits")]:
        assert row["seconds"] == 1 or (row["seconds"] > 1 and row["label"] == "unknown")


def test_phones_are_timed() -> None:
    for row in rows("phones"):
        assert set(row["phones"]) <= set(PHONES)
        assert len(row["phones"]) == len(row["starts"]) == len(row["ends"]) >= 2 * len(row["text"].split())
        assert all(start < end for start, end in zip(row["starts"], row["ends"], strict=True))
        assert all(end <= start + 1e-9 for end, start in zip(row["ends"], row["starts"][1:], strict=False))
        assert row["starts"][0] >= 0 and row["ends"][-1] <= row["seconds"]


@pytest.mark.parametrize("speed", [1.0, 0.92, 1.08])
def test_phones_are_where_they_sound(speed: float) -> None:
    """In a voice without room or noise: where it begins and ends to sound, and where it hisses."""
    with Espeak() as espeak:
        studio = Studio(espeak, "test", "test")
        said = studio.say("sixty seven ships", Speaker("m3", "m3", "en-US", "", 50, 50, 160), speed=speed)
    assert " ".join(name for name, _, _ in said.phones()) == "s ih k s t iy s eh v ah n sh ih p s"
    sounding = np.flatnonzero(np.abs(said.samples) > 0.01 * np.abs(said.samples).max()) / RATE
    assert said.start == pytest.approx(sounding[0], abs=0.02)
    assert said.end == pytest.approx(sounding[-1], abs=0.04)

    def brightness(start: float, end: float) -> float:
        """The share of power above 3 kHz in the middle of a phone."""
        margin = (end - start) / 4
        power = np.abs(np.fft.rfft(said.samples[int((start + margin) * RATE) : int((end - margin) * RATE)])) ** 2
        return float(power[int(len(power) * 3 / 8) :].sum() / power.sum())

    hissing = [brightness(start, end) for name, start, end in said.phones() if name in {"s", "sh"}]
    voiced = [
        brightness(start, end) for name, start, end in said.phones() if name in {"ih", "iy", "eh", "ah", "n", "v"}
    ]
    assert len(hissing) == 5 and len(voiced) == 7
    assert min(hissing) > 3 * max(voiced)


def test_sources_add_up_to_the_mixture_and_sound_when_somebody_speaks() -> None:
    made = [*rows("mixtures"), *rows("mixtures", "train")]
    for row in made:
        sources = [heard(source).astype(int) for source in row["sources"]]
        assert len(sources) == 2 and np.array_equal(sources[0] + sources[1], heard(row["audio"]))
        assert {segment["speaker"] for segment in row["segments"]} == {0, 1}
        starts = [segment["start"] for segment in row["segments"]]
        assert starts == sorted(starts)
        for who, source in enumerate(sources):
            own = [segment for segment in row["segments"] if segment["speaker"] == who]
            speaks = np.zeros(len(source), bool)
            near = speaks.copy()
            for segment in own:
                speaks[int(segment["start"] * RATE) : int(segment["end"] * RATE)] = True
                # A room goes on for 0.6 seconds.
                near[max(int((segment["start"] - 0.02) * RATE), 0) : int((segment["end"] + 0.65) * RATE)] = True
            assert all(one["end"] < two["start"] for one, two in pairwise(own))
            assert level(source[speaks]) > -40
            assert near.all() or level(source[~near]) < level(source[speaks]) - 40
    both = [one["end"] > two["start"] for row in made for one, two in pairwise(row["segments"])]
    assert 0 < sum(both) < len(both)


def test_noise_is_as_loud_as_it_says() -> None:
    made = [*rows("noisy"), *rows("noisy", "train")]
    for row in made:
        clean, noisy = heard(row["clean"]).astype(float), heard(row["audio"]).astype(float)
        assert level(clean) - level(noisy - clean) == pytest.approx(row["snr"], abs=0.1)
    assert len({row["noise"] for row in made}) >= 3 and len({row["snr"] for row in made}) == len(made)


def test_queries_are_said_in_what_they_match() -> None:
    for split in SPLITS:
        made = rows("queries", split, 20)
        documents = {row["id"]: row for row in made if row["role"] == "document"}
        queries = [row for row in made if row["role"] == "query"]
        assert len(queries) == 5 and len(documents) == 15
        assert not any(row["matches"] for row in documents.values())
        for query in queries:
            padded = f" {query['text']} "
            assert query["matches"] == [name for name, row in documents.items() if padded in f" {row['text']} "] != []
    terms = [set(_spoken_scenes.searched(split)) for split in SPLITS]
    assert all(len(found) >= 15 for found in terms)
    assert not terms[0] & terms[1] and not terms[0] & terms[2] and not terms[1] & terms[2]
    everything = texts.words()
    assert not [term for found in terms for term in found for word in everything if word != term and term in word]


def test_trials_are_labelled_by_who_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    assert all(row["audio_pair"] is None and row["label"] == -1 for row in rows("verification", "train"))
    said: list[str] = []
    sentences: list[str] = []
    say = Studio.say

    def noted(studio: Studio, text: str, speaker: Speaker, **more: Any) -> Any:
        said.append(speaker.name)
        sentences.append(text)
        return say(studio, text, speaker, **more)

    monkeypatch.setattr(Studio, "say", noted)
    made = list(spoken.made("verification", "dev", 12))
    assert {split_of(text) for text in sentences[-24:]} == {"dev"}, "what is said in train says nothing here"
    pairs = [said[-24:][k : k + 2] for k in range(0, 24, 2)]
    assert [row["label"] == "same" for row in made] == [one == other for one, other in pairs]
    assert [row["speaker"] for row in made] == [one for one, _ in pairs]
    assert {row["label"] for row in made} == {"same", "different"}
    assert all(one == other or one.split("-")[0] != other.split("-")[0] for one, other in pairs)


def test_prosody_is_heard() -> None:
    made = rows("prosody", "test", 36)

    def mean(column: str, measure: Any) -> list[float]:
        names = {"rate": _spoken_rows.RATES, "pitch": _spoken_rows.PITCHES, "volume": _spoken_rows.VOLUMES}[column]
        return [float(np.mean([measure(row) for row in made if row[column] == name])) for name in names]

    soft, usual, loud = mean("volume", lambda row: level(heard(row["audio"])))
    assert soft + 6 < usual < loud - 6
    slow, normal, fast = mean("rate", lambda row: row["seconds"] / len(row["text"]))
    assert slow > 1.3 * normal > 1.6 * fast
    assert all(row["label"] == f"{row['rate']}-{row['pitch']}-{row['volume']}" for row in made)


def test_pitch_goes_with_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    say = Studio.say

    def noted(studio: Studio, text: str, speaker: Speaker, **more: Any) -> Any:
        asked.append(more.get("pitch", 0))
        return say(studio, text, speaker, **more)

    monkeypatch.setattr(Studio, "say", noted)
    made = list(spoken.made("prosody", "dev", 12))
    names = ["low" if height < -20 else "high" if height > 20 else "normal" for height in asked[-12:]]
    assert [row["pitch"] for row in made] == names and set(names) == set(_spoken_rows.PITCHES)


def test_languages() -> None:
    assert len(WORDS) == 30 and set(SOURCES.values()) <= set(WORDS)
    assert {row["language"] for row in rows("translation", "train", 8)} == set(SOURCES)
    assert {row["language"] for row in rows("unlabelled")} <= {"en", *WORDS}
    with Espeak() as espeak:
        for language in WORDS:
            assert espeak.transcribed(WORDS[language][0], speakers("train")[0].voice(language))
    # No character of the lecture is spelled out in English ("Chinese letter"), and its terms are English.
    rng = np.random.default_rng(0)
    with Espeak() as espeak:
        for _ in range(30):
            text, _ = lecture(rng)
            phonemes = espeak.transcribed(text, speakers("train")[0].voice("sit/cmn"))
            assert phonemes.count("(en)") <= len([word for word in written(text).split() if word.isascii()])
