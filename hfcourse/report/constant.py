"""What a score is worth: the score of giving one and the same answer to everything."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from hfcourse.report.statistics import Answer, Kind, find, labelled, meanings, number


def constant(name: str, kind: Kind, answers: Sequence[Answer], recorded: float) -> float | None:
    """What one and the same answer to everything would score: the most frequent class, no entity, no answer, the mean.

    In the meaning of `name` that gives `recorded` for the answers as they are; None where there is none.
    """
    known = labelled(answers)
    found = find(name, kind, known, recorded)
    if found is None or kind not in _CONSTANTS:
        return None
    stubborn = _CONSTANTS[kind](known)
    for mine, theirs in zip(meanings(name, kind, known), meanings(name, kind, stubborn), strict=False):
        if math.isclose(mine.point * found.scale, found.point, rel_tol=1e-12, abs_tol=1e-12):
            value = theirs.point * found.scale
            return None if math.isnan(value) else value
    return None


def _same_class(answers: Sequence[Answer]) -> list[Answer]:
    often = Counter(str(answer["reference"]) for answer in answers).most_common(1)[0][0]
    return [{**answer, "prediction": often} for answer in answers]


def _same_labels(answers: Sequence[Answer]) -> list[Answer]:
    return [{**answer, "prediction": []} for answer in answers]


def _same_tag(answers: Sequence[Answer]) -> list[Answer]:
    tags = Counter(tag for answer in answers for tag in answer["reference"])
    often = "O" if "O" in tags else tags.most_common(1)[0][0]
    return [{**answer, "prediction": [often] * len(answer["reference"])} for answer in answers]


def _same_number(answers: Sequence[Answer]) -> list[Answer]:
    mean = float(np.mean([number(answer["reference"]) for answer in answers]))
    return [{**answer, "prediction": mean} for answer in answers]


def _no_answer(answers: Sequence[Answer]) -> list[Answer]:
    right = [float(not any(answer["reference"])) for answer in answers]
    return [{**answer, "prediction": "", "em": r, "f1": r} for answer, r in zip(answers, right, strict=True)]


_CONSTANTS: dict[Kind, Callable[[Sequence[Answer]], list[Answer]]] = {
    "classification": _same_class,
    "multi_label": _same_labels,
    "tagging": _same_tag,
    "regression": _same_number,
    "span_qa": _no_answer,
}
