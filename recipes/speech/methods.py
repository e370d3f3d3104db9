"""Every way to learn from sound alone, a few minutes each, judged by the same frozen probes.

Lecture:  self-supervised learning for speech: the family tree of its models (Hung-yi Lee, ML 2022).
Papers:   recipes/speech/README.md names one a method; the probes follow SUPERB (arXiv 2105.01051).
Run:      hfcourse run speech/methods
          hfcourse run speech/methods --methods apc,hubert --tasks commands
Results:  recipes/speech/README.md
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hfcourse import recipe as recipes
from hfcourse.errors import ConfigError, unknown
from hfcourse.objectives.speech.settings import METHODS, DistilHuBERT
from hfcourse.run_folder import RunFolder

pretraining = recipes.find("speech/pretrain").module
judging = recipes.find("speech/finetune").module
TASKS = ("commands", "phones", "speakers")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which methods, judged on what."""

    methods: tuple[str, ...] = tuple(METHODS)
    """In the order of the table; distilhubert learns from the hubert of this comparison."""
    tasks: tuple[str, ...] = TASKS
    """Variants of speech/finetune."""
    seed: int = 0
    """Of pretraining, and the first of the probes."""
    seeds: int = 1
    """Probes of each model: mean and standard deviation are published."""
    devices: int = 1
    """So many runs at a time, each with its share of the cores, or a GPU."""
    pretrain: pretraining.Config = field(default_factory=pretraining.base)
    """Settings of every pretraining."""
    probe: judging.Config = field(default_factory=judging.base)
    """Settings of every probe."""

    def __post_init__(self) -> None:
        for name in self.methods:
            if name not in METHODS:
                raise ConfigError(unknown("method", name, METHODS))
        for name in self.tasks:
            if name not in TASKS:
                raise ConfigError(unknown("task", name, TASKS))
        for field_name in ("methods", "tasks"):
            names = getattr(self, field_name)
            if len(set(names)) < len(names):
                raise ConfigError(f"{field_name} names {max(names, key=names.count)} twice: each is run once")
        if "distilhubert" in self.methods and "hubert" not in self.methods:
            raise ConfigError("distilhubert learns from hubert: name that too in methods")
        if not self.methods or not self.tasks or min(self.seeds, self.devices) < 1:
            raise ConfigError("methods and tasks must not be empty, and seeds and devices must be 1 or more")


def base() -> Config:
    """All methods at their tiny nets on spoken/unlabelled, judged on commands, phones and speakers."""
    return Config(probe=replace(judging.base(), limit=800))


def debug(config: Config) -> Config:
    """Seconds on CPU: two methods, one task, a few steps."""
    return replace(
        config,
        methods=("mockingjay", "apc"),
        tasks=("commands",),
        pretrain=pretraining.debug(config.pretrain),
        probe=judging.debug(config.probe),
    )


def main(config: Config, run: RunFolder) -> None:
    """Pretrain with every method, judge each, its random start and fbank."""
    from hfcourse.suites.methods import RANDOM, Probe, compare
    from hfcourse.suites.runner import Learner

    if run.finished:
        print(f"{run.path}: already finished")
        return

    def settings_of(method: str) -> Any:
        chosen = METHODS[method]()
        if isinstance(chosen, DistilHuBERT):
            chosen = replace(chosen, teacher=str(run.path.resolve() / "pretrain-hubert"))
        task = replace(config.pretrain.task, method=chosen)
        return replace(config.pretrain, seed=config.seed, task=task).resolved()

    def probe_of(probe: Probe) -> Any:
        settings = getattr(judging, probe.task)(config.probe)
        init = "random" if probe.start == RANDOM else "pretrained"
        backbone = replace(settings.backbone, init=init)
        return replace(settings, model=probe.model, seed=probe.seed, backbone=backbone).resolved()

    compare(
        config.methods,
        config.tasks,
        tuple(range(config.seed, config.seed + config.seeds)),
        run,
        pretraining=Learner(recipe="speech/pretrain", settings=settings_of, learn=pretraining.learn),
        probing=Learner(recipe="speech/finetune", settings=probe_of, learn=judging.learn),
        baseline="fbank",
        last=("distilhubert",),
        devices=config.devices,
    )


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
