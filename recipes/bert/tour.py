"""The tour: pretrain a small BERT, then fine-tune it four ways, from the pretrained and from a random start.

Lecture:  self-supervised learning, BERT (Hung-yi Lee, ML 2021/2022): why the loss of a pretrained start falls faster
          and generalises better.
Paper:    BERT (arXiv 1810.04805); the comparison of the two starts follows arXiv 1908.05620.
Run:      hfcourse run bert/tour
Results:  recipes/bert/README.md
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hfcourse import recipe as recipes
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.config import to_dict
from hfcourse.engine.settings import BatchConfig, OptimConfig, TrainConfig
from hfcourse.run_folder import RunFolder

pretraining = recipes.find("bert/pretrain").module
finetuning = recipes.find("bert/finetune").module
TASKS = ("topic", "terms", "match", "answer")
STARTS = ("pretrained", "random")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One pretraining, and one set of fine-tuning settings a task, the same for both starts."""

    seed: int = 0
    """Decides every draw of every run."""
    pretrain: pretraining.Config = field(default_factory=pretraining.base)
    """The pretraining run."""
    topic: finetuning.Config = field(default_factory=finetuning.base)
    """Sequence -> class."""
    terms: finetuning.Config = field(default_factory=finetuning.base)
    """Sequence -> tags."""
    match: finetuning.Config = field(default_factory=finetuning.base)
    """Two sequences -> class."""
    answer: finetuning.Config = field(default_factory=finetuning.base)
    """Question + document -> span."""


def base() -> Config:
    """A small modern BERT, 700 steps of 2,048 tokens; 500 to 7,000 examples a task: 8 minutes on 2 cores."""
    # At this size the plain product is the fastest attention; one pass over the text needs no dropout.
    backbone = BackboneConfig(dropout=0.0, attention="eager", equal_keys=2.0)
    pretrain = pretraining.base()
    pretrain = replace(
        pretrain,
        model="nomicbert-mini",
        dev_limit=400,
        limit=0,
        task=replace(pretrain.task, mask_rate=0.2),
        backbone=backbone,
        batch=BatchConfig(examples=16),
        optim=replace(pretrain.optim, name="muon", lr=2e-3),
        train=replace(pretrain.train, steps=700, eval_every=350, log_every=10),
    )
    tuned = replace(
        finetuning.base(),
        dev_limit=300,
        max_length=128,
        backbone=backbone,
        batch=BatchConfig(examples=32),
        optim=OptimConfig(lr=5e-4),
        train=TrainConfig(epochs=3, eval_every=50, log_every=5, keep_checkpoints=1),
    )
    tasks: dict[str, Any] = {name: getattr(finetuning, name)(tuned) for name in TASKS}
    tasks["topic"] = _sized(tasks["topic"], examples=500, epochs=6)
    tasks["terms"] = _sized(tasks["terms"], examples=500, epochs=5)
    # Comparing two texts takes many different examples to learn, and steps that change whole matrices.
    match = replace(tasks["match"], optim=OptimConfig(name="muon", lr=1e-3))
    tasks["match"] = _sized(match, examples=7000, epochs=1)
    answer = replace(tasks["answer"], optim=OptimConfig(name="muon", lr=2e-3))
    tasks["answer"] = _sized(answer, examples=1500, epochs=2)
    return Config(pretrain=pretrain, **tasks)


def _sized(config: finetuning.Config, *, examples: int, epochs: float) -> finetuning.Config:
    return replace(config, limit=examples, train=replace(config.train, epochs=epochs))


def debug(config: Config) -> Config:
    """Seconds on CPU: tiny runs of everything."""
    tasks = {name: finetuning.debug(getattr(config, name)) for name in TASKS}
    return replace(config, pretrain=pretraining.debug(config.pretrain), **tasks)


def main(config: Config, run: RunFolder) -> None:
    """Pretrain once, fine-tune each task from both starts, compare."""
    from hfcourse.report import tour_report

    if run.finished:
        print(f"{run.path}: already finished")
        return

    first = _child(run, "pretrain", "bert/pretrain", replace(config.pretrain, seed=config.seed))
    pretraining.learn(*first)
    groups: dict[str, dict[str, RunFolder]] = {}
    for task in TASKS:
        groups[task] = {}
        for start in STARTS:
            settings = getattr(config, task)
            settings = replace(
                settings,
                seed=config.seed,
                model=str(first[1].model_dir),
                backbone=replace(settings.backbone, init=start),
            )
            child = _child(run, f"{task}-{start}", "bert/finetune", settings)
            finetuning.learn(*child)
            groups[task][start] = child[1]
    if run.is_main:
        print(tour_report(groups, run.path / "report.html", pretrain=first[1]))
        run.write_json("metrics.json", _summary(groups))


def _child(run: RunFolder, name: str, recipe: str, settings: Any) -> tuple[Any, RunFolder]:
    return settings, run.child(name, {"recipe": recipe, "variant": []} | to_dict(settings))


def _summary(groups: dict[str, dict[str, RunFolder]]) -> dict[str, Any]:
    """The score of each start on each task's test split."""
    found = {
        task: {s: run.read_json("metrics.json")["score"] for s, run in runs.items()} for task, runs in groups.items()
    }
    wins = [scores["pretrained"]["value"] > scores["random"]["value"] for scores in found.values()]
    return {"recipe": "bert/tour", "tasks": found, "pretrained_wins": sum(wins), "of": len(wins)}


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
