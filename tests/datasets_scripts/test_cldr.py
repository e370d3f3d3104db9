"""Phrase pairs out of CLDR: what they say, and that no split tells of another."""

from __future__ import annotations

import datetime
import re
from collections import Counter
from importlib import metadata
from itertools import combinations
from pathlib import Path

import pytest
from babel import dates, localedata
from hfcourse_datasets import _cldr_splits
from hfcourse_datasets._cldr_locales import number_language, opened
from hfcourse_datasets._cldr_phrases import Said, phrases
from hfcourse_datasets._cldr_splits import Splits, words

from hfcourse.data.loading import load
from hfcourse.errors import DataError

from .build import Rows

SPLITS = ("train", "dev", "test")
DAYS = ["lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi", "dimanche"]
MONTHS = [
    "janvier",
    "février",
    "mars",
    "avril",
    "mai",
    "juin",
    "juillet",
    "août",
    "septembre",
    "octobre",
    "novembre",
    "décembre",
]


def built(config: str, cache: Path) -> Rows:
    return {split: table.to_list() for split, table in load(f"cldr/{config}", cache_dir=str(cache)).items()}


def failure(name: str, cache: Path, data_dir: str | None = None) -> str:
    with pytest.raises(DataError) as error:
        load(name, data_dir=data_dir, cache_dir=str(cache))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def french(cache: Path) -> Rows:
    return built("phrases_en_fr", cache)


def pairs(rows: Rows, kind: str) -> dict[str, str]:
    return {row["source"]: row["target"] for split in rows.values() for row in split if row["kind"] == kind}


# What is said


@pytest.mark.parametrize(
    ("kind", "source", "target"),
    [
        ("territory", "Germany", "Allemagne"),
        ("language", "German", "allemand"),
        ("script", "Cyrillic", "cyrillique"),
        ("currency", "Swiss Franc", "franc suisse"),
        ("city", "London", "Londres"),
        ("unit", "kilometers", "kilomètres"),
        ("month", "August", "août"),
        ("day", "Friday", "vendredi"),
        ("quarter", "1st quarter", "1er trimestre"),
        ("number", "three", "trois"),
        ("number", "ninety-nine", "quatre-vingt-dix-neuf"),
        ("ordinal", "first", "premier"),
        ("duration", "1 day", "1 jour"),
        ("duration", "3 days", "3 jours"),
        ("relative", "in 3 days", "dans 3 jours"),
        ("relative", "3 days ago", "il y a 3 jours"),
        ("money", "1 Swiss franc", "1 franc suisse"),
    ],
)
def test_pairs_known_by_hand(french: Rows, kind: str, source: str, target: str) -> None:
    assert pairs(french, kind)[source] == target


def test_dates_and_times_against_the_calendar(french: Rows) -> None:
    seen: Counter[str] = Counter()
    for row in (row for split in french.values() for row in split):
        kind, _, value = row["concept"].partition("/")
        if kind == "date" and re.fullmatch(r"\d{4}-\d\d-\d\d", value):
            day = datetime.date.fromisoformat(value)
            text = f"{day.day} {MONTHS[day.month - 1]} {day.year}"
            weekday = row["source"].startswith(day.strftime("%A"))
            assert row["target"] == (f"{DAYS[day.weekday()]} {text}" if weekday else text)
            assert row["source"].endswith(day.strftime(f"%B {day.day}, %Y"))
        elif kind == "datetime":
            moment = datetime.datetime.fromisoformat(value)
            assert row["target"] == f"{moment.day} {MONTHS[moment.month - 1]} {moment.year}, {moment:%H:%M}"
        elif kind == "time":
            assert row["target"] == value
            assert row["source"].zfill(8) == datetime.time.fromisoformat(value).strftime("%I:%M %p")
        seen[kind] += 1
    assert seen["date"] > 700 and seen["datetime"] > 300 and seen["time"] > 150


def test_lists_join_names_of_their_own_split(french: Rows) -> None:
    for split in SPLITS:
        names = {row["concept"]: row for row in french[split]}
        joined = [row for row in french[split] if row["kind"] == "list"]
        assert len(joined) > 50
        for row in joined:
            style, rest = row["concept"].removeprefix("list/").split("/", 1)
            parts = [names[concept] for concept in re.split(r"/(?=(?:territory|language|city)/)", rest)]
            *first, last = (part["target"] for part in parts)
            assert row["target"] == ", ".join(first) + (" et " if style == "standard" else " ou ") + last


def test_thousands_of_rows_each_once(french: Rows) -> None:
    texts = [(row["source"], row["target"]) for split in french.values() for row in split]
    assert len(texts) == len(set(texts)) > 5000
    assert all(len(french[split]) > 500 for split in SPLITS)
    assert {(row["source_language"], row["target_language"]) for split in french.values() for row in split} == {
        ("en", "fr")
    }


