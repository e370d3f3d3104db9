"""Corpora of classes, in their published layouts: words, digits, orders, requests, emotions."""

from __future__ import annotations

import itertools
import tarfile
from pathlib import Path

import pytest

from hfcourse.data.loading import labels_of, load

from .build import built, counts, failure, write
from .sounds import corpus, of, relative, sound

# Speech Commands

WORDS = [
    "yes/a1_nohash_0",
    "yes/a1_nohash_1",
    "no/b2_nohash_0",
    "bed/c3_nohash_0",
    "bed/d4_nohash_0",
    "stop/b2_nohash_0",
]
LISTS = {
    "validation_list.txt": "no/b2_nohash_0.wav\n",
    "testing_list.txt": "bed/d4_nohash_0.wav\nstop/b2_nohash_0.wav\n",
}


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    root = tmp_path / "data" / "speech_commands_v0.01"
    corpus(root, [f"{name}.wav" for name in WORDS], LISTS | {"_background_noise_/README.md": "noise\n"})
    sound(root / "_background_noise_" / "running_tap.wav", 12.0)
    return root


def test_twelve_words(commands: Path) -> None:
    rows = built("speech_commands", commands)
    spoken = {split: [row for row in table if row["label"] != 11] for split, table in rows.items()}
    assert of(spoken["train"], "id", "label", "speaker") == [
        ("bed/c3_nohash_0", 10, "c3"),
        ("yes/a1_nohash_0", 0, "a1"),
        ("yes/a1_nohash_1", 0, "a1"),
    ]
    assert of(spoken["dev"], "id", "label", "start", "duration") == [("no/b2_nohash_0", 1, 0, 0)]
    assert of(spoken["test"], "id", "label") == [("bed/d4_nohash_0", 10), ("stop/b2_nohash_0", 8)]
    assert spoken["dev"][0]["seconds"] == pytest.approx(0.1)


def test_silence_is_cut_from_another_part_of_the_noise_in_each_split(commands: Path) -> None:
    rows = built("speech_commands/v12", commands)
    cuts = {split: [row for row in table if row["label"] == 11] for split, table in rows.items()}
    # Of 12 s: 0 to 9.6, 9.6 to 10.8, 10.8 to 12; five cuts of a second start in each second.
    assert {split: len(table) for split, table in cuts.items()} == {"train": 44, "dev": 2, "test": 2}
    starts = {split: [row["start"] for row in table] for split, table in cuts.items()}
    assert starts["train"][:2] + starts["train"][-1:] == pytest.approx([0, 0.2, 8.6])
    assert starts["dev"] == pytest.approx([9.6, 9.8]) and starts["test"] == pytest.approx([10.8, 11.0])
    for row in itertools.chain(*cuts.values()):
        assert row["audio"]["path"].endswith("_background_noise_/running_tap.wav")
        assert row["duration"] == row["seconds"] == 1 and row["start"] + 1 <= 12.001 and row["speaker"] == ""
    ids = [row["id"] for row in rows["train"]]
    assert len(set(ids)) == len(ids)


def test_the_archive_for_testing(commands: Path) -> None:
    archive = commands.parent / "speech_commands_test_set_v0.01"
    corpus(archive, ["yes/e5_nohash_0.wav", "_unknown_/cat_f6_nohash_0.wav", "_silence_/tap_1.wav"])
    rows = built("speech_commands/v12", commands.parent)
    assert of(rows["test"], "id", "label", "start") == [
        ("_silence_/tap_1", 11, 0),
        ("_unknown_/cat_f6_nohash_0", 10, 0),
        ("yes/e5_nohash_0", 0, 0),
    ]
    assert [row["id"] for row in rows["train"]][:3] == ["bed/c3_nohash_0", "yes/a1_nohash_0", "yes/a1_nohash_1"]
    assert len(built("speech_commands/all", commands.parent)["test"]) == 2  # its classes are twelve
    corpus(commands.parent / "speech_commands_test_set_v0.00", ["no/e5_nohash_0.wav"])
    assert built("speech_commands/v12", commands.parent)["test"] == rows["test"]  # of another version


def test_every_word(commands: Path, tmp_path: Path) -> None:
    rows = load("speech_commands/all", data_dir=str(commands), cache_dir=str(tmp_path / "cache"))
    names = labels_of(rows["train"], "label")
    assert names is not None and len(names) == len(set(names)) == 35
    assert [names[label] for label in rows["train"]["label"]] == ["bed", "yes", "yes"]
    sound(commands / "maybe" / "a1_nohash_0.wav")
    assert f"{commands / 'maybe'}: word 'maybe' is none of yes, no, up" in failure("speech_commands/all", commands)
    assert [row["label"] for row in built("speech_commands/v12", commands)["train"]][:2] == [10, 10]


