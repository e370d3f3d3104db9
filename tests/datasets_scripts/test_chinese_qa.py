"""DRCD, and both layouts of CMRC 2018."""

from __future__ import annotations

import json
from pathlib import Path

from hfcourse.data.loading import load

from .build import built, failure, write

CONTEXT = "范廷颂枢机，越南罗马天主教枢机。1963年，他被任命为主教。"
FLAT = [
    {
        "context_id": "TRIAL_0",
        "context_text": CONTEXT,
        "title": "范廷颂",
        "qas": [
            {
                "query_id": "TRIAL_0_QUERY_0",
                "query_text": "范廷颂是什么时候被任为主教的？",
                "answers": ["1963年", "1963", "1963年"],
            },
            {"query_id": "TRIAL_0_QUERY_1", "query_text": "他是谁？", "answers": ["枢机"]},
        ],
    }
]
NESTED = {
    "version": "v1.0",
    "data": [
        {
            "title": "范廷颂",
            "paragraphs": [
                {
                    "id": "TRIAL_0",
                    "context": CONTEXT,
                    "qas": [
                        {
                            "id": "TRIAL_0_QUERY_0",
                            "question": "范廷颂是什么时候被任为主教的？",
                            "answers": [{"text": "1963年", "answer_start": 16}, {"text": "1963", "answer_start": 16}],
                        },
                        {
                            "id": "TRIAL_0_QUERY_1",
                            "question": "他是谁？",
                            "answers": [{"text": "枢机", "answer_start": 3}],
                        },
                    ],
                }
            ],
        }
    ],
}


def test_both_layouts_of_cmrc_are_one(tmp_path: Path) -> None:
    write(tmp_path / "c" / "cmrc2018_train.json", json.dumps(FLAT, ensure_ascii=False, indent=1))
    write(tmp_path / "c" / "cmrc2018_dev.json.gz", json.dumps(NESTED))
    write(tmp_path / "c" / "cmrc2018_trial.json", json.dumps(FLAT))
    found = built("cmrc2018", tmp_path / "c")
    assert set(found) == {"train", "dev", "trial"}
    assert found["train"] == found["dev"] == found["trial"]
    assert found["train"][0]["answers"] == {"text": ["1963年", "1963"], "answer_start": [16, 16]}
    assert found["train"][1]["id"] == "TRIAL_0_QUERY_1" and found["train"][1]["title"] == "范廷颂"
    assert found["train"][1]["answers"] == {"text": ["枢机"], "answer_start": [3]}


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "c" / "cmrc2018_dev.json", '[\n{"context_text": }]')
    assert f"{path}, line 2: not JSON" in failure("cmrc2018", path.parent)
    write(path, '[{"context_text": "x", "qas": [{"query_id": "1"}]}]')
    assert f"{path}: not CMRC's layout: context_text and qas, lacking 'answers'" in failure("cmrc2018", path.parent)
    path.write_bytes(b'[{"context_text": "\xb0\xa1"}]')
    assert f"{path}, line 1: not UTF-8" in failure("cmrc2018", path.parent)
    path.unlink()
    assert "expected a file or a folder with cmrc2018_train.json" in failure("cmrc2018", path.parent)
    assert "expected a file or a folder with DRCD_training.json" in failure("drcd", path.parent)


def test_drcd(tmp_path: Path) -> None:
    for name in ("DRCD_training.json", "DRCD_dev.json", "DRCD_test.json"):
        write(tmp_path / "d" / name, json.dumps(NESTED))
    found = built("drcd", tmp_path / "d")
    assert set(found) == {"train", "dev", "test"}
    assert found["train"][1]["question"] == "他是谁？"


def test_the_public_files_of_drcd(shared_data: Path, tmp_path: Path) -> None:
    found = load("drcd", data_dir=str(shared_data / "drcd"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(table) for split, table in found.items()} == {"dev": 3524, "test": 3493}
    for row in found["dev"].to_list():
        for text, start in zip(row["answers"]["text"], row["answers"]["answer_start"], strict=True):
            assert row["context"][start : start + len(text)] == text
