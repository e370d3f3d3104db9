"""Pretrain a speech model from scratch, with any of the methods that the course names.

Lecture:  self-supervised learning for speech (Hung-yi Lee, ML 2022).
Papers:   Mockingjay (arXiv 1910.12638), TERA (2007.06028), APC (1904.03240), VQ-APC (2005.08392), CPC (1807.03748),
          wav2vec (1904.05862), vq-wav2vec (1910.05453), wav2vec 2.0 (2006.11477), HuBERT (2106.07447), BEST-RQ
          (2202.01855), WavLM (2110.13900), data2vec (2202.03555), DistilHuBERT (2110.01900).
Run:      hfcourse run speech/pretrain --method apc
          hfcourse run speech/pretrain full --method wav2vec2 --task.data librispeech/all --task.data_dir LibriSpeech
Results:  recipes/speech/README.md
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar

from hfcourse.backbones.settings import BackboneConfig
from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.speech_pretraining import SpeechPretrainingConfig


@dataclass(frozen=True, kw_only=True)
class Config(FitConfig):
    """Pretraining from scratch, or on from a checkpoint."""

    aliases: ClassVar[dict[str, str]] = {"method": "task.method"}
    model: str = ""
    """A preset (apc-tiny, wav2vec2-base, ...), a folder or a Hub id; the method's own net of `size` where not given."""
    size: str = "tiny"
    """Of the method's own net: tiny, small or base."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Where weights come from, and the attention kernel."""
    task: SpeechPretrainingConfig = field(default_factory=SpeechPretrainingConfig)
    """Recordings and method."""

    @property
    def net(self) -> str:
        """What `model.build` is given."""
        return self.model or f"{self.task.method.kind}-{self.size}"


def base() -> Config:
    """The tiny net of a method on spoken/unlabelled: up to 4 minutes on 2 cores."""
    return Config(
        batch=BatchConfig(examples=64, seconds=80),
        optim=OptimConfig(lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01, warmup=0.1),
        train=TrainConfig(steps=250, eval_every=125, log_every=10, select_best=False),
    )


def small(config: Config) -> Config:
    """Half the papers' width and depth: hours on 2 cores, minutes on a GPU."""
    train = replace(config.train, steps=20_000, eval_every=2000)
    return replace(config, size="small", batch=BatchConfig(examples=256, seconds=320), train=train)


def full(config: Config) -> Config:
    """The papers' base size: for GPUs."""
    train = replace(config.train, steps=100_000, eval_every=5000, compile=True)
    batch = BatchConfig(examples=1024, seconds=1600, micro_tokens=20_000)
    return replace(
        config,
        size="base",
        batch=batch,
        optim=replace(config.optim, lr=5e-4),
        task=replace(config.task, longest=15.6),
        train=train,
    )


def debug(config: Config) -> Config:
    """Seconds on CPU: a few recordings, a few steps."""
    return replace(
        config,
        limit=24,
        batch=BatchConfig(examples=6),
        task=replace(config.task, longest=2.0),
        train=replace(config.train, steps=6, eval_every=3, log_every=2),
    )


def learn(config: Config, run: RunFolder) -> None:
    """Extractor -> task -> model -> fit."""
    from hfcourse import model
    from hfcourse.engine.finish import one_first
    from hfcourse.engine.fit import fit
    from hfcourse.engine.progress import say
    from hfcourse.tasks.sound import context_of

    context = context_of(
        config.net,
        config.backbone,
        seed=config.seed,
        limit=config.limit,
        dev_limit=config.dev_limit,
        strict=config.strict,
        cache_dir=config.backbone.cache_dir,
        folder=run.path,
    )
    with one_first():
        task = config.task.build(context)
    for note in context.notes:
        say(note)
    net = model.build(config.net, task.head, backbone=config.backbone, peft=config.peft, seed=config.seed)
    fit(net, task, config, run, tokenizer=context.extractor)


def main(config: Config, run: RunFolder) -> None:
    """Learn, then write the model's card and the report."""
    from hfcourse.engine.finish import finish

    learn(config, run)
    finish(run)


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