def test_commands_that_lack_something(commands: Path) -> None:
    (commands / "yes" / "a1_nohash_0.wav").unlink()
    (commands / "no" / "b2_nohash_0.wav").unlink()
    message = failure("speech_commands", commands)
    assert "1 of" in message and f"listed audio files are not there: {commands / 'no' / 'b2_nohash_0.wav'}" in message
    write(commands / "_background_noise_" / "running_tap.wav", "no sound")
    assert "running_tap.wav: cannot be read, and silence is cut out of it" in failure("speech_commands", commands)
    (commands / "testing_list.txt").unlink()
    assert f"{commands}: no testing_list.txt" in failure("speech_commands", commands)
    assert "expected a folder with a folder a word, _background_noise_/" in failure("speech_commands", commands / "yes")


# Fluent Speech Commands

ORDERS = ",path,speakerId,transcription,action,object,location\n"


def orders(*rows: str) -> str:
    return ORDERS + "".join(f"{number},wavs/speakers/{row}\n" for number, row in enumerate(rows))


@pytest.fixture
def fluent(tmp_path: Path) -> Path:
    tables = {
        "data/train_data.csv": orders(
            's1/a.wav,s1,"Turn on the lights, please",activate,lights,none',
            "s1/b.wav,s1,Use Chinese,change language,Chinese,none",
        ),
        "data/valid_data.csv": orders("s2/a.wav,s2,Heat down,decrease,heat,washroom"),
        "data/test_data.csv": orders("s3/a.wav,s3,Bring me my shoes,bring,shoes,none"),
    }
    names = [f"wavs/speakers/{name}.wav" for name in ("s1/a", "s1/b", "s2/a", "s3/a")]
    return corpus(tmp_path / "data" / "fluent_speech_commands_dataset", names, tables)


def test_orders(fluent: Path) -> None:
    rows = built("fluent_speech_commands", fluent)
    assert of(rows["train"], "id", "speaker", "text", "action", "object", "location") == [
        ("wavs/speakers/s1/a", "s1", "Turn on the lights, please", 0, 7, 2),
        ("wavs/speakers/s1/b", "s1", "Use Chinese", 2, 0, 2),
    ]
    assert of(rows["dev"], "action", "object", "location") == [(4, 4, 3)]
    assert relative(rows, fluent)["test"] == ["wavs/speakers/s3/a.wav"]
    assert built("fluent_speech_commands", fluent.parent) == rows


def test_orders_that_do_not_fit(fluent: Path) -> None:
    path = fluent / "data" / "valid_data.csv"
    write(path, orders("s2/a.wav,s2,Jump,jump,heat,none"))
    assert f"{path}, line 2: action 'jump' is none of activate, bring" in failure("fluent_speech_commands", fluent)
    write(path, orders("s2/a.wav,s2,Heat down"))
    assert f"{path}, line 2: 4 cells under 7 column names" in failure("fluent_speech_commands", fluent)
    write(path, "path,speakerId\n")
    assert f"{path}, line 1: expected a column 'transcription'" in failure("fluent_speech_commands", fluent)
    path.unlink()
    assert f"{path.parent}: no valid_data.csv" in failure("fluent_speech_commands", fluent)


# Audio SNIPS

SNIPS = """Ivy-snips-train-0 BOS play some jazz EOS\tO O O B-genre PlayMusic
Aditi-snips-train-0 BOS play some jazz EOS\tO O O B-genre PlayMusic
Ivy-snips-valid-0 BOS rain tomorrow EOS\tO O B-TIMERANGE GetWeather
Aditi-snips-valid-0 BOS rain tomorrow EOS\tO O B-TIMERANGE GetWeather
Brian-snips-test-0 BOS book a table EOS\tO O O O BookRestaurant
Nobody-snips-test-0 BOS book a table EOS\tO O O O BookRestaurant
"""


@pytest.fixture
def snips(tmp_path: Path) -> Path:
    names = [line.split()[0] for line in SNIPS.splitlines()[:-1]]
    files = [f"{name.split('-')[2]}/{name}.{'mp3' if 'Brian' in name else 'wav'}" for name in names]
    return corpus(tmp_path / "SNIPS", files, {"all.iob.snips.txt": SNIPS})


