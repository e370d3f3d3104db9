"""Spans of a document: where answers stand, the windows it is read in, and the best span over all of them.

Characters are counted from 0, ends are exclusive. T is the length of a window in tokens.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Span = tuple[int, int]


def read_answers(cell: Any) -> list[tuple[str, int]] | None:
    """(text, start) of each answer from any of the usual layouts; start -1 where not given, None without a cell.

    ``{"text": [...], "answer_start": [...]}``, ``[{"text": ..., "answer_start": ...}, ...]``, or plain text(s).
    """
    if cell is None:
        return None
    if isinstance(cell, dict):
        texts = [cell["text"]] if isinstance(cell["text"], str) else cell["text"] or []
        starts = cell.get("answer_start")
        starts = [starts] if isinstance(starts, int) else starts or [-1] * len(texts)
        return [(text, -1 if at is None else at) for text, at in zip(texts, starts, strict=True)]
    if isinstance(cell, str):
        return [(cell, -1)] if cell.strip() else []
    return [answer for one in cell for answer in read_answers(one) or ()]


def place(context: str, answer: str, start: int) -> Span | None:
    """Where the answer stands without the spaces around it: at `start` or nearest to it; None if nowhere."""
    bare = answer.strip()
    if not bare:
        return None
    start += len(answer) - len(answer.lstrip()) if start >= 0 else 0
    if start < 0 or context[start : start + len(bare)] != bare:
        before, after = context.rfind(bare, 0, max(start, 0) + len(bare)), context.find(bare, max(start, 0))
        found = [at for at in (before, after) if at >= 0]
        if not found:
            return None
        start = min(found, key=lambda at: abs(at - start))
    return start, start + len(bare)


def encode_windows(
    columns: dict[str, list[Any]], tokenizer: Any, max_length: int, stride: int, longest_question: int
) -> dict[str, list[Any]]:
    """Windows of [question, document].

    ``starts`` and ``ends`` are the characters of each token of the document, -1 outside of it. ``start`` and ``end``
    are the tokens of the answer if it lies whole in the window, else 0 (the first token stands for "no answer
    here"); None without answers. ``question`` is the row of the table, ``cut`` says that its question was cut.
    """
    questions, cut = _cut_questions(columns["question"], tokenizer, longest_question)
    encoded = tokenizer(
        questions,
        columns["context"],
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )
    sample = encoded.pop("overflow_to_sample_mapping")
    offsets = encoded.pop("offset_mapping")
    rows: dict[str, list[Any]] = {name: list(values) for name, values in encoded.items()}
    rows |= {name: [] for name in ("starts", "ends", "start", "end")}
    rows |= {"question": [columns["number"][n] for n in sample], "cut": [cut[n] for n in sample]}
    for number, row in enumerate(sample):
        inside = np.array(encoded.sequence_ids(number), dtype=float) == 1  # None becomes nan
        edges = np.where(inside[:, None], np.array(offsets[number], dtype=np.int32).reshape(-1, 2), -1)
        target = columns["target"][row]
        span = None if target is None else (target["begin"], target["stop"])
        start, end = (None, None) if span is None else answer_tokens(edges, span)
        for name, value in (("starts", edges[:, 0]), ("ends", edges[:, 1]), ("start", start), ("end", end)):
            rows[name].append(value)
    return rows


def answer_tokens(edges: np.ndarray, span: Span) -> Span:
    """First and last token of a span of characters; (0, 0) if it does not lie whole in the window.

    Args:
        edges: characters of each token, int (T, 2), -1 outside of the document.
        span: characters of the answer; (-1, -1) for none.
    """
    inside = np.flatnonzero(edges[:, 1] > edges[:, 0])
    begin, stop = span
    if begin < 0 or not len(inside) or edges[inside[0], 0] > begin or edges[inside[-1], 1] < stop:
        return 0, 0
    first = int(np.searchsorted(edges[inside, 1], begin, side="right"))
    last = int(np.searchsorted(edges[inside, 0], stop, side="left")) - 1
    return (int(inside[first]), int(inside[last])) if first <= last else (0, 0)


def _cut_questions(questions: list[str], tokenizer: Any, longest: int) -> tuple[list[str], list[bool]]:
    """Questions without spaces around them and with at most `longest` tokens, and which were cut."""
    questions = [" ".join(question.split()) for question in questions]
    tokens = tokenizer(
        questions, add_special_tokens=False, return_offsets_mapping=True, return_attention_mask=False, verbose=False
    )
    edges = tokens["offset_mapping"]
    cut = [len(one) > longest for one in edges]
    return [q[: e[longest - 1][1]] if c else q for q, e, c in zip(questions, edges, cut, strict=True)], cut


class Spans:
    """The best spans of one document, gathered window by window."""

    def __init__(self) -> None:
        self.null = math.inf
        """The lowest score of "no answer" over the windows: each of them must find nothing."""
        self._scores: list[float] = []
        self._spans: list[Span] = []

    def add(self, scores: np.ndarray, starts: list[int], ends: list[int], *, n_best: int, longest: int) -> None:
        """Take in a window: its `n_best` starts and ends, combined to spans of at most `longest` tokens.

        Args:
            scores: of each token as start and as end, (T or more, 2); padding comes last.
            starts: first character of each token, -1 outside of the document.
            ends: the character behind each token.
            n_best: how many starts and ends are combined.
            longest: tokens.
        """
        self.null = min(self.null, float(scores[0].sum()))
        edges = np.array([starts, ends]).T
        inside = np.flatnonzero(edges[:, 1] > edges[:, 0])
        first = inside[np.argsort(-scores[inside, 0], kind="stable")[:n_best]]
        last = inside[np.argsort(-scores[inside, 1], kind="stable")[:n_best]]
        lengths = last[None, :] - first[:, None] + 1
        row, column = np.nonzero((lengths >= 1) & (lengths <= longest))
        total = scores[first[row], 0] + scores[last[column], 1]
        best = np.argsort(-total, kind="stable")[:n_best]
        self._scores += total[best].tolist()
        self._spans += zip(edges[first[row[best]], 0].tolist(), edges[last[column[best]], 1].tolist(), strict=True)

    def best(self, *, with_null: bool) -> tuple[Span, float, float]:
        """The best span, its score, and its share among all found (or, with `with_null`, of what is answered).

        Two windows that find the same span are one candidate. Without any (no room for the document, or all too
        long) it is (0, 0), far below "no answer".
        """
        candidates: dict[Span, float] = {}
        for span, score in zip(self._spans, self._scores, strict=True):
            candidates[span] = max(score, candidates.get(span, -math.inf))
        if not candidates:
            return (0, 0), self.null - 1e4, 0.0
        span = max(candidates, key=lambda one: candidates[one])
        every = [*candidates.values(), *([self.null] if with_null else [])]
        top = max(every) if with_null else candidates[span]
        share = 1 / sum(math.exp(score - top) for score in every)
        return span, candidates[span], share
