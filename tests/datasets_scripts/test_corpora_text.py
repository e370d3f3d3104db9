"""Corpora of speech with its words, in their published layouts: recognition and translation."""

from __future__ import annotations

from pathlib import Path

import pytest
from hfcourse_datasets.ml2021_asr_st import spaced, split_of

from hfcourse.data.loading import load
from hfcourse.errors import DataError

from .build import built, counts, failure, write
from .sounds import corpus, of, relative, sound

# LibriSpeech


def subset(root: Path, name: str, *utterances: str) -> None:
    """Utterances such as 84-121123-0000, each with a text of its own number."""
    texts: dict[str, str] = {}
    for utterance in utterances:
        speaker, chapter, number = utterance.split("-")
        sound(root / name / speaker / chapter / f"{utterance}.flac", 0.2)
        path = f"{name}/{speaker}/{chapter}/{speaker}-{chapter}.trans.txt"
        texts[path] = texts.get(path, "") + f"{utterance} NUMBER  {int(number)}\n"
    corpus(root, [], texts)


@pytest.fixture
def books(tmp_path: Path) -> Path:
    root = tmp_path / "data" / "LibriSpeech"
    subset(root, "train-clean-100", "103-1240-0000", "103-1240-0001", "103-1241-0000", "26-495-0003")
    subset(root, "train-clean-360", "14-208-0000")
    subset(root, "train-other-500", "20-205-0000")
    for number, name in enumerate(("dev-clean", "dev-other", "test-clean", "test-other")):
        subset(root, name, f"84-12112{number}-0000")
    write(root / "README.TXT", "LibriSpeech\n")
    return root


def test_books(books: Path) -> None:
    rows = built("librispeech", books)
    assert of(rows["train"], "id", "speaker", "text") == [
        ("103-1240-0000", "103", "NUMBER  0"),
        ("103-1240-0001", "103", "NUMBER  1"),
        ("103-1241-0000", "103", "NUMBER  0"),
        ("26-495-0003", "26", "NUMBER  3"),
        ("14-208-0000", "14", "NUMBER  0"),
    ]
    assert rows["train"][0]["seconds"] == pytest.approx(0.2)
    assert relative(rows, books)["dev"] == ["dev-clean/84/121120/84-121120-0000.flac"]
    assert built("librispeech", books.parent) == rows


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("clean", {"train": 5, "dev": 1, "test": 1}),
        ("clean_100", {"train": 4, "dev": 1, "test": 1}),
        ("other", {"train": 1, "dev": 1, "test": 1}),
        ("all", {"train": 6, "dev": 1, "dev_other": 1, "test": 1, "test_other": 1}),
    ],
)
def test_parts_of_the_books(books: Path, tmp_path: Path, config: str, expected: dict[str, int]) -> None:
    assert counts(f"librispeech/{config}", books, tmp_path / "cache") == expected


def test_one_part_of_the_books(books: Path, tmp_path: Path) -> None:
    assert counts("librispeech", books / "dev-clean", tmp_path / "cache") == {"dev": 1}
    assert counts("librispeech/all", books / "test-other", tmp_path / "cache") == {"test_other": 1}
    assert "nothing here for 'other': expected a folder with train-clean" in failure(
        "librispeech/other", books / "dev-clean"
    )


def test_books_that_lack_something(books: Path, tmp_path: Path) -> None:
    for number in ("1240/103-1240-0000", "1240/103-1240-0001", "1241/103-1241-0000"):
        (books / "train-clean-100" / "103" / f"{number}.flac").unlink()
    (books / "train-clean-360" / "14" / "208" / "14-208-0000.flac").unlink()
    message = failure("librispeech", books)
    assert "librispeech: 4 of 7 listed audio files are not there: " in message and message.endswith(", ...")
    assert message.count(".flac") == 3
    path = books / "train-clean-100" / "26" / "495" / "26-495.trans.txt"
    write(path, "26-495-0003\n")
    assert f"{path}, line 1: expected a line such as '84-121123-0000 GO DO YOU HEAR'" in failure("librispeech", books)
    path.write_bytes(b"26-495-0003 FINE\n26-495-0004 CAF\xc9\n")
    assert f"{path}, line 2: not UTF-8 (byte 0xc9)" in failure("librispeech", books)
    path.unlink()
    assert f"{path.parent}: no 26-495.trans.txt" in failure("librispeech", books)
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path / 'empty'}: expected a folder with train-clean-100/SPEAKER" in failure(
        "librispeech", tmp_path / "empty"
    )
    write(tmp_path / "empty" / "dev-clean.tar.gz", "")
    assert failure("librispeech", tmp_path / "empty").endswith("unpack dev-clean.tar.gz first")


