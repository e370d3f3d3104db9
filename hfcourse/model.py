"""From a name and a head to a model: the native transformers class where one exists, `HeadedModel` otherwise."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto import modeling_auto

from hfcourse.backbones.equal_keys import set_equal_keys
from hfcourse.backbones.last_layer import last_layer_at
from hfcourse.backbones.load import attention_arguments, load_config, locate, longest_input
from hfcourse.backbones.presets import PRESETS
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.errors import ModelError, unknown
from hfcourse.headed_model import HeadedConfig, HeadedModel, headed_config
from hfcourse.heads.spec import HeadSpec

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
    seed: int = 0,
) -> PreTrainedModel:
    """A model in fp32 whose ``forward(**batch)`` answers with loss and logits.

    Args:
        name: a preset (fresh weights), a run folder, a folder with a saved model, or a Hub id.
        heads: what the task asks for; one that has a name is taken out of a saved model's.
        tokenizer: checked against the model's vocabulary; a preset takes its vocabulary from it.
        backbone: initialisation, attention kernel, dropout, Hub flags.
        need_trained_head: refuse a checkpoint whose head would be new (evaluation).
        seed: decides fresh weights.

    Raises:
        ModelError: unknown name, a tokenizer that does not fit, weights of another architecture.
    """
    heads = (heads,) if isinstance(heads, HeadSpec) else tuple(heads)
    settings = backbone or BackboneConfig()
    saved = load_config(name, settings, tokenizer)
    fresh = name in PRESETS or settings.init == "random"
    inner = saved.backbone_config if isinstance(saved, HeadedConfig) else saved
    own = _one_of_several(name, () if fresh or not isinstance(saved, HeadedConfig) else saved.specs, heads)
    model_class = None if own else native_class(inner, heads)
    torch.manual_seed(seed)
    other_labels = model_class is not None and not fresh and _has_other_labels(saved, heads[0])
    model: Any
    if own:
        model = _from_pretrained(HeadedModel, name, headed_config(inner, own), settings, need_trained_head)
    elif model_class is None:
        model = _headed(name, saved, inner, heads, settings, fresh, need_trained_head)
    else:
        _describe_head(inner, heads[0], tokenizer)
        arguments = attention_arguments(settings, model_class)
        if fresh:
            model = model_class._from_config(inner, **arguments)
        elif isinstance(saved, HeadedConfig):
            model = model_class._from_config(inner, **arguments)
            _copy_backbone(_backbone_of(name), model, name)
        else:
            model = _from_pretrained(model_class, name, inner, settings, need_trained_head, **arguments)
            if other_labels:  # as many classes, but other ones: their weights would mislead
                trained, model = model, model_class._from_config(inner, **arguments)
                _copy_backbone(trained, model, name)
    if fresh and settings.equal_keys:
        set_equal_keys(model, settings.equal_keys)
    new_head = fresh or other_labels or (model_class is not None and isinstance(saved, HeadedConfig))
    if new_head and need_trained_head:
        named = [spec.name for spec in getattr(saved, "specs", ()) if spec.name]
        hint = f"name its head of it with --head: {', '.join(named)}" if named else "train it first"
        raise ModelError(f"model {name!r} has no trained head for this task: {hint}")
    return model  # type: ignore[no-any-return]


def load(folder: str | Path) -> PreTrainedModel:
    """A model as `build` made it and training saved it, with every head."""
    name = locate(str(folder))
    config = load_config(name, BackboneConfig(), None)
    architecture = (config.architectures or ["HeadedModel"])[0]
    model_class = HeadedModel if isinstance(config, HeadedConfig) else getattr(transformers, architecture, None)
    if model_class is None:
        raise ModelError(f"{folder}: no class {architecture!r} in transformers {transformers.__version__}")
    return _from_pretrained(model_class, name, config, BackboneConfig(), need_trained_head=True)


def trained_labels(name: str, head: str, backbone: BackboneConfig | None = None, *, named: str = "") -> tuple[str, ...]:
    """Class names, in order, of a checkpoint that already has a head of this kind; empty if it has none.

    Of several heads of a kind it is the one that is `named`.
    """
    settings = backbone or BackboneConfig()
    if name in PRESETS or settings.init == "random":
        return ()
    config = load_config(name, settings, None)
    if isinstance(config, HeadedConfig):
        labels = [spec.labels for spec in config.specs if spec.kind == head and named in {"", spec.name}]
        return labels[0] if len(labels) == 1 else ()
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
    return last_layer_at(model, "first") if _reads_first_alone(model) else contextlib.nullcontext()


def _reads_first_alone(model: Any) -> bool:
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
        return _from_pretrained(HeadedModel, name, saved, settings, need_trained_head)  # type: ignore[return-value]
    if need_trained_head:
        raise ModelError(f"{name}: its heads are not the task's ({', '.join(h.kind for h in heads)}): train it first")
    model = HeadedModel(headed_config(inner, heads), settings)
    if not fresh:
        source = (
            _backbone_of(name)
            if isinstance(saved, HeadedConfig)
            else _from_pretrained(AutoModel, name, inner, settings, need_trained_head=False)
        )
        _copy_backbone(source, model, name)
    return model


def _one_of_several(name: str, specs: Sequence[HeadSpec], heads: tuple[HeadSpec, ...]) -> tuple[HeadSpec, ...]:
    """The head asked for out of those that a saved model calls by names: by its own, or the only one like it.

    Raises:
        ModelError: no head of this name, or one for other answers than the task's.
    """
    if len(heads) != 1:
        return ()
    (asked,) = heads
    known = {spec.name: spec for spec in specs if spec.name and asked.name in {"", spec.name}}
    alike = tuple(spec for spec in known.values() if _answers_of(spec) == _answers_of(asked))
    if asked.name and not known:
        named = [spec.name for spec in specs if spec.name]
        reason = unknown("head", asked.name, named) if named else f"no head is called {asked.name!r}: leave out --head"
        raise ModelError(f"{name}: {reason}")
    if asked.name and not alike:
        raise ModelError(f"{name}: its head {asked.name!r} is for other answers than the task's: check both")
    return alike if len(alike) == 1 else ()


def _answers_of(head: HeadSpec) -> HeadSpec:
    """A head but for its name and the case of its labels."""
    return replace(head, name="", labels=tuple(label.casefold() for label in head.labels))


def _backbone_of(name: str) -> PreTrainedModel:
    """The backbone of a saved HeadedModel, without its heads."""
    with quiet():
        return HeadedModel.from_pretrained(locate(name)).backbone


def _copy_backbone(source: PreTrainedModel, model: PreTrainedModel, name: str) -> None:
    """Give `model`'s backbone the weights of another instance of it."""
    target = getattr(model, model.base_model_prefix)
    result = target.load_state_dict(source.state_dict(), strict=False)
    missing = [key for key in result.missing_keys if "pooler" not in key]
    if missing:
        raise ModelError(f"{name}: the checkpoint lacks {len(missing)} weights of the backbone, such as {missing[0]!r}")


