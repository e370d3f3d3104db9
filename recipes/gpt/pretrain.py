"""Pretrain a GPT from scratch: guess the next token, of words or of characters.

Lecture:  self-supervised learning, GPT (Hung-yi Lee, ML 2021/2022).
Papers:   GPT-2 ("Language models are unsupervised multitask learners"), LLaMA (arXiv 2302.13971).
Run:      hfcourse run gpt/pretrain
          hfcourse run gpt/pretrain shakespeare --task.data_dir input.txt
          hfcourse run gpt/pretrain llama --task.data my/corpus --train_tokenizer.vocab_size 8192
          hfcourse run gpt/pretrain further --model HUB_ID_OR_RUN --task.data my/corpus   # go on with a trained model
Results:  recipes/gpt/README.md
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from hfcourse import recipe as recipes
from hfcourse.data.tokenizers import TokenizerConfig, gpt_tokenizer
from hfcourse.engine.generate import DecodingConfig
from hfcourse.engine.settings import BatchConfig, OptimConfig, TrainConfig
from hfcourse.errors import ConfigError
from hfcourse.run_folder import SAMPLES, RunFolder
from hfcourse.tasks.causal_pretraining import CausalPretrainingConfig

pretraining = recipes.find("bert/pretrain").module


@dataclass(frozen=True, kw_only=True)
class Config(pretraining.Config):
    """Pretraining from scratch, or on from a checkpoint, and what the model writes when it has learned."""

    model: str = "gpt2-mini"
    """A preset (gpt2- or llama-, then tiny, nano, mini, small, baby or base), a folder or a Hub id."""
    train_tokenizer: TokenizerConfig = field(default_factory=gpt_tokenizer)
    """How a new tokenizer is trained; its longest input is the block."""
    task: CausalPretrainingConfig = field(default_factory=CausalPretrainingConfig)
    """The text."""
    prompt: str = ""
    """What the samples begin with; empty: where documents begin."""
    writing: DecodingConfig = field(
        default_factory=lambda: DecodingConfig(temperature=0.8, top_p=0.95, max_new_tokens=200, samples=4)
    )
    """How the samples on the run's page are written."""


def base() -> Config:
    """gpt2-mini (4 layers x 256) on pydocs, 2,048 entries, blocks of 256 tokens, by Muon: minutes on 2 cores."""
    start = pretraining.base()
    return Config(
        backbone=replace(start.backbone, dropout=0.0),
        train_tokenizer=replace(gpt_tokenizer(), vocab_size=2048),  # pydocs is small: words are learned from parts
        task=CausalPretrainingConfig(block_length=256),
        batch=BatchConfig(examples=8),
        optim=OptimConfig(name="muon", lr=2e-3, betas=(0.9, 0.95), weight_decay=0.1, schedule="cosine", warmup=0.05),
        train=TrainConfig(steps=1500, eval_every=500, log_every=20, select_best=False),
    )


def llama(config: Config) -> Config:
    """LLaMA's shape: rotary positions, RMS norms, gated MLP."""
    return replace(config, model=config.model.replace("gpt2-", "llama-"))


def further(config: Config) -> Config:
    """Go on with a trained model (give --model): AdamW, at the rate of what is trained (all of it, or --peft)."""
    return replace(config, model="", optim=replace(config.optim, name="adamw", lr=0.0))


def gpt2_base(config: Config) -> Config:
    """GPT-2's smallest (124 M), 1,024 tokens, half a million tokens a step: for GPUs."""
    return replace(
        config,
        model="gpt2-base",
        task=replace(config.task, block_length=1024),
        train_tokenizer=replace(config.train_tokenizer, vocab_size=50_304),  # GPT-2's, up to a multiple of 64
        batch=BatchConfig(examples=480, micro_tokens=32_768),
        optim=replace(config.optim, name="adamw", lr=6e-4, warmup=2000),
        train=replace(config.train, steps=100_000, eval_every=5000, compile=True),
    )


def shakespeare(config: Config) -> Config:
    """Characters of one text (give --task.data_dir), 0.8 M parameters, sizes and steps of nanoGPT on CPU: minutes."""
    return replace(
        config,
        model="llama-nano",  # learns these characters in fewer steps than gpt2-nano (recipes/gpt/README.md)
        task=CausalPretrainingConfig(data="charlm", block_length=64),
        train_tokenizer=TokenizerConfig(kind="char", style="gpt", lowercase=False),
        prompt="\n",
        batch=BatchConfig(examples=12),
        optim=replace(config.optim, name="adamw", lr=4e-3, betas=(0.9, 0.99), warmup=100),
        train=replace(config.train, steps=2000, eval_every=1000, log_every=100),
    )


def shakespeare_gpu(config: Config) -> Config:
    """The same with 10 M parameters (6 layers x 384) and 256 characters at once, nanoGPT's setting for GPUs."""
    small = shakespeare(config)
    return replace(
        small,
        model="gpt2-baby",
        backbone=replace(small.backbone, dropout=0.2),
        task=replace(small.task, block_length=256),
        batch=BatchConfig(examples=64),
        optim=replace(small.optim, lr=1e-3),
        train=replace(small.train, steps=5000, eval_every=250, select_best=True),
    )


def debug(config: Config) -> Config:
    """Seconds on CPU: a tiny model on a few blocks."""
    return replace(
        config,
        model=config.model and config.model.split("-")[0] + "-tiny",  # none after `further`
        limit=64,
        task=replace(config.task, block_length=32),
        train_tokenizer=replace(config.train_tokenizer, vocab_size=1000, sample_bytes=200_000),
        writing=replace(config.writing, max_new_tokens=20, samples=2),
        batch=BatchConfig(examples=8),
        train=replace(config.train, steps=8, eval_every=4, log_every=2),
    )


def learn(config: Config, run: RunFolder) -> None:
    """As any pretraining, in inputs of one block."""
    if not config.model:
        raise ConfigError("model is empty: the variant further goes on with a trained one: give --model")
    length = config.task.block_length
    tokenizer = replace(config.train_tokenizer, max_length=length)
    virtual = config.peft.tokens if config.peft.method in {"prompt", "p_tuning"} else 0
    backbone = replace(config.backbone, positions=config.backbone.positions or length + virtual)
    pretraining.learn(replace(config, train_tokenizer=tokenizer, backbone=backbone), run, virtual)


def write(config: Config, run: RunFolder) -> None:
    """Samples of the saved model, where there are none yet."""
    from hfcourse import model
    from hfcourse.data import tokenizers
    from hfcourse.engine.generate import Writer
    from hfcourse.engine.progress import say
    from hfcourse.errors import DataError

    if not run.is_main or run.read_predictions(SAMPLES):
        return
    tokenizer = tokenizers.load(str(run.model_dir))
    writer = Writer(model.load(run.model_dir), tokenizer, config.writing, seed=config.seed)
    try:
        run.write_predictions(SAMPLES, list(writer.write(config.prompt)))
    except DataError as error:  # of the prompt: what was learned is not to be lost for it
        say(f"no samples: {error}")


def main(config: Config, run: RunFolder) -> None:
    """Learn, write samples, then the model's card and the report."""
    from hfcourse.engine.finish import finish

    learn(config, run)
    write(config, run)
    finish(run)


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
