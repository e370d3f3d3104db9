"""Corpora of more than one sound a row, in their published layouts: mixtures, noise, trials, queries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hfcourse.data.loading import labels_of, load

from .build import built, counts, failure, write
from .sounds import corpus, of, relative, sound

# Libri2Mix

A, B, C = "4640-19187-0026_4160-14187-0033", "103-1240-0000_26-495-0001", "14-208-0000_20-205-0000"
KINDS = ("mix_clean", "mix_both", "mix_single", "s1", "s2")


def mixtures(mode: Path, **parts: list[str]) -> None:
    for part, names in parts.items():
        folder = {"train": "train-100", "more": "train-360"}.get(part, part)
        corpus(mode / folder, [f"{kind}/{name}.wav" for kind in KINDS for name in names])


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    root = tmp_path / "data"
    mixtures(root / "Libri2Mix/wav16k/min", train=[A, B], dev=[A], test=[B])
    mixtures(root / "Libri2Mix/wav16k/max", train=[B], more=[C], dev=[A], test=[B])
    mixtures(root / "Libri2Mix/wav8k/min", train=[A, B], dev=[A, B], test=[A, B])
    return root


def test_separation(mixed: Path) -> None:
    rows = built("libri2mix", mixed)
    assert relative(rows, mixed / "Libri2Mix/wav16k/min") == {
        "train": [f"train-100/mix_clean/{B}.wav", f"train-100/mix_clean/{A}.wav"],
        "dev": [f"dev/mix_clean/{A}.wav"],
        "test": [f"test/mix_clean/{B}.wav"],
    }
    home = f"{mixed}/Libri2Mix/wav16k/min"
    row = rows["dev"][0]
    assert [voice["path"] for voice in row["sources"]] == [f"{home}/dev/{voice}/{A}.wav" for voice in ("s1", "s2")]
    assert row["id"] == A and row["speaker"] == "" and row["seconds"] == pytest.approx(0.1)
    noisy = built("libri2mix/separation_noisy", mixed / "Libri2Mix")["dev"][0]
    assert noisy["audio"]["path"] == f"{home}/dev/mix_both/{A}.wav" and noisy["sources"] == row["sources"]
    larger = built("libri2mix", mixed / "Libri2Mix" / "wav16k" / "max")
    assert {split: len(table) for split, table in larger.items()} == {"train": 1, "train_360": 1, "dev": 1, "test": 1}


def test_enhancement(mixed: Path) -> None:
    rows = built("libri2mix/enhancement", mixed)["test"]
    assert of(rows, "audio", "clean") == [
        tuple(f"{mixed}/Libri2Mix/wav16k/min/test/{kind}/{B}.wav" for kind in ("mix_both", "mix_clean"))
    ]
    row = built("libri2mix/enhancement_single", mixed)["test"][0]
    assert row["audio"]["path"].endswith(f"test/mix_single/{B}.wav") and row["clean"]["path"].endswith(f"s1/{B}.wav")
    assert row["speaker"] == "103" and "sources" not in row


def test_a_list_says_what_has_to_be_there(mixed: Path) -> None:
    listed = mixed / "Libri2Mix/wav16k/min/metadata/mixture_dev_mix_clean.csv"
    write(listed, f"mixture_ID,mixture_path,length\n{A},/elsewhere/{A}.wav,800\n{B},/elsewhere/{B}.wav,800\n")
    message = failure("libri2mix", mixed)
    assert f"3 of 15 listed audio files are not there: {mixed}/Libri2Mix/wav16k/min/dev/mix_clean/{B}.wav" in message
    (mixed / f"Libri2Mix/wav16k/min/test/s2/{B}.wav").unlink()
    listed.unlink()
    assert "1 of 12 listed audio files are not there" in failure("libri2mix", mixed)


TURNS = [  # in the order of time, speaker 4160 is the second source though it speaks first
    {"speaker": 1, "start": 0.25, "end": 2.0},
    {"speaker": 0, "start": 1.5, "end": 3.0},
    {"speaker": 1, "start": 2.5, "end": 4.0},
]


def rttm(name: str, first: str, second: str) -> str:
    turns = [(second, 0.25, 1.75), (first, 1.5, 1.5), (second, 2.5, 1.5)]
    return "".join(f"SPEAKER {name} 1 {start} {length} <NA> <NA> {who} <NA> <NA>\n" for who, start, length in turns)


def test_who_speaks_when(mixed: Path) -> None:
    message = (
        "no *.rttm, and no segments with utt2spk, to tell who speaks when: write them here with LibriMix's scripts/"
    )
    assert message in failure("libri2mix/diarization", mixed)
    write(mixed / "diarization" / "dev.rttm", rttm(A, "4640", "4160"))
    rows = built("libri2mix/diarization", mixed)
    assert list(rows) == ["dev"]  # nothing is known of the others
    assert rows["dev"][0]["segments"] == TURNS
    assert rows["dev"][0]["audio"]["path"] == f"{mixed}/Libri2Mix/wav16k/max/dev/mix_both/{A}.wav"
    write(mixed / "diarization" / "test" / "rttm", rttm(f"{B}.wav", "one", "two"))
    assert built("libri2mix/diarization", mixed)["test"][0]["segments"] == [
        turn | {"speaker": 1 - int(str(turn["speaker"]))}  # names that are not the readers': by who comes first
        for turn in TURNS
    ]


def test_who_speaks_when_by_kaldi(mixed: Path) -> None:
    folder = mixed / "data" / "dev"
    times = ((1, "4160", 0.25, 2), (2, "4640", 1.5, 3), (3, "4160", 2.5, 4))
    write(folder / "segments", "".join(f"{who}_{n} {A} {start} {end}\n" for n, who, start, end in times))
    assert "no *.rttm" in failure("libri2mix/diarization", mixed)
    write(folder / "utt2spk", "".join(f"{who}_{n} {who}\n" for n, who, *_ in times))
    write(folder / "rttm", rttm(A, "4640", "4160"))  # the same turns are not counted twice
    assert built("libri2mix/diarization", mixed)["dev"][0]["segments"] == TURNS
    write(folder / "utt2spk", "4160_1 4160\n4160_3 4160\n")
    assert f"{folder / 'segments'}, line 2: '4640_2' has no speaker in" in failure("libri2mix/diarization", mixed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"SPEAKER {A} 1 zero 1 <NA> <NA> x <NA> <NA>\n", "line 1: time 'zero' is no time in seconds"),
        (f"SPEAKER {A} 1 0 1\n", f"line 1: expected a line such as 'SPEAKER {A} 1 0.00 3.25 <NA> <NA> 4640'"),
    ],
)
def test_turns_that_do_not_fit(mixed: Path, text: str, message: str) -> None:
    path = write(mixed / "dev.rttm", text)
    assert message in failure("libri2mix/diarization", mixed) and str(path) in failure("libri2mix/diarization", mixed)


def test_mixtures_without_turns_among_others(mixed: Path) -> None:
    mixtures(mixed / "Libri2Mix/wav16k/max", dev=[A, B])
    write(mixed / "dev.rttm", rttm(A, "4640", "4160"))
    assert f"1 of 2 mixtures have no segments: {B}" in failure("libri2mix/diarization", mixed)


def test_no_mixtures(tmp_path: Path) -> None:
    corpus(tmp_path / "data", ["wav16k/min/dev/s1/a.wav"])
    assert "nothing here for 'separation': expected Libri2Mix/wav16k/min" in failure("libri2mix", tmp_path / "data")
    assert "expected Libri2Mix/wav16k/min (or max)" in failure(
        "libri2mix", tmp_path / "data" / "wav16k" / "min" / "dev"
    )


# VoiceBank-DEMAND


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    names = {"trainset_28spk": ("p226_001", "p287_004", "p228_001", "p228_002"), "testset": ("p232_001", "p257_010")}
    files = [f"{kind}_{part}_wav/{n}.wav" for kind in ("clean", "noisy") for part in names for n in names[part]]
    return corpus(tmp_path / "data" / "DS_10283_2791", files)


def test_noise(noise: Path) -> None:
    rows = built("voicebank_demand", noise)
    assert {split: of(table, "id", "speaker") for split, table in rows.items()} == {
        "train": [("p228_001", "p228"), ("p228_002", "p228")],
        "dev": [("p226_001", "p226"), ("p287_004", "p287")],
        "test": [("p232_001", "p232"), ("p257_010", "p257")],
    }
    assert relative(rows, noise)["train"] == [f"noisy_trainset_28spk_wav/p228_00{n}.wav" for n in (1, 2)]
    assert relative(rows, noise, "clean")["test"] == [
        "clean_testset_wav/p232_001.wav",
        "clean_testset_wav/p257_010.wav",
    ]
    for folder in list(noise.iterdir()):
        folder.rename(folder.with_name(folder.name + "_16k"))
    assert relative(built("voicebank_demand", noise.parent), noise)["test"][0] == "noisy_testset_wav_16k/p232_001.wav"


def test_noise_without_its_twin(noise: Path) -> None:
    (noise / "clean_testset_wav" / "p232_001.wav").unlink()
    (noise / "noisy_trainset_28spk_wav" / "p228_001.wav").unlink()
    assert "2 of 12 listed audio files are not there" in failure("voicebank_demand", noise)
    (noise / "clean_testset_wav").rename(noise / "else")
    message = f"{noise}: no clean_testset_wav/, the twin of noisy_testset_wav/"
    assert message in failure("voicebank_demand", noise)
    assert "expected a folder with clean_trainset_28spk_wav/" in failure("voicebank_demand", noise / "else")


# VoxCeleb1


def celebrities(root: Path, **speakers: int) -> Path:
    """Speakers with so many recordings, two a video."""
    for speaker, count in speakers.items():
        for number in range(count):
            sound(root / speaker / f"video{number // 2}" / f"0000{number % 2}.wav")
    return root


def test_identification(tmp_path: Path) -> None:
    root = tmp_path / "VoxCeleb1"
    celebrities(root / "dev" / "wav", id10001=3)
    celebrities(root / "test" / "wav", id11251=1)
    lines = ["1 id10001/video0/00000.wav", "2 id10001/video0/00001.wav", "3 id10001/video1/00000.wav"]
    write(root / "iden_split.txt", "\n".join([*lines, "3 id11251/video0/00000.wav"]))
    rows = built("voxceleb1", root)
    assert {split: of(table, "id", "label", "speaker") for split, table in rows.items()} == {
        "train": [("id10001/video0/00000.wav", 0, "id10001")],
        "dev": [("id10001/video0/00001.wav", 0, "id10001")],
        "test": [("id10001/video1/00000.wav", 0, "id10001"), ("id11251/video0/00000.wav", 1250, "id11251")],
    }
    assert relative(rows, root)["test"][1] == "test/wav/id11251/video0/00000.wav"
    write(root / "iden_split.txt", "1 id10001/video0/00000.wav\n1 id99999/video0/00000.wav\n")
    assert "line 2: speaker 'id99999' is none of id10001, id10002" in failure("voxceleb1", root)
    write(root / "iden_split.txt", "4 id10001/video0/00000.wav\n")
    assert "line 1: split '4' is none of 1, 2, 3" in failure("voxceleb1", root)
    write(root / "iden_split.txt", "1 id10001/video7/00000.wav\n1 id10002/video0/00000.wav\n")
    assert "2 of 2 listed audio files are not there" in failure("voxceleb1", root)
    (root / "iden_split.txt").unlink()
    assert f"{root}: no iden_split.txt: it stands on the corpus's page" in failure("voxceleb1", root)


@pytest.fixture
def trials(tmp_path: Path) -> Path:
    root = tmp_path / "VoxCeleb1"
    celebrities(root / "wav", **{f"id1000{number}": 4 for number in range(1, 9)}, id10270=2, id10271=2)
    pairs = [
        "1 id10270/video0/00000.wav id10270/video0/00001.wav",
        "0 id10270/video0/00000.wav id10271/video0/00001.wav",
    ]
    write(root / "veri_test.txt", "\n".join(pairs))
    return root


def test_verification(trials: Path, tmp_path: Path) -> None:
    rows = load("voxceleb1/verification", data_dir=str(trials), cache_dir=str(tmp_path / "cache"))
    assert labels_of(rows["test"], "label") == ["different", "same"]
    found = {split: table.to_list() for split, table in rows.items()}
    assert of(found["test"], "label", "speaker", "audio", "audio_pair") == [
        (1, "id10270", f"{trials}/wav/id10270/video0/00000.wav", f"{trials}/wav/id10270/video0/00001.wav"),
        (0, "id10270", f"{trials}/wav/id10270/video0/00000.wav", f"{trials}/wav/id10271/video0/00001.wav"),
    ]
    assert all(row["label"] == -1 and row["audio_pair"] is None for row in found["train"])
    speakers = {split: {row["speaker"] for row in table} for split, table in found.items()}
    assert len(speakers["train"]) == 6 and len(speakers["dev"]) == 2 and not speakers["train"] & speakers["dev"]
    assert not speakers["test"] & (speakers["train"] | speakers["dev"])
    assert all(len({row["id"] for row in table}) == len(table) for table in found.values())


def test_dev_trials(trials: Path) -> None:
    for number in range(1, 9):
        for more in range(2, 6):
            sound(trials / "wav" / f"id1000{number}" / "video0" / f"0000{more}.wav")
    dev = built("voxceleb1/verification", trials)["dev"]
    assert [row["label"] for row in dev] == [1, 0] * 16  # each of 16 recordings once with its own, once with another's
    for row in dev:
        own, other = (
            (path.parts[-3], path.parts[-2], path.name) for path in map(path_of, (row["audio"], row["audio_pair"]))
        )
        assert (own[0] == other[0]) == bool(row["label"]) and row["speaker"] == own[0]
        assert own[1] != other[1] or not row["label"]  # the same video would give the speaker away


def path_of(value: dict[str, Any]) -> Path:
    return Path(value["path"])


def test_trials_that_do_not_fit(trials: Path, tmp_path: Path) -> None:
    write(trials / "veri_test.txt", "yes id10270/video0/00000.wav id10270/video0/00001.wav\n")
    assert "veri_test.txt, line 1: answer 'yes' is none of 0, 1" in failure("voxceleb1/verification", trials)
    write(trials / "veri_test.txt", "1 id10270/video0/00000.wav\n")
    assert "veri_test.txt, line 1: expected a line such as '1 id10270/" in failure("voxceleb1/verification", trials)
    write(tmp_path / "empty" / "veri_test.txt", "")
    assert "expected a folder with wav/id10001/VIDEO/00001.wav" in failure("voxceleb1/verification", tmp_path / "empty")


# QUESST 2014


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    def listed(folder: str, *names: str) -> str:
        return "".join(
            f"quesst14Database/{folder}/{name}.wav\t{language}\n" for name, language in map(str.split, names)
        )

    def lexeme(document: str, query: str) -> str:
        return f"LEXEME {document} 1 0.00 2.50 {query} lex {query} 0.5\n"

    documents = ("quesst14_00001", "quesst14_00002", "quesst14_00003")
    files = [f"Audio/{name}.wav" for name in documents]
    files += [f"dev_queries/quesst14_dev_000{n}.wav" for n in (1, 2, 3)] + ["eval_queries/quesst14_eval_0001.wav"]
    truth = lexeme(documents[0], "quesst14_dev_0001") * 2 + lexeme(documents[2], "quesst14_dev_0001")
    lists = {
        "language_key_utterances.lst": listed(
            "Audio", f"{documents[0]} nnenglish", f"{documents[1]} nnenglish", f"{documents[2]} czech"
        ),
        "language_key_dev.lst": listed(
            "dev_queries", "quesst14_dev_0001 nnenglish", "quesst14_dev_0002 nnenglish", "quesst14_dev_0003 czech"
        ),
        "language_key_eval.lst": listed("eval_queries", "quesst14_eval_0001 nnenglish"),
        "groundtruth_quesst14_dev/quesst14_dev.rttm": f"SPKR-INFO {documents[0]}\n" + truth,
        "groundtruth_quesst14_eval/quesst14_eval.rttm": lexeme(documents[1], "quesst14_eval_0001"),
    }
    return corpus(tmp_path / "data" / "quesst14Database", files, {f"scoring/{name}": t for name, t in lists.items()})


def test_queries(queries: Path, tmp_path: Path) -> None:
    rows = built("quesst14", queries)
    documents = [("quesst14_00001", 0, (), "nnenglish"), ("quesst14_00002", 0, (), "nnenglish")]
    found = {
        split: [(row["id"], row["role"], tuple(row["matches"]), row["language"]) for row in table]
        for split, table in rows.items()
    }
    assert found == {
        "dev": [
            *documents,
            ("quesst14_dev_0001", 1, ("quesst14_00001",), "nnenglish"),  # the Czech document is not there
            ("quesst14_dev_0002", 1, (), "nnenglish"),
        ],
        "test": [*documents, ("quesst14_eval_0001", 1, ("quesst14_00002",), "nnenglish")],
    }
    assert relative(rows, queries)["test"][2] == "eval_queries/quesst14_eval_0001.wav"
    assert built("quesst14", queries.parent) == rows
    every = built("quesst14/all", queries)
    assert counts("quesst14/all", queries, tmp_path / "cache") == {"dev": 6, "test": 4}
    assert [row["matches"] for row in every["dev"]][3] == ["quesst14_00001", "quesst14_00003"]


def test_queries_that_lack_something(queries: Path) -> None:
    truth = queries / "scoring/groundtruth_quesst14_dev/quesst14_dev.rttm"
    write(truth, "nothing\n")
    assert f"{truth}: no line 'LEXEME quesst14_00001 ... quesst14_dev_0001 ...'" in failure("quesst14", queries)
    truth.unlink()
    assert f"{truth.parent}: no quesst14_dev.rttm (which query is in" in failure("quesst14", queries)
    write(queries / "scoring/language_key_utterances.lst", "quesst14Database/Audio/quesst14_00001.wav\n")
    assert "language_key_utterances.lst, line 1: expected a line such as" in failure("quesst14", queries)
    (queries / "scoring").rename(queries / "points")
    assert f"{queries}: no scoring (lists and ground truth)" in failure("quesst14", queries)
