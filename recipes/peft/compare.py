"""One task, every method of fine-tuning, the same budget: parameters, megabytes, memory, time, score over seeds.

Lecture:  self-supervised learning: adapters, prompts and other ways to tune a small part of a large model
          (Hung-yi Lee, ML 2022/2023).
Papers:   recipes/peft/README.md names one a method; the comparison follows "Towards a unified view" (2110.04366).
Run:      hfcourse run peft/compare pydocs --model runs/bert-pretrain-1
          hfcourse run peft/compare cola --model DIR --data_dir GLUE
          hfcourse run peft/compare --model DIR --task.data my/train.tsv --methods full,lora,pfeiffer --examples 32,128
Results:  recipes/peft/README.md
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from hfcourse import recipe as recipes
from hfcourse.engine.settings import TrainConfig
from hfcourse.errors import ConfigError
from hfcourse.peft_settings import LEARNING_RATES, MethodName
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.classification import ClassificationConfig
from hfcourse.tasks.together import TogetherConfig

finetuning = recipes.find("bert/finetune").module
MAIN: tuple[MethodName, ...] = ("full", "linear", "lora", "pfeiffer", "prefix")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which methods, on which task, with which budget."""

    aliases: ClassVar = {"task": "finetune.task", "train": "finetune.train", "peft": "finetune.peft"}
    model: str = "bert-mini"
    """A run folder, a saved model, a Hub id, or a preset (fresh weights)."""
    data_dir: str | None = None
    """Folder with the raw files, for builders that read some (GLUE's)."""
    methods: tuple[MethodName, ...] = tuple(name for name in LEARNING_RATES if name != "fusion")
    """Methods to compare, each at its own learning rate; all but fusion, which needs trained adapters."""
    rates: tuple[str, ...] = ()
    """``full=5e-4,lora=2e-3``: other peak learning rates than the methods' own."""
    fuse: tuple[str, ...] = ()
    """fusion: the run folders whose trained adapters are mixed."""
    seed: int = 0
    """The first seed."""
    seeds: int = 3
    """How many seeds: mean and standard deviation are published."""
    examples: tuple[int, ...] = (32, 128, 512)
    """So many training examples for the curve, beside all; dev and test stay whole. Empty for no curve."""
    curve_methods: tuple[MethodName, ...] = MAIN
    """Those of the methods that the curve is made for."""
    isolate: bool = True
    """Give each run a process of its own, so that its memory is its own; not under `accelerate launch` of several."""
    finetune: finetuning.Config = field(default_factory=finetuning.base)
    """Settings of every run: task, batch, optimizer steps. Evaluates five times where `train.eval_every` is 0."""

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise ConfigError("seeds must be 1 or more")
        if not self.methods or len({*self.methods}) < len(self.methods):
            raise ConfigError(f"methods is {','.join(self.methods)!r}: name one or more, each once")
        if any(size < 1 for size in self.examples):
            raise ConfigError(f"examples is {','.join(map(str, self.examples))!r}: each must be 1 or more")
        if self.finetune.peft.method != "full":
            raise ConfigError(f"peft.method is {self.finetune.peft.method}: name what is compared with --methods")
        if not self.finetune.train.steps:
            raise ConfigError("finetune.train.steps is 0: give the optimizer steps that every run takes")
        if isinstance(self.finetune.task, TogetherConfig):
            raise ConfigError("finetune.task is together: methods are compared on one task")
        if ("fusion" in self.methods) != (len(self.fuse) > 1):
            raise ConfigError("methods with fusion and two or more runs in fuse go together: give both or none")
        self.lrs  # noqa: B018 - refuses what is no rate

    @property
    def lrs(self) -> dict[str, float]:
        """The learning rates of `rates`."""
        pairs = [word.partition("=") for word in self.rates]
        try:
            rates = {method: float(rate) for method, _, rate in pairs}
        except ValueError:
            raise ConfigError(f"rates is {','.join(self.rates)!r}: write METHOD=RATE, as in full=5e-4") from None
        if odd := [method for method, rate in rates.items() if method not in self.methods or not 0 < rate < 1]:
            raise ConfigError(
                f"rates is {','.join(self.rates)!r}: {odd[0]} is no method here, or its rate not in (0, 1)"
            )
        return rates


