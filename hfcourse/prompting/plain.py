"""Options read in texts of their own, in padded batches: what works for every decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from hfcourse.prompting.projection import Reading
from hfcourse.prompting.requests import OptionScore
from hfcourse.prompting.tokens import Question


@dataclass(frozen=True)
class Text:
    """What a decoder reads to tell of one option, or of several."""

    question: Question
    ids: list[int]
    """What stands before the options, and all of the longest option but its last token."""
    before: int
    """How many tokens stand before the options."""
    options: list[int]
    """Numbers of the options that it tells of."""


def texts_of(question: Question, before: list[int]) -> list[Text]:
    """One text an option; those of a single token are told by any text, so they are told by the first."""
    long = [number for number, option in enumerate(question.options) if len(option) > 1]
    short = [number for number, option in enumerate(question.options) if len(option) == 1]
    told = [[number] for number in long] or [[]]
    told[0] = told[0] + short
    return [Text(question, before + question.options[one[0]][:-1], len(before), one) for one in told]


def read(texts: Sequence[Text], device: torch.device) -> tuple[Tensor, Tensor, Reading]:
    """Rows and columns (M,) whose logits are read, and how."""
    rows: list[int] = []
    columns: list[int] = []
    reading = Reading.empty()
    for row, text in enumerate(texts):
        first = len(columns)
        columns.extend(range(text.before - 1, len(text.ids)))
        rows.extend([row] * (len(columns) - first))
        for number in text.options:
            option = text.question.options[number]
            reading.add(range(first, first + len(option)), option)
    return torch.tensor(rows, device=device), torch.tensor(columns, device=device), reading


class Collected:
    """Scores that come in any order; a question is given out when all of its options are known."""

    def __init__(self) -> None:
        self._known: dict[int, dict[int, OptionScore]] = {}

    def add(self, texts: Sequence[Text], scores: Sequence[OptionScore]) -> Iterator[tuple[int, list[OptionScore]]]:
        """The questions that are answered now."""
        rest = iter(scores)
        for text in texts:
            known = self._known.setdefault(text.question.number, {})
            known.update((number, next(rest)) for number in text.options)
            if len(known) == len(text.question.options):
                del self._known[text.question.number]
                yield text.question.number, [known[number] for number in range(len(known))]


def padded(texts: Sequence[list[int]], pad: int, device: torch.device, *, left: bool = False) -> tuple[Tensor, Tensor]:
    """Token ids (B, T) and their mask (B, T), padded on the right or on the left."""
    width = max(map(len, texts))
    gaps = [[pad] * (width - len(text)) for text in texts]
    ids = [gap + text if left else text + gap for text, gap in zip(texts, gaps, strict=True)]
    counts = torch.tensor([len(text) for text in texts], device=device)[:, None]
    places = torch.arange(width, device=device)
    mask = places >= width - counts if left else places < counts
    return torch.tensor(ids, device=device), mask.long()
