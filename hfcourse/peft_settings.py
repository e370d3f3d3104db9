"""The settings of parameter-efficient fine-tuning. Holds no torch, so that the command line reads it at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from hfcourse.errors import ConfigError

MethodName = Literal[
    "full",
    "linear",
    "bitfit",
    "ln",
    "lora",
    "dora",
    "rslora",
    "adalora",
    "vera",
    "ia3",
    "houlsby",
    "pfeiffer",
    "parallel",
    "compacter",
    "fusion",
    "prefix",
    "prompt",
    "p_tuning",
]
LEARNING_RATES: dict[str, float] = {
    "full": 5e-5,
    "linear": 3e-3,
    "bitfit": 3e-3,
    "ln": 3e-3,
    "lora": 1e-3,
    "dora": 1e-3,
    "rslora": 1e-3,
    "adalora": 3e-3,
    "vera": 1e-2,
    "ia3": 1e-2,
    "houlsby": 1e-3,
    "pfeiffer": 1e-3,
    "parallel": 1e-3,
    "compacter": 5e-3,
    "fusion": 1e-4,
    "prefix": 1e-2,
    "prompt": 3e-2,
    "p_tuning": 1e-3,
}
"""Peak learning rate by method: fewer and smaller parameters take larger ones (trials: docs/LOG.md)."""


UNMERGEABLE = ("houlsby", "pfeiffer", "parallel", "compacter", "fusion", "prefix", "prompt", "p_tuning")
"""Methods whose changes are no change of the backbone's weights."""


@dataclass(frozen=True, kw_only=True)
class PeftSettings:
    """Which parameters are trained. ``--peft NAME`` is short for ``--peft.method NAME``."""

    named_by: ClassVar[str] = "method"
    method: MethodName = "full"
    """full; linear (the head alone, on states computed once), bitfit (biases), ln (norms); lora, dora, rslora, adalora,
    vera, ia3; adapters: houlsby, pfeiffer, parallel, compacter, fusion; prefix, prompt, p_tuning."""
    rank: int = 0
    """lora and its kin: rank of an update; 0 for the method's own (lora, dora, rslora 16; adalora, vera 8)."""
    alpha: int = 0
    """lora and its kin: updates count alpha / rank (rslora: alpha / sqrt(rank)); 0 for twice the rank."""
    dropout: float = 0.0
    """lora and its kin: dropout of what goes into an update."""
    targets: tuple[str, ...] = ()
    """lora and its kin: query, key, value, attention_out, ffn_in, ffn_out, all, or names of modules; empty: the
    method's own (lora, dora, rslora: value and ffn_out; adalora, vera: query and value)."""
    reduction: int = 0
    """Adapters: width of the backbone / width of the bottleneck; 0 for the method's own (16; compacter 32)."""
    skip_layers: int | None = None
    """lora and its kin, adapters: nothing is trained in so many of the lowest layers, so that no gradient has to reach
    them (AdapterDrop, arXiv 2010.11918). Where not given, lora, dora and rslora skip a sixth (of an encoder-decoder's
    encoder, whose layers count first), unless targets are named; others none."""
    drop_layers: int = 0
    """Adapters: each batch leaves out those of 0 to so many of the lowest layers, so that inference may do so too."""
    fuse: tuple[str, ...] = ()
    """fusion: the run folders whose trained adapters are mixed."""
    tokens: int = 20
    """prefix, prompt, p_tuning: virtual tokens (prefix: in each layer)."""
    quantize: Literal["", "8bit", "4bit"] = ""
    """Keep the frozen backbone in 8 or 4 bits (QLoRA); needs bitsandbytes."""

    def __post_init__(self) -> None:
        if self.tokens <= 0:
            raise ConfigError(f"peft.tokens is {self.tokens}: it must be above 0")
        for name in ("rank", "alpha", "reduction", "skip_layers", "drop_layers"):
            if (getattr(self, name) or 0) < 0:
                raise ConfigError(f"peft.{name} is {getattr(self, name)}: it must be 0 or more")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"peft.dropout is {self.dropout}: it must lie in [0, 1)")
        if self.method == "fusion" and len(self.fuse) < 2:
            raise ConfigError("peft fusion mixes trained adapters: name two or more runs with --peft.fuse RUN,RUN")
        if self.fuse and self.method != "fusion":
            raise ConfigError(f"peft.fuse names adapters, but peft.method is {self.method}: only fusion takes them")
        if self.quantize and self.method in {"full", "bitfit", "ln", "fusion"}:
            raise ConfigError(
                f"peft.quantize freezes the backbone's weights, and {self.method} needs them whole: use lora"
            )

    @property
    def lr(self) -> float:
        """The method's own peak learning rate."""
        return LEARNING_RATES[self.method]