def base() -> Config:
    """pydocs/topic with all its examples, 500 steps of 32."""
    tuned = finetuning.base()
    return Config(finetune=replace(tuned, max_length=128, train=TrainConfig(steps=500, keep_checkpoints=1)))


def pydocs(config: Config) -> Config:
    """pydocs/topic with 2,000 examples, 150 steps of 32: for a small BERT on CPU."""
    task = ClassificationConfig(data="pydocs/topic", train_limit=2000)
    train = replace(config.finetune.train, steps=150)
    return replace(config, finetune=replace(config.finetune, task=task, dev_limit=500, train=train))


def cola(config: Config) -> Config:
    """GLUE's CoLA with the five main methods, 800 steps of 32 (give --data_dir)."""
    train = replace(config.finetune.train, steps=800)
    tuned = replace(config.finetune, task=ClassificationConfig(data="glue/cola"), train=train)
    return replace(config, methods=MAIN, finetune=tuned)


def debug(config: Config) -> Config:
    """Seconds on CPU: two methods, a tiny model, a few steps, in this process."""
    tuned = finetuning.debug(config.finetune)
    return replace(
        config, model="bert-tiny", methods=("full", "lora"), seeds=2, examples=(8,), isolate=False, finetune=tuned
    )


def settings(config: Config, tokenizer: str, method: MethodName, seed: int, examples: int) -> finetuning.Config:
    """Those of one run."""
    tuned = config.finetune
    task = replace(tuned.task, data_dir=config.data_dir or tuned.task.data_dir)
    return replace(
        tuned,
        model=config.model,
        tokenizer=tokenizer,
        seed=seed,
        task=replace(task, train_limit=examples) if examples else task,
        peft=replace(tuned.peft, method=method, fuse=config.fuse if method == "fusion" else ()),
        optim=replace(tuned.optim, lr=config.lrs.get(method, tuned.optim.lr)),
        train=replace(tuned.train, eval_every=tuned.train.eval_every or -(-tuned.train.steps // 5)),
    ).resolved()


def design_of(config: Config, run: RunFolder) -> Any:
    """The whole design, after one look at model and data: what there is to train on, which methods fit."""
    from hfcourse import model
    from hfcourse.suites.comparison import Design, refusals

    bare, task, _ = finetuning.build(settings(config, config.finetune.tokenizer, "full", config.seed, 0), run)
    rows = len(task.splits["train"])
    return Design(
        methods=config.methods,
        seeds=tuple(range(config.seed, config.seed + config.seeds)),
        curve_methods=config.curve_methods,
        sizes=tuple(sorted({size for size in config.examples if size < rows})),
        refused=refusals(bare, {method: settings(config, "", method, 0, 0).peft for method in config.methods}),
        facts={
            "model": config.model,
            "task": task.name,
            "train_rows": rows,
            "parameters": model.parameter_counts(bare)["all"],
            "steps": config.finetune.train.steps,
            "batch": config.finetune.batch.examples,
        },
    )


def main(config: Config, run: RunFolder) -> None:
    """Which methods fit -> a run for each method and seed -> table and plots."""
    from hfcourse import model
    from hfcourse.engine.progress import say
    from hfcourse.suites.comparison import compare
    from hfcourse.suites.runner import Learner

    if run.finished:
        say(f"{run.path}: already finished")
        return
    design = design_of(config, run)
    # For a preset one vocabulary was learnt just now: it serves all runs.
    tokenizer = config.finetune.tokenizer or (
        str(run.path.resolve() / "tokenizer") if config.model in model.PRESETS else ""
    )

    def one(method: MethodName, seed: int, examples: int) -> finetuning.Config:
        return settings(config, tokenizer, method, seed, examples)

    compare(design, Learner(recipe="bert/finetune", settings=one, learn=finetuning.learn), run, isolate=config.isolate)


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
