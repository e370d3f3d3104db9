"""A frozen backbone in 8 or 4 bits under a method that adds to it (QLoRA, arXiv 2305.14314), through bitsandbytes."""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from torch import nn
from transformers import BitsAndBytesConfig, PreTrainedConfig

from hfcourse.errors import ConfigError
from hfcourse.peft.wrap import head_modules


def quantized(bits: str, model_class: Any, config: PreTrainedConfig) -> dict[str, Any]:
    """Arguments for `from_pretrained` that quantise the backbone's projections and leave the head as it is.

    Args:
        bits: ``8bit``, or ``4bit`` (NF4 with doubly quantised scales).
        model_class: the native class.
        config: the model's.

    Raises:
        ConfigError: bitsandbytes is not installed.
    """
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ConfigError(f"peft.quantize {bits} needs bitsandbytes: pip install 'hfcourse[quantize]'")
    with torch.device("meta"):
        head = head_modules(model_class(config))
    if bits == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=head)}
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=head,
    )
    return {"quantization_config": settings}


def keep_trainable(model: nn.Module) -> None:
    """Keep 4-bit weights on CPU as they are: an evaluation would pack them in a form that has no gradient."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False  # type: ignore[assignment]
