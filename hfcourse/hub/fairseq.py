"""fairseq's Transformers over convolutions, in transformers' classes: wav2vec 2.0, HuBERT, WavLM, data2vec-audio.

What can be read from the shapes of weights is; settings tell the rest: strides, heads, where the norms stand. Where a
file holds none, what all published nets have in common is taken, and the page of the result says so.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from transformers import (
    Data2VecAudioConfig,
    Data2VecAudioModel,
    HubertConfig,
    HubertModel,
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2ForPreTraining,
    WavLMConfig,
    WavLMModel,
)

from hfcourse.errors import ModelError
from hfcourse.hub.renaming import Found, numbered, shape_of, shapes_of
from hfcourse.hub.torch_files import StoredTensor

_CONVOLUTION = "feature_extractor.conv_layers.N.0.weight"
STRIDES: Mapping[tuple[int, ...], tuple[int, ...]] = {(10, 3, 3, 3, 3, 2, 2): (5, 2, 2, 2, 2, 2, 2)}
"""Of the convolutions of all published nets, by their widths."""
_MOST_LAYERS = 1000
"""A list of convolutions that is longer is no net's, and might fill the memory."""
_HEAD_SIZE = 64
"""Channels of a head of every published net."""
_GRANTED = "The file holds no settings to tell so, and it was taken for granted that {}."

ENCODER = {
    "mask_emb": "masked_spec_embed",
    "feature_extractor.conv_layers.N.0.P": "feature_extractor.conv_layers.N.conv.P",
    "feature_extractor.conv_layers.N.2.P": "feature_extractor.conv_layers.N.layer_norm.P",
    "feature_extractor.conv_layers.N.2.1.P": "feature_extractor.conv_layers.N.layer_norm.P",
    "layer_norm.P": "feature_projection.layer_norm.P",
    "post_extract_proj.P": "feature_projection.projection.P",
    "encoder.pos_conv.0.bias": "encoder.pos_conv_embed.conv.bias",
    "encoder.pos_conv.0.weight_g": "encoder.pos_conv_embed.conv.parametrizations.weight.original0",
    "encoder.pos_conv.0.weight_v": "encoder.pos_conv_embed.conv.parametrizations.weight.original1",
    "encoder.pos_conv.0.parametrizations.PATH": "encoder.pos_conv_embed.conv.parametrizations.PATH",
    "encoder.pos_conv.N.0.P": "encoder.pos_conv_embed.layers.N.conv.P",
    "encoder.layer_norm.P": "encoder.layer_norm.P",
    "encoder.layers.N.self_attn.q_proj.P": "encoder.layers.N.attention.q_proj.P",
    "encoder.layers.N.self_attn.k_proj.P": "encoder.layers.N.attention.k_proj.P",
    "encoder.layers.N.self_attn.v_proj.P": "encoder.layers.N.attention.v_proj.P",
    "encoder.layers.N.self_attn.out_proj.P": "encoder.layers.N.attention.out_proj.P",
    "encoder.layers.N.self_attn.grep_a": "encoder.layers.N.attention.gru_rel_pos_const",
    "encoder.layers.N.self_attn.grep_linear.P": "encoder.layers.N.attention.gru_rel_pos_linear.P",
    "encoder.layers.N.self_attn.relative_attention_bias.P": "encoder.layers.N.attention.rel_attn_embed.P",
    "encoder.layers.N.self_attn_layer_norm.P": "encoder.layers.N.layer_norm.P",
    "encoder.layers.N.fc1.P": "encoder.layers.N.feed_forward.intermediate_dense.P",
    "encoder.layers.N.fc2.P": "encoder.layers.N.feed_forward.output_dense.P",
    "encoder.layers.N.final_layer_norm.P": "encoder.layers.N.final_layer_norm.P",
}
"""A backbone's weights: theirs -> transformers'."""
_CODES = {
    "quantizer.vars": "quantizer.codevectors",
    "quantizer.weight_proj.P": "quantizer.weight_proj.P",
    "project_q.P": "project_q.P",
    "final_proj.P": "project_hid.P",
}
_KINDS: dict[str, tuple[type[PreTrainedModel], type[PreTrainedConfig], tuple[str, ...]]] = {
    "wav2vec2": (Wav2Vec2ForPreTraining, Wav2Vec2Config, ()),
    "hubert": (HubertModel, HubertConfig, ("final_proj.P", "label_embs_concat")),
    "wavlm": (WavLMModel, WavLMConfig, ("final_proj.P", "label_embs_concat")),
    "data2vec": (Data2VecAudioModel, Data2VecAudioConfig, ("final_proj.P", "_ema.PATH")),
}
"""Class, config, and what served training alone."""
_DROPOUTS = {
    "dropout": "hidden_dropout",
    "attention_dropout": "attention_dropout",
    "activation_dropout": "activation_dropout",
    "dropout_input": "feat_proj_dropout",
    "encoder_layerdrop": "layerdrop",
}


