"""From a name and a head to a model: the native transformers class where one exists, `HeadedModel` otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto

from hfcourse.backbones.equal_keys import set_equal_keys
from hfcourse.backbones.last_layer import last_layer_at
from hfcourse.backbones.load import attention_arguments, load_config, locate, longest_input
from hfcourse.backbones.presets import PRESETS
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.errors import ModelError
from hfcourse.headed_model import HeadedConfig, HeadedModel, headed_config
from hfcourse.heads.spec import HeadSpec
from hfcourse.peft.settings import PeftSettings
from hfcourse.peft.wrap import adapted_backbone, is_adapter, load_adapter, merged, unwrapped, wrap
from hfcourse.weights import backbone_of, copy_backbone, from_pretrained, quiet

__all__ = ["PRESETS", "build", "load", "parameter_counts", "quiet", "unwrapped"]

_NATIVE = {
    "sequence": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    "frame": modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    "span": modeling_auto.MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    "multiple_choice": modeling_auto.MODEL_FOR_MULTIPLE_CHOICE_MAPPING,
    "masked_lm": modeling_auto.MODEL_FOR_MASKED_LM_MAPPING,
    "pair": modeling_auto.MODEL_FOR_NEXT_SENTENCE_PREDICTION_MAPPING,
}
# Native classes with two heads, or one that no mapping names.
_NATIVE_BY_TYPE = {
    ("bert", frozenset({"masked_lm", "pair"})): "BertForPreTraining",
    ("electra", frozenset({"replaced_tokens"})): "ElectraForPreTraining",
}

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


def build(
    name: str,
    heads: HeadSpec | Sequence[HeadSpec],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    backbone: BackboneConfig | None = None,
    need_trained_head: bool = False,
    peft: PeftSettings | None = None,
    seed: int = 0,
) -> PreTrainedModel:
    """A model in fp32 whose ``forward(**batch)`` answers with loss and logits.

    Args:
        name: a preset (fresh weights), a run folder, a folder with a saved model, or a Hub id.
        heads: what the task asks for.
        tokenizer: checked against the model's vocabulary; a preset takes its vocabulary from it.
        backbone: initialisation, attention kernel, dropout, Hub flags.
        need_trained_head: refuse a checkpoint whose head would be new (evaluation).
        peft: which parameters are trained; all where not given. Other methods give a `PeftModel` around the model.
        seed: decides fresh weights.

    Raises:
        ModelError: unknown name, a tokenizer that does not fit, weights of another architecture; a backbone that the
            method of `peft` cannot take.
    """
    heads = (heads,) if isinstance(heads, HeadSpec) else tuple(heads)
    settings = backbone or BackboneConfig()
    saved = load_config(name, settings, tokenizer)
    fresh = name in PRESETS or settings.init == "random"
    inner = saved.backbone_config if isinstance(saved, HeadedConfig) else saved
    model_class = native_class(inner, heads)
    if not fresh and is_adapter(name):
        return _from_adapter(name, saved, heads, need_trained_head, peft, seed)
    torch.manual_seed(seed)
    other_labels = model_class is not None and not fresh and _has_other_labels(saved, heads[0])
    model: Any
    if model_class is None:
        model = _headed(name, saved, inner, heads, settings, fresh, need_trained_head)
    else:
        _describe_head(inner, heads[0], tokenizer)
        arguments = attention_arguments(settings, model_class)
        if fresh:
            model = model_class._from_config(inner, **arguments)
        elif isinstance(saved, HeadedConfig):
            model = model_class._from_config(inner, **arguments)
            copy_backbone(backbone_of(name), model, name)
        else:
            model = from_pretrained(model_class, name, inner, settings, need_trained_head, **arguments)
            if other_labels:  # as many classes, but other ones: their weights would mislead
                trained, model = model, model_class._from_config(inner, **arguments)
                copy_backbone(trained, model, name)
    if fresh and settings.equal_keys:
        set_equal_keys(model, settings.equal_keys)
    if (fresh or other_labels) and need_trained_head:
        raise ModelError(f"model {name!r} has no trained head for this task: train it first")
    model.name_or_path = "" if fresh else _whole(locate(name))
    return model if peft is None else wrap(model, peft)  # type: ignore[no-any-return]


def load(folder: str | Path) -> PreTrainedModel:
    """A model as `build` made it and training saved it, with every head; around it its adapter, where it has one."""
    name = locate(str(folder))
    config = load_config(name, BackboneConfig(), None)
    architecture = (config.architectures or ["HeadedModel"])[0]
    model_class = HeadedModel if isinstance(config, HeadedConfig) else getattr(transformers, architecture, None)
    if model_class is None:
        raise ModelError(f"{folder}: no class {architecture!r} in transformers {transformers.__version__}")
    if not is_adapter(name):
        return from_pretrained(model_class, name, config, BackboneConfig(), need_trained_head=True)
    backbone = adapted_backbone(name)
    saved = load_config(backbone, BackboneConfig(), None)
    if isinstance(saved, HeadedConfig) or model_class is HeadedModel:
        model = model_class._from_config(config)
        source = (
            backbone_of(backbone)
            if isinstance(saved, HeadedConfig)
            else from_pretrained(AutoModel, backbone, saved, BackboneConfig(), need_trained_head=False)
        )
        copy_backbone(source, model, backbone)
    else:
        model = from_pretrained(model_class, backbone, config, BackboneConfig(), need_trained_head=False)
    return load_adapter(model, name)  # type: ignore[no-any-return]


def _from_adapter(
    name: str,
    saved: PreTrainedConfig,
    heads: tuple[HeadSpec, ...],
    need_trained_head: bool,
    peft: PeftSettings | None,
    seed: int,
) -> PreTrainedModel:
    """A model that was trained with an adapter: as it is to be judged, merged to be trained on."""
    model: Any = load(name)
    inner: Any = unwrapped(model)
    fits = inner.config.specs == heads if isinstance(inner, HeadedModel) else not _differs(inner.config, heads)
    if need_trained_head and not fits:
        raise ModelError(f"{name}: its head is not the task's: train it first")
    if need_trained_head:
        return model  # type: ignore[no-any-return]
    whole = merged(model, name)
    torch.manual_seed(seed)
    if not fits:
        model_class = native_class(saved.backbone_config if isinstance(saved, HeadedConfig) else saved, heads)
        if model_class is None or isinstance(whole, HeadedModel):
            raise ModelError(f"{name}: its head is not the task's: name the backbone that its adapter was trained on")
        trained, config = whole, saved
        _describe_head(config, heads[0], None)
        whole = model_class._from_config(config)
        copy_backbone(trained, whole, name)
    whole.name_or_path = ""  # merged weights lie nowhere else
    return whole if peft is None else wrap(whole, peft)  # type: ignore[no-any-return]


def _differs(config: PreTrainedConfig, heads: tuple[HeadSpec, ...]) -> bool:
    """Whether a saved native model's head is another than the task asks for."""
    own = native_class(config, heads)
    if own is None or own.__name__ not in (config.architectures or ()):
        return True
    return (heads[0].labels and len(heads[0].labels) != config.num_labels) or _has_other_labels(config, heads[0])


