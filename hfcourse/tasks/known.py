"""Public datasets that need no settings: a row each. A new one of a known kind is one more row."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """What is known of a public dataset: its columns and its official scores, the first of which is *the* score."""

    text: str
    text_pair: str = ""
    scores: tuple[str, ...] = ("accuracy",)
    problem: str = "single_label_classification"
    positive: str = ""


# GLUE (arXiv 1804.07461), a row a task.
KNOWN = {
    "glue/cola": Known("sentence", scores=("matthews", "accuracy")),
    "glue/sst2": Known("sentence"),
    "glue/mrpc": Known("sentence1", "sentence2", scores=("f1", "accuracy"), positive="equivalent"),
    "glue/qqp": Known("question1", "question2", scores=("f1", "accuracy"), positive="duplicate"),
    "glue/stsb": Known("sentence1", "sentence2", scores=("pearson", "spearman"), problem="regression"),
    "glue/mnli": Known("premise", "hypothesis"),
    "glue/qnli": Known("question", "sentence"),
    "glue/rte": Known("sentence1", "sentence2"),
    "glue/wnli": Known("sentence1", "sentence2"),
    "glue/ax": Known("premise", "hypothesis", scores=("matthews", "accuracy")),
}
