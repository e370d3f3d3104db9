"""Speech nets to train from scratch, as data: a family a method, from minutes on 2 cores to the papers' sizes."""

from __future__ import annotations

from typing import Any

# Layers, hidden, heads.
_SIZES = {"tiny": (3, 192, 3), "small": (6, 384, 6), "base": (12, 768, 12)}
_CHANNELS = {"tiny": 96, "small": 256, "base": 512}
"""Of convolutions over samples, which cost most where there are the most samples."""


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
        "conv_dim": [_CHANNELS[size]] * 7,
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


_DROPPED = {"base": {"layerdrop": 0.05, "feat_proj_dropout": 0.1}}
"""What HuBERT's authors drop out besides."""


SPEECH_PRESETS: dict[str, dict[str, Any]] = {
    "fbank": {"model_type": "hfcourse_frames", "layers": "none", "deltas": 2, "stack": 2},
    **{f"mockingjay-{size}": _frames(size, "transformer") for size in _SIZES},
    **{f"tera-{size}": _frames(size, "transformer") for size in _SIZES},
    **{f"apc-{size}": _frames(size, "gru") for size in _SIZES},
    **{f"apc_transformer-{size}": _frames(size, "causal") for size in _SIZES},
    **{f"vq_apc-{size}": _frames(size, "gru") for size in _SIZES},
    **{f"best_rq-{size}": _frames(size, "transformer", stack=4) for size in _SIZES},
    **{f"hubert-{size}": _waves("hubert", size, **_DROPPED.get(size, {})) for size in _SIZES},
    **{f"wavlm-{size}": _waves("wavlm", size, **_DROPPED.get(size, {})) for size in _SIZES},
}
