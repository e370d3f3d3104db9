"""Judge one encoder on a suite of tasks: fine-tune it on each, average, write scores, report and submission.

Lecture:  self-supervised learning, BERT: what GLUE measures (Hung-yi Lee, ML 2021/2022).
Papers:   GLUE (arXiv 1804.07461); intermediate tasks, STILTs (1811.01088); all tasks together, MT-DNN (1901.11504).
Run:      hfcourse suite glue --model DIR --data_dir GLUE
          hfcourse suite glue --model DIR --data_dir GLUE --tasks cola,rte --seeds 3 --sweep lr=1e-5,2e-5,5e-5
          hfcourse suite glue --model DIR --data_dir GLUE --peft lora
          hfcourse suite glue --model DIR --data_dir GLUE --together
          hfcourse suite pydocs --model runs/bert-pretrain-1
Results:  recipes/bert/README.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Literal

from hfcourse import recipe as recipes
from hfcourse.errors import ConfigError
from hfcourse.peft_settings import UNMERGEABLE
from hfcourse.run_folder import RunFolder
from hfcourse.suites.rows import Row
from hfcourse.tasks.together import TogetherConfig

finetuning = recipes.find("bert/finetune").module


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which suite, which model, how often."""

    aliases: ClassVar = {"peft": "finetune.peft"}
    suite: Literal["glue", "pydocs"] = "pydocs"
    """The table of tasks."""
    model: str = "bert-mini"
    """A run folder, a saved model, a Hub id, or a preset (fresh weights)."""
    tasks: tuple[str, ...] = ()
    """Only these; all that have data where empty."""
    data_dir: str | None = None
    """Folder with the raw files, for suites that read some (GLUE's, with CoLA/, RTE/, ... in it)."""
    seed: int = 0
    """The first seed."""
    seeds: int = 1
    """How many seeds: mean and standard deviation are published."""
    sweep: tuple[str, ...] = ()
    """``lr=1e-5,2e-5,5e-5``: try these rates for each task, publish the one that is best on dev."""
    first: str = ""
    """Train on this task first and go on from there to the others (STILTs)."""
    together: bool = False
    """Train all tasks at once, with one backbone and a head each, and judge every task by that one model."""
    power: float = 0.75
    """Under `together`: a task's share of an epoch is in proportion to its size to this power."""
    devices: int = 1
    """So many tasks side by side, each on a GPU of its own (or a share of the cores)."""
    finetune: finetuning.Config = field(default_factory=finetuning.base)
    """Settings of every task's fine-tuning."""

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.devices < 1:
            raise ConfigError("seeds and devices must be 1 or more")
        self.rates  # noqa: B018 - refuses what is no rate
        if self.together and (self.sweep or self.devices > 1):
            other = "sweep tries rates task by task" if self.sweep else f"devices {self.devices} runs them side by side"
            raise ConfigError(f"together is on and {other}: leave one of them out")
        if self.first and (method := self.finetune.peft.method) in UNMERGEABLE:
            raise ConfigError(
                f"first goes on with the weights that {self.first} has left, and {method} leaves none of its own in "
                "them: take lora, or full fine-tuning"
            )
        if self.power != 0.75 and not self.together:
            raise ConfigError(f"power is {self.power}, which only counts for --together")
        if not 0 <= self.power <= 1:
            raise ConfigError(f"power is {self.power}: it must lie in [0, 1]")

    @property
    def rates(self) -> tuple[float, ...]:
        """The learning rates of `sweep`."""
        words = [word.removeprefix("lr=") for word in self.sweep]
        if self.sweep and not self.sweep[0].startswith("lr="):
            raise ConfigError(f"sweep is {','.join(self.sweep)!r}: write lr= and the rates, as in lr=1e-5,2e-5")
        try:
            rates = tuple(dict.fromkeys(float(word) for word in words))
        except ValueError:
            raise ConfigError(f"sweep is {','.join(self.sweep)!r}: what follows lr= must be numbers") from None
        if any(not 0 < rate < 1 for rate in rates):
            raise ConfigError(f"sweep is {','.join(self.sweep)!r}: a rate lies between 0 and 1")
        return rates


def base() -> Config:
    """The tasks that need no data but what is installed: pydocs."""
    return Config(finetune=replace(finetuning.base(), max_length=128))


def glue(config: Config) -> Config:
    """GLUE's nine tasks and AX, from the original files (give --data_dir)."""
    return replace(config, suite="glue")


def pydocs(config: Config) -> Config:
    """Four tasks made from installed documentation."""
    return replace(config, suite="pydocs", finetune=replace(config.finetune, limit=2000))


def debug(config: Config) -> Config:
    """Seconds on CPU: a tiny model, a few examples."""
    return replace(config, model="bert-tiny", finetune=finetuning.debug(config.finetune))


def main(config: Config, run: RunFolder) -> None:
    """Tasks -> runs -> scores."""
    from hfcourse import model
    from hfcourse.data import tokenizers
    from hfcourse.engine.finish import one_first
    from hfcourse.suites.judge import judge
    from hfcourse.suites.runner import Learner

    tokenizer = config.finetune.tokenizer
    if config.model in model.PRESETS and not tokenizer:  # one vocabulary for all tasks
        tokenizer = str(run.path / "tokenizer")
        with one_first():
            tokenizers.for_model(config.model, "", Path(tokenizer))

    def settings(row: Row, seed: int, lr: float | None) -> finetuning.Config:
        tuned = getattr(finetuning, row.variant)(config.finetune)
        task = replace(tuned.task, data=row.data, data_dir=config.data_dir)
        optim = tuned.optim if lr is None else replace(tuned.optim, lr=lr)
        return replace(tuned, model=config.model, tokenizer=tokenizer, seed=seed, task=task, optim=optim).resolved()

    def joint(rows: Sequence[Row], seed: int) -> finetuning.Config:
        kinds = [(row, getattr(finetuning, row.variant)(config.finetune).task.kind) for row in rows]
        members = tuple(f"{row.name}={kind}:{row.data}" for row, kind in kinds)
        task = TogetherConfig(members=members, data_dir=config.data_dir, power=config.power)
        tuned = replace(config.finetune, model=config.model, tokenizer=tokenizer, seed=seed, task=task)
        return tuned.resolved()

    learner = Learner(recipe="bert/finetune", settings=settings, learn=finetuning.learn)
    judge(config, learner, run, joint=joint if config.together else None)


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
