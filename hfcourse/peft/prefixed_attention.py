"""Attention that also looks at learned keys and values, through transformers' `AttentionInterface`.

An attention module asks ``self.config._attn_implementation`` which function to call. A module with prefixes gets a view
of its config (`PrefixedConfig`) that names `prefixed_attention` while a prefix is active; the model's own config stays
as it is, so masks are built as ever and `set_attn_implementation` keeps working. The function runs after the KV cache
was updated, so prefixes are never written to a cache, and behind rotary embeddings, so they have no position.

Shapes: B rows, H heads, G key heads (fewer than H in grouped-query attention), Q queries, K keys, n prefixes, D a head.
"""

from __future__ import annotations

import inspect
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface

from hfcourse.errors import ModelError

NAME = "hfcourse_prefix"
_BASES = ("sdpa", "eager")


class Holder(Protocol):
    """Whoever keeps the prefixes of one attention module."""

    def has_prefix(self) -> bool:
        """Whether it wants to be asked."""

    def prefix(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, each (G, n, D), to stand in front of these, each (B, G, K, D)."""


class PrefixedConfig:
    """What an attention module reads as its ``config``: the model's own, but for the attention function."""

    def __init__(self, config: Any, holder: Holder) -> None:
        self.config = config
        self.holder = holder

    @property
    def _attn_implementation(self) -> str:
        return NAME if self.holder.has_prefix() else self.config._attn_implementation  # type: ignore[no-any-return]

    def __getattr__(self, name: str) -> Any:
        if name in ("config", "holder") or name.startswith("__"):  # half built, by `copy` or `pickle`
            raise AttributeError(name)
        return getattr(self.config, name)


def goes_through_interface(attention: nn.Module) -> bool:
    """Whether a module's forward looks its attention function up in transformers' table."""
    forward = inspect.unwrap(type(attention).forward)
    return "ALL_ATTENTION_FUNCTIONS" in forward.__code__.co_names and hasattr(attention, "config")


def check_implementation(config: Any) -> None:
    """Refuse attention whose kernels know no open columns in front of a causal or sliding mask.

    Raises:
        ModelError: not sdpa or eager.
    """
    name = config._attn_implementation
    if not name.startswith(_BASES):  # also what behaves like them, as an attention with another dropout
        raise ModelError(
            f"virtual tokens need attention by sdpa or eager, not {name!r}: set attn_implementation='sdpa'"
        )


def prefixed_attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, Tensor | None]:
    """The model's own attention over ``[prefixes; keys]``; every query sees every prefix.

    Args:
        module: an attention module whose ``config`` is a `PrefixedConfig`.
        query: (B, H, Q, D).
        key: (B, G, K, D).
        value: (B, G, K, D).
        attention_mask: (B, 1, Q, K), true (or 0) where a query may look; None where nothing, or only the future, is
            hidden.
        kwargs: what the module gives its attention function besides.

    Returns:
        The attended values (B, Q, H, D), and the weights of the real keys (B, H, Q, K) where the function has any.
    """
    view: PrefixedConfig = module.config
    check_implementation(view.config)
    keys, values = view.holder.prefix(key, value)
    count = keys.shape[1]
    if attention_mask is not None:
        attention_mask = F.pad(attention_mask, (count, 0), value=attention_mask.dtype == torch.bool)
    elif _hides_future(module, view.config, query, kwargs):
        attention_mask = query.new_ones(query.shape[2], count + key.shape[2], dtype=torch.bool).tril(count)[None, None]
    if kwargs.get("position_bias") is not None:  # T5: prefixes stand at no distance from anything
        kwargs["position_bias"] = F.pad(kwargs["position_bias"], (count, 0))
    scope = inspect.unwrap(type(module).forward).__globals__
    attend = scope["ALL_ATTENTION_FUNCTIONS"].get_interface(
        view.config._attn_implementation, scope["eager_attention_forward"]
    )
    attended, weights = attend(module, query, _behind(keys, key), _behind(values, value), attention_mask, **kwargs)
    return attended, None if weights is None else weights[..., count:]


def _hides_future(module: Any, config: Any, query: Tensor, kwargs: dict[str, Any]) -> bool:
    """Whether the model leaves it to sdpa to hide the future: it aligns its triangle with the first key."""
    causal = kwargs.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    return bool(config._attn_implementation.startswith("sdpa") and causal and query.shape[2] > 1)


def _behind(prefix: Tensor, states: Tensor) -> Tensor:
    """(G, n, D) and (B, G, K, D) -> (B, G, n + K, D)."""
    return torch.cat([prefix.to(states.dtype).expand(states.shape[0], -1, -1, -1), states], dim=2)


AttentionInterface.register(NAME, prefixed_attention)
