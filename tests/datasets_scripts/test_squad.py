"""SQuAD's layout, v1 and v2, made here by hand and from the public development set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hfcourse_datasets import squad

from hfcourse.data.loading import load

from .build import built, failure, write

CONTEXT = "Oslo is a city. Oslo lies by a fjord."


def answer(text: str, start: int) -> dict[str, Any]:
    return {"text": text, "answer_start": start}


def layout(*questions: dict[str, Any]) -> str:
    return json.dumps(
        {"version": "1", "data": [{"title": "Oslo", "paragraphs": [{"context": CONTEXT, "qas": list(questions)}]}]}
    )


def test_version_1(tmp_path: Path) -> None:
    where = {"id": "a", "question": "Where?", "answers": [answer("a fjord", 29)]}
    what = {"id": "b", "question": "What?", "answers": [answer("Oslo", 0), answer("Oslo", 16), answer("Oslo", 0)]}
    write(tmp_path / "q" / "train-v1.1.json", layout(where))
    write(tmp_path / "q" / "dev-v1.1.json.gz", layout(what))
    write(tmp_path / "q" / "evaluate.py", "print()")
    row = {"title": "Oslo", "context": CONTEXT}
    assert built("squad", tmp_path / "q") == {
        "train": [
            {"id": "a", "question": "Where?", "answers": {"text": ["a fjord"], "answer_start": [29]}} | row,
        ],
        "dev": [
            {"id": "b", "question": "What?", "answers": {"text": ["Oslo", "Oslo"], "answer_start": [0, 16]}} | row,
        ],
    }


def test_version_2(tmp_path: Path) -> None:
    none = {"id": "a", "question": "?", "is_impossible": True, "answers": [], "plausible_answers": [answer("Oslo", 0)]}
    some = {"id": "b", "question": "?", "is_impossible": False, "answers": [answer("city", 10)]}
    hidden = {"id": 3, "question": "?"}
    path = write(tmp_path / "q" / "questions.json", layout(none, some, hidden))
    for place in (path.parent, path):  # a folder, or the file itself
        (rows,) = built("squad", place).values()
        assert [(row["id"], row["answers"]["text"]) for row in rows] == [("a", []), ("b", ["city"]), ("3", [])]


def test_starts_that_are_off_are_put_right(tmp_path: Path) -> None:
    """The place nearest to the one given; what stands nowhere is left for the task to refuse."""
    given = [answer("Oslo", 14), answer("Oslo", 3), answer("a city", -5), answer("Bergen", 4)]
    questions = [{"id": str(n), "question": "?", "answers": [found]} for n, found in enumerate(given)]
    write(tmp_path / "q" / "dev.json", layout(*questions, {"id": "x", "question": "?", "answers": [{"text": "fjord"}]}))
    starts = [row["answers"]["answer_start"] for row in built("squad", tmp_path / "q")["dev"]]
    assert starts == [[16], [0], [8], [4], [31]]


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "q" / "train.json", '{"data": [\n{"title": }]}')
    assert f"{path}, line 2: not JSON" in failure("squad", path.parent)
    for text in ('{"rows": []}', '[{"a": 1}]', '{"data": ["x"]}', layout({"question": "?"})):
        write(path, text)
        assert f"{path}: not SQuAD's layout: data > paragraphs > qas, lacking" in failure("squad", path.parent)
    path.write_bytes(b'{"data":\n"\xe9"}')
    assert f"{path}, line 2: not UTF-8 (byte 0xe9)" in failure("squad", path.parent)
    path.rename(path.with_suffix(".txt"))
    assert "expected a file or a folder with train-v1.1.json and dev-v1.1.json" in failure("squad", path.parent)


def test_the_public_development_set(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "squad_v1_dev" / "dev.json.gz"
    dev = load("squad", data_dir=str(path), cache_dir=str(tmp_path / "cache"))["dev"]
    rows = dev.to_list()
    assert len(rows) == 10570 and len({row["id"] for row in rows}) == 10570
    for row in rows:
        found = row["answers"]
        assert found["text"]
        pairs = zip(found["text"], found["answer_start"], strict=True)
        assert all(row["context"][start : start + len(text)] == text for text, start in pairs)
    assert squad.fingerprint(str(path)) != squad.fingerprint(str(path.parent))