def test_a_language_without_numbers_in_words_has_all_the_rest(cache: Path) -> None:
    rows = built("phrases_en_zh-Hant", cache)
    kinds = {row["kind"] for split in rows.values() for row in split}
    assert {"territory", "date", "time", "relative", "list"} < kinds
    assert not kinds & {"number", "ordinal"}
    assert pairs(rows, "territory")["Germany"] == "德國"
    assert pairs(rows, "relative")["in 3 days"] == "3 天後"


def test_what_a_language_lacks_is_not_filled_up(cache: Path) -> None:
    """Volapük has few tables: the root's codes, and its English "or", are no Volapük."""
    rows = built("phrases_en_vo", cache)
    targets = [row["target"] for split in rows.values() for row in split]
    assert "mäzul" in targets and len(targets) > 1000
    assert not [text for text in targets if re.search(r"\bor\b|\bM\d\d|[+-]\d|[a-z]-[a-z]", text)]


def test_units_without_a_long_form_have_their_short_one(cache: Path) -> None:
    rows = built("phrases_en_zh", cache)
    found = {row["source"]: row["target"] for split in rows.values() for row in split if "length-" in row["concept"]}
    assert found["kilometers"] == "公里"
    counted = {source: target for source, target in found.items() if re.fullmatch(r"\d+ kilometers", source)}
    assert counted and all(target == source.replace(" kilometers", "公里") for source, target in counted.items())


def test_digits_alone_are_left_out(cache: Path) -> None:
    rows = [row for split in built("phrases_de_ja", cache).values() for row in split]
    assert {"date", "datetime"} < {row["kind"] for row in rows} and "time" not in {row["kind"] for row in rows}
    assert all(re.search(r"[^\W\d]", row["source"] + row["target"]) for row in rows)


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("en", "en"),
        ("en-IN", "en_IN"),
        ("pt-PT", "pt"),
        ("nb", "no"),
        ("nn", None),
        ("kk", "kz"),
        ("zh-Hant", None),
        ("sr", None),  # num2words writes Serbian and Azerbaijani in Latin letters
        ("sr-Latn", "sr"),
        ("az-Cyrl", None),
    ],
)
def test_what_num2words_calls_a_language(tag: str, name: str | None) -> None:
    assert number_language(opened(tag)) == name


@pytest.mark.slow
def test_every_language_says_something() -> None:
    for tag in localedata.locale_identifiers():
        if "_" not in tag:
            for said, text in phrases(opened(tag)).items():
                assert text == " ".join(text.split()) and "{" not in text, (tag, said, text)


# Splits


@pytest.mark.parametrize("config", ["phrases_en_fr", "lexicon_en_fr", "phrases_de_ja"])
def test_no_split_sees_what_another_says(cache: Path, config: str) -> None:
    rows = built(config, cache)
    assert set(rows) == set(SPLITS)
    for one, other in combinations(SPLITS, 2):
        assert not {row["concept"] for row in rows[one]} & {row["concept"] for row in rows[other]}
        texts = [
            {row[side].casefold() for row in rows[split] for side in ("source", "target")} for split in (one, other)
        ]
        assert not texts[0] & texts[1]


def test_no_phrase_is_a_part_of_one_in_an_earlier_split(french: Rows) -> None:
    spoken = {
        split: [spelt(row[side]) for row in rows for side in ("source", "target")] for split, rows in french.items()
    }
    for earlier, later in combinations(SPLITS, 2):
        text = "\n".join(spoken[earlier])
        assert not [phrase for phrase in spoken[later] if phrase in text]
    assert " three " in spoken["train"] and " mars " in spoken["train"]


def spelt(text: str) -> str:
    return " ".join(["", *re.findall(r"[^\W_]+", text.casefold()), ""])


def test_nor_is_one_of_a_script_without_blanks(cache: Path) -> None:
    rows = built("phrases_de_ja", cache)
    text = "\n".join(row["target"] for row in rows["train"])
    held_out = [row["target"] for split in ("dev", "test") for row in rows[split]]
    checked = [phrase for phrase in held_out if re.fullmatch(r"[\u3040-\u30ff\u3400-\u9fff]+", phrase)]
    assert len(checked) > 300 and not [phrase for phrase in checked if phrase in text]


