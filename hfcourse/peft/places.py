"""Where methods take hold of a backbone: its layers, and in each of them attention, feed-forward and norms.

Found by the names that transformers gives these modules, so that one rule serves encoders, decoders, both halves of a
seq2seq model, and speech.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from hfcourse.errors import ModelError

_QUERY = {"query", "q_lin", "q_proj", "q", "query_proj"}
_KEY = {"key", "k_lin", "k_proj", "k", "key_proj"}
_VALUE = {"value", "v_lin", "v_proj", "v", "value_proj"}
_FUSED = {"Wqkv", "c_attn", "qkv_proj", "query_key_value", "qkv"}
_ATTENTION_OUT = {"out_lin", "out_proj", "o_proj", "o", "attention.output.dense", "attention.dense"}
_ATTENTION_OUT |= {"attn.Wo", "attn.c_proj"}
_FFN_IN = {"intermediate.dense", "lin1", "fc1", "mlp.Wi", "c_fc", "gate_proj", "up_proj", "wi", "wi_0", "wi_1"}
_FFN_IN |= {"intermediate_dense", "dense_h_to_4h"}
_FFN_OUT = {"output.dense", "lin2", "fc2", "mlp.Wo", "mlp.c_proj", "down_proj", "wo", "output_dense", "dense_4h_to_h"}
# The norm behind the last sum of a layer, where the architecture has one there (post-norm).
_LAST_NORM = {
    "bart": "final_layer_norm",
    "bert": "output.LayerNorm",
    "camembert": "output.LayerNorm",
    "data2vec-audio": "final_layer_norm",
    "deberta-v2": "output.LayerNorm",
    "distilbert": "output_layer_norm",
    "electra": "output.LayerNorm",
    "hubert": "final_layer_norm",
    "marian": "final_layer_norm",
    "nomic_bert": "post_mlp_layernorm",
    "roberta": "output.LayerNorm",
    "wav2vec2": "final_layer_norm",
    "wavlm": "final_layer_norm",
    "xlm-roberta": "output.LayerNorm",
}


@dataclass(frozen=True)
class Layer:
    """One layer of a backbone; every name is that of a module, from the model's root."""

    name: str
    query: str
    """Equal to `key` and `value` where one module computes all three."""
    key: str
    value: str
    attention_out: str
    """Of self-attention; the last projection before the sum with the layer's input."""
    ffn_in: tuple[str, ...]
    """The feed-forward's first projections: two in gated ones."""
    ffn_out: str
    last_norm: str
    """The norm behind the layer's last sum; empty where it has none there (pre-norm)."""
    norms: tuple[str, ...]
    """The other `nn.LayerNorm`s with weights."""


def layers_of(model: nn.Module) -> list[Layer]:
    """Every layer with self-attention and a feed-forward, in order; of a seq2seq model the encoder's come first.

    Raises:
        ModelError: no layer is found.
    """
    config: Any = getattr(model, "config", None)
    found = []
    for name, module in model.named_modules():
        if isinstance(module, GradientCheckpointingLayer):
            layer = _layer(name, module, _norm_of(config, module))
            if layer is not None:
                found.append(layer)
    if not found:
        kind = getattr(config, "model_type", type(model).__name__)
        raise ModelError(
            f"no attention layers found in {kind}: this method takes backbones made of transformers' layers "
            "(bert, roberta, electra, distilbert, modernbert, gpt2, llama, t5, bart, wav2vec2, hubert, whisper, ...)"
        )
    return found


def linear(module: nn.Module) -> tuple[int, int]:
    """(features in, features out) of a projection; GPT-2's keep their matrix transposed."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features  # a quantised weight has another shape
    weight: Any = module.weight
    rows, columns = weight.shape
    return (rows, columns) if isinstance(module, Conv1D) else (columns, rows)


def _layer(name: str, module: nn.Module, norm: str) -> Layer | None:
    names = [
        inner.replace(".base_layer", "")  # of a module that another method has wrapped
        for inner, child in module.named_modules()
        if isinstance(child, nn.Linear | Conv1D) and "encoder_attn" not in inner and "EncDecAttention" not in inner
    ]
    fused = _named(names, _FUSED)
    query, key, value = (fused or _named(names, one) for one in (_QUERY, _KEY, _VALUE))
    attention_out, ffn_out = _named(names, _ATTENTION_OUT), _named(names, _FFN_OUT, but="attention.output.dense")
    ffn_in = tuple(inner for inner in names if _ends(inner, _FFN_IN))
    if not (query and key and value and attention_out and ffn_in and ffn_out):
        return None

    def whole(inner: str) -> str:
        return f"{name}.{inner}" if name else inner

    return Layer(
        name=name.removesuffix(".base_layer"),  # of an adapter that stands around the layer
        query=whole(query),
        key=whole(key),
        value=whole(value),
        attention_out=whole(attention_out),
        ffn_in=tuple(map(whole, ffn_in)),
        ffn_out=whole(ffn_out),
        last_norm=whole(norm) if norm else "",
        norms=tuple(whole(inner) for inner in _layer_norms(module) if inner != norm),
    )


def _layer_norms(module: nn.Module) -> dict[str, None]:
    """Names of the norms inside a layer, wrapped or not, each once."""
    found = (
        name for name, child in module.named_modules() if isinstance(child, nn.LayerNorm) and child.elementwise_affine
    )
    return dict.fromkeys(name.replace(".base_layer", "") for name in found)


def _norm_of(config: Any, module: nn.Module) -> str:
    """The last norm's name inside a layer, if the layer ends with one."""
    for part in (config, getattr(config, "backbone_config", None)):
        norm = _LAST_NORM.get(getattr(part, "model_type", ""), "")
        stable = getattr(part, "do_stable_layer_norm", False)  # the large speech models are pre-norm
        if norm and not stable and norm in dict(module.named_modules()):
            return norm
    return ""


def _named(names: Sequence[str], ends: set[str], but: str = "\n") -> str:
    return next((name for name in names if _ends(name, ends) and not name.endswith(but)), "")


def _ends(name: str, ends: set[str]) -> bool:
    return any(name == end or name.endswith(f".{end}") for end in ends)