def test_requests(snips: Path, tmp_path: Path) -> None:
    rows = load("audio_snips", data_dir=str(snips), cache_dir=str(tmp_path / "cache"))
    assert {split: table["id"][:] for split, table in rows.items()} == {
        "train": ["Ivy-snips-train-0"],
        "dev": ["Aditi-snips-valid-0"],
        "test": ["Brian-snips-test-0"],
    }
    tags, intents = labels_of(rows["dev"], "tags"), labels_of(rows["dev"], "intent")
    assert tags is not None and intents is not None and len(tags) == 1 + 2 * 39 and len(intents) == 7
    row = rows["dev"][0]
    assert (row["text"], row["tokens"], row["speaker"]) == ("rain tomorrow", ["rain", "tomorrow"], "Aditi")
    assert [tags[tag] for tag in row["tags"]] == ["O", "B-timeRange"] and intents[row["intent"]] == "GetWeather"
    every = counts("audio_snips/all", snips, tmp_path / "cache")
    assert every == {"train": 2, "dev": 2, "test": 1}  # a voice of which nothing is there is not asked for


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Ivy-snips-train-0 BOS play EOS\tO B-colour PlayMusic", "tag 'B-colour' is none of O, B-album"),
        ("Ivy-snips-train-0 BOS play EOS\tO O Dance", "intent 'Dance' is none of AddToPlaylist"),
        ("Ivy-snips-train-0 BOS play EOS\tO PlayMusic", "expected BOS, words, EOS, a tab, a tag for each"),
        ("Ivy-snips-eval-0 BOS play EOS\tO O PlayMusic", "the split in 'Ivy-snips-eval-0', 'eval' is none of train"),
        ("Ivy BOS play EOS\tO O PlayMusic", "the split in 'Ivy', '' is none of train, valid, test"),
    ],
)
def test_requests_that_do_not_fit(snips: Path, line: str, message: str) -> None:
    write(snips / "all.iob.snips.txt", f"\n{line}\n")
    assert f"line 2: {message}" in failure("audio_snips", snips)


def test_a_request_without_sound(snips: Path) -> None:
    write(snips / "all.iob.snips.txt", SNIPS + "Ivy-snips-train-1 BOS play EOS\tO O PlayMusic\n")
    assert f"1 of 4 listed audio files are not there: {snips}/train/Ivy-snips-train-1" in failure("audio_snips", snips)


# IEMOCAP

