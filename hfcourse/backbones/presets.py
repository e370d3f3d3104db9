"""Sizes to train from scratch, as data. Any Hub id or local folder serves as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hfcourse.backbones.speech.presets import SPEECH_PRESETS

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

# The BERT sizes of "Well-Read Students Learn Better" (arXiv 1908.08962): layers, hidden, heads.
_SIZES = {
    "tiny": (2, 128, 2),
    "mini": (4, 256, 4),
    "small": (4, 512, 8),
    "medium": (8, 512, 8),
    "base": (12, 768, 12),
}


def _sized(model_type: str, size: str) -> dict[str, Any]:
    layers, hidden, heads = _SIZES[size]
    return {
        "model_type": model_type,
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
    }


def _bert(size: str) -> dict[str, Any]:
    return _sized("bert", size) | {"intermediate_size": 4 * _SIZES[size][1], "max_position_embeddings": 512}


def _gated(model_type: str, size: str) -> dict[str, Any]:
    """Rotary positions and a gated MLP, whose third matrix narrows it to two thirds: all families cost the same."""
    inner = 8 * _SIZES[size][1] // 3 // 64 * 64
    return _sized(model_type, size) | {"intermediate_size": inner, "max_position_embeddings": 1024}


def _modern(size: str) -> dict[str, Any]:
    """Pre-norm, rotary positions, gated MLP, no biases (ModernBERT, arXiv 2412.13663), at BERT's sizes."""
    return _gated("modernbert", size) | {
        "reference_compile": False,
        "embedding_dropout": 0.1,
        "mlp_dropout": 0.1,
        "attention_dropout": 0.1,
        "classifier_dropout": 0.1,
        # Masked words train every state but the first one's summary: the mean says more about a whole input.
        "classifier_pooling": "mean",
    }


def _nomic(size: str) -> dict[str, Any]:
    """BERT with rotary positions and a gated MLP without biases; segment embeddings and post-norm stay (NomicBERT,
    arXiv 2402.01613). Segments make it the better of the two modern families at pairs.
    """
    return _gated("nomic_bert", size) | {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1}


PRESETS: dict[str, dict[str, Any]] = {
    **SPEECH_PRESETS,
    **{f"bert-{size}": _bert(size) for size in _SIZES},
    **{f"modernbert-{size}": _modern(size) for size in _SIZES},
    **{f"nomicbert-{size}": _nomic(size) for size in _SIZES},
}


def preset_config(name: str, tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedConfig:
    """The transformers config of a preset, with the tokenizer's vocabulary and special tokens where it reads text."""
    from transformers import AutoConfig

    settings = dict(PRESETS[name])
    model_type = settings.pop("model_type")
    if tokenizer is None:
        return AutoConfig.for_model(model_type, **settings)
    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "cls_token_id": tokenizer.cls_token_id,
        "sep_token_id": tokenizer.sep_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }
    return AutoConfig.for_model(model_type, vocab_size=len(tokenizer), **settings, **special)
