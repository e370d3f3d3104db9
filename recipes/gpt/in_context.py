"""In-context learning: a language model answers from a description and a few examples, no weight is changed.

Lecture:  GPT-3, in-context learning, prompts (Hung-yi Lee, ML 2022/2023).
Papers:   GPT-3 (arXiv 2005.14165); calibration (2102.09690); which examples (2101.06804); PMI (2104.08315).
Run:      hfcourse suite fewshot --model runs/gpt-pretrain-1
          hfcourse suite fewshot --model gpt2 --tasks glue/rte,glue/cola --data_dir GLUE --shots 0,1,8,32 --draws 5
          hfcourse suite fewshot --model DIR --tasks gpt3_tasks,word_pairs --data_dir gpt3_tasks=A,word_pairs=B
          hfcourse run gpt/in_context --model DIR --task my_task.yaml --select nearest
Results:  recipes/gpt/README.md
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from hfcourse.errors import ConfigError
from hfcourse.run_folder import RunFolder

_METRICS = Literal["acc", "acc_norm", "acc_bytes", "acc_token", "acc_mutual_info", "acc_calibrated", "brier_score"]


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which model, which tasks, how many examples."""

    aliases: ClassVar = {"task": "tasks"}
    model: str = ""
    """A causal, seq2seq or masked language model: a run folder (also an adapter's), a saved model, a Hub id, or a
    preset (fresh weights)."""
    tokenizer: str = ""
    """Another tokenizer than the model's own; a preset without one gets one trained on pydocs."""
    revision: str = "main"
    """Of a Hub model: branch, tag or commit."""
    tasks: tuple[str, ...] = ()
    """Tasks (glue/rte), all tasks of a builder (glue, pydocs, cldr, gpt3_tasks, word_pairs), task files in the form of
    lm-evaluation-harness (my.yaml), folders of them. Empty: pydocs and cldr/lexicon, which need no data."""
    data_dir: tuple[str, ...] = ()
    """Raw files of the tasks' builders: a folder for all, or builder=folder for each."""
    shots: tuple[int, ...] = ()
    """Numbers of examples in the prompt. Empty: what a task file says, else 0, 1 and 8."""
    draws: int = 3
    """So many draws of the examples: mean and standard deviation are published."""
    seed: int = 0
    """The first draw's."""
    select: Literal["random", "first", "balanced", "nearest"] = "random"
    """Which examples are shown: drawn, the first of their split, as many of each class, or the most similar ones."""
    by_row: bool = False
    """Draw other examples for every row. Left off, a draw's examples are computed once for all rows."""
    metrics: tuple[_METRICS, ...] = ()
    """Judge choices by these, too: per character (acc_norm), byte or token, against their likelihood without the
    question (acc_mutual_info), or after a question about nothing (acc_calibrated)."""
    unconditional: str = ""
    """What stands before the choices for acc_mutual_info, such as "Answer:"."""
    chat: bool = False
    """Write prompts by the tokenizer's chat template, the examples as turns."""
    limit: int = 0
    """Ask the first so many rows of each task; 0: all."""
    strict: bool = False
    """Refuse a prompt that does not fit the model, instead of leaving its oldest examples out."""
    trust_task_code: bool = False
    """Let task files run the Python functions that they name."""
    batch_tokens: int = 4096
    """Most tokens of a forward pass."""
    cache: bool = True
    """Compute what prompts share once (causal models)."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the weights."""

    def __post_init__(self) -> None:
        if self.draws < 1 or self.batch_tokens < 1:
            raise ConfigError("draws and batch_tokens must be 1 or more")
        if self.limit < 0 or any(count < 0 for count in self.shots):
            raise ConfigError("limit and shots must be 0 or more")
        if self.by_row and self.select in {"first", "nearest"}:
            raise ConfigError(f"by_row draws anew for every row, and select is {self.select}: leave one of them out")
        if self.unconditional and "acc_mutual_info" not in self.metrics:
            raise ConfigError("unconditional only counts for acc_mutual_info: add it to metrics")
        self.folders  # noqa: B018 - refuses two folders for one builder

    @property
    def folders(self) -> Mapping[str, str]:
        """Builder -> raw files; under the empty name those of all others."""
        pairs = [one.partition("=") if "=" in one else ("", "", one) for one in self.data_dir]
        found = {builder: folder for builder, _, folder in pairs}
        if len(found) < len(pairs):
            raise ConfigError(f"data_dir is {','.join(self.data_dir)!r}: name the builder of each, as in glue=GLUE")
        return found


def base() -> Config:
    """Zero, one and eight examples, three draws, on tasks made of what is installed."""
    return Config()


def debug(config: Config) -> Config:
    """Seconds on CPU: an untrained tiny model, a few rows of one task."""
    tasks = config.tasks or ("pydocs/topic",)
    return replace(config, model=config.model or "bert-tiny", tasks=tasks, shots=(0, 1), draws=2, limit=8)


def main(config: Config, run: RunFolder) -> None:
    """Model -> scorer -> scores of every task."""
    import torch

    from hfcourse.data import tokenizers
    from hfcourse.prompting import models
    from hfcourse.prompting.compose import chat_of
    from hfcourse.prompting.scorer import scorer
    from hfcourse.suites.fewshot import judge
    from hfcourse.suites.kept import claim

    if not config.model:
        raise ConfigError("--model is missing: a run folder, a saved model or a Hub id")
    words = config.tokenizer
    if config.model in models.PRESETS and not words:
        words = str(run.path / "tokenizer")
        tokenizers.for_model(config.model, "", Path(words))
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    net, tokenizer = models.load(config.model, tokenizer=words, revision=config.revision, seed=config.seed, dtype=dtype)
    claim(run, net)
    asked = scorer(net, tokenizer, batch_tokens=config.batch_tokens, cache=config.cache, chat=config.chat)
    judge(config, asked, run, chat=chat_of(tokenizer) if config.chat else None)


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
