"""From a name and a head to a model: the native transformers class where one exists, `HeadedModel` otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hfcourse.backbones.equal_keys import set_equal_keys
from hfcourse.backbones.last_layer import last_layer_at
from hfcourse.backbones.load import attention_arguments, load_config, locate, longest_input
from hfcourse.backbones.presets import PRESETS
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.loudness import hear_loudness
from hfcourse.errors import ConfigError, ModelError, unknown
from hfcourse.headed_model import HeadedConfig, HeadedModel, headed_config
from hfcourse.heads.spec import HeadSpec
from hfcourse.native import (
    answers_of,
    class_names,
    describe_head,
    describe_writing,
    has_other_labels,
    is_other_head,
    native_class,
    reads_first_alone,
)
from hfcourse.peft.quantize import keep_trainable, quantized
from hfcourse.peft.wrap import adapted_backbone, is_adapter, load_adapter, merged, unwrapped, wrap
from hfcourse.peft_settings import PeftSettings
from hfcourse.weights import as_it_runs_here, backbone_of, bare_backbone, copy_backbone, from_pretrained, quiet

__all__ = ["PRESETS", "build", "load", "parameter_counts", "quiet", "unwrapped"]


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
        heads: what the task asks for; one that has a name is taken out of a saved model's.
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
    if not fresh and is_adapter(locate(name)):
        if peft is not None and peft.quantize:
            raise ConfigError(f"peft.quantize needs a backbone as it was pretrained, and {name} is an adapter's run")
        return _from_adapter(name, saved, heads, need_trained_head, peft, seed)
    own = _one_of_several(name, () if fresh or not isinstance(saved, HeadedConfig) else saved.specs, heads)
    model_class = None if own else native_class(inner, heads)
    torch.manual_seed(seed)
    other_labels = model_class is not None and not fresh and has_other_labels(saved, heads[0])
    bits = peft.quantize if peft is not None else ""
    if bits and (fresh or other_labels or model_class is None or isinstance(saved, HeadedConfig)):
        raise ConfigError(f"peft.quantize {bits} needs a pretrained model with one of transformers' own heads")
    model: Any
    if own:
        model = from_pretrained(HeadedModel, name, headed_config(inner, own), settings, need_trained_head)
    elif model_class is None:
        model = _headed(name, saved, inner, heads, settings, fresh, need_trained_head)
    else:
        describe_head(inner, heads[0], tokenizer)
        model = _native(name, model_class, saved, inner, settings, fresh, need_trained_head, bits)
        if other_labels:  # as many classes, but other ones: their weights would mislead
            trained, model = model, model_class._from_config(inner, **attention_arguments(settings))
            copy_backbone(trained, model, name)
    if fresh:
        hear_loudness(model)
    if fresh and settings.equal_keys:
        set_equal_keys(model, settings.equal_keys)
    as_it_runs_here(model, inner)
    new_head = fresh or other_labels or (model_class is not None and isinstance(saved, HeadedConfig))
    if new_head and need_trained_head:
        named = [spec.name for spec in getattr(saved, "specs", ()) if spec.name]
        hint = f"name its head of it with --head: {', '.join(named)}" if named else "train it first"
        raise ModelError(f"model {name!r} has no trained head for this task: {hint}")
    if heads[0].kind == "causal_lm" and tokenizer is not None:
        describe_writing(model, tokenizer)
    model.name_or_path = "" if fresh else _whole(locate(name))
    return model if peft is None else wrap(model, peft, settings.revision)  # type: ignore[no-any-return]


def load(folder: str | Path) -> PreTrainedModel:
    """A model as `build` made it and training saved it, with every head; around it its adapter, where it has one."""
    name = locate(str(folder))
    config = load_config(name, BackboneConfig(), None)
    architecture = (config.architectures or ["HeadedModel"])[0]
    model_class: Any = HeadedModel if isinstance(config, HeadedConfig) else getattr(transformers, architecture, None)
    model_class = model_class or native_class(config, [HeadSpec(kind="none")])  # our own nets
    if model_class is None:
        raise ModelError(f"{folder}: no class {architecture!r} in transformers {transformers.__version__}")
    inner = config.backbone_config if isinstance(config, HeadedConfig) else config
    if not is_adapter(name):
        return as_it_runs_here(from_pretrained(model_class, name, config, BackboneConfig(), True), inner)
    backbone, revision = adapted_backbone(name)
    settings = BackboneConfig(revision=revision)
    saved = load_config(backbone, settings, None)
    if isinstance(saved, HeadedConfig) or model_class is HeadedModel:
        model = model_class._from_config(config)
        copy_backbone(bare_backbone(backbone, saved, settings), model, backbone)
    else:
        model = from_pretrained(model_class, backbone, config, settings, need_trained_head=False)
    return load_adapter(as_it_runs_here(model, inner), name)  # type: ignore[no-any-return]


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
    if isinstance(inner, HeadedModel):
        own = _one_of_several(name, inner.config.specs, heads)
        if own:
            inner.keep_only(own[0])
        fits = bool(own) or inner.config.specs == heads
    else:
        fits = not is_other_head(inner.config, heads)
    if need_trained_head and not fits:
        raise ModelError(f"{name}: its head is not the task's: train it first")
    if need_trained_head:
        return model  # type: ignore[no-any-return]
    whole = merged(model, name)
    if not fits:
        if isinstance(saved, HeadedConfig) or native_class(saved, heads) is None:
            raise ModelError(f"{name}: its head is not the task's: name the backbone that its adapter was trained on")
        describe_head(saved, heads[0], None)
        torch.manual_seed(seed)
        trained, whole = whole, native_class(saved, heads)._from_config(saved)  # type: ignore[union-attr]
        copy_backbone(trained, whole, name)
    whole.name_or_path = ""  # merged weights lie nowhere else
    return whole if peft is None else wrap(whole, peft)  # type: ignore[no-any-return]


def _whole(place: str) -> str:
    """A folder by its whole path, so that an adapter finds it from anywhere; a Hub id as it is."""
    return str(Path(place).resolve()) if Path(place).is_dir() else place


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
        return class_names(config)
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


def parameter_counts(model: torch.nn.Module) -> dict[str, int]:
    """How many parameters there are, and how many are trained; tied ones count once."""
    parameters = list(model.parameters())
    return {
        "all": sum(p.numel() for p in parameters),
        "trained": sum(p.numel() for p in parameters if p.requires_grad),
    }


def _native(
    name: str,
    model_class: type[PreTrainedModel],
    saved: PreTrainedConfig,
    inner: PreTrainedConfig,
    settings: BackboneConfig,
    fresh: bool,
    need_trained_head: bool,
    bits: str,
) -> PreTrainedModel:
    """The transformers class, with fresh weights, a saved HeadedModel's backbone, or pretrained (and quantised)."""
    arguments = attention_arguments(settings)
    if fresh or isinstance(saved, HeadedConfig):
        model: Any = model_class._from_config(inner, **arguments)
        if not fresh:
            copy_backbone(backbone_of(name), model, name)
        return model  # type: ignore[no-any-return]
    if bits:
        arguments |= quantized(bits, model_class, inner)
    model = from_pretrained(model_class, name, inner, settings, need_trained_head, **arguments)
    if bits:
        keep_trainable(model)
    return model  # type: ignore[no-any-return]


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
        copy_backbone(bare_backbone(name, saved, settings), model, name)
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
    alike = tuple(spec for spec in known.values() if answers_of(spec) == answers_of(asked))
    if asked.name and not known:
        named = [spec.name for spec in specs if spec.name]
        reason = unknown("head", asked.name, named) if named else f"no head is called {asked.name!r}: leave out --head"
        raise ModelError(f"{name}: {reason}")
    if asked.name and not alike:
        raise ModelError(f"{name}: its head {asked.name!r} is for other answers than the task's: check both")
    return alike if len(alike) == 1 else ()
