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


# Decoders have two more sizes, those that nanoGPT trains on Shakespeare's characters; "medium" is left out, as
# gpt2-medium is the Hub's name of a pretrained model.
_DECODER_SIZES = {name: size for name, size in _SIZES.items() if name != "medium"}
_DECODER_SIZES |= {"nano": (4, 128, 4), "baby": (6, 384, 6)}


def _gpt2(size: str) -> dict[str, Any]:
    """GPT-2; base is the paper's smallest, 124 M parameters with its vocabulary."""
    layers, hidden, heads = _DECODER_SIZES[size]
    return {
        "model_type": "gpt2",
        "n_layer": layers,
        "n_embd": hidden,
        "n_head": heads,
        "n_positions": 1024,
        "activation_function": "gelu_pytorch_tanh",  # the same function as GPT-2's gelu_new, in one kernel
    }


def _llama(size: str) -> dict[str, Any]:
    """Rotary positions, RMS norms before, a gated MLP without biases (LLaMA, arXiv 2302.13971); embeddings are tied."""
    layers, hidden, heads = _DECODER_SIZES[size]
    return {
        "model_type": "llama",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "intermediate_size": 8 * hidden // 3 // 64 * 64,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }


PRESETS: dict[str, dict[str, Any]] = {
    **SPEECH_PRESETS,
    **{f"bert-{size}": _bert(size) for size in _SIZES},
    **{f"modernbert-{size}": _modern(size) for size in _SIZES},
    **{f"nomicbert-{size}": _nomic(size) for size in _SIZES},
    **{f"gpt2-{size}": _gpt2(size) for size in _DECODER_SIZES},
    **{f"llama-{size}": _llama(size) for size in _DECODER_SIZES},
}


def is_decoder(name: str) -> bool:
    """Whether a preset reads from left to right alone."""
    return name in PRESETS and PRESETS[name]["model_type"] in {"gpt2", "llama"}


def preset_config(name: str, tokenizer: PreTrainedTokenizerBase | None) -> PreTrainedConfig:
    """The transformers config of a preset, with the tokenizer's vocabulary and special tokens where it reads text."""
    from transformers import AutoConfig

    settings = dict(PRESETS[name])
    model_type = settings.pop("model_type")
    if tokenizer is None:
        return AutoConfig.for_model(model_type, **settings)
    begin = tokenizer.cls_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    end = tokenizer.sep_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    special = {"pad_token_id": tokenizer.pad_token_id, "bos_token_id": begin, "eos_token_id": end}
    if is_decoder(name):
        # A token that also ends texts is no mere padding: LLaMA's embedding would never learn it.
        special["pad_token_id"] = None if tokenizer.pad_token_id == end else tokenizer.pad_token_id
    else:
        special |= {"cls_token_id": tokenizer.cls_token_id, "sep_token_id": tokenizer.sep_token_id}
    return AutoConfig.for_model(model_type, vocab_size=len(tokenizer), **settings, **special)
