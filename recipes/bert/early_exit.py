"""Early exit: a classifier on every layer, and inputs leave at the first one that is sure enough.

Lecture:  self-supervised learning, BERT (Hung-yi Lee, ML 2021/2022).
Papers:   BranchyNet (arXiv 1709.01686); DeeBERT (2004.12993): two stages, entropy; PABEE (2006.04152): all at once,
          patience; FastBERT (2004.02178); "The right tool for the job" (2004.07453): the largest probability.
Run:      hfcourse run bert/early_exit topic --model runs/bert-pretrain-1
          hfcourse run bert/early_exit cola after --model DIR --task.data_dir GLUE
          hfcourse run bert/early_exit evaluate --model runs/bert-early_exit-cola-after-1 --task.data glue/cola \\
              --task.data_dir GLUE --exits.batch 1
Results:  recipes/bert/README.md
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hfcourse import recipe as recipes
from hfcourse.config import to_dict
from hfcourse.engine.settings import ExitConfig
from hfcourse.errors import ConfigError
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.classification import ClassificationConfig

finetuning = recipes.find("bert/finetune").module


@dataclass(frozen=True, kw_only=True)
class Config(finetuning.Config):
    """A fine-tuning with exits on every layer, and how they are used."""

    task: ClassificationConfig = field(default_factory=lambda: _task("pydocs/topic"))
    """What is learned; `layers exits` is what puts a classifier on every layer."""
    exits: ExitConfig = field(default_factory=ExitConfig)
    """How exits are trained, used and measured."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task.layers != "exits":
            raise ConfigError(f"task.layers is {self.task.layers}, and early exit needs exits: leave it as it is")
        if self.peft.method != "full":
            raise ConfigError(f"peft.method is {self.peft.method}, and early exit trains backbone and exits whole")


def _task(data: str) -> ClassificationConfig:
    # The papers read the first state, which on the lower layers knows little of the rest (docs/LOG.md).
    return ClassificationConfig(data=data, layers="exits", pooling="mean")


def base() -> Config:
    """One sentence -> class on pydocs/topic, all exits trained together."""
    tuned = finetuning.base()
    return Config(optim=tuned.optim, train=tuned.train)


def topic(config: Config) -> Config:
    """Sequence -> class: which package does this sentence document?"""
    return replace(config, task=_task("pydocs/topic"))


def cola(config: Config) -> Config:
    """GLUE's CoLA: acceptable or not (give --task.data_dir)."""
    return replace(config, task=_task("glue/cola"))


def after(config: Config) -> Config:
    """DeeBERT's two stages: fine-tune first, then train the other exits on the backbone as it is."""
    return replace(config, exits=replace(config.exits, train="after"))


def evaluate(config: Config) -> Config:
    """Measure a model of this recipe again, on this machine, without training."""
    return replace(config, evaluate_only=True)


def debug(config: Config) -> Config:
    """Seconds on CPU: a few examples, a few steps, a few thresholds."""
    return replace(finetuning.debug(config), exits=replace(config.exits, thresholds=(0.1, 0.9), repeats=2))


def learn(config: Config, run: RunFolder) -> Any:
    """Build -> fit, in one or two stages; returns the task."""
    from hfcourse.engine.exit_curve import check
    from hfcourse.engine.fit import fit
    from hfcourse.heads.exits import let_learn

    part = "all"
    if config.exits.train == "after" and not config.evaluate_only:
        first = run.child("backbone", {"recipe": "bert/early_exit", "variant": []} | to_dict(config))
        net, task, tokenizer = finetuning.build(config, first)
        check(net, task, config.exits)
        let_learn(net, "last")
        fit(net, task, config, first, tokenizer=tokenizer)
        # The last exit learns no more: its score on dev cannot select among the others' weights.
        rest = replace(config.train, select_best=False, patience=0)
        loaded = replace(config.backbone, init="pretrained", revision="main")
        config = replace(config, model=str(first.model_dir), tokenizer="", backbone=loaded, train=rest)
        part = "others"
    net, task, tokenizer = finetuning.build(config, run)
    check(net, task, config.exits)
    let_learn(net, part)
    fit(net, task, config, run, tokenizer=tokenizer, train=not config.evaluate_only)
    return task


def main(config: Config, run: RunFolder) -> None:
    """Learn, measure score against time, then write the model's card and the reports."""
    from hfcourse import model
    from hfcourse.engine.exit_curve import measure
    from hfcourse.engine.finish import finish
    from hfcourse.report import exits_report

    task = learn(config, run)
    if run.is_main:
        if not (run.path / "exits.json").is_file():  # a run that was stopped while it was measured measures again
            found = measure(model.load(run.model_dir), task, config.exits, precision=config.train.precision)
            run.write_json("exits.json", found)
        print(exits_report(run))
    finish(run)


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
