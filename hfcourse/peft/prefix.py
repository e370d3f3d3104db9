"""Prefix tuning (Li & Liang, arXiv 2101.00190; without its MLP: P-tuning v2, arXiv 2110.07602) for any backbone.

Every self-attention gets learned keys and values in front of its own. `peft`'s own prefix tuning hands them over as a
KV cache, which most encoders do not take and which shifts positions; ours stand inside the attention function. States,
positions, masks and caches stay as they were, so every head works unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from peft import PeftConfig, PeftType
from torch import Tensor, nn

from hfcourse.errors import ConfigError, ModelError, unknown
from hfcourse.peft.around import (
    SERVED,
    AroundLayer,
    AroundModel,
    backbone_of,
    kind_of,
    random_words,
    reads_words,
    undisturbed,
)
from hfcourse.peft.places import Layer, layers_of, linear
from hfcourse.peft.prefixed_attention import PrefixedConfig, check_implementation, goes_through_interface
from hfcourse.peft.register import register

_STARTS = ("words", "normal")


@dataclass
class PrefixConfig(PeftConfig):  # type: ignore[misc]
    """Settings of prefix tuning; names as in `peft.PrefixTuningConfig` where it has them."""

    num_virtual_tokens: int = field(default=20, metadata={"help": "Learned keys and values per attention."})
    prefix_projection: bool = field(
        default=False, metadata={"help": "Compute them by an MLP from shared embeddings (Li & Liang), for stability."}
    )
    encoder_hidden_size: int = field(default=512, metadata={"help": "Width of that MLP and of its embeddings."})
    start: str = field(
        default="words",
        metadata={
            "help": "First values: those of random words, which the paper found better with few examples; or normal."
        },
    )
    target_modules: list[str] | str | None = field(
        default=None, metadata={"help": "Names of self-attention modules; None takes all of the model."}
    )
    exclude_modules: list[str] | str | None = field(default=None, metadata={"help": "Names of those left out."})
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Modules trained and saved whole beside the prefixes: the task's head."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = PeftType("KV_PREFIX")
        if self.start not in _STARTS:
            raise ConfigError(unknown("start", self.start, _STARTS))


class FreePrefix(nn.Module):
    """Keys and values that are parameters themselves, each (G, n, D)."""

    def __init__(self, heads: int, tokens: int, width: int) -> None:
        super().__init__()
        self.keys = nn.Parameter(torch.empty(heads, tokens, width).normal_(std=0.02))
        self.values = nn.Parameter(torch.empty(heads, tokens, width).normal_(std=0.02))

    def forward(self) -> tuple[Tensor, Tensor]:
        """The parameters."""
        return self.keys, self.values


class ProjectedPrefix(nn.Module):
    """Keys and values that an MLP computes from embeddings of the virtual tokens.

    Args:
        trunk: the embeddings and the MLP's first half, -> (n, hidden); shared by all layers, as in the paper.
        hidden: the trunk's width.
        heads: G.
        width: D.
    """

    def __init__(self, trunk: nn.Module, hidden: int, heads: int, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.out = nn.Linear(hidden, 2 * heads * width)
        self.shape = (2, heads, width)

    def forward(self) -> tuple[Tensor, Tensor]:
        """The MLP's answer: (n, 2 G D) -> two of (G, n, D)."""
        keys, values = self.out(self.trunk()).unflatten(-1, self.shape).permute(1, 2, 0, 3)
        return keys, values


class Trunk(nn.Module):
    """Embeddings of n virtual tokens and a hidden layer -> (n, hidden)."""

    def __init__(self, tokens: int, hidden: int) -> None:
        super().__init__()
        self.embeddings = nn.Parameter(torch.empty(tokens, hidden).normal_())
        self.dense = nn.Linear(hidden, hidden)

    def forward(self) -> Tensor:
        """The hidden layer's answer."""
        return torch.tanh(self.dense(self.embeddings))


