"""From how likely each option is to the one that is chosen: numbers of which the largest wins."""

from __future__ import annotations

import math
from collections.abc import Sequence

from hfcourse.prompting.requests import OptionScore

_TIE = 1e-6
"""Two values nearer than this are equal: it is what the order of a sum in fp32 changes."""


def total(scores: Sequence[OptionScore]) -> list[float]:
    """log p(option | context), as it is: ``acc`` of lm-evaluation-harness."""
    return [score.logprob for score in scores]


def per_token(scores: Sequence[OptionScore]) -> list[float]:
    """The mean over tokens (Brown et al. 2020, arXiv 2005.14165, 2.4)."""
    return [score.logprob / score.tokens for score in scores]


def per_character(scores: Sequence[OptionScore], texts: Sequence[str]) -> list[float]:
    """By the length of the option's text without what delimits it: ``acc_norm`` of lm-evaluation-harness.

    A choice without text is never the best one, as there.
    """
    return [_share(score, len(text)) for score, text in zip(scores, texts, strict=True)]


def per_byte(scores: Sequence[OptionScore], texts: Sequence[str]) -> list[float]:
    """By the bytes of that text in UTF-8: ``acc_bytes`` of lm-evaluation-harness."""
    return [_share(score, len(text.encode())) for score, text in zip(scores, texts, strict=True)]


def against_unconditional(scores: Sequence[OptionScore], unconditional: Sequence[OptionScore]) -> list[float]:
    """log p(option | context) - log p(option | "Answer:"): what the context adds.

    Brown et al. (2020) call it normalised by the unconditional probability, Holtzman et al. (2021, arXiv 2104.08315)
    domain-conditional PMI. `unconditional` are the scores of the same options behind a prompt without the question.
    """
    return [score.logprob - alone.logprob for score, alone in zip(scores, unconditional, strict=True)]


def calibrated(scores: Sequence[OptionScore], content_free: Sequence[Sequence[OptionScore]]) -> list[float]:
    """Log-probabilities divided by what inputs without content get (Zhao et al. 2021, arXiv 2102.09690).

    Probabilities are normalised over the options, those of the inputs ("N/A", "", "[MASK]") averaged, and the first
    divided by the second: the paper's W = diag(p_cf)^-1, b = 0.

    Args:
        scores: of one query, by option.
        content_free: of each input without content, by option.
    """
    rows = [_normalised(total(row)) for row in content_free]
    means = [_log_sum(column) - math.log(len(rows)) for column in zip(*rows, strict=True)]
    return _normalised([own - mean for own, mean in zip(_normalised(total(scores)), means, strict=True)])


def best(values: Sequence[float]) -> int:
    """The number of the largest value; of equal ones, the first."""
    largest = max(values)
    return next(number for number, value in enumerate(values) if value >= largest - _TIE)


def _share(score: OptionScore, length: int) -> float:
    return score.logprob / length if length else -math.inf


def _normalised(logs: Sequence[float]) -> list[float]:
    """Logarithms of probabilities that sum to 1."""
    whole = _log_sum(logs)
    return [value - whole for value in logs]


def _log_sum(logs: Sequence[float]) -> float:
    largest = max(logs)
    return largest + math.log(math.fsum(math.exp(value - largest) for value in logs))
