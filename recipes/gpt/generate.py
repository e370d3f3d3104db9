"""Let a model write: greedy, with beams, or drawn by temperature, top-k, top-p or min-p.

Lecture:  generation (Hung-yi Lee, ML 2021; "the curious case of neural text degeneration").
Papers:   nucleus sampling (arXiv 1904.09751), min-p (2407.01082).
Run:      hfcourse run gpt/generate --model runs/gpt-pretrain-1 --prompt "The function returns"
          hfcourse run gpt/generate --model DIR --prompt "..." --temperature 0.8 --top_k 40 --samples 3
          hfcourse run gpt/generate beam --model DIR_OR_HUB_ID --prompt "translate English to German: Good day."
Results:  recipes/gpt/README.md
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hfcourse.backbones.settings import BackboneConfig
from hfcourse.engine.generate import DecodingConfig
from hfcourse.run_folder import SAMPLES, RunFolder


@dataclass(frozen=True, kw_only=True)
class Config(DecodingConfig):
    """A model, a prompt, and how the next token is chosen."""

    model: str = "runs/gpt-pretrain-1"
    """A run (its adapter with its backbone), a saved model, a Hub id, or a preset (fresh weights)."""
    tokenizer: str = ""
    """A folder or Hub id; the model's own where not given (a preset: one trained on pydocs/text)."""
    prompt: str = ""
    """What a causal model goes on with, a seq2seq model answers; empty: where documents begin."""
    stream: bool = True
    """Show the text as it is written; with beams it is known at the end alone."""
    seed: int = 0
    """Decides what is drawn; each sample has draws of its own."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Of a preset: its weights and attention kernel."""


def base() -> Config:
    """The likeliest token each time (greedy)."""
    return Config()


def sample(config: Config) -> Config:
    """Draw at temperature 0.8 among the likeliest 95 %."""
    return replace(config, temperature=0.8, top_p=0.95)


def beam(config: Config) -> Config:
    """Beam search with four beams."""
    return replace(config, temperature=None, top_k=0, top_p=1.0, min_p=0.0, num_beams=4)


def debug(config: Config) -> Config:
    """Seconds on CPU: a tiny model that has learned nothing writes a few tokens."""
    return replace(config, model="gpt2-tiny", max_new_tokens=8)


def build(config: Config, run: RunFolder) -> tuple[Any, Any]:
    """The model and its tokenizer."""
    from hfcourse import model
    from hfcourse.data import tokenizers
    from hfcourse.heads.spec import HeadSpec

    tokenizer = tokenizers.for_model(config.model, config.tokenizer, run.path / "tokenizer", config.backbone)
    if config.model not in model.PRESETS:
        return model.load(config.model), tokenizer
    head = HeadSpec(kind="causal_lm")
    net = model.build(config.model, head, tokenizer=tokenizer, backbone=config.backbone, seed=config.seed)
    return net, tokenizer


def main(config: Config, run: RunFolder) -> None:
    """Write, and keep what was written."""
    import time

    from hfcourse.engine import machine
    from hfcourse.engine.generate import Writer
    from hfcourse.report import report

    if run.finished:
        print(f"{run.path}: already finished")
        return
    net, tokenizer = build(config, run)
    writer = Writer(net, tokenizer, config, seed=config.seed)
    started = time.perf_counter()
    texts = list(writer.write(config.prompt, show=config.stream))
    seconds = time.perf_counter() - started
    tokens = sum(text["tokens"] for text in texts)
    run.write_predictions(SAMPLES, texts)
    found = {"recipe": "gpt/generate", "task": "writing", "seed": config.seed, "counts": {SAMPLES: len(texts)}}
    found |= {"tokens": tokens, "wall_seconds": round(seconds, 2), "tokens_per_s": round(tokens / seconds, 1)}
    run.write_json("metrics.json", found | machine.describe())
    print(report([run.path]))


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