# Common Voice

VOICES = "client_id\tpath\tsentence\tup_votes\n"


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    root = tmp_path / "data" / "cv-corpus-17.0-2024-03-15"
    tables = {"train": ["a", "b"], "dev": ["c"], "test": ["d"]}
    for language in ("cy", "sv-SE"):
        texts = {
            f"{language}/{split}.tsv": VOICES + "".join(f'v{name}\tcv_{name}.mp3\tSay "{name}\t2\n' for name in names)
            for split, names in tables.items()
        }
        texts[f"{language}/validated.tsv"] = VOICES
        corpus(root, [f"{language}/clips/cv_{name}.mp3" for name in "abcd"], texts)
    write(root / "cy" / "clip_durations.tsv", "clip\tduration[ms]\ncv_a.mp3\t4250\n")
    return root


def test_voices(voices: Path) -> None:
    rows = built("common_voice/sv-SE", voices)
    assert {split: of(table, "id", "speaker", "text") for split, table in rows.items()} == {
        "train": [("cv_a", "va", 'Say "a'), ("cv_b", "vb", 'Say "b')],
        "dev": [("cv_c", "vc", 'Say "c')],
        "test": [("cv_d", "vd", 'Say "d')],
    }
    assert relative(rows, voices)["test"] == ["sv-SE/clips/cv_d.mp3"]
    assert built("common_voice/sv-SE", voices.parent) == rows
    assert built("common_voice", voices / "sv-SE") == rows
    seconds = [row["seconds"] for row in built("common_voice/cy", voices)["train"]]
    assert seconds[0] == 4.25 and seconds[1] == pytest.approx(0.1, abs=0.15)  # an mp3 is whole frames


def test_voices_that_are_not_there(voices: Path, tmp_path: Path) -> None:
    assert "unknown config of common_voice 'sv': did you mean 'sv-SE'?" in failure("common_voice/sv", voices)
    assert "common_voice needs a config, such as common_voice/cy: one of cy, sv-SE" in failure("common_voice", voices)
    (tmp_path / "empty").mkdir()
    message = "expected a folder with clips/, train.tsv, dev.tsv and test.tsv"
    assert message in failure("common_voice", tmp_path / "empty")
    assert message in failure("common_voice/cy", tmp_path / "empty")
    path = voices / "cy" / "train.tsv"
    write(path, VOICES + "v\tcv_a\tOld names lack the ending\t1\nv\tcv_z.mp3\tGone\t1\n")
    assert f"1 of 4 listed audio files are not there: {voices}/cy/clips/cv_z.mp3" in failure("common_voice/cy", voices)
    write(path, VOICES + "v\tcv_a.mp3\tTorn\n")
    assert f"{path}, line 2: 3 cells under 4 column names" in failure("common_voice/cy", voices)
    write(path, "path\tsentence\n")
    assert f"{path}, line 1: expected a column 'client_id', found path, sentence" in failure("common_voice/cy", voices)


# CoVoST 2

TRANSLATED = "path\tsentence\ttranslation\tclient_id\n"


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    return corpus(tmp_path / "data" / "en", [f"clips/common_voice_en_{number}.mp3" for number in range(5)])


def test_translations(clips: Path) -> None:
    for number, split in enumerate(("train", "dev", "test")):
        text = f'common_voice_en_{number}.mp3\tHe said \\"yes\\".\tEr sagte Ja.\tspeaker{number}\n'
        write(clips / f"covost_v2.en_de.{split}.tsv", TRANSLATED + text)
    rows = built("covost2/en_de", clips)
    assert {split: of(table, "id", "text", "translation", "speaker") for split, table in rows.items()} == {
        split: [(f"common_voice_en_{number}", 'He said "yes".', "Er sagte Ja.", f"speaker{number}")]
        for number, split in enumerate(("train", "dev", "test"))
    }
    assert relative(rows, clips)["dev"] == ["clips/common_voice_en_1.mp3"]
    assert built("covost2", clips) == built("covost2/en_de", clips.parent) == rows
    write(clips / "covost_v2.en_zh-CN.train.tsv", TRANSLATED + "common_voice_en_0.mp3\tYes\t\u662f\ts\n")
    assert list(built("covost2/en_zh-CN", clips)) == ["train"]
    assert "covost2 needs a config, such as covost2/en_de: one of en_de, en_zh-CN" in failure("covost2", clips)
    assert "unknown config of covost2 'en_zh': did you mean" in failure("covost2/en_zh", clips)
    write(clips / "covost_v2.en_zh-CN.train.tsv", TRANSLATED + "common_voice_en_9.mp3\tYes\t\u662f\ts\n")
    assert "1 of 1 listed audio files are not there" in failure("covost2/en_zh-CN", clips)


