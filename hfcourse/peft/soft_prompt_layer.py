"""Layers that carry virtual tokens beside the real ones.

Around each layer of a stack stands a `SoftPromptLayer`: it puts the virtual tokens' states in front of the real ones,
lengthens masks and position embeddings, calls the layer, and takes them off again. Between layers the model's own code
only ever sees the real tokens. What one layer leaves of the virtual tokens the next one picks up from their `Stack`; as
that happens outside the layers, gradient checkpointing and LayerDrop work as without.

Shapes: B rows, T real tokens, n virtual ones, H the width.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.utils.generic import ModelOutput

from hfcourse.errors import ModelError
from hfcourse.peft.around import AroundLayer


class Stack:
    """The layers of one encoder or decoder, and the virtual tokens' states (B, n, H) on their way through them."""

    def __init__(self, owner: nn.Module, backbone: nn.Module, first: SoftPromptLayer) -> None:
        """Watch the stack.

        Args:
            owner: the module whose forward calls the layers; the virtual tokens begin and end with it.
            backbone: the model around it, whose recorded states are cut to the real tokens.
            first: the layer that keeps the prompts of the whole stack.
        """
        self.first = first
        self.states: Tensor | None = None
        self._hooks = (
            owner.register_forward_pre_hook(self._forget),  # after an interrupted pass something may be left
            owner.register_forward_hook(self._forget),
            backbone.register_forward_hook(self._cut),
        )

    def remove(self) -> None:
        """Leave the model."""
        for hook in self._hooks:
            hook.remove()

    def _forget(self, *_: Any) -> None:
        self.states = None

    def _cut(self, module: nn.Module, args: Any, output: Any) -> None:
        """States and attentions that were recorded inside the layers, without the virtual tokens."""
        if not isinstance(output, ModelOutput) or not self.first.lengthens:
            return
        length = output[0].shape[1]
        places = {
            "hidden_states": (slice(None), slice(-length, None)),
            "attentions": (..., slice(-length, None), slice(-length, None)),
            "cross_attentions": (..., slice(-length, None), slice(None)),
        }
        for name, place in places.items():
            if output.get(name):  # None stands for a layer that was not asked for
                output[name] = tuple(None if one is None else one[place] for one in output[name])


class SoftPromptLayer(AroundLayer):
    """One layer of a stack; the first one also keeps the prompts by adapter name."""

    adapter_layer_names = ("soft_prompt_encoder",)
    stack: Stack

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        self.soft_prompt_encoder = nn.ModuleDict()
        self._positions = {name: place for place, name in enumerate(inputs_of(layer))}
        self.causal = any(getattr(module, "is_causal", False) for module in layer.modules())

    @property
    def lengthens(self) -> bool:
        """Whether the layer inside works on more states than there are real tokens."""
        kept = self.stack.first
        return not kept.disable_adapters and any(name in kept.soft_prompt_encoder for name in kept.active_adapters)

    def prompt(self) -> Tensor:
        """The active adapters' prompts (n, H), one behind the other."""
        active = [name for name in self.active_adapters if name in self.soft_prompt_encoder]
        return torch.cat([self.soft_prompt_encoder[name]() for name in active])

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The layer's own answer for the real tokens.

        Raises:
            ModelError: a cache holds earlier tokens: virtual ones would be seen twice.
        """
        if not self.lengthens:
            return self.base_layer(*args, **kwargs)
        given = _Inputs(list(args), kwargs, self._positions)
        real: Tensor = given["hidden_states"]
        virtual = self.stack.states
        if virtual is None:
            _check_cache(given["past_key_values"])
            virtual = self.stack.first.prompt().to(real.dtype).expand(real.shape[0], -1, -1)
        count = virtual.shape[1]
        given["hidden_states"] = torch.cat([virtual, real], dim=1)
        if given["attention_mask"] is not None:
            given["attention_mask"] = lengthened(given["attention_mask"], count, self.causal)
        if given["encoder_attention_mask"] is not None:  # (B, 1, T, K): virtual tokens see what the first real one sees
            mask: Tensor = given["encoder_attention_mask"]
            given["encoder_attention_mask"] = torch.cat([mask[:, :, :1].expand(-1, -1, count, -1), mask], dim=2)
        if given["position_embeddings"] is not None:
            cos, sin = given["position_embeddings"]
            given["position_embeddings"] = (F.pad(cos, (0, 0, count, 0), value=1.0), F.pad(sin, (0, 0, count, 0)))
        output = self.base_layer(*given.args, **given.kwargs)
        states, rest = (output[0], output[1:]) if isinstance(output, tuple) else (output, None)
        self.stack.states, states = states[:, :count], states[:, count:]
        return states if rest is None else (states, *rest)

    def restore(self) -> nn.Module:
        """The bare layer; the stack's hooks go too."""
        self.stack.remove()
        return self.base_layer


class _Inputs:
    """A call's arguments by name, wherever they stand; those not given are None."""

    def __init__(self, args: list[Any], kwargs: dict[str, Any], positions: dict[str, int]) -> None:
        self.args, self.kwargs, self._positions = args, kwargs, positions

    def __getitem__(self, name: str) -> Any:
        place = self._positions.get(name)
        return self.args[place] if place is not None and place < len(self.args) else self.kwargs.get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        place = self._positions[name]
        if place < len(self.args):
            self.args[place] = value
        else:
            self.kwargs[name] = value


def inputs_of(layer: nn.Module) -> list[str]:
    """Names of a layer's arguments, in order."""
    parameters = inspect.signature(inspect.unwrap(type(layer).forward)).parameters.values()
    return [one.name for one in parameters if one.kind is not one.VAR_KEYWORD and one.name != "self"]


def lengthened(mask: Tensor, count: int, causal: bool) -> Tensor:
    """A mask with `count` virtual tokens in front, seen by every token.

    In an encoder they see all that is no padding; in a decoder only those before them.

    Args:
        mask: (B, 1, T, T) or, for all queries alike, (B, 1, 1, T); true, or 0, where a token may look.
        count: n.
        causal: whether it is a decoder's.

    Returns:
        (B, 1, n + T, n + T), or (B, 1, 1, n + T).
    """
    is_bool = mask.dtype == torch.bool
    longer = F.pad(mask, (count, 0), value=is_bool)
    if causal:
        rows = torch.full_like(longer[:, :, :1], False if is_bool else torch.finfo(mask.dtype).min)
        rows = rows.expand(-1, -1, count, -1).clone()
        seen = torch.ones(count, count, dtype=torch.bool, device=mask.device).tril()
        rows[..., :count].masked_fill_(seen, True if is_bool else 0)
    elif mask.shape[2] == 1 and mask.shape[3] > 1:
        return longer
    else:
        rows = longer.amax(dim=2, keepdim=True).expand(-1, -1, count, -1)
    return torch.cat([rows, longer], dim=2)


def _check_cache(cache: Any) -> None:
    if cache is not None and cache.get_seq_length() > 0:
        raise ModelError(
            "soft prompts keep no cache of earlier tokens: generate with use_cache=False, take peft's own "
            "PromptTuningConfig, or leave a decoder behind an encoder out by exclude_modules"
        )
