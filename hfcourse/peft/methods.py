"""From settings to the config of a method, with targets found for any backbone. A new method is one more function."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import peft
from peft import PeftConfig
from torch import nn
from transformers.pytorch_utils import Conv1D

from hfcourse.errors import ConfigError, ModelError, unknown
from hfcourse.peft.bottleneck import BottleneckConfig, CompacterConfig
from hfcourse.peft.head_only import HeadOnlyConfig
from hfcourse.peft.places import Layer, layers_of
from hfcourse.peft.prefix import PrefixConfig
from hfcourse.peft.soft_prompt import SoftPromptConfig
from hfcourse.peft_settings import PeftSettings

_GROUPS = ("query", "key", "value", "attention_out", "ffn_in", "ffn_out")


def method_config(model: nn.Module, settings: PeftSettings, head: list[str]) -> PeftConfig:
    """The config of `settings.method` for this model.

    Args:
        model: to be wrapped.
        settings: the method, its size and its targets.
        head: modules that are trained and saved whole.

    Raises:
        ConfigError: targets that match no module. ModelError: a backbone that the method cannot take.
    """
    return _METHODS[settings.method](model, settings, head)


def target_modules(model: nn.Module, targets: Iterable[str], head: Iterable[str] = (), skip: int = 0) -> list[str]:
    """Names of the modules that `targets` stand for: groups of every layer (``query``, ..., ``all``) or modules.

    Args:
        model: with its head.
        targets: groups, or names of modules or their ends.
        head: modules that are trained whole: nothing in them is a target.
        skip: so many of the lowest layers hold no target.

    Raises:
        ConfigError: a target that matches nothing, with the nearest that would; no layer is left.
    """
    words = [word for target in targets for word in (_GROUPS if target == "all" else (target,))]
    # Modules can be named where the layers are not known.
    layers = layers_of(model) if set(words) & set(_GROUPS) else []
    projections = _projections(model, head)
    found: dict[str, None] = {}
    for word in words:
        names = [name for layer in layers for name in _group(layer, word)] if word in _GROUPS else []
        names = names or [name for name in projections if f".{name}".endswith(f".{word}")]
        if not names:
            ends = {name.rpartition(".")[2] for name in projections}
            raise ConfigError(f"peft.targets: {unknown('target', word, [*_GROUPS, 'all', *sorted(ends)])}")
        found |= dict.fromkeys(names)
    below = tuple(f"{layer.name}." for layer in (layers_of(model)[:skip] if skip else ()))
    kept = [name for name in found if not name.startswith(below)]
    if not kept:
        raise ConfigError(f"peft.skip_layers is {skip}: no layer is left to be changed")
    return kept


def _skipped(model: nn.Module, settings: PeftSettings) -> int:
    """How many of the lowest layers are left alone where the settings leave it to us: a sixth (of an encoder-decoder's
    encoder). No gradient has to reach them: on MiniLM a step takes a tenth less (benchmarks/README.md).
    """
    if settings.skip_layers is not None:
        return settings.skip_layers
    if settings.targets:  # who names places means all of them
        return 0
    layers = layers_of(model)
    first, _, _ = layers[0].name.rpartition(".")
    return sum(layer.name.rpartition(".")[0] == first for layer in layers) // 6


def _group(layer: Layer, group: str) -> tuple[str, ...]:
    names = getattr(layer, group)
    return (names,) if isinstance(names, str) else names


def _projections(model: nn.Module, head: Iterable[str]) -> list[str]:
    """Names of the matrices outside the head."""
    inside = tuple(f"{name}." for name in head)
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and not f"{name}.".startswith(inside)
    ]


def _transposed(model: nn.Module, names: list[str]) -> bool:
    """Whether matrices are (in, out), as GPT-2 keeps them."""
    return isinstance(model.get_submodule(names[0]), Conv1D)


def _low_rank(model: nn.Module, settings: PeftSettings, head: list[str], **more: Any) -> PeftConfig:
    # Values and the feed-forward's answers: on MiniLM worth more than queries and values, for a tenth of a step more;
    # what gives states of the feed-forward's width would cost twice that (docs/LOG.md).
    targets = target_modules(model, settings.targets or ("value", "ffn_out"), head, _skipped(model, settings))
    rank = settings.rank or 16
    return peft.LoraConfig(
        r=rank,
        lora_alpha=settings.alpha or 2 * rank,
        lora_dropout=settings.dropout,
        target_modules=targets,
        modules_to_save=head,
        fan_in_fan_out=_transposed(model, targets),
        **more,
    )


def _lora(model: nn.Module, settings: PeftSettings, head: list[str]) -> PeftConfig:
    """LoRA (arXiv 2106.09685)."""
    return _low_rank(model, settings, head)


def _dora(model: nn.Module, settings: PeftSettings, head: list[str]) -> PeftConfig:
    """DoRA: size and direction apart (arXiv 2402.09353)."""
    return _low_rank(model, settings, head, use_dora=True)


def _rslora(model: nn.Module, settings: PeftSettings, head: list[str]) -> PeftConfig:
    """rsLoRA: alpha / sqrt(rank) (arXiv 2312.03732)."""
    return _low_rank(model, settings, head, use_rslora=True)


def _adalora(model: nn.Module, settings: PeftSettings, head: list[str]) -> PeftConfig:
    """AdaLoRA: ranks shared out among the targets while it trains (arXiv 2303.10512). Steps are set by the run."""
    targets = target_modules(model, settings.targets or ("query", "value"), head, settings.skip_layers or 0)
    rank = settings.rank or 8
    return peft.AdaLoraConfig(
        init_r=rank * 3 // 2,
        target_r=rank,
        lora_alpha=settings.alpha or 2 * rank,
        lora_dropout=settings.dropout,
        total_step=1,
        target_modules=targets,
        modules_to_save=head,
        fan_in_fan_out=_transposed(model, targets),
    )


def _vera(model: nn.Module, settings: PeftSettings, head: list[str]) -> PeftConfig:
    """VeRA: shared random matrices, trained scales (arXiv 2310.11454); its rank is 32 x that of the settings."""
    targets = target_modules(model, settings.targets or ("query", "value"), head, settings.skip_layers or 0)
    return peft.VeraConfig(
        r=32 * (settings.rank or 8),
        vera_dropout=settings.dropout,
        target_modules=targets,
        modules_to_save=head,
        fan_in_fan_out=_transposed(model, targets),
    )


def _ia3(model: nn.Module, settings: PeftSettings, head: list[str]) -> PeftConfig:
    """(IA)^3: scales on keys, values and the feed-forward's middle (arXiv 2205.05638)."""
    targets = target_modules(model, ("key", "value", "ffn_out"))
    return peft.IA3Config(
        target_modules=targets,
        feedforward_modules=target_modules(model, ("ffn_out",)),
        modules_to_save=head,
        fan_in_fan_out=_transposed(model, targets),
    )