class KVPrefixLayer(AroundLayer):
    """A self-attention module with prefixes by adapter name; those of all active adapters stand side by side."""

    adapter_layer_names = ("kv_prefix_states",)

    def __init__(self, attention: nn.Module, heads: int, width: int) -> None:
        super().__init__(attention)
        self.kv_prefix_states = nn.ModuleDict()
        self.heads, self.width = heads, width
        self.heard: list[Tensor] | None = None
        """A list while keys and values of real words are listened to."""
        attention.config = PrefixedConfig(attention.config, self)  # type: ignore[assignment]

    def add(self, name: str, config: PrefixConfig, trunk: nn.Module | None) -> None:
        """One more adapter."""
        if trunk is None:
            states: nn.Module = FreePrefix(self.heads, config.num_virtual_tokens, self.width)
        else:
            states = ProjectedPrefix(trunk, config.encoder_hidden_size, self.heads, self.width)
        self.kv_prefix_states[name] = states
        device = next(self.base_layer.parameters()).device
        if device.type != "meta" and next(states.parameters()).device.type != "meta":
            states.to(device)

    def has_prefix(self) -> bool:
        """Whether attention goes otherwise than without this layer."""
        if self.heard is not None:
            return True
        return not self.disable_adapters and any(name in self.kv_prefix_states for name in self.active_adapters)

    def prefix(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the active adapters, each (G, n, D); none while listening."""
        if self.heard is not None:
            self.heard[:] = [key[0], value[0]]
            return key[0, :, :0], value[0, :, :0]
        active = [self.kv_prefix_states[name]() for name in self.active_adapters if name in self.kv_prefix_states]
        if len(active) == 1:
            return active[0]  # type: ignore[no-any-return]
        keys, values = zip(*active, strict=True)
        return torch.cat(keys, dim=1), torch.cat(values, dim=1)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The module's own; its attention function asks `prefix`."""
        return self.base_layer(*args, **kwargs)

    def restore(self) -> nn.Module:
        """The bare module with its own config."""
        attention: Any = self.base_layer
        attention.config = attention.config.config
        return attention  # type: ignore[no-any-return]


class KVPrefixModel(AroundModel):
    """A model whose self-attentions have prefixes.

    Raises:
        ModelError: an attention does not go through transformers' `AttentionInterface` (DeBERTa, WavLM), or not by
            sdpa or eager; nothing was changed.
    """

    prefix = "kv_prefix_"
    tuner_layer_cls = KVPrefixLayer

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        self.places = {layer.key.rpartition(".")[0]: layer for layer in layers_of(self.model)}
        if peft_config.num_virtual_tokens < 1:
            raise ModelError(f"num_virtual_tokens is {peft_config.num_virtual_tokens}: prefixes need at least 1")
        if peft_config.target_modules is None:
            peft_config.target_modules = list(self.places)
        names = [name for name, _ in self.model.named_modules()]
        for name in filter(lambda name: self._check_target_module_exists(peft_config, name), names):
            self._check(name)
        return peft_config

    def _check(self, name: str) -> None:
        if name not in self.places:
            raise ModelError(f"target_modules: {name} is no self-attention, like {next(iter(self.places))}")
        module = self.model.get_submodule(name)
        attention = module.get_base_layer() if isinstance(module, KVPrefixLayer) else module
        if not goes_through_interface(attention) or not _head_width(attention):
            raise ModelError(f"prefixes cannot reach the attention of {kind_of(self.model)}: they work for {SERVED}")
        check_implementation(backbone_of(self.model, name).config)

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, KVPrefixLayer):
            layer = target
        else:
            layer = KVPrefixLayer(target, *_key_shape(target, self.places[current_key]))
            self._replace_module(parent, target_name, layer, target)
        layer.add(adapter_name, peft_config, self._trunk(peft_config, adapter_name))

    def inject_adapter(self, model: nn.Module, adapter_name: str, *args: Any, **kwargs: Any) -> None:
        """As the library's own; then new prefixes get their start."""
        super().inject_adapter(model, adapter_name, *args, **kwargs)
        config: Any = self.peft_config[adapter_name]
        if config.start == "words" and not config.prefix_projection and not config.inference_mode:
            self._start_from_words(adapter_name, config.num_virtual_tokens)

    def _start_from_words(self, name: str, count: int) -> None:
        """Keys and values that random words have in the model as it is."""
        layers: dict[Any, list[KVPrefixLayer]] = {}
        for place, module in self.model.named_modules():
            if isinstance(module, KVPrefixLayer) and name in module.kv_prefix_states:
                layers.setdefault(backbone_of(self.model, place), []).append(module)
        for backbone, listeners in layers.items():
            if reads_words(backbone):
                self._listen(backbone, listeners, name, count)

    def _listen(self, backbone: Any, layers: list[KVPrefixLayer], name: str, count: int) -> None:
        positions = getattr(backbone.config, "max_position_embeddings", None) or count
        if count > positions:
            raise ModelError(
                f"num_virtual_tokens is {count}: prefixes start as words that the model reads, {positions} at most"
            )
        for layer in layers:
            layer.heard = []
        try:
            with undisturbed(backbone):
                backbone(input_ids=random_words(backbone, count))
                for layer in layers:
                    prefix = layer.kv_prefix_states[name]
                    for parameter, heard in zip(prefix.parameters(), layer.heard or (), strict=True):
                        parameter.copy_(heard)
        finally:
            for layer in layers:
                layer.heard = None

    def _trunk(self, config: PrefixConfig, name: str) -> nn.Module | None:
        """The adapter's one trunk, made by its first layer."""
        if not config.prefix_projection:
            return None
        for module in self.model.modules():
            if isinstance(module, KVPrefixLayer) and name in module.kv_prefix_states:
                return module.kv_prefix_states[name].trunk  # type: ignore[return-value]
        return Trunk(config.num_virtual_tokens, config.encoder_hidden_size)


def _head_width(attention: nn.Module) -> int:
    """D, by whatever name a module has it; 0 where it has none."""
    names = ("head_dim", "attention_head_size", "key_value_proj_dim")
    return next((getattr(attention, name) for name in names if hasattr(attention, name)), 0)


def _key_shape(attention: Any, place: Layer) -> tuple[int, int]:
    """(G, D) of a self-attention module."""
    width = _head_width(attention)
    _, out = linear(attention.get_submodule(place.key.rpartition(".")[2]))
    if place.key == place.query:  # one matrix for queries, keys and values
        out = (out - attention.config.num_attention_heads * width) // 2
    return out // width, width


register("kv_prefix", PrefixConfig, KVPrefixModel)
