"""How a backbone is made. Holds no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Where weights come from and how attention is computed."""

    init: Literal["pretrained", "random"] = "pretrained"
    """random: the same architecture with fresh weights, the control of every claim that pretraining helps."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = "auto"
    """auto: torch's SDPA where the model knows it (on a GPU it holds FlashAttention's kernel, for batches without
    padding), else plain products. In bf16 training on CPU `auto` and `sdpa` take plain products up to 256 keys, as they
    are faster there. flash_attention_2 needs the package flash-attn, a GPU and 16 bits."""
    dropout: float | None = None
    """Set every dropout of the model to this; its own where not given."""
    equal_keys: float = 0.0
    """Fresh weights only: start keys as a copy of the queries, both times this (2 is a good value); 0: independent."""
    cmvn: bool | None = None
    """Nets on filterbanks: whether each channel of an utterance gets mean 0 and variance 1; its own where not given."""
    positions: int = 0
    """Presets of text alone: most tokens of one input; the preset's own where not given."""
    revision: str = "main"
    """Revision of a Hub model."""
    cache_dir: str | None = None
    """Where Hub files are cached; the Hub library's own place where not given."""