def _ln(model: nn.Module, settings: PeftSettings, head: list[str]) -> PeftConfig:
    """Norms alone (arXiv 2312.11420)."""
    inside = tuple(f"{name}." for name in head)
    norms = [
        name
        for name, module in model.named_modules()
        if type(module).__name__.endswith("Norm") and not f"{name}.".startswith(inside)
    ]
    if not norms:
        raise ModelError("ln trains norms, and this backbone has none with weights: use lora or houlsby")
    return peft.LNTuningConfig(target_modules=norms, modules_to_save=head)


def _adapters(placement: str, **more: Any) -> Callable[[nn.Module, PeftSettings, list[str]], PeftConfig]:
    def config(model: nn.Module, settings: PeftSettings, head: list[str]) -> PeftConfig:
        return BottleneckConfig(
            placement=placement,
            **more,
            reduction_factor=settings.reduction or 16,
            skip_layers=settings.skip_layers or 0,
            drop_layers=settings.drop_layers,
            modules_to_save=head,
        )

    return config


def _compacter(model: nn.Module, settings: PeftSettings, head: list[str]) -> PeftConfig:
    return CompacterConfig(
        reduction_factor=settings.reduction or 32,
        skip_layers=settings.skip_layers or 0,
        drop_layers=settings.drop_layers,
        modules_to_save=head,
    )


def _prefix(model: nn.Module, settings: PeftSettings, head: list[str]) -> PeftConfig:
    """Prefix tuning: ours, as peft's own takes as many positions from the input and no model without a KV cache."""
    return PrefixConfig(num_virtual_tokens=settings.tokens, modules_to_save=head)


def _prompt(model: nn.Module, settings: PeftSettings, head: list[str]) -> PeftConfig:
    """Prompt tuning (arXiv 2104.08691): peft's own for models that generate, as it keeps their cache; ours else."""
    task = generates(model)
    if task:
        return peft.PromptTuningConfig(task_type=task, num_virtual_tokens=settings.tokens, modules_to_save=head)
    return SoftPromptConfig(num_virtual_tokens=settings.tokens, modules_to_save=head)


def _p_tuning(model: nn.Module, settings: PeftSettings, head: list[str]) -> PeftConfig:
    """P-tuning (arXiv 2103.10385): prompts that an LSTM computes; whose it is, as for prompt tuning."""
    task, tokens = generates(model), settings.tokens
    if task:
        return peft.PromptEncoderConfig(task_type=task, num_virtual_tokens=tokens, modules_to_save=head)
    return SoftPromptConfig(num_virtual_tokens=tokens, encoder="lstm", modules_to_save=head)


def generates(model: nn.Module) -> str:
    """peft's name for what a generating model does; empty for all others."""
    name = type(model).__name__
    if name.endswith("ForConditionalGeneration"):
        return "SEQ_2_SEQ_LM"
    return "CAUSAL_LM" if name.endswith(("LMHeadModel", "ForCausalLM")) else ""


def _head_only(bias: str) -> Callable[[nn.Module, PeftSettings, list[str]], PeftConfig]:
    return lambda model, settings, head: HeadOnlyConfig(bias=bias, modules_to_save=head)


_METHODS: dict[str, Callable[[nn.Module, PeftSettings, list[str]], PeftConfig]] = {
    "linear": _head_only("none"),
    "bitfit": _head_only("all"),
    "ln": _ln,
    "lora": _lora,
    "dora": _dora,
    "rslora": _rslora,
    "adalora": _adalora,
    "vera": _vera,
    "ia3": _ia3,
    "houlsby": _adapters("houlsby"),
    # Norms and a larger scale than the paper's 1: behind the feed-forward alone it lags on MRPC (docs/LOG.md).
    "pfeiffer": _adapters("pfeiffer", norms=True, init="zero", scaling=4.0),
    "parallel": _adapters("parallel"),
    "compacter": _compacter,
    "prefix": _prefix,
    "prompt": _prompt,
    "p_tuning": _p_tuning,
}
