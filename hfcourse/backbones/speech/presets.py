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


SPEECH_PRESETS: dict[str, dict[str, Any]] = {
    "fbank": {"model_type": "hfcourse_frames", "layers": "none", "deltas": 2, "cmvn": False, "stack": 2},
    **{f"mockingjay-{size}": _frames(size, "transformer") for size in _SIZES},
    **{f"tera-{size}": _frames(size, "transformer") for size in _SIZES},
    **{f"apc-{size}": _frames(size, "gru") for size in _SIZES},
    **{f"apc_transformer-{size}": _frames(size, "causal") for size in _SIZES},
    **{f"vq_apc-{size}": _frames(size, "gru") for size in _SIZES},
    **{f"best_rq-{size}": _frames(size, "transformer", stack=4) for size in _SIZES},
}