def recognised(content: Mapping[str, Any], settings: Mapping[str, Any]) -> Found | None:
    """What a fairseq checkpoint of one of these nets becomes; None for other files.

    Args:
        content: of the file.
        settings: of its model, as `settings_of` reads them or as the user gave them.

    Raises:
        ModelError: a fine-tuned net, or settings that are not known here.
    """
    weights = content.get("model")
    if not isinstance(weights, Mapping) or not any(str(name).startswith("feature_extractor.") for name in weights):
        tuned = isinstance(weights, Mapping) and any(str(name).startswith("w2v_encoder.") for name in weights)
        if tuned:
            raise ModelError("a net that was fine-tuned, with a head of its own: convert the pretrained one")
        return None
    weights = _flat(weights)
    kind = _kind(weights, settings)
    if not kind:
        return None
    model_class, config_class, training_only = _KINDS[kind]
    config, notes = encoder_config(kind, shapes_of(weights), settings, config_class)
    names = dict(ENCODER)
    if kind == "wav2vec2":
        names = {theirs: f"wav2vec2.{ours}" for theirs, ours in ENCODER.items()} | _CODES
    default = config.do_stable_layer_norm if hasattr(config, "do_stable_layer_norm") else True
    return Found(
        kind=kind,
        model_class=model_class,
        config=config,
        weights=weights,
        names=names,
        training_only=training_only,
        normalize=bool(settings.get("normalize", default)),
        notes=notes,
    )


def settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """The model's settings in a checkpoint, as plain values: those of its task lie beneath them.

    Args:
        content: with `cfg` (nested or flat), `args`, or neither.
    """
    found = content.get("cfg") or content.get("args") or {}
    if not isinstance(found, Mapping):
        return {}
    parts = [found.get("task"), found.get("model")]
    inner = [part for part in parts if isinstance(part, Mapping)]
    return {name: value for part in inner or [found] for name, value in part.items()}


def encoder_config(
    kind: str,
    shapes: Mapping[str, tuple[int, ...]],
    settings: Mapping[str, Any],
    config_class: type[PreTrainedConfig],
) -> tuple[PreTrainedConfig, tuple[str, ...]]:
    """The config of a backbone, and what was taken for granted for want of settings.

    Raises:
        ModelError: settings that contradict the weights or are not known here; strides that nothing tells.
    """
    convolutions = numbered(shapes, _CONVOLUTION)
    hidden, _ = shape_of(shapes, "post_extract_proj.weight")
    layered = "feature_extractor.conv_layers.0.2.1.weight" in shapes
    notes: list[str] = []
    heads = settings.get("encoder_attention_heads") or _heads(hidden, notes)
    first = settings.get("layer_norm_first")
    if first is None:
        first = layered and kind != "data2vec"
        notes.append(_GRANTED.format(f"norms stand {'before' if first else 'behind'} attention and MLP"))
    if kind == "data2vec" and first:
        raise ModelError("layer_norm_first is set, and a Data2VecAudioModel has its norms behind attention and MLP")
    activation = settings.get("activation_fn", "gelu")
    if activation not in {"gelu", "relu"}:
        raise ModelError(f"activation_fn {activation!r} is none that is known here: gelu and relu are")
    shape: dict[str, Any] = {
        "hidden_size": hidden,
        "num_hidden_layers": len(numbered(shapes, "encoder.layers.N.fc1.weight")),
        "num_attention_heads": int(heads),
        "intermediate_size": shape_of(shapes, "encoder.layers.0.fc1.weight")[0],
        "hidden_act": activation,
        "conv_dim": [shape[0] for shape in convolutions.values()],
        "conv_kernel": [shape[2] for shape in convolutions.values()],
        "conv_stride": strides_of(convolutions, settings.get("conv_feature_layers"), STRIDES),
        "conv_bias": "feature_extractor.conv_layers.0.0.bias" in shapes,
        **_positions(shapes),
    }
    if kind != "data2vec":
        shape |= {"do_stable_layer_norm": bool(first), "feat_extract_norm": "layer" if layered else "group"}
    if kind == "wavlm":
        buckets, _ = shape_of(shapes, "encoder.layers.0.self_attn.relative_attention_bias.weight")
        shape |= {"num_buckets": buckets, "max_bucket_distance": int(settings.get("max_distance", 800))}
    if kind == "wav2vec2":
        shape |= _codebook(shapes, settings)
    if "mask_emb" not in shapes:
        shape |= {"mask_time_prob": 0.0, "apply_spec_augment": False}
    shape |= {ours: float(settings[theirs]) for theirs, ours in _DROPOUTS.items() if theirs in settings}
    return config_class(**shape), tuple(notes)


