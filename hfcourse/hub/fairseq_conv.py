"""fairseq's wav2vec and vq-wav2vec: convolutions on samples under causal ones, in our own net.

A codebook of the nearest entry (k-means) does not carry over: theirs is looked up behind a norm over the whole
utterance with a scale for each channel, ours behind one over each state.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hfcourse.backbones.speech.conv import ConvConfig, ConvModel
from hfcourse.errors import ModelError
from hfcourse.hub.fairseq import strides_of
from hfcourse.hub.renaming import Found, numbered, shape_of, shapes_of

_STRIDES: Mapping[tuple[int, ...], tuple[int, ...]] = {
    (10, 8, 4, 4, 4): (5, 4, 2, 2, 2),
    (10, 8, 4, 4, 4, 1, 1): (5, 4, 2, 2, 2, 1, 1),
    (10, 8, 4, 4, 4, 1, 1, 1): (5, 4, 2, 2, 2, 1, 1, 1),
}
_NAMES = {
    "feature_extractor.conv_layers.N.0.P": "front.N.conv.P",
    "feature_extractor.conv_layers.N.2.P": "front.N.norm.P",
    "feature_aggregator.conv_layers.N.1.P": "context.layers.N.conv.P",
    "feature_aggregator.conv_layers.N.3.P": "context.layers.N.norm.P",
    "vector_quantizer.vars": "quantizer.codebook",
    "vector_quantizer.weight_proj.P": "quantizer.logits.P",
    "vector_quantizer.weight_proj.0.0.P": "quantizer.logits.0.P",
    "vector_quantizer.weight_proj.1.P": "quantizer.logits.2.P",
}
_AS_OURS: dict[str, Any] = {
    "aggregator": "cnn",
    "skip_connections_feat": False,
    "skip_connections_agg": True,
    "residual_scale": 0.5,
    "agg_zero_pad": False,
    "non_affine_group_norm": False,
}
"""What our net always does, under fairseq's names."""


def recognised(content: Mapping[str, Any], settings: Mapping[str, Any]) -> Found | None:
    """What a checkpoint of wav2vec or vq-wav2vec becomes; None for other files.

    Raises:
        ModelError: no settings, or such that our net does not have.
    """
    weights = content.get("model")
    if not isinstance(weights, Mapping) or not any(str(name).startswith("feature_aggregator.") for name in weights):
        return None
    shapes = shapes_of(weights)
    coded = "vector_quantizer.vars" in shapes
    settings = {"activation": "relu", **settings}  # the only one while it was no setting
    _refuse_others(shapes, settings)
    front = numbered(shapes, "feature_extractor.conv_layers.N.0.weight")
    context = numbered(shapes, "feature_aggregator.conv_layers.N.1.weight")
    config: dict[str, Any] = {
        "conv_kernel": [shape[2] for shape in front.values()],
        "conv_stride": strides_of(front, settings.get("conv_feature_layers"), _STRIDES),
        "conv_dim": [shape[0] for shape in front.values()],
        "norm": "utterance",
        "activation": settings["activation"],
        "log_compression": settings["log_compression"],
        "context": "conv",
        "context_kernel": [shape[2] for shape in context.values()],
        "hidden_dropout_prob": float(settings.get("dropout", 0.0)),
    }
    if coded:
        groups = int(settings["vq_groups"])
        depth = 2 if "vector_quantizer.weight_proj.0.0.weight" in shapes else 1
        if depth == 2 and settings["activation"] != "gelu":
            raise ModelError("its codebook is chosen through another activation than GELU: weights do not carry over")
        last = f"vector_quantizer.weight_proj{'' if depth == 1 else '.1'}.bias"
        codes = shape_of(shapes, last)[0] // groups
        config |= {"quantizer": "gumbel", "groups": groups, "codes": codes, "quantizer_depth": depth}
    return Found(
        kind="vq_wav2vec" if coded else "wav2vec",
        model_class=ConvModel,
        config=ConvConfig(**config),
        weights=weights,
        names=_NAMES,
        training_only=("wav2vec_predictions.PATH",),
        finish=(lambda found: _codebook(found, config["groups"], settings)) if coded else lambda found: found,
        normalize=bool(settings.get("normalize", False)),
    )


def _refuse_others(shapes: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Raises ModelError for nets that ours cannot be."""
    if "vector_quantizer.embedding" in shapes:
        raise ModelError(
            "a k-means codebook does not carry over: fairseq looks it up behind a norm over the utterance, and ours "
            "over each state"
        )
    needed = ["log_compression", *(["vq_groups"] if "vector_quantizer.vars" in shapes else [])]
    if missing := [name for name in needed if name not in settings]:
        raise ModelError(f"nothing tells its {missing[0]}: give the model's settings with --config")
    if settings["activation"] not in {"relu", "gelu"}:
        raise ModelError(f"activation {settings['activation']!r} is none that is known here: relu and gelu are")
    for name, ours in _AS_OURS.items():
        if settings.get(name, ours) != ours:
            raise ModelError(f"its {name} is {settings[name]!r}, and our net has {ours!r}: weights do not carry over")


def _codebook(weights: dict[str, Tensor], groups: int, settings: Mapping[str, Any]) -> dict[str, Tensor]:
    """The entries of each group, which may have shared them, and the temperature at which training ended."""
    entries = weights["quantizer.codebook"][0]
    shared = bool(settings.get("combine_groups", False))
    book = entries.expand(groups, -1, -1) if shared else entries.unflatten(0, (groups, -1))
    temperatures = settings.get("vq_temp", (2.0, 0.5, 0.999995))
    least = ast.literal_eval(temperatures)[1] if isinstance(temperatures, str) else temperatures[1]
    return weights | {"quantizer.codebook": book, "quantizer.temperature": torch.tensor(float(least))}