def _whole(place: str) -> str:
    """A folder by its whole path, so that an adapter finds it from anywhere; a Hub id as it is."""
    return str(Path(place).resolve()) if Path(place).is_dir() else place


def trained_labels(name: str, head: str, backbone: BackboneConfig | None = None) -> tuple[str, ...]:
    """Class names, in order, of a checkpoint that already has a head of this kind; empty if it has none."""
    settings = backbone or BackboneConfig()
    if name in PRESETS or settings.init == "random":
        return ()
    config = load_config(name, settings, None)
    if isinstance(config, HeadedConfig):
        return next((spec.labels for spec in config.specs if spec.kind == head), ())
    suffix = {"sequence": "ForSequenceClassification", "frame": "ForTokenClassification"}.get(head)
    if suffix and any(architecture.endswith(suffix) for architecture in config.architectures or ()):
        return _class_names(config)
    return ()


def input_length(
    name: str, tokenizer: PreTrainedTokenizerBase, asked: int = 0, backbone: BackboneConfig | None = None
) -> int:
    """Most tokens of one input: `asked`, or with 0 what model and tokenizer allow (512 where neither knows a bound).

    Raises:
        ModelError: `asked` is more than the model has positions for.
    """
    bounds = [longest_input(load_config(name, backbone or BackboneConfig(), tokenizer)), tokenizer.model_max_length]
    known = min((bound for bound in bounds if 0 < bound < 10**6), default=0)
    if asked and bounds[0] and asked > bounds[0]:
        raise ModelError(f"inputs of {asked} tokens do not fit model {name!r}: it has positions for {bounds[0]}")
    return asked or min(known or 512, 512)


