"""One side of `in_context.py`: likelihoods of options, ours or those of lm-evaluation-harness.

A process that stays: it takes a job a line (JSON) on standard input and answers each with a line. It runs in two
environments, so it holds nothing that only one of them has but inside the builders.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from hfcourse.engine import machine

Answer = Callable[[list[dict[str, Any]], int], list[list[float]]]
"""From questions and the size of a batch (0: its default) to log-likelihoods by option."""


def ours(model: Any, tokenizer: Any) -> Answer:
    """`scorer`, as an evaluation calls it."""
    from hfcourse.prompting.requests import Prompt
    from hfcourse.prompting.scorer import scorer

    made = scorer(model, tokenizer)

    def answer(asked: list[dict[str, Any]], batch: int) -> list[list[float]]:
        prompts = [Prompt(shared=q["shared"], query=q["query"], options=tuple(q["options"])) for q in asked]
        return [[score.logprob for score in row] for row in made.log_likelihoods(prompts)]

    return answer


def theirs(model: Any, tokenizer: Any) -> Answer:
    """`HFLM` around the same model, asked as its tasks of multiple choice ask it."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    made = HFLM(pretrained=model, tokenizer=tokenizer)

    def answer(asked: list[dict[str, Any]], batch: int) -> list[list[float]]:
        made.batch_size_per_gpu = batch
        requests = [
            Instance("loglikelihood", q, (q["shared"] + q["query"], option), number)
            for q in asked
            for number, option in enumerate(q["options"])
        ]
        found = iter(made.loglikelihood(requests, disable_tqdm=True))
        return [[next(found)[0] for _ in q["options"]] for q in asked]

    return answer


SIDES = {"ours": ours, "theirs": theirs}


def main(name: str, folder: str) -> None:
    """Answer jobs until there are no more."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    machine.tune_allocator()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    answer = SIDES[name](model, AutoTokenizer.from_pretrained(folder))
    import transformers

    setup = (
        f"transformers {transformers.__version__}, torch {torch.__version__}, fp32, {torch.get_num_threads()} threads"
    )
    setup += f", {machine.allocator()} malloc"
    for line in sys.stdin:
        job = json.loads(line)
        asked = json.loads(Path(job["file"]).read_text())
        began = time.perf_counter()
        scores = answer(asked, job["batch"])
        result = {"seconds": time.perf_counter() - began, "scores": scores}
        answers.write(json.dumps({"result": result, "setup": setup}) + "\n")


if __name__ == "__main__":
    sys.path[:] = [place for place in sys.path if Path(place or ".").resolve() != Path(__file__).parent]
    main(*sys.argv[1:])
