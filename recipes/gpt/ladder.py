"""A ladder of GPTs: the same text for each size, then zero-, one- and few-shot accuracy against size.

Lecture:  GPT-3: what grows with a language model (Hung-yi Lee, ML 2022/2023).
Paper:    GPT-3 (arXiv 2005.14165), figures 1.2 and 1.3, in small.
Run:      hfcourse run gpt/ladder
          hfcourse run gpt/ladder --models gpt2-nano,gpt2-mini,gpt2-small,gpt2-baby --pretrain.train.steps 5000
Results:  recipes/gpt/README.md
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hfcourse import recipe as recipes
from hfcourse.config import to_dict
from hfcourse.errors import ConfigError
from hfcourse.run_folder import RunFolder

pretraining = recipes.find("gpt/pretrain").module
asking = recipes.find("gpt/in_context").module


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which sizes, how each is trained, what each is asked."""

    seed: int = 0
    """Decides every draw of every run."""
    models: tuple[str, ...] = ("llama-tiny", "llama-nano", "llama-mini", "llama-baby")
    """Presets, trained from scratch."""
    translations: str = "cldr/phrases"
    """The task whose training split is mixed into the text: lists of pairs, as a prompt shows them."""
    documents: int = 400
    """Most documents of prose, drawn; 0: all. With all of them the lists are a fourteenth of the text."""
    pretrain: pretraining.Config = field(default_factory=pretraining.base)
    """The training of each; text and tokenizer are made here, the same for all."""
    ask: asking.Config = field(default_factory=asking.base)
    """The questions."""

    def __post_init__(self) -> None:
        if not self.models:
            raise ConfigError("models is empty: name presets, such as gpt2-nano,gpt2-mini")
        if self.ask.model or self.ask.tokenizer:
            raise ConfigError("ask.model and ask.tokenizer are those of the ladder: leave them out")
        start = pretraining.base()
        for name, given, usual, instead in (
            ("pretrain.model", self.pretrain.model, start.model, "name the sizes with --models"),
            ("pretrain.tokenizer", self.pretrain.tokenizer, "", "pretrain.train_tokenizer says how one is trained"),
            ("pretrain.task.data", self.pretrain.task.data, start.task.data, "the ladder makes the text"),
            ("pretrain.seed", self.pretrain.seed, 0, "--seed decides all draws"),
            ("ask.seed", self.ask.seed, 0, "--seed decides all draws"),
        ):
            if given != usual:
                raise ConfigError(f"{name} is {given!r}: {instead}")


def base() -> Config:
    """Four sizes from 2 layers x 128 on, on pydocs and cldr: for an hour of 2 cores (trials: docs/LOG.md)."""
    start = pretraining.base()
    learning = replace(
        start,
        task=replace(start.task, block_length=512),
        batch=replace(start.batch, examples=4),
    )
    # New phrases of cldr are made of words that the text holds; a new word of its lexicon nobody could know.
    asked = replace(asking.base(), tasks=("pydocs/topic", "pydocs/match", "cldr/phrases"), limit=100)
    return Config(pretrain=learning, ask=asked)


def debug(config: Config) -> Config:
    """Seconds on CPU: two tiny models, a few rows of one task."""
    ask = replace(asking.debug(config.ask), model="", tasks=("cldr/lexicon",))
    pretrain = replace(pretraining.debug(config.pretrain), model=config.pretrain.model)
    return replace(config, models=("gpt2-tiny", "gpt2-nano"), documents=40, pretrain=pretrain, ask=ask)


def main(config: Config, run: RunFolder) -> None:
    """Text -> tokenizer -> a model of each size -> its answers -> accuracy against size."""
    from pathlib import Path

    from hfcourse.data import tokenizers
    from hfcourse.engine.finish import one_first
    from hfcourse.report import ladder_report
    from hfcourse.suites import ladder

    if run.finished:
        print(f"{run.path}: already finished")
        return
    with one_first():
        corpus = ladder.write_corpus(run, config.translations, seed=config.seed, prose=config.documents)
        length = config.pretrain.task.block_length
        train = replace(config.pretrain.train_tokenizer, max_length=length)
        tokenizer = str(run.path.resolve() / "tokenizer")  # the folder may be called otherwise when it is resumed
        tokenizers.train_once(tokenizers.texts_of(corpus), train, Path(tokenizer))
    trained: dict[str, RunFolder] = {}
    for name in config.models:
        task = replace(config.pretrain.task, data=corpus)
        learning = replace(config.pretrain, model=name, tokenizer=tokenizer, seed=config.seed, task=task)
        trained[name] = _child(run, name, "gpt/pretrain", learning)
        pretraining.learn(learning, trained[name])
    if run.is_main:  # one process asks, so the others must not wait for it before they train the next model
        asked: dict[str, RunFolder] = {}
        for name, one in trained.items():
            questions = replace(config.ask, model=str(one.model_dir.resolve()), seed=config.seed)
            asked[name] = _child(run, f"{name}-asked", "gpt/in_context", questions)
            asking.main(questions, asked[name])
        found = ladder.summary(trained, asked)
        run.write_json("ladder.json", found)
        print(ladder_report(run))
        run.write_json("metrics.json", {"recipe": "gpt/ladder", **found})


def _child(run: RunFolder, name: str, recipe: str, settings: Any) -> RunFolder:
    return run.child(name, {"recipe": recipe, "variant": []} | to_dict(settings))


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
