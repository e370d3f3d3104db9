"""What is known of transformers' own classes: which is a backbone with a head, and how its config tells the head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import transformers
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto

from hfcourse.headed_model import HeadedModel
from hfcourse.heads.spec import HeadSpec

_NATIVE = {
    "sequence": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    "frame": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    "span": modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    "multiple_choice": modeling_auto.MODEL_FOR_MULTIPLE_CHOICE_MAPPING,
    "masked_lm": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING,
    "causal_lm": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING,
    "pair": modeling_auto.MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING,
    "none": modeling_auto.MODEL_MAPPING,
    "wav2vec2": modeling_auto.MODEL_FOR_PRETRAINING_MAPPING,
}
# Native classes with two heads, or one that no mapping names.
_NATIVE_BY_TYPE = {
    ("bert", frozenset({"masked_lm", "pair"})): "BertForPreTraining",
    ("electra", frozenset({"replaced_tokens"})): "ElectraForPreTraining",
}

_FIRST_STATE_TYPES = {"bert", "camembert", "distilbert", "electra", "nomic_bert", "roberta", "xlm-roberta"}
_FIRST_STATE = ("ForSequenceClassification", "ForMultipleChoice", "ForNextSentencePrediction")
"""Ends of the names of native classes that read each row's first state, but for what their config says."""


def native_class(config: PreTrainedConfig, heads: Sequence[HeadSpec]) -> type[PreTrainedModel] | None:
    """The transformers class that is this backbone with these heads, if there is one."""
    if not all(head.is_native for head in heads):
        return None
    name = _NATIVE_BY_TYPE.get((config.model_type, frozenset(head.kind for head in heads)))
    if name:
        return getattr(transformers, name)  # type: ignore[no-any-return]
    if len(heads) != 1 or heads[0].kind not in _NATIVE:
        return None
    try:
        return _NATIVE[heads[0].kind][type(config)]  # type: ignore[return-value]
    except KeyError:
        return None


def reads_first_alone(model: Any) -> bool:
    """Whether an unwrapped model's heads read nothing but each row's first state."""
    if isinstance(model, HeadedModel):
        pooled = {"sequence": {"cls"}, "multiple_choice": {"native", "cls"}, "pair": {"native"}}
        return all(head.pooling in pooled.get(head.kind, ()) for head in model.config.specs)
    if not isinstance(model, PreTrainedModel):
        return False
    if hasattr(model.config, "classifier_pooling"):  # ModernBERT looks for the first state that is no padding
        return model.config.classifier_pooling == "cls" and type(model).__name__.endswith(_FIRST_STATE[0])
    return model.config.model_type in _FIRST_STATE_TYPES and type(model).__name__.endswith(_FIRST_STATE)


def reads_means_alone(model: Any) -> bool:
    """Whether an unwrapped model's heads read nothing but the mean of each row's states."""
    return isinstance(model, HeadedModel) and all(
        head.kind == "sequence" and head.pooling in {"native", "mean"} and head.layers != "exits"
        for head in model.config.specs
    )


def reads_both_ways(config: Any) -> bool:
    """Whether a class of `config` that guesses the next token would see it: transformers has such heads on encoders."""
    return type(config) in _NATIVE["masked_lm"] and not getattr(config, "is_decoder", False)


def class_names(config: Any) -> tuple[str, ...]:
    """A checkpoint's classes in the order of their numbers."""
    return tuple(config.id2label[number] for number in range(config.num_labels))


def has_other_labels(config: PreTrainedConfig, head: HeadSpec) -> bool:
    """Whether a checkpoint's classes have names of their own that are not the task's."""
    if head.kind not in {"sequence", "frame"} or head.problem == "regression" or not config.architectures:
        return False
    suffix = {"sequence": "ForSequenceClassification", "frame": "ForTokenClassification"}[head.kind]
    theirs = class_names(config)
    generic = all(label == f"LABEL_{number}" for number, label in enumerate(theirs))
    named = config.architectures[0].endswith(suffix) and not generic
    return named and [label.casefold() for label in theirs] != [label.casefold() for label in head.labels]


def describe_head(config: PreTrainedConfig, head: HeadSpec, tokenizer: PreTrainedTokenizerBase | None) -> None:
    """Write labels and problem into the config, so that `pipeline` answers with names."""
    if head.kind in {"sequence", "frame"}:
        config.id2label = dict(enumerate(head.labels))
        config.label2id = {label: number for number, label in enumerate(head.labels)}
    if head.kind == "sequence":
        config.problem_type = head.problem
    if head.kind == "span":
        config.num_labels = 2  # start and end, whatever the checkpoint's last head was
    if head.kind == "causal_lm":  # it writes when it has learned, and `describe_writing` says how
        return
    config.use_cache = False  # decoders would hand back keys and values that no head reads
    if tokenizer is not None and config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id  # GPT's classifiers read the last token that is no padding


def describe_writing(model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """What ends a text and what pads one, where a model that writes does not say it."""
    settings = model.generation_config
    settings.eos_token_id = tokenizer.eos_token_id if settings.eos_token_id is None else settings.eos_token_id
    settings.pad_token_id = tokenizer.pad_token_id if settings.pad_token_id is None else settings.pad_token_id


def is_other_head(config: PreTrainedConfig, heads: tuple[HeadSpec, ...]) -> bool:
    """Whether a saved native model's head is another than the task asks for."""
    own = native_class(config, heads)
    if own is None or own.__name__ not in (config.architectures or ()):
        return True
    return (heads[0].labels and len(heads[0].labels) != config.num_labels) or has_other_labels(config, heads[0])


def answers_of(head: HeadSpec) -> HeadSpec:
    """A head but for its name and the case of its labels."""
    return replace(head, name="", labels=tuple(label.casefold() for label in head.labels))
