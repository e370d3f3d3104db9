"""Speech as words: a vq-wav2vec turns recordings into units, and a BERT learns from them as from text.

Lecture:  self-supervised learning for speech (Hung-yi Lee, ML 2022).
Paper:    vq-wav2vec (arXiv 1910.05453).
Run:      hfcourse run speech/units
          hfcourse run speech/units --model runs/speech-pretrain-1
          hfcourse run speech/units full --speech.task.data librispeech/all --speech.task.data_dir LibriSpeech
Results:  recipes/speech/README.md
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hfcourse import recipe as recipes
from hfcourse.config import to_dict
from hfcourse.engine.settings import OptimConfig
from hfcourse.errors import ConfigError
from hfcourse.objectives.speech.settings import VqWav2Vec
from hfcourse.run_folder import RunFolder

pretraining = recipes.find("speech/pretrain").module
reading = recipes.find("bert/pretrain").module


@dataclass(frozen=True, kw_only=True)
class Config:
    """A vq-wav2vec, its units, and a BERT over them."""

    seed: int = 0
    """Decides every draw of every run."""
    model: str = ""
    """A trained vq-wav2vec: a run, a folder or a Hub id; trained first where not given."""
    longest: float = 60.0
    """Seconds; of longer recordings the first part becomes units."""
    most: int = 16_000
    """Most units that the BERT knows, the most frequent ones; the others are unknown words."""
    speech: pretraining.Config = field(default_factory=pretraining.base)
    """The run that trains the vq-wav2vec; its recordings are what the BERT reads."""
    bert: reading.Config = field(default_factory=reading.base)
    """The run that trains the BERT; its text and its tokenizer are the units."""

    def __post_init__(self) -> None:
        if not isinstance(self.speech.task.method, VqWav2Vec):
            raise ConfigError(f"speech.task.method is {self.speech.task.method.kind}: only vq_wav2vec makes units")
        if self.longest <= 0:
            raise ConfigError(f"longest is {self.longest}: it must be above 0 seconds")
        if self.most < 1:
            raise ConfigError(f"most is {self.most}: it must be 1 or more")


def base() -> Config:
    """The tiny vq-wav2vec on spoken/unlabelled and a BERT of 4 layers x 256: about 8 minutes on 2 cores."""
    speech = pretraining.base()
    bert = reading.mlm(reading.spans(reading.base()))
    return Config(
        speech=replace(speech, task=replace(speech.task, method=VqWav2Vec())),
        bert=replace(
            bert,
            model="nomicbert-mini",
            task=replace(bert.task, mask_rate=0.3),
            optim=OptimConfig(lr=1e-3, betas=(0.9, 0.98), warmup=0.1),
            train=replace(bert.train, steps=600, eval_every=200, log_every=10),
        ),
    )


def full(config: Config) -> Config:
    """The paper's sizes: 34 M parameters make units, bert-base reads 510 of them at once. For GPUs."""
    return replace(config, speech=pretraining.full(config.speech), bert=reading.bert_base(config.bert))


def debug(config: Config) -> Config:
    """Seconds on CPU: tiny runs of both."""
    bert = reading.debug(config.bert)
    return replace(config, speech=pretraining.debug(config.speech), bert=replace(bert, model="nomicbert-tiny"))


def written(config: Config, name: str, folder: Any) -> Any:
    """The units of all recordings, made by the net `name` where `folder` does not hold them yet."""
    from hfcourse.engine.progress import say
    from hfcourse.tasks import unit_text
    from hfcourse.tasks.sound import context_of

    found = unit_text.UnitText(folder)
    if found.is_whole:
        return found
    net = unit_text.net_with_codebook(name)
    speech = config.speech
    context = context_of(
        name,
        replace(speech.backbone, init="pretrained"),
        seed=config.seed,
        limit=speech.limit,
        dev_limit=speech.dev_limit,
        strict=speech.strict,
        cache_dir=speech.backbone.cache_dir,
    )
    task = replace(speech.task, longest=config.longest).build(context)
    for note in context.notes:
        say(note)
    return unit_text.write(net, task.splits, context, folder, most=config.most)


def join(config: Config, name: str, bert: RunFolder, units: Any, run: RunFolder) -> None:
    """Save the net that makes units and the BERT that reads them as one model, with the net's extractor."""
    from hfcourse.data import extractors
    from hfcourse.tasks import unit_text

    # Two of a block's tokens are special.
    model = unit_text.joined(name, str(bert.model_dir), units, block=config.bert.task.block_length - 2)
    with run.replacing(run.model_dir) as side:
        model.save_pretrained(side)
        extractors.load(name).save_pretrained(side)


def main(config: Config, run: RunFolder) -> None:
    """vq-wav2vec -> units -> BERT -> one model."""
    from hfcourse.engine.finish import one_first
    from hfcourse.report import report

    if run.finished:
        print(f"{run.path}: already finished")
        return
    done: dict[str, RunFolder] = {}
    name = config.model
    if not name:
        done["speech"] = _learn(pretraining, "speech", replace(config.speech, seed=config.seed), run)
        name = str(done["speech"].model_dir)
    with one_first():
        units = written(config, name, run.path / "units")
    task = replace(config.bert.task, data=str(units.text), data_dir=None, column="text")
    bert = replace(config.bert, seed=config.seed, task=task, tokenizer=str(units.tokenizer))
    done["bert"] = _learn(reading, "bert", bert, run)
    if run.is_main:
        join(config, name, done["bert"], units, run)
        scores = {name: child.read_json("metrics.json")["score"] for name, child in done.items()}
        print(report([child.path for child in done.values()], run.path / "report.html"))
        run.write_json("metrics.json", {"recipe": "speech/units", "units": units.facts, "scores": scores})


def _learn(module: Any, name: str, settings: Any, run: RunFolder) -> RunFolder:
    recipe = "speech/pretrain" if module is pretraining else "bert/pretrain"
    child = run.child(name, {"recipe": recipe, "variant": []} | to_dict(settings))
    module.learn(settings, child)
    return child


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
