"""Digits by speakers that nobody has heard: two speakers are left out of training, all pairs of them in turn.

Lecture:  self-supervised learning for speech: what pretraining knows of voices it has not met (Hung-yi Lee, ML 2022).
Papers:   HuBERT (arXiv 2106.07447); the data is the Free Spoken Digit Dataset.
Run:      hfcourse run speech/unseen --data_dir free-spoken-digit-dataset
          hfcourse run speech/unseen --data_dir DIR --model runs/speech-pretrain-1
Results:  recipes/speech/README.md
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

from hfcourse import recipe as recipes
from hfcourse.data.augment_settings import AugmentConfig
from hfcourse.errors import ConfigError, TrainingError
from hfcourse.objectives.speech.settings import HuBERT
from hfcourse.run_folder import RunFolder

pretraining = recipes.find("speech/pretrain").module
judging = recipes.find("speech/finetune").module
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
BASELINE = "fbank"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which model, and on which folds it is judged beside filterbanks and its own random start."""

    model: str = ""
    """A pretrained run; empty: a tiny HuBERT is pretrained first, on recordings of other voices."""
    folds: tuple[str, ...] = tuple(f"fsdd/leave_out_{a}_{b}" for a, b in itertools.combinations(SPEAKERS, 2))
    """Data of each fold: its test speakers are not in its training split."""
    data_dir: str | None = None
    """Raw files of the folds."""
    seed: int = 0
    """Of pretraining and of the probes."""
    devices: int = 1
    """So many probes at a time, each with its share of the cores or a GPU."""
    pretrain: pretraining.Config = field(default_factory=pretraining.base)
    """How the model is pretrained where none is given."""
    probe: judging.Config = field(default_factory=judging.base)
    """Settings of every probe."""

    def __post_init__(self) -> None:
        if len(set(self.folds)) < len(self.folds):
            raise ConfigError(f"folds names {max(self.folds, key=self.folds.count)} twice: each is run once")
        if not self.folds or self.devices < 1:
            raise ConfigError("folds must not be empty, and devices must be 1 or more")


def base() -> Config:
    """HuBERT on spoken/unlabelled, half of it heard as over a telephone (FSDD has 8 kHz), judged on all 15 pairs."""
    pretrain = pretraining.base()
    task = replace(pretrain.task, method=HuBERT(), augment=AugmentConfig(narrow=0.5))
    return Config(pretrain=replace(pretrain, task=task, train=replace(pretrain.train, steps=500, eval_every=250)))


def debug(config: Config) -> Config:
    """Seconds on CPU: one fold of made speech, a few steps."""
    return replace(
        config,
        folds=("spoken/digits",),
        pretrain=pretraining.debug(config.pretrain),
        probe=judging.debug(config.probe),
    )


def main(config: Config, run: RunFolder) -> None:
    """Pretrain where no model is given, judge it, its random start and filterbanks on every fold."""
    from hfcourse.data.loading import is_builder, load
    from hfcourse.suites.folds import judge
    from hfcourse.suites.methods import PRETRAINED, RANDOM, Pretraining, Probe
    from hfcourse.suites.runner import Learner, run_jobs

    if run.finished:
        print(f"{run.path}: already finished")
        return
    cache = config.probe.backbone.cache_dir
    for fold in {fold.partition("/")[0] if is_builder(fold) else fold: fold for fold in config.folds}.values():
        load(fold, data_dir=config.data_dir, cache_dir=cache)  # a missing corpus is better known before minutes of work
    name, model = "model", config.model
    if not model:
        name = config.pretrain.task.method.kind
        settings = replace(config.pretrain, seed=config.seed).resolved()
        learner = Learner(recipe="speech/pretrain", settings=lambda method: settings, learn=pretraining.learn)
        job = Pretraining(name)
        trained: Any = run_jobs([job], learner, run)
        if trained.failed:
            raise TrainingError(
                f"{run.path}: pretraining failed twice: {trained.failed[job.name]}: --resume tries again"
            )
        model = str(run.path.resolve() / job.name)

    def probe_of(probe: Probe) -> Any:
        task = replace(config.probe.task, data=probe.task, data_dir=config.data_dir)
        backbone = replace(config.probe.backbone, init="random" if probe.start == RANDOM else "pretrained")
        return replace(config.probe, model=probe.model, seed=probe.seed, backbone=backbone, task=task).resolved()

    models = [(BASELINE, RANDOM, BASELINE), (name, PRETRAINED, model), (name, RANDOM, model)]
    probes = [Probe(*judged, fold, config.seed) for judged in models for fold in config.folds]
    learner = Learner(recipe="speech/finetune", settings=probe_of, learn=judging.learn)
    judge(probes, run, learner, baseline=BASELINE, devices=config.devices)


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