def test_moves_worked_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = {
        "house": "test",
        "red house": "dev",
        "old red house": "train",
        "haus": "test",
        "tree": "test",
        "oak tree": "dev",
    }
    drawn |= {"blue": "test", "red": "dev"}
    monkeypatch.setattr(_cldr_splits, "_drawn", drawn.get)
    said = [(name, name) for name in drawn]
    splits = Splits([*said, ("haus", "Haus"), ("house", "haus"), ("blue", "ho"), ("tree", "Baum")])
    assert {name: splits[name] for name in drawn} == {
        "old red house": "train",
        "red house": "train",
        "red": "train",
        "house": "train",  # inside what moved
        "haus": "train",  # said as the house is
        "oak tree": "dev",
        "tree": "dev",
        "blue": "test",  # letters of a word are no word
    }
    assert splits.may_hold("train", "a house, a red house") and splits.may_hold("test", "a blue house")
    assert not splits.may_hold("train", "red and BLUE") and not splits.may_hold("train", "under the Baum")
    assert splits.may_hold("dev", "the baum") and not splits.may_hold("dev", "blue")


def test_words_of_any_script() -> None:
    assert words("Vingt-et-un, l’Été (ÉTÉ)") == ("vingt", "et", "un", "l", "été", "été")
    assert words("2024年3月5日") == ("2024", "年", "3", "月", "5", "日")
    assert words("हिन्दी में") == ("हिन्दी", "में")


# The lexicon


def test_a_lexicon_is_one_word_for_one(french: Rows, cache: Path) -> None:
    rows = built("lexicon_en_fr", cache)
    whole = {(row["source"], row["target"]): split for split, table in french.items() for row in table}
    for side in ("source", "target"):
        found = [row[side].casefold() for split in rows.values() for row in split]
        assert len(found) == len(set(found)) > 700 and not [word for word in found if " " in word]
    for split, table in rows.items():
        assert len(table) > 50
        assert all(whole[row["source"], row["target"]] == split for row in table)
        assert not [row for row in table if row["source"].casefold() == row["target"].casefold()]
    assert pairs(rows, "territory")["Armenia"] == "Arménie" and "Peru" not in pairs(rows, "language")


# The same for everybody


def test_both_directions_say_the_same(french: Rows, cache: Path) -> None:
    back = built("phrases_fr_en", cache)
    for split in SPLITS:
        there = {(row["source"], row["target"], row["concept"]) for row in french[split]}
        assert there == {(row["target"], row["source"], row["concept"]) for row in back[split]}


def test_what_was_read_before_changes_nothing(french: Rows, tmp_path: Path) -> None:
    """Babel lets a language write into the tables of all (its issue 1234)."""
    day = datetime.date(2024, 3, 5)
    assert dates.format_date(day, "LLLL", locale="he") == "מרץ"
    assert dates.format_date(day, "QQQQ", locale="fr") == "1er trimestre"
    assert phrases(opened("hi"))[Said("month", "month/3")] == "मार्च"
    assert phrases(opened("de"))[Said("quarter", "quarter/1")] == "1. Quartal"
    assert dates.format_date(day, "LLLL", locale="nb") == "mars"  # nor does reading here write into theirs
    assert built("phrases_en_fr", tmp_path) == french


def test_defaults_are_english_and_french(french: Rows, cache: Path) -> None:
    assert built("phrases", cache) == french
    splits = load("cldr", cache_dir=str(cache))
    assert {split: table.to_list() for split, table in splits.items()} == french
    assert built("lexicon", cache) == built("lexicon_en_fr", cache)


# What cannot be


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cldr/phrases_en_frx", "cldr: unknown language 'frx': did you mean fr, fur, frr?"),
        ("cldr/phrases_german_fr", "cldr: unknown language 'german': did you mean de,"),
        ("cldr/phrases_en_qqqqqqq", "cldr: unknown language 'qqqqqqq': give a tag such as en, pt-PT or zh-Hant"),
        ("cldr/phrases_root_fr", "cldr: unknown language 'root'"),
        ("cldr/phrases_en_zh_Hant", "names no two languages: write them as in phrases_en_de or phrases_en_zh-Hant"),
        ("cldr/lexicon_en", "config 'lexicon_en' names no two languages: write them as in lexicon_en_de"),
        ("cldr/phrases_en_", "names no two languages"),
        ("cldr/phrases_en_EN", "names no two languages"),
        ("cldr/phrase_en_de", "unknown config 'phrase_en_de': did you mean 'phrases_en_de'?"),
        ("cldr/dictionary", "unknown config 'dictionary': did you mean 'phrases or lexicon'?"),
        ("clrd", "unknown dataset 'clrd': did you mean 'cldr'?"),
    ],
)
def test_wrong_names_are_one_line(cache: Path, name: str, message: str) -> None:
    assert message in failure(name, cache)


def test_it_reads_no_folder(tmp_path: Path) -> None:
    assert f"leave out {tmp_path}" in failure("cldr/phrases", tmp_path, str(tmp_path))


def test_missing_packages_are_named(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert failure("cldr", cache) == "cldr: no package Babel: pip install Babel num2words"
