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
        **({} if size == "base" else {"hidden_dropout_prob": 0.0}),
        **more,
    }


def _waves(model_type: str, size: str, **more: Any) -> dict[str, Any]:
    """Convolutions over samples that give a state every 20 ms, under a Transformer: transformers' own classes."""
    count, hidden, heads = _SIZES[size]
    shape: dict[str, Any] = {"conv_dim": _CHANNELS[size]}
    if size == "tiny":
        shape = {"conv_dim": [64, 128, 192], "conv_kernel": [32, 10, 8], "conv_stride": [16, 5, 4]}
    # What learns for minutes does not overfit: the smaller sizes drop nothing out.
    dropout = 0.1 if size == "base" else 0.0
    return {
        "model_type": model_type,
        **shape,
        "hidden_size": hidden,
        "intermediate_size": 4 * hidden,
        "num_hidden_layers": count,
        "num_attention_heads": heads,
        "hidden_dropout": dropout,
        "attention_dropout": dropout,
        "activation_dropout": 0.0,
        "layerdrop": 0.05 if size == "base" else 0.0,
        "num_conv_pos_embeddings": 15 if size == "tiny" else 128,
        **more,
    }


def _conv(size: str, context: str, **more: Any) -> dict[str, Any]:
    """Convolutions on samples: states of 20 ms at the smallest size, at the others of 10 ms, as in the papers."""
    kernels, strides, widths = [10, 8, 4, 4, 4], [5, 4, 2, 2, 2], 5 * [256 if size == "small" else 512]
    if size == "tiny":
        more = {"norm": "last"} | more
        kernels, strides, widths = [*kernels, 2], [*strides, 2], [64, 64, 128, 256, 256, 256]
    shape = {"conv_kernel": kernels, "conv_stride": strides, "conv_dim": widths}
    return {"model_type": "hfcourse_conv", "context": context, **shape, **more}


def _vq(size: str, quantizer: str) -> dict[str, Any]:
    """A codebook of two groups between the convolutions and the context."""
    found = _conv(size, "conv", quantizer=quantizer, codes=320 if size == "base" else 64)
    if size != "base":
        return found | {"context_kernel": (4 if size == "tiny" else 9) * [3]}
    shape = {"conv_kernel": [1, 1, 1], "conv_stride": [1, 1, 1], "conv_dim": [512, 512, 512]}
    return found | {name: found[name] + added for name, added in shape.items()} | {"context_kernel": [*range(2, 14)]}


# wav2vec 2.0: codes of each of the two groups, width of an entry and of what is compared.
_CODES: dict[str, dict[str, Any]] = {
    "tiny": {"num_codevectors_per_group": 40, "codevector_dim": 128, "proj_codevector_dim": 128},
    "small": {},
    "base": {"activation_dropout": 0.1, "layerdrop": 0.1},
}
_HUBERT: dict[str, dict[str, Any]] = {"tiny": {}, "small": {}, "base": {"feat_proj_dropout": 0.1}}
_DATA2VEC: dict[str, dict[str, Any]] = {
    # Its convolutions are normalised over channels: GELU's gradient then takes a third of a tiny net's step, and
    # without a bias they do not hear how loud a sound is.
    "tiny": {
        "feat_extract_activation": "relu",
        "conv_bias": True,
        "num_conv_pos_embeddings": 1,
        "conv_pos_kernel_size": 15,
    },
    "small": {"num_conv_pos_embeddings": 5},
    "base": {"num_conv_pos_embeddings": 5},
}

SPEECH_PRESETS: dict[str, dict[str, Any]] = {
    "fbank": {"model_type": "hfcourse_frames", "layers": "none", "deltas": 2, "cmvn": False, "stack": 2},
    **{f"mockingjay-{size}": _frames(size, "transformer") for size in _SIZES},
    **{f"tera-{size}": _frames(size, "transformer") for size in _SIZES},
    **{f"apc-{size}": _frames(size, "gru") for size in _SIZES},
    **{f"apc_transformer-{size}": _frames(size, "causal") for size in _SIZES},
    **{f"vq_apc-{size}": _frames(size, "gru") for size in _SIZES},
    **{f"cpc-{size}": _conv(size, "gru") for size in _SIZES},
    **{f"wav2vec-{size}": _conv(size, "conv", context_kernel=(4 if size == "tiny" else 9) * [3]) for size in _SIZES},
    **{f"vq_wav2vec-{size}": _vq(size, "gumbel") for size in _SIZES},
    **{f"vq_wav2vec_kmeans-{size}": _vq(size, "kmeans") for size in _SIZES},
    **{f"wav2vec2-{size}": _waves("wav2vec2", size, **_CODES[size]) for size in _SIZES},
    **{f"hubert-{size}": _waves("hubert", size, **_HUBERT[size]) for size in _SIZES},
    **{f"wavlm-{size}": _waves("wavlm", size, **_HUBERT[size]) for size in _SIZES},
    **{f"best_rq-{size}": _frames(size, "transformer", stack=4, neighbours=15) for size in _SIZES},
    **{f"data2vec-{size}": _waves("data2vec-audio", size, **_DATA2VEC[size]) for size in _SIZES},
    **{f"distilhubert-{size}": _waves("hubert", size, num_hidden_layers=2) for size in _SIZES},
}