def _from_pretrained(
    model_class: Any,
    name: str,
    config: PreTrainedConfig,
    settings: BackboneConfig,
    need_trained_head: bool,
    **arguments: Any,
) -> PreTrainedModel:
    """Load weights; the head may be new, the backbone must be whole."""
    place = locate(name)
    if settings.revision != "main" or settings.cache_dir:
        arguments |= {"revision": settings.revision, "cache_dir": settings.cache_dir}
    try:
        with quiet():
            model, info = model_class.from_pretrained(
                place,
                config=config,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                **arguments,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{name}: cannot load the weights: {str(error).strip().splitlines()[0]}") from error
    new = set(info["missing_keys"]) | {key if isinstance(key, str) else key[0] for key in info["mismatched_keys"]}
    prefix = f"{model.base_model_prefix}."
    # A bare backbone (AutoModel) is all backbone; a pooler is new wherever pretraining had no pair task.
    inside = {key for key in new if model.base_model is model or key.startswith(prefix)}
    broken = sorted(key for key in inside if "pooler" not in key)
    if broken:
        raise ModelError(
            f"{name}: {len(broken)} backbone weights are missing or of another shape, such as {broken[0]!r}: "
            "this is a checkpoint of another architecture, or a damaged one"
        )
    if need_trained_head and new:
        raise ModelError(f"{name}: its head is not the task's ({sorted(new)[0]!r} is new): train it first")
    return model  # type: ignore[no-any-return]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' reports and bars on weights off the screen: what matters in them becomes an error here."""
    logger = logging.getLogger("transformers")
    level = logger.level
    bars = transformers.utils.logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers.utils.logging.enable_progress_bar()