JUDGED = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\t{name}_F000\t{first}\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
[8.3 - 9.1]\t{name}_M000\t{second}\t[2.5000, 2.5000, 2.5000]
A-E3:\tval 3; act 2; dom  2;\t()
"""


@pytest.fixture
def emotions(tmp_path: Path) -> Path:
    root = tmp_path / "IEMOCAP_full_release"
    for session in range(1, 6):
        for part, first, second in (("impro01", "neu", "exc"), ("script01_1", "ang", "fru"), ("impro02", "sad", "hap")):
            name = f"Ses0{session}F_{part}"
            write(
                root / f"Session{session}/dialog/EmoEvaluation/{name}.txt",
                JUDGED.format(name=name, first=first, second=second),
            )
            for turn in ("F000", "M000"):
                sound(root / f"Session{session}/sentences/wav/{name}/{name}_{turn}.wav")
    return root


def test_emotions(emotions: Path, tmp_path: Path) -> None:
    found = {
        f: load(f"iemocap/fold{f}", data_dir=str(emotions), cache_dir=str(tmp_path / "cache")) for f in range(1, 6)
    }
    assert labels_of(found[1]["test"], "label") == ["neutral", "happy", "sad", "angry"]
    assert of(found[2]["test"].to_list(), "id", "label", "speaker") == [
        ("Ses02F_impro01_F000", 0, "Ses02F"),
        ("Ses02F_impro01_M000", 1, "Ses02M"),
        ("Ses02F_impro02_F000", 2, "Ses02F"),
        ("Ses02F_impro02_M000", 1, "Ses02M"),
        ("Ses02F_script01_1_F000", 3, "Ses02F"),
    ]
    tested = [row["id"] for fold in found.values() for row in fold["test"]]
    assert len(tested) == len(set(tested)) == 25
    for number, fold in found.items():
        ids = {split: set(table["id"]) for split, table in fold.items()}
        assert set.union(*ids.values()) == set(tested) and sum(map(len, ids.values())) == 25
        assert {name[:5] for name in ids["test"]} == {f"Ses0{number}"}
        talks = {split: {name.rpartition("_")[0] for name in names} for split, names in ids.items()}
        assert len(talks["dev"]) == 3 and not talks["dev"] & talks["train"]  # a fifth of 12, rounded up
        speakers = {split: set(table["speaker"]) for split, table in fold.items()}
        assert not speakers["test"] & (speakers["train"] | speakers["dev"])


def test_emotions_that_do_not_fit(emotions: Path) -> None:
    path = emotions / "Session3/dialog/EmoEvaluation/Ses03F_impro01.txt"
    write(path, "[1 - 2]\tSes03F_impro01_F000\tbored\t[2, 2, 2]\n")
    assert f"{path}, line 1: emotion 'bored' is none of neu, hap" in failure("iemocap/fold1", emotions)
    write(path, "[1 - 2] Ses03F_impro01_F000 neu\n")
    assert f"{path}, line 1: expected [START - END], utterance, emotion" in failure("iemocap/fold1", emotions)
    write(path, "[1 - 2]\tSes03F_impro01_F007\tneu\t[2, 2, 2]\n")
    assert "1 of 24 listed audio files are not there" in failure("iemocap/fold1", emotions)
    (emotions / "Session5").rename(emotions / "Session6")
    assert f"{emotions}: no Session5 (all five are needed)" in failure("iemocap/fold1", emotions)


# FSDD


def test_digits_and_speakers(tmp_path: Path) -> None:
    root = tmp_path / "fsdd"
    names = [f"{digit}_{speaker}_{take}" for digit in (0, 7) for speaker in ("lucas", "theo") for take in (0, 4, 5, 49)]
    corpus(root, [f"recordings/{name}.wav" for name in names], {"recordings/index.txt": "no sound\n"})
    rows = built("fsdd", root)
    assert {split: [row["id"] for row in table] for split, table in rows.items()} == {
        "train": [f"{digit}_{speaker}_{take}" for digit in (0, 7) for speaker in ("lucas", "theo") for take in (49, 5)],
        "test": [f"{digit}_{speaker}_{take}" for digit in (0, 7) for speaker in ("lucas", "theo") for take in (0, 4)],
    }
    assert {(row["id"][0], row["label"]) for row in rows["train"]} == {("0", 0), ("7", 7)}
    assert {row["label"] for row in built("fsdd/speakers", root / "recordings")["train"]} == {2, 4}
    left = built("fsdd/leave_out_george_theo", root)
    assert {row["speaker"] for row in left["train"]} == {"lucas"} and {row["speaker"] for row in left["test"]} == {
        "theo"
    }
    assert len(left["train"]) == len(left["test"]) == 8
    assert "'leave_out_george_theo'" in failure("fsdd/leave_out_theo_george", root)
    sound(root / "recordings" / "3_nobody_0.wav")
    assert "3_nobody_0.wav: speaker 'nobody' is none of george, jackson" in failure("fsdd", root)


def test_a_packed_corpus(tmp_path: Path) -> None:
    write(tmp_path / "fsdd" / "recordings.tar.gz", "")
    message = failure("fsdd", tmp_path / "fsdd")
    assert "expected a folder with recordings/0_george_0.wav, ...: unpack recordings.tar.gz first" in message


def test_the_real_digits(shared_data: Path, tmp_path: Path) -> None:
    archive = shared_data / "fsdd" / "recordings.tar.gz"
    if not archive.is_file():
        pytest.skip(f"no {archive}")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path / "fsdd", filter="data")
    assert counts("fsdd", tmp_path / "fsdd", tmp_path / "cache") == {"train": 2700, "test": 300}
    rows = load("fsdd/speakers", data_dir=str(tmp_path / "fsdd"), cache_dir=str(tmp_path / "cache"))
    listed = [line.split("\t") for line in (shared_data / "fsdd" / "index.tsv").read_text().splitlines()[1:]]
    names = labels_of(rows["train"], "label")
    assert names is not None and len(listed) == 3000
    found = {f"{row['id']}.wav": (names[row["label"]], split) for split, table in rows.items() for row in table}
    assert found == {file: (speaker, split) for file, _, speaker, _, split, _ in listed}
    lengths = {f"{row['id']}.wav": row["seconds"] for table in rows.values() for row in table}
    assert lengths == pytest.approx({cells[0]: float(cells[5]) for cells in listed}, abs=1e-4)
