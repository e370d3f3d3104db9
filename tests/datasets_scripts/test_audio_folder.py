"""Any folder of sounds, and what the builders of speech corpora share."""

from __future__ import annotations

import os
from pathlib import Path

import datasets
import pytest
from hfcourse_datasets import audio_folder
from hfcourse_datasets._files import seconds

from hfcourse.data.loading import labels_of, load
from hfcourse.errors import DataError

from .build import built, failure, write
from .sounds import corpus, of, relative, sound

KINDS = ("wav", "flac", "ogg", "mp3", "aiff", "WAV")


def test_any_kind_at_any_depth(tmp_path: Path) -> None:
    root = corpus(
        tmp_path / "f", [f"a/b/{number}.{kind}" for number, kind in enumerate(KINDS)], {"a/notes.txt": "no\n"}
    )
    sound(root / "top.wav", 0.5)
    sound(root / ".trash" / "old.wav")
    rows = built("audio_folder", root)
    assert list(rows) == ["train"]
    found = {row["id"]: (row["speaker"], row["seconds"]) for row in rows["train"]}
    assert found.keys() == {"top.wav"} | {f"a/b/{number}.{kind}" for number, kind in enumerate(KINDS)}
    assert found["top.wav"] == ("", 0.5) and found["a/b/0.wav"] == ("b", pytest.approx(0.1))
    assert all(length == pytest.approx(0.1, abs=0.15) for name, (_, length) in found.items() if name != "top.wav")
    assert sorted(relative(rows, root)["train"]) == sorted(found)


def test_files_that_cannot_be_read_are_counted_by_others(tmp_path: Path) -> None:
    root = corpus(tmp_path / "f", ["good.wav"], {"bad.wav": "no sound", "empty.flac": ""})
    assert of(built("audio_folder", root)["train"], "id", "seconds") == [
        ("bad.wav", -1),
        ("empty.flac", -1),
        ("good.wav", pytest.approx(0.1)),
    ]
    assert seconds(root / "away.wav") == -1


def test_splits_by_names_of_folders(tmp_path: Path) -> None:
    names = ("train-clean/ann/test 1.wav", "valid/bob/a.wav", "test/a.wav", "cid/a.wav", "train/test/a.wav")
    rows = built("audio_folder", corpus(tmp_path / "f", list(names)))
    assert {split: of(table, "id", "speaker") for split, table in rows.items()} == {
        "train": [("cid/a.wav", "cid"), ("train-clean/ann/test 1.wav", "ann")],
        "dev": [("valid/bob/a.wav", "bob")],
        "test": [("test/a.wav", ""), ("train/test/a.wav", "")],
    }


def test_a_folder_a_class(tmp_path: Path) -> None:
    names = [
        "train/yes/a.wav",
        "train/no/a.wav",
        "train/no/b.wav",
        "dev/yes/c.wav",
        "test/a dev/d.wav",
        "train/a dev/e.wav",
    ]
    root = corpus(tmp_path / "f", names)
    found = load("audio_folder/labelled", data_dir=str(root), cache_dir=str(tmp_path / "cache"))
    labels = labels_of(found["train"], "label")
    assert labels == ["a dev", "no", "yes"]
    assert {split: [labels[label] for label in table["label"]] for split, table in found.items()} == {
        "train": ["a dev", "no", "no", "yes"],
        "dev": ["yes"],
        "test": ["a dev"],
    }
    flat = corpus(tmp_path / "g", ["dog/a.wav", "cat/a.wav"])
    assert of(built("audio_folder/labelled", flat)["train"], "id", "label") == [("cat/a.wav", 0), ("dog/a.wav", 1)]
    path = sound(root / "test" / "loose.wav")
    assert f"{path}: lies in no folder of a class: expected such as train/CLASS/loose.wav" in failure(
        "audio_folder/labelled", root
    )