def test_translations_as_they_are_published(clips: Path) -> None:
    """Translations beside Common Voice's sentences; of five kinds of rows the script that joins them keeps four."""
    splits = ("train", "train_covost", "dev", "dev_covost", "test")
    table = "".join(f"common_voice_en_{n}.mp3\tSatz {n}\t{split}\tx\n" for n, split in enumerate(splits))
    write(clips / "covost_v2.en_de.tsv", "path\ttranslation\tsplit\tclient_id\n" + table)
    assert f"{clips}: no validated.tsv (Common Voice 4's sentences" in failure("covost2/en_de", clips)
    sentences = "".join(f"s{n}\tcommon_voice_en_{n}.mp3\tSentence {n}\t2\n" for n in range(6))
    write(clips / "validated.tsv", "client_id\tpath\tsentence\tup_votes\n" + sentences)
    rows = built("covost2/en_de", clips)
    assert {split: of(found, "text", "translation", "speaker") for split, found in rows.items()} == {
        "train": [("Sentence 0", "Satz 0", "s0"), ("Sentence 1", "Satz 1", "s1")],
        "dev": [("Sentence 2", "Satz 2", "s2")],
        "test": [("Sentence 4", "Satz 4", "s4")],
    }


# ML2021_ASR_ST

LECTURES = "file\ttranscription\ttranslation\n"
CUTS = "file\tstart\tend\ttranscription\ttranslation\n"


@pytest.fixture
def lectures(tmp_path: Path) -> Path:
    names = [f"week{number}_1.wav" for number in (10, 2, 1, 3)]
    rows = "".join(f"{name}\t\u9019\u662f {name[4:-6]} self-attention \u7684 \u8ab2\tLesson\n" for name in names)
    return corpus(tmp_path / "data" / "lectures", names, {"lectures.tsv": LECTURES + rows})


def test_lectures(lectures: Path) -> None:
    rows = built("ml2021_asr_st", lectures)
    assert {split: of(table, "id", "text", "translation") for split, table in rows.items()} == {
        "train": [
            ("week2_1", "\u9019 \u662f 2 self-attention \u7684 \u8ab2", "Lesson"),
            ("week1_1", "\u9019 \u662f 1 self-attention \u7684 \u8ab2", "Lesson"),
        ],
        "dev": [("week3_1", "\u9019 \u662f 3 self-attention \u7684 \u8ab2", "Lesson")],
        "test": [("week10_1", "\u9019 \u662f 10 self-attention \u7684 \u8ab2", "Lesson")],
    }
    assert relative(rows, lectures)["test"] == ["week10_1.wav"]
    (lectures / "wavs").mkdir()
    for path in lectures.glob("*.wav"):
        path.rename(lectures / "wavs" / path.name)
    assert relative(built("ml2021_asr_st", lectures), lectures)["test"] == ["wavs/week10_1.wav"]
    text = [{name: row[name] for name in ("id", "text", "translation")} for row in rows["train"]]
    assert built("ml2021_asr_st/text", lectures)["train"] == text


def test_segments(lectures: Path) -> None:
    message = f"{lectures}: no segments.tsv: 'hfcourse align' makes it"
    assert message in failure("ml2021_asr_st/segments", lectures)
    cuts = "week10_1.wav\t0.5\t2\t\u4f60\u597d\tHello\nweek10_1.wav\t2\t2.25\t\u597d\tGood\nweek1_1.wav\t0\t1\thi\tHi\n"
    write(lectures / "segments.tsv", CUTS + cuts)
    rows = built("ml2021_asr_st/segments", lectures)
    columns = ("id", "start", "duration", "seconds", "text", "translation")
    assert {split: of(table, *columns) for split, table in rows.items()} == {
        "train": [("week1_1-00000", 0, 1, 1, "hi", "Hi")],
        "test": [
            ("week10_1-00000", 0.5, 1.5, 1.5, "\u4f60 \u597d", "Hello"),
            ("week10_1-00001", 2, 0.25, 0.25, "\u597d", "Good"),
        ],
    }
    assert "start" not in built("ml2021_asr_st/lectures", lectures)["test"][0]
    (lectures / "lectures.tsv").unlink()
    assert list(built("ml2021_asr_st/segments", lectures)) == ["train"]  # two recordings are too few to hold any out


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ("week1_1.wav\t2\t1\ta\tb", "the segment ends at 1 s, before its start at 2 s"),
        ("week1_1.wav\t1\t1\ta\tb", "the segment ends at 1 s, before its start at 1 s"),
        ("week1_1.wav\t0:30\t1\ta\tb", "start '0:30' is no time in seconds"),
        ("week1_1.wav\t-1\t1\ta\tb", "start '-1' is no time in seconds"),
        ("week1_1.wav\t0\tnan\ta\tb", "end 'nan' is no time in seconds"),
        ("week7_1.wav\t0\t1\ta\tb", "recording 'week7_1.wav' is none of"),
        ("week1_1.wav\t0\t1\ta", "4 cells under 5 column names"),
    ],
)
def test_segments_that_do_not_fit(lectures: Path, cut: str, message: str) -> None:
    path = write(lectures / "segments.tsv", f"{CUTS}week1_1.wav\t0\t1\ta\tb\n{cut}\n")
    assert f"{path}, line 3: {message}" in failure("ml2021_asr_st/segments", lectures)


