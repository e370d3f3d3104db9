"""Pretrain a HuBERT in rounds: clusters of MFCC are foretold first, then clusters of what that model has learned.

Lecture:  self-supervised learning for speech (Hung-yi Lee, ML 2022).
Papers:   HuBERT (arXiv 2106.07447), WavLM (2110.13900).
Run:      hfcourse run speech/hubert
          hfcourse run speech/hubert full --task.data librispeech/all --task.data_dir LibriSpeech
Results:  recipes/speech/README.md
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from hfcourse import recipe as recipes
from hfcourse.config import to_dict
from hfcourse.errors import ConfigError
from hfcourse.objectives.speech.settings import HuBERT
from hfcourse.run_folder import RunFolder

pretraining = recipes.find("speech/pretrain").module


@dataclass(frozen=True, kw_only=True)
class Config:
    """So many rounds as `clusters` has numbers; each begins with fresh weights."""

    aliases: ClassVar[dict[str, str]] = {
        **{name: f"pretrain.{name}" for name in ("batch", "limit", "model", "optim", "size", "task", "train")},
        "method": "pretrain.task.method",
    }
    seed: int = 0
    """Decides every draw of every round."""
    clusters: tuple[int, ...] = (100, 200)
    """How many are made for each round (the paper: 100, then 500)."""
    layers: tuple[int, ...] = ()
    """Which layer of the model before is clustered, for each round from the second on; empty: those in the middle."""
    steps: tuple[int, ...] = (200, 400)
    """Of each round; empty (`--steps=`): as many as pretrain.train has."""
    pretrain: pretraining.Config = field(default_factory=pretraining.base)
    """Settings of every round; the first takes its method's units or teacher, where it names some."""

    def __post_init__(self) -> None:
        if not isinstance(self.pretrain.task.method, HuBERT):
            raise ConfigError("speech/hubert foretells clusters: --method is hubert or wavlm")
        if not self.clusters:
            raise ConfigError("clusters is empty: give a number for each round")
        if self.steps and self.pretrain.train.steps:
            raise ConfigError(
                f"train.steps is {self.pretrain.train.steps} and steps {','.join(map(str, self.steps))}: "
                "give --steps, a number for each round"
            )
        if self.steps and len(self.steps) != len(self.clusters):
            raise ConfigError(
                f"steps has {len(self.steps)} numbers and clusters {len(self.clusters)}: one for each round"
            )
        if self.layers and len(self.layers) != len(self.clusters) - 1:
            raise ConfigError(f"layers has {len(self.layers)} numbers: give one for each round from the second on")
        for number in range(len(self.clusters)):  # what a later round would refuse is refused before the first
            self.settings_of(number, "the round before" if number else "")

    def settings_of(self, number: int, before: str) -> pretraining.Config:
        """The settings of a round, from 0, behind the model of the one before."""
        settings, method = self.pretrain, replace(self.pretrain.task.method, clusters=self.clusters[number])
        if before:
            layer = self.layers[number - 1] if self.layers else 0
            method = replace(method, units="", cmvn=False, teacher=before, layer=layer)
        train = replace(settings.train, steps=self.steps[number]) if self.steps else settings.train
        return replace(settings, seed=self.seed, task=replace(settings.task, method=method), train=train)


def base() -> Config:
    """Two rounds of the tiny net on spoken/unlabelled: 200 and 400 steps."""
    settings = pretraining.base()
    task, train = replace(settings.task, method=HuBERT()), replace(settings.train, steps=0)
    return Config(pretrain=replace(settings, task=task, train=train))


def full(config: Config) -> Config:
    """The paper's base size, masks, clusters and steps: for GPUs (give --task.data librispeech/all --task.data_dir)."""
    settings = pretraining.full(config.pretrain)
    task = replace(settings.task, method=HuBERT(span=10, unmasked=0.0))
    settings = replace(settings, task=task, train=replace(settings.train, steps=0))
    return replace(config, clusters=(100, 500), layers=(6,), steps=(250_000, 400_000), pretrain=settings)


def debug(config: Config) -> Config:
    """Seconds on CPU: a few recordings, a few steps."""
    settings = pretraining.debug(config.pretrain)
    settings = replace(settings, train=replace(settings.train, steps=0))
    return replace(config, clusters=(8, 12), layers=(), steps=(6, 6), pretrain=settings)


def main(config: Config, run: RunFolder) -> None:
    """Round after round; the run's model is that of the last."""
    from hfcourse.report import report

    if run.finished:
        print(f"{run.path}: already finished")
        return
    _refuse_layers(config)
    rounds: list[RunFolder] = []
    for number in range(len(config.clusters)):
        settings = config.settings_of(number, str(rounds[-1].model_dir) if rounds else "")
        folder = run.child(f"round-{number + 1}", {"recipe": "speech/pretrain", "variant": []} | to_dict(settings))
        if not folder.finished:
            pretraining.learn(settings, folder)
        rounds.append(folder)
    if run.is_main:
        _finish(rounds, run)
        print(report([folder.path for folder in rounds]))


def _refuse_layers(config: Config) -> None:
    """Raise ConfigError for layers that the net does not have, before hours go into the round that they come from."""
    from hfcourse.backbones.load import load_config

    saved = load_config(config.pretrain.net, config.pretrain.backbone, None)
    count = getattr(saved, "backbone_config", saved).num_hidden_layers
    for layer in config.layers:
        if not 0 <= layer <= count:
            raise ConfigError(f"layers has {layer}: {config.pretrain.net} has the layers 1 to {count}; 0: the middle")


def _finish(rounds: list[RunFolder], run: RunFolder) -> None:
    """The last round's model with its card, and what each round has reached."""
    from hfcourse.hub.card import write_card

    write_card(rounds[-1])
    with run.replacing(run.model_dir) as side:
        shutil.copytree(rounds[-1].model_dir, side, dirs_exist_ok=True)
    found: list[dict[str, Any]] = [folder.read_json("metrics.json") for folder in rounds]
    scores = [{"scores": one["scores"], "steps": one["steps"], "wall_seconds": one["wall_seconds"]} for one in found]
    run.write_json("metrics.json", {**found[-1], "recipe": "speech/hubert", "rounds": scores})


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
