"""What is asked about a row, and what is known of it once the model has answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hfcourse.prompting import judging, likelihood
from hfcourse.prompting.compose import Question
from hfcourse.prompting.requests import OptionScore, Prompt
from hfcourse.prompting.templates import Template

Answer = list[OptionScore] | str
"""Of a prompt with options their likelihoods, of another one the text."""


def prompts(template: Template, question: Question, unconditional: str = "") -> list[Prompt]:
    """All that is asked about a row: the question, and what its metrics need besides.

    Args:
        template: the task.
        question: its row.
        unconditional: what stands before the choices where they are to be judged by themselves.
    """
    first = question.prompts[0]
    alone = len(question.prompts) == 1 and any(use.name == "acc_mutual_info" for use in template.metrics)
    bare = [Prompt(query=unconditional, options=first.options, suffix=first.suffix)] if alone else []
    return [*question.prompts, *bare, *question.content_free]


def record(template: Template, question: Question, answers: Sequence[Answer]) -> dict[str, Any]:
    """One line of the predictions: the prompt, the answers, the scores.

    Args:
        template: the task.
        question: what was asked.
        answers: to each of `prompts`, in their order.
    """
    found: dict[str, Any] = {"row": question.number, "output": template.output}
    found |= {"prompt": question.prompts[0].shared + question.prompts[0].query}
    found |= {"gold": question.gold, "target": question.target, "dropped": question.dropped}
    found |= _generated(template, answers) if isinstance(answers[0], str) else _likely(template, question, answers)
    return found | {"scores": judging.row_scores(found, template.metrics)}


def left_out(question: Question) -> dict[str, Any]:
    """The line of a row that does not fit the model."""
    first = question.prompts[0]
    return {"row": question.number, "prompt": first.shared + first.query, "too_long": True, "dropped": question.dropped}


def _generated(template: Template, answers: Sequence[Answer]) -> dict[str, Any]:
    answer = str(answers[0])
    ways = template.filters.items()
    return {"answer": answer, "predictions": {name: judging.filtered(answer, steps) for name, steps in ways}}


def _likely(template: Template, question: Question, answers: Sequence[Any]) -> dict[str, Any]:
    several = len(question.prompts)
    rows = [answer[0] for answer in answers[:several]] if several > 1 else answers[0]
    found: dict[str, Any] = {
        "options": [prompt.query for prompt in question.prompts] if several > 1 else list(question.prompts[0].options),
        "logprobs": [one.logprob for one in rows],
        "greedy": [one.greedy for one in rows],
    }
    if template.output == "loglikelihood":
        return found
    rest = answers[several:]
    content_free = rest[len(rest) - len(question.content_free) :]
    unconditional = rest[0] if len(rest) > len(content_free) else None
    places = _picks(rows, question.choices, unconditional, content_free)
    return (
        {"choices": list(question.choices)} | found | {"picks": places, "prediction": question.choices[places["sum"]]}
    )


def _picks(
    scores: Sequence[OptionScore],
    choices: Sequence[str],
    unconditional: Sequence[OptionScore] | None,
    content_free: Sequence[Sequence[OptionScore]],
) -> dict[str, int]:
    """The place of the best choice by each way of comparing likelihoods."""
    values = {
        "sum": likelihood.total(scores),
        "character": likelihood.per_character(scores, choices),
        "byte": likelihood.per_byte(scores, choices),
        "token": likelihood.per_token(scores),
    }
    if unconditional is not None:
        values["mutual_info"] = likelihood.against_unconditional(scores, unconditional)
    if content_free:
        values["calibrated"] = likelihood.calibrated(scores, content_free)
    return {name: likelihood.best(one) for name, one in values.items()}
