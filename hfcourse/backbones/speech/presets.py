"""Speech nets to train from scratch, as data: a family a method, from minutes on 2 cores to the papers' sizes."""

from __future__ import annotations

from typing import Any

# Layers, hidden, heads.
_SIZES = {"tiny": (3, 192, 3), "small": (6, 384, 6), "base": (12, 768, 12)}
_CHANNELS = {"tiny": [32, 64, 64, 128, 128, 128, 128], "small": [256] * 7, "base": [512] * 7}
"""Of convolutions over samples. Most of a small net's time goes into the first ones, with 3200 states a second."""


def _frames(size: str, layers: str, **more: Any) -> dict[str, Any]:
    """Filterbanks of 10 ms, two of them a state, under a Transformer or GRU layers."""
    count, hidden, heads = _SIZES[size]
    return {
        "model_type": "hfcourse_frames",
        "layers": layers,
        "stack": 2,
        "hidden_size": hidden,
        "num_hidden_layers": count,
        "num_attention_heads": heads,
        **more,
    }


def _waves(model_type: str, size: str, **more: Any) -> dict[str, Any]:
    """Convolutions over samples that give a state every 20 ms, under a Transformer: transformers' own classes."""
    count, hidden, heads = _SIZES[size]
    # What learns for minutes does not overfit: the smaller sizes drop nothing out.
    dropout = 0.1 if size == "base" else 0.0
    return {
        "model_type": model_type,
        "conv_dim": _CHANNELS[size],
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": count,
        "num_attention_heads": heads,
        "hidden_dropout": dropout,
        "attention_dropout": dropout,
        "activation_dropout": 0.0,
        "layerdrop": 0.0,
        **more,
    }


_DATA2VEC: dict[str, dict[str, Any]] = {
    # Its convolutions are normalised over channels, with which GELU's gradient takes a third of a tiny net's step.
    "tiny": {"feat_extract_activation": "relu", "num_conv_pos_embeddings": 1, "conv_pos_kernel_size": 31},
    "small": {},
    "base": {"layerdrop": 0.05},
}


SPEECH_PRESETS: dict[str, dict[str, Any]] = {
    "fbank": {"model_type": "hfcourse_frames", "layers": "none", "deltas": 2, "cmvn": False, "stack": 2},
    **{f"mockingjay-{size}": _frames(size, "transformer") for size in _SIZES},
    **{f"tera-{size}": _frames(size, "transformer") for size in _SIZES},
    **{f"apc-{size}": _frames(size, "gru") for size in _SIZES},
    **{f"apc_transformer-{size}": _frames(size, "causal") for size in _SIZES},
    **{f"vq_apc-{size}": _frames(size, "gru") for size in _SIZES},
    **{f"best_rq-{size}": _frames(size, "transformer", stack=4) for size in _SIZES},
    **{f"data2vec-{size}": _waves("data2vec-audio", size, **_DATA2VEC[size]) for size in _SIZES},
    **{f"distilhubert-{size}": _waves("hubert", size, num_hidden_layers=2) for size in _SIZES},
}
