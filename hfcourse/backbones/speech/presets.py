"""Speech nets to train from scratch, as data: a family a method, from minutes on 2 cores to the papers' sizes."""

from __future__ import annotations

from typing import Any

# Layers, hidden, heads.
_SIZES = {"tiny": (3, 192, 3), "small": (6, 384, 6), "base": (12, 768, 12)}


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


# Of nets on samples: channels of the convolutions. Most of their time goes into the first ones, 3200 states a second.
_CHANNELS = {"tiny": [32, 64, 64, 128, 128, 128, 128], "small": [256] * 7}


def _waves(size: str, model_type: str, **more: Any) -> dict[str, Any]:
    """Convolutions over samples under a Transformer, in transformers' own classes; base is what they are by default."""
    if size == "base":
        return {"model_type": model_type}
    count, hidden, heads = _SIZES[size]
    found: dict[str, Any] = {
        "model_type": model_type,
        "conv_dim": _CHANNELS[size],
        "hidden_size": hidden,
        "num_hidden_layers": count,
        "num_attention_heads": heads,
        "intermediate_size": 4 * hidden,
    }
    if size == "tiny":  # in minutes nothing is learned by heart
        names = ("hidden_dropout", "activation_dropout", "attention_dropout", "layerdrop")
        found |= {"num_conv_pos_embeddings": 64, **dict.fromkeys(names, 0.0)}
    return found | more


# Codes of each of the two groups, width of an entry and of what is compared.
_CODES = {
    "tiny": {"num_codevectors_per_group": 160, "codevector_dim": 128, "proj_codevector_dim": 128},
    "small": {},
    "base": {},
}


SPEECH_PRESETS: dict[str, dict[str, Any]] = {
    "fbank": {"model_type": "hfcourse_frames", "layers": "none", "deltas": 2, "cmvn": False, "stack": 2},
    **{f"mockingjay-{size}": _frames(size, "transformer") for size in _SIZES},
    **{f"tera-{size}": _frames(size, "transformer") for size in _SIZES},
    **{f"apc-{size}": _frames(size, "gru") for size in _SIZES},
    **{f"apc_transformer-{size}": _frames(size, "causal") for size in _SIZES},
    **{f"vq_apc-{size}": _frames(size, "gru") for size in _SIZES},
    **{f"wav2vec2-{size}": _waves(size, "wav2vec2", **_CODES[size]) for size in _SIZES},
    **{f"best_rq-{size}": _frames(size, "transformer", stack=4) for size in _SIZES},
}
