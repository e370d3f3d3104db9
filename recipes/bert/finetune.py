"""Fine-tune any encoder or decoder: classification, tagging, question answering, multiple choice.

Lecture:  self-supervised learning, "how to use BERT": four cases (Hung-yi Lee, ML 2021/2022).
Papers:   BERT (arXiv 1810.04805).
Run:      hfcourse run bert/finetune topic --model runs/bert-pretrain-1
          hfcourse run bert/finetune classification --model DIR --task.data my/train.tsv --task.text question \\
              --task.label kind
          hfcourse run bert/finetune cola --model DIR --task.data_dir GLUE
          hfcourse run bert/finetune together --model DIR --task.members a=classification:a.tsv,b=tagging:b.conll
Results:  recipes/bert/README.md
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hfcourse.backbones.settings import BackboneConfig
from hfcourse.engine.settings import FitConfig, TrainConfig
from hfcourse.errors import ConfigError
from hfcourse.heads.spec import HeadSpec
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.classification import ClassificationConfig
from hfcourse.tasks.multiple_choice import MultipleChoiceConfig
from hfcourse.tasks.span_qa import SpanQAConfig
from hfcourse.tasks.tagging import TaggingConfig
from hfcourse.tasks.together import TogetherConfig


@dataclass(frozen=True, kw_only=True)
class Config(FitConfig):
    """A model, a task, and how to fit one to the other."""

    model: str = "bert-mini"
    """A run folder, a saved model, a Hub id, or a preset (fresh weights)."""
    tokenizer: str = ""
    """A folder or Hub id; the model's own where not given (a preset: one trained on pydocs/text)."""
    max_length: int = 0
    """Longest input in tokens; 0 for what model and tokenizer allow."""
    evaluate_only: bool = False
    """Train nothing: judge a model that was fine-tuned here or elsewhere as it is."""
    head: str = ""
    """Of a model that has learned several tasks together, the head to go on with."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """Where weights come from, and the attention kernel."""
    task: ClassificationConfig | TaggingConfig | SpanQAConfig | MultipleChoiceConfig | TogetherConfig = field(
        default_factory=ClassificationConfig
    )
    """What is learned."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.head and isinstance(self.task, TogetherConfig):
            raise ConfigError(f"head is {self.head!r} and the task is together, which has a head for each member")


def base() -> Config:
    """One sentence -> class on pydocs/topic."""
    return Config(train=TrainConfig(epochs=3))


def classification(config: Config) -> Config:
    """One or two sentences -> class, labels or number; any table by --task.data, --task.text and --task.label."""
    return replace(config, task=ClassificationConfig())


def tagging(config: Config) -> Config:
    """Words -> tags; CoNLL and CoNLL-U files by --task.data."""
    return replace(config, task=TaggingConfig())


def qa(config: Config) -> Config:
    """Question + document -> span; SQuAD-like files by --task.data."""
    return replace(config, task=SpanQAConfig())


def choice(config: Config) -> Config:
    """Context + choices -> one of them."""
    return replace(config, task=MultipleChoiceConfig())


def together(config: Config) -> Config:
    """Several tasks with one backbone and a head each; --task.members names them."""
    return replace(config, task=TogetherConfig())


def topic(config: Config) -> Config:
    """Sequence -> class: which package does this sentence document?"""
    return replace(config, task=ClassificationConfig(data="pydocs/topic"))


def terms(config: Config) -> Config:
    """Sequence -> tags: parameters, types and exceptions in a docstring."""
    return replace(config, task=TaggingConfig(data="pydocs/terms"))


def match(config: Config) -> Config:
    """Two sequences -> class: does this text describe this signature?"""
    return replace(config, task=ClassificationConfig(data="pydocs/match"))


def answer(config: Config) -> Config:
    """Question + document -> span, in docstrings."""
    return replace(config, task=SpanQAConfig(data="pydocs/answer"))


def cola(config: Config) -> Config:
    """GLUE's CoLA: acceptable or not (give --task.data_dir)."""
    return replace(config, task=ClassificationConfig(data="glue/cola"))


def evaluate(config: Config) -> Config:
    """Judge a fine-tuned model as it is, without training."""
    return replace(config, evaluate_only=True)


def scratch(config: Config) -> Config:
    """The same architecture from a random start: what pretraining is compared with."""
    return replace(config, backbone=replace(config.backbone, init="random"))


def debug(config: Config) -> Config:
    """Seconds on CPU: a few examples, a few steps."""
    return replace(config, limit=48, max_length=64, train=replace(config.train, steps=6, log_every=2))


def build(config: Config, run: RunFolder) -> tuple[Any, Any, Any]:
    """Tokenizer -> task -> model; in the order (model, task, tokenizer)."""
    from hfcourse import model
    from hfcourse.data import tokenizers
    from hfcourse.engine.finish import one_first
    from hfcourse.engine.progress import say
    from hfcourse.tasks.base import TaskContext

    with one_first():
        tokenizer = tokenizers.for_model(config.model, config.tokenizer, run.path / "tokenizer", config.backbone)
    context = TaskContext(
        tokenizer=tokenizer,
        max_length=model.input_length(config.model, tokenizer, config.max_length, config.backbone),
        seed=config.seed,
        limit=config.limit,
        dev_limit=config.dev_limit,
        strict=config.strict,
        model_labels=model.trained_labels(config.model, config.task.head_kind, config.backbone, named=config.head),
        cache_dir=config.backbone.cache_dir,
    )
    with one_first():
        task = config.task.build(context)
    for note in context.notes:
        say(note)
    net = model.build(
        config.model,
        replace(task.head, name=config.head) if isinstance(task.head, HeadSpec) else task.head,
        tokenizer=tokenizer,
        backbone=config.backbone,
        need_trained_head=config.evaluate_only,
        peft=config.peft,
        seed=config.seed,
    )
    return net, task, tokenizer


def learn(config: Config, run: RunFolder) -> None:
    """Build -> fit."""
    from hfcourse.engine.fit import fit

    net, task, tokenizer = build(config, run)
    fit(net, task, config, run, tokenizer=tokenizer, train=not config.evaluate_only)


def main(config: Config, run: RunFolder) -> None:
    """Learn, then write the model's card and the report."""
    from hfcourse.engine.finish import finish

    learn(config, run)
    finish(run)


if __name__ == "__main__":
    from hfcourse.cli import run_recipe

    run_recipe(__file__)