def read_states_only(model: torch.nn.Module) -> contextlib.AbstractContextManager[None]:
    """Within the block a model that reads nothing but each row's first state has its last layer compute no others."""
    inner = unwrapped(model)
    return last_layer_at(inner, "first") if reads_first_alone(inner) else contextlib.nullcontext()


def reads_first_alone(model: Any) -> bool:
    """Whether an unwrapped model's heads read nothing but each row's first state."""
    if isinstance(model, HeadedModel):
        pooled = {"sequence": {"cls"}, "multiple_choice": {"native", "cls"}, "pair": {"native"}}
        return all(head.pooling in pooled.get(head.kind, ()) for head in model.config.specs)
    if not isinstance(model, PreTrainedModel):
        return False
    if hasattr(model.config, "classifier_pooling"):  # ModernBERT looks for the first state that is no padding
        return model.config.classifier_pooling == "cls" and type(model).__name__.endswith(_FIRST_STATE[0])
    reads_first = getattr(model.config, "summary_type", "first") == "first"
    return reads_first and type(model).__name__.endswith(_FIRST_STATE)


def parameter_counts(model: torch.nn.Module) -> dict[str, int]:
    """How many parameters there are, and how many are trained; tied ones count once."""
    parameters = list(model.parameters())
    return {
        "all": sum(p.numel() for p in parameters),
        "trained": sum(p.numel() for p in parameters if p.requires_grad),
    }


def _class_names(config: Any) -> tuple[str, ...]:
    """A checkpoint's classes in the order of their numbers."""
    return tuple(config.id2label[number] for number in range(config.num_labels))


def _has_other_labels(config: PreTrainedConfig, head: HeadSpec) -> bool:
    """Whether a checkpoint's classes have names of their own that are not the task's."""
    if head.kind not in {"sequence", "frame"} or head.problem == "regression" or not config.architectures:
        return False
    suffix = {"sequence": "ForSequenceClassification", "frame": "ForTokenClassification"}[head.kind]
    theirs = _class_names(config)
    generic = all(label == f"LABEL_{number}" for number, label in enumerate(theirs))
    named = config.architectures[0].endswith(suffix) and not generic
    return named and [label.casefold() for label in theirs] != [label.casefold() for label in head.labels]


def _describe_head(config: PreTrainedConfig, head: HeadSpec, tokenizer: PreTrainedTokenizerBase | None) -> None:
    """Write labels and problem into the config, so that `pipeline` answers with names."""
    if head.kind in {"sequence", "frame"}:
        config.id2label = dict(enumerate(head.labels))
        config.label2id = {label: number for number, label in enumerate(head.labels)}
    if head.kind == "sequence":
        config.problem_type = head.problem
    if head.kind == "span":
        config.num_labels = 2  # start and end, whatever the checkpoint's last head was
    config.use_cache = False  # decoders would hand back keys and values that no head reads
    if config.pad_token_id is None and tokenizer is not None:
        config.pad_token_id = tokenizer.pad_token_id  # GPT's classifiers read the last token that is no padding


def _headed(
    name: str,
    saved: PreTrainedConfig,
    inner: PreTrainedConfig,
    heads: tuple[HeadSpec, ...],
    settings: BackboneConfig,
    fresh: bool,
    need_trained_head: bool,
) -> HeadedModel:
    same_heads = isinstance(saved, HeadedConfig) and saved.specs == heads
    if same_heads and not fresh:
        return from_pretrained(HeadedModel, name, saved, settings, need_trained_head)  # type: ignore[return-value]
    if need_trained_head:
        raise ModelError(f"{name}: its heads are not the task's ({', '.join(h.kind for h in heads)}): train it first")
    model = HeadedModel(headed_config(inner, heads), settings)
    if not fresh:
        source = (
            backbone_of(name)
            if isinstance(saved, HeadedConfig)
            else from_pretrained(AutoModel, name, inner, settings, need_trained_head=False)
        )
        copy_backbone(source, model, name)
    return model