def test_no_sounds(tmp_path: Path) -> None:
    write(tmp_path / "f" / "a.txt", "no sound\n")
    assert "nothing here for 'unlabelled': expected a folder with audio files" in failure(
        "audio_folder", tmp_path / "f"
    )
    assert "nothing here for 'labelled'" in failure("audio_folder/labelled", tmp_path / "f")
    assert f"{tmp_path / 'f' / 'a.txt'}: not a folder" in failure("audio_folder", tmp_path / "f" / "a.txt")
    assert "no such file or folder" in failure("audio_folder", tmp_path / "away")
    with pytest.raises(DataError) as error:
        load("audio_folder", cache_dir=str(tmp_path / "cache"))
    assert "it reads files that you have: give --task.data_dir a folder with audio files" in str(error.value)


# What all of them share


def test_columns_keep_paths(tmp_path: Path) -> None:
    """The type is the library's own, also after a second look into the cache, and `map` goes on with it."""
    root = corpus(tmp_path / "f", ["a.wav"])
    for _ in range(2):
        table = load("audio_folder", data_dir=str(root), cache_dir=str(tmp_path / "cache"))["train"]
        assert table.features["audio"] == datasets.Audio(decode=False)
        longer = table.map(lambda row: {"bytes": Path(row["audio"]["path"]).stat().st_size})
        assert longer[0]["audio"] == {"bytes": None, "path": str(root / "a.wav")} and longer[0]["bytes"] > 1600


def test_a_relative_folder_gives_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus(tmp_path / "f", ["a.wav"])
    monkeypatch.chdir(tmp_path)
    table = load("audio_folder", data_dir="f", cache_dir=str(tmp_path / "cache"))["train"]
    assert table[0]["audio"]["path"] == str(tmp_path / "f" / "a.wav")


def test_links(tmp_path: Path) -> None:
    root = corpus(tmp_path / "f", ["a/1.wav"])
    corpus(tmp_path / "elsewhere", ["2.wav"])
    (root / "b").symlink_to(tmp_path / "elsewhere")
    (root / "a" / "round").symlink_to(root)
    (root / "gone.wav").symlink_to(tmp_path / "away.wav")
    assert [row["id"] for row in built("audio_folder", root)["train"]] == ["a/1.wav", "b/2.wav"]


def test_changes_are_seen(tmp_path: Path) -> None:
    root = corpus(tmp_path / "f", ["a/1.wav", "a/2.wav"])
    seen = [audio_folder.fingerprint(str(root))]
    assert audio_folder.fingerprint(str(root)) == seen[0]
    sound(root / "a" / "3.wav")
    seen.append(audio_folder.fingerprint(str(root)))
    (root / "a" / "3.wav").rename(root / "a" / "4.wav")
    seen.append(audio_folder.fingerprint(str(root)))
    sound(root / "a" / "4.wav", 0.2)
    seen.append(audio_folder.fingerprint(str(root)))
    os.utime(root / "a" / "1.wav", ns=(1, 1))
    seen.append(audio_folder.fingerprint(str(root)))
    assert len(set(seen)) == 5
    assert audio_folder.fingerprint(None) != audio_folder.fingerprint(str(tmp_path / "away"))


def test_a_new_file_is_read(tmp_path: Path) -> None:
    root = corpus(tmp_path / "f", ["1.wav"])
    assert len(built("audio_folder", root)["train"]) == 1
    sound(root / "2.wav")
    assert len(built("audio_folder", root)["train"]) == 2


def test_names_in_other_cases_and_several_folders(tmp_path: Path) -> None:
    root = corpus(tmp_path / "data", ["A/RECORDINGS/0_theo_0.WAV"])
    assert [row["id"] for row in built("fsdd", root / "a".upper())["test"]] == ["0_theo_0"]
    corpus(root, ["A/recordings-2/0_theo_0.wav"])
    assert "several folders fit: give the path of one of RECORDINGS, recordings-2" in failure("fsdd", root / "A")
