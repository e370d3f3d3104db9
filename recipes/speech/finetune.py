"""Judge or fine-tune a speech model on labelled recordings: frozen under a weighted sum of layers, or as a whole.

Lecture:  self-supervised learning for speech, SUPERB (Hung-yi Lee, ML 2022).
Papers:   SUPERB (arXiv 2105.01051).
Run:      hfcourse run speech/finetune commands --model runs/speech-pretrain-1
          hfcourse run speech/finetune phones --model fbank
          hfcourse run speech/finetune digits whole --model DIR --task.data_dir free-spoken-digit-dataset
Results:  recipes/speech/README.md
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Self

from hfcourse.backbones.settings import BackboneConfig
from hfcourse.data.augment_settings import AugmentConfig
from hfcourse.engine.settings import BatchConfig, FitConfig, TrainConfig
from hfcourse.peft_settings import PeftSettings
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.speech_classification import SpeechClassificationConfig, SpeechFramesConfig


@dataclass(frozen=True, kw_only=True)
class Config(FitConfig):
    """A model that hears, a task, and how to fit one to the other."""

    model: str = "fbank"
    """A run folder, a saved model, a Hub id, or a preset (fresh weights; fbank has none)."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Where weights come from, and the attention kernel."""
    task: SpeechClassificationConfig | SpeechFramesConfig = field(default_factory=SpeechClassificationConfig)
    """What is learned."""

    def resolved(self) -> Self:
        """The same with a learning rate: a linear head takes a large one, the same above all backbones."""
        linear = self.peft.method == "linear" and not self.optim.lr
        return replace(self, optim=replace(self.optim, lr=2e-2)) if linear else super().resolved()


def base() -> Config:
    """SUPERB's protocol: a frozen backbone, a learned weighted sum of its layers, a linear head."""
    return Config(
        batch=BatchConfig(examples=32),
        peft=PeftSettings(method="linear"),
        train=TrainConfig(epochs=20, eval_every=0, log_every=20),
    )


def commands(config: Config) -> Config:
    """Which word is spoken?"""
    return replace(config, task=SpeechClassificationConfig(data="spoken/commands"))


def speakers(config: Config) -> Config:
    """Which voice speaks?"""
    return replace(config, task=SpeechClassificationConfig(data="spoken/speakers"))


def phones(config: Config) -> Config:
    """Which phone is spoken, at every state?"""
    return replace(config, task=SpeechFramesConfig(data="spoken/phones"))


def digits(config: Config) -> Config:
    """Which digit is spoken? The Free Spoken Digit Dataset (give --task.data_dir)."""
    return replace(config, task=SpeechClassificationConfig(data="fsdd/digits"))


def whole(config: Config) -> Config:
    """Train the backbone too, and read its last layer."""
    train = replace(config.train, epochs=10)
    task = replace(config.task, layers="last", standardize=False)
    return replace(config, peft=PeftSettings(), task=task, train=train)


def augmented(config: Config) -> Config:
    """Training recordings at three speeds (Ko et al. 2015), with stretches and bands masked (SpecAugment)."""
    augment = AugmentConfig(speeds=(0.9, 1.0, 1.1), time_masks=2, channel_masks=2)
    return replace(config, task=replace(config.task, augment=augment))


def scratch(config: Config) -> Config:
    """The same architecture from a random start: what pretraining is compared with."""
    return replace(config, backbone=replace(config.backbone, init="random"))


def debug(config: Config) -> Config:
    """Seconds on CPU: a few recordings, a few steps."""
    return replace(config, limit=24, train=replace(config.train, steps=6, log_every=2))


def learn(config: Config, run: RunFolder) -> None:
    """Task -> model -> fit."""
    from hfcourse import model
    from hfcourse.engine.finish import one_first
    from hfcourse.engine.fit import fit
    from hfcourse.engine.progress import say
    from hfcourse.tasks.sound import context_of

    context = context_of(
        config.model,
        config.backbone,
        seed=config.seed,
        limit=config.limit,
        dev_limit=config.dev_limit,
        strict=config.strict,
        cache_dir=config.backbone.cache_dir,
    )
    with one_first():
        task = config.task.build(context)
    for note in context.notes:
        say(note)
    net = model.build(config.model, task.head, backbone=config.backbone, peft=config.peft, seed=config.seed)
    fit(net, task, config, run, tokenizer=context.extractor)


def main(config: Config, run: RunFolder) -> None:
    """Learn, then write the model's card and the report."""
    from hfcourse.engine.finish import finish

    learn(config, run)
    finish(run)


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