def test_lectures_that_do_not_fit(lectures: Path) -> None:
    write(lectures / "more.csv", 'file,transcription,translation\nweek9_1.wav,"a, b",c\n')
    assert f"1 of 5 listed audio files are not there: {lectures / 'week9_1.wav'}" in failure("ml2021_asr_st", lectures)
    assert [row["text"] for row in built("ml2021_asr_st/text", lectures)["dev"]] == ["a, b"]
    write(lectures / "more.csv", "file,transcription,translation\nweek1_1.wav,a,b\n")
    assert f"{lectures / 'more.csv'}, line 2: week1_1.wav is there twice" in failure("ml2021_asr_st", lectures)
    write(lectures / "more.csv", "name,text\n")
    assert f"{lectures / 'more.csv'}, line 1: expected a column 'file'" in failure("ml2021_asr_st", lectures)


def test_a_table_in_parquet(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    corpus(tmp_path / "data", ["a.wav"])
    path = tmp_path / "data" / "table.parquet"
    cells = {"file": ["a.wav"], "transcription": ["\u4f60\u597d"], "translation": ["Hello"], "other": [1]}
    parquet.write_table(pyarrow.table(cells), path)
    assert of(built("ml2021_asr_st", tmp_path / "data")["train"], "id", "text") == [("a", "\u4f60 \u597d")]
    parquet.write_table(pyarrow.table({"file": ["a.wav"]}), path)
    assert f"{path}: not a parquet file with columns file," in failure("ml2021_asr_st", tmp_path / "data")
    parquet.write_table(pyarrow.table(cells | {"translation": [None]}), path)
    assert f"{path}, row 1: no translation" in failure("ml2021_asr_st", tmp_path / "data")


def test_splits_follow_the_course() -> None:
    names = [f"week{week}_{part}.wav" for week in range(12, 0, -1) for part in (2, 1)]
    splits = split_of(names)
    assert [name for name in names if splits[name] == "test"] == ["week12_2.wav", "week12_1.wav"]
    assert [name for name in names if splits[name] == "dev"] == ["week11_2.wav", "week11_1.wav"]
    assert list(split_of(["a", "b"]).values()) == ["train", "train"]
    assert split_of(["c", "b", "a"]) == {"a": "train", "b": "dev", "c": "test"}


def test_spaces_between_characters() -> None:
    assert spaced("\u6211\u5011\u8b1bBERT  \u597d\u55ce") == "\u6211 \u5011 \u8b1b BERT \u597d \u55ce"
    assert spaced("\u4e0a \u6b21 self-supervised learning") == "\u4e0a \u6b21 self-supervised learning"


def test_the_real_lectures(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "ml2021_asr_st"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    rows = load("ml2021_asr_st/text", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: table["id"][:] for split, table in rows.items()} == {
        "train": ["week10_1"],
        "dev": ["week10_2"],
        "test": ["week10_4"],
    }
    raw = {line.split("\t")[0]: line.split("\t") for line in (folder / "lectures.tsv").read_text().splitlines()}
    for table in rows.values():
        assert table["translation"][0] == raw[f"{table['id'][0]}.wav"][2].strip()
        assert table["text"][0] == " ".join(raw[f"{table['id'][0]}.wav"][1].split())  # it is spaced as it is
    with pytest.raises(DataError, match="3 of 3 listed audio files are not there"):
        load("ml2021_asr_st", data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
