"""Pretrain a BERT from scratch: masked words, next sentence, sentence order, replaced tokens.

Lecture:  self-supervised learning, BERT (Hung-yi Lee, ML 2021/2022).
Papers:   BERT (arXiv 1810.04805), ALBERT's sentence order (1909.11942), SpanBERT (1907.10529), ELECTRA (2003.10555).
Run:      hfcourse run bert/pretrain small
          hfcourse run bert/pretrain small electra --task.data my/corpus --optim.lr 3e-4
Results:  recipes/bert/README.md
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hfcourse.backbones.settings import BackboneConfig
from hfcourse.data.tokenizers import TokenizerConfig
from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.pretraining import PretrainingConfig


@dataclass(frozen=True, kw_only=True)
class Config(FitConfig):
    """Pretraining from scratch, or on from a checkpoint."""

    model: str = "bert-mini"
    """A preset (bert-, modernbert- or nomicbert-, then tiny, mini, small, medium or base), a folder or a Hub id."""
    tokenizer: str = ""
    """A folder or Hub id; trained on the task's text where not given (or the model's own, if it has one)."""
    train_tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    """How a new tokenizer is trained."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Where weights come from, and the attention kernel."""
    task: PretrainingConfig = field(default_factory=PretrainingConfig)
    """Text, objectives and masks."""


def base() -> Config:
    """bert-mini on pydocs with masked words and sentence order: about 10 minutes on 2 cores."""
    return Config(
        batch=BatchConfig(examples=32),
        optim=OptimConfig(lr=1e-3, betas=(0.9, 0.98), schedule="linear", warmup=0.1),
        train=TrainConfig(steps=2000, eval_every=500, log_every=20, select_best=False),
    )


def small(config: Config) -> Config:
    """bert-small (4 layers x 512), 10,000 steps: an evening on 2 cores, minutes on a GPU."""
    return replace(config, model="bert-small", train=replace(config.train, steps=10_000, eval_every=1000))


def bert_base(config: Config) -> Config:
    """bert-base, 512 tokens, 100,000 steps of 256 blocks: for GPUs."""
    return replace(
        config,
        model="bert-base",
        task=replace(config.task, block_length=512),
        train_tokenizer=replace(config.train_tokenizer, vocab_size=30_522),
        batch=BatchConfig(examples=256, micro_tokens=32_768),
        optim=replace(config.optim, lr=4e-4),
        train=replace(config.train, steps=100_000, eval_every=5000, compile=True),
    )


def modern(config: Config) -> Config:
    """Pre-norm, rotary positions, gated MLP, no biases (ModernBERT), masked words alone at 30 %."""
    task = replace(config.task, sentence_order=0.0, next_sentence=0.0, mask_rate=0.3)
    return replace(config, model="modernbert-mini", task=task)


def nsp(config: Config) -> Config:
    """BERT's own pair: masked words and next sentence."""
    return replace(config, task=replace(config.task, next_sentence=1.0, sentence_order=0.0))


def mlm(config: Config) -> Config:
    """Masked words alone (RoBERTa)."""
    return replace(config, task=replace(config.task, next_sentence=0.0, sentence_order=0.0))


def spans(config: Config) -> Config:
    """Mask whole spans of words (SpanBERT)."""
    return replace(config, task=replace(config.task, mask_kind="span"))


def electra(config: Config) -> Config:
    """Replaced-token detection (ELECTRA): a small generator corrupts, the model finds what was replaced."""
    task = replace(config.task, masked_lm=0.0, sentence_order=0.0, next_sentence=0.0, replaced_tokens=1.0)
    return replace(config, task=task)


def debug(config: Config) -> Config:
    """Seconds on CPU: a tiny model on a few blocks."""
    return replace(
        config,
        model="bert-tiny",
        limit=64,
        task=replace(config.task, block_length=32),
        train_tokenizer=replace(config.train_tokenizer, vocab_size=1000, sample_bytes=200_000),
        batch=BatchConfig(examples=8),
        train=replace(config.train, steps=8, eval_every=4, log_every=2),
    )


def learn(config: Config, run: RunFolder, virtual: int = 0) -> None:
    """Tokenizer -> task -> model -> fit; `virtual` tokens before each block take positions of the model's."""
    from hfcourse import model
    from hfcourse.data import tokenizers
    from hfcourse.engine.finish import one_first
    from hfcourse.engine.fit import fit
    from hfcourse.engine.progress import say
    from hfcourse.tasks.base import TaskContext

    with one_first():
        if config.tokenizer or config.model not in model.PRESETS:
            tokenizer = tokenizers.load(config.tokenizer or config.model, config.backbone)
        else:
            texts = tokenizers.texts_of(config.task.data, column=config.task.column, data_dir=config.task.data_dir)
            tokenizer = tokenizers.train_once(texts, config.train_tokenizer, run.path / "tokenizer")
    context = TaskContext(
        tokenizer=tokenizer,
        max_length=model.input_length(config.model, tokenizer, config.task.block_length + virtual, config.backbone)
        - virtual,
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
    net = model.build(
        config.model,
        task.head,
        tokenizer=tokenizer,
        backbone=config.backbone,
        peft=config.peft,
        seed=config.seed,
    )
    fit(net, task, config, run, tokenizer=tokenizer)


def main(config: Config, run: RunFolder) -> None:
    """Learn, then write the model's card and the report."""
    from hfcourse.engine.finish import finish

    learn(config, run)
    finish(run)


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