def strides_of(
    convolutions: Mapping[int, tuple[int, ...]], told: Any, known: Mapping[tuple[int, ...], tuple[int, ...]]
) -> list[int]:
    """Steps of convolutions with weights of these shapes (outputs, inputs, width).

    Args:
        convolutions: shapes by number.
        told: ``[(outputs, width, step)] * 3 + ...`` as fairseq's settings have it, or the list itself; None if not.
        known: steps by widths, where the settings do not tell them.

    Raises:
        ModelError: they contradict the weights, or nothing tells them.
    """
    shapes = [(shape[0], shape[2]) for shape in convolutions.values()]
    if told is None:
        widths = tuple(width for _, width in shapes)
        if widths not in known:
            raise ModelError("nothing tells the strides of its convolutions: give the model's settings with --config")
        return list(known[widths])
    layers = [tuple(layer) for layer in listed(told)]
    if [layer[:2] for layer in layers] != shapes:
        raise ModelError(f"its settings have the convolutions {told}, and its weights are of {shapes}")
    return [int(layer[2]) for layer in layers]


def listed(text: Any) -> list[Any]:
    """A list written as a sum of lists times numbers, without running it: ``[(512, 10, 5)] + [(512, 3, 2)] * 4``.

    Raises:
        ModelError: it is written otherwise.
    """

    def bounded(items: list[Any], times: int) -> list[Any]:
        if len(items) * times > _MOST_LAYERS:
            raise ValueError("more layers than a net has")
        return items * times

    def value(node: ast.expr) -> list[Any]:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return value(node.left) + value(node.right)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
            return bounded(value(node.left), int(ast.literal_eval(node.right)))
        return list(ast.literal_eval(node))

    if not isinstance(text, str):
        return list(text)
    try:
        return value(ast.parse(text.strip(), mode="eval").body)
    except (SyntaxError, ValueError, TypeError) as error:
        raise ModelError(f"its settings have {text[:80]!r} where a list of convolutions belongs") from error


def _flat(weights: Mapping[str, Any]) -> dict[str, StoredTensor]:
    """Weights by their names: data2vec keeps its teacher's in a dictionary among them."""
    inner = {
        f"{name}.{key}": one for name, part in weights.items() if isinstance(part, Mapping) for key, one in part.items()
    }
    return {name: weight for name, weight in weights.items() if not isinstance(weight, Mapping)} | inner


def _kind(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    """By the weights that only one kind has; by its settings' name where there are none such."""
    if "encoder.layers.0.self_attn.grep_a" in weights:
        return "wavlm"
    if "quantizer.vars" in weights:
        return "wav2vec2"
    if "encoder.pos_conv.0.0.weight" in weights:
        return "data2vec"
    return "hubert" if "encoder.layers.0.fc1.weight" in weights else ""


def _heads(hidden: int, notes: list[str]) -> int:
    if hidden % _HEAD_SIZE:
        raise ModelError("nothing tells its number of attention heads: give the model's settings with --config")
    notes.append(_GRANTED.format(f"it has {hidden // _HEAD_SIZE} attention heads"))
    return hidden // _HEAD_SIZE


def _positions(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """Of the convolutions that tell positions: one with weight norm, or several one behind another."""
    stacked = numbered(shapes, "encoder.pos_conv.N.0.weight")
    if stacked:
        hidden, share, width = stacked[0]
        groups = {"num_conv_pos_embedding_groups": hidden // share}
        return groups | {"conv_pos_kernel_size": width, "num_conv_pos_embeddings": len(stacked)}
    new = "encoder.pos_conv.0.parametrizations.weight.original1"
    hidden, share, width = shape_of(shapes, new if new in shapes else "encoder.pos_conv.0.weight_v")
    return {"num_conv_pos_embedding_groups": hidden // share, "num_conv_pos_embeddings": width}


def _codebook(shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]) -> dict[str, Any]:
    _, entries, width = shape_of(shapes, "quantizer.vars")
    projected, total = shape_of(shapes, "project_q.weight")
    groups = total // width
    told: dict[str, Any] = {
        "num_codevector_groups": groups,
        "num_codevectors_per_group": entries // groups,
        "codevector_dim": total,
        "proj_codevector_dim": projected,
    }
    if "logit_temp" in settings:
        told["contrastive_logits_temperature"] = float(settings["logit_temp"])
    return told
