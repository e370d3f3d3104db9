"""Backbones of every shape that methods take, small enough to build in milliseconds, always with the same weights."""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PreTrainedModel

_BERT = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
_CONV = {"conv_dim": (16, 16), "conv_kernel": (10, 3), "conv_stride": (5, 2), "num_feat_extract_layers": 2}
_SPEECH = _BERT | _CONV | {"num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
_SPEECH |= {"classifier_proj_size": 16, "layerdrop": 0.0}
_BART = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64,
    "encoder_attention_heads": 2, "decoder_attention_heads": 2, "pad_token_id": 0, "eos_token_id": 3,
    "bos_token_id": 2, "decoder_start_token_id": 2, "max_position_embeddings": 64,
}  # fmt: skip
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertForSequenceClassification", _BERT),
    "roberta": ("RobertaForSequenceClassification", _BERT | {"max_position_embeddings": 66, "pad_token_id": 0}),
    "electra": ("ElectraForSequenceClassification", _BERT | {"embedding_size": 32}),
    "distilbert": ("DistilBertForSequenceClassification", {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64}),
    "modernbert": (
        "ModernBertForSequenceClassification",
        _BERT | {"pad_token_id": 0, "cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3},
    ),
    "gpt2": (
        "GPT2ForSequenceClassification",
        {"n_embd": 32, "n_layer": 3, "n_head": 2, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3},
    ),
    "llama": (
        "LlamaForSequenceClassification",
        _BERT | {"num_key_value_heads": 1, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3},
    ),
    "bart": ("BartForSequenceClassification", _BART),
    "t5": (
        "T5ForSequenceClassification",
        {"d_model": 32, "num_layers": 2, "num_heads": 2, "d_ff": 64, "d_kv": 16, "pad_token_id": 0, "eos_token_id": 3,
         "decoder_start_token_id": 0},
    ),
    "wav2vec2": ("Wav2Vec2ForSequenceClassification", _SPEECH),
    "hubert": ("HubertForSequenceClassification", _SPEECH),
}  # fmt: skip
TEXT = ("bert", "roberta", "electra", "distilbert", "modernbert", "gpt2", "llama")
IDS = torch.tensor([[2, 5, 6, 7, 8, 9, 10, 3], [2, 12, 13, 14, 15, 16, 3, 0]])


def make(family: str, labels: int = 3, **more: Any) -> PreTrainedModel:
    """The family's classifier, in evaluation mode."""
    name, settings = FAMILIES[family]
    config = AutoConfig.for_model(family, **({"vocab_size": 40, "num_labels": labels} | settings | more))
    torch.manual_seed(0)
    return getattr(transformers, name)(config).eval()  # type: ignore[no-any-return]


def inputs(family: str) -> dict[str, Tensor]:
    """Two rows, one of them padded."""
    if family in {"wav2vec2", "hubert"}:
        return {"input_values": torch.randn(2, 800, generator=torch.Generator().manual_seed(0))}
    ids = IDS.clone()
    if family in {"bart", "t5"}:
        ids[1, -1] = 3
        ids[1, -2] = 5  # one end of sentence a row, at the same place
        return {"input_ids": ids}
    return {"input_ids": ids, "attention_mask": (ids != 0).long()}


def disturb(model: nn.Module, seed: int = 0) -> None:
    """Move every trained parameter away from where it began."""
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
