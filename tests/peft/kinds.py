"""Tiny random models of every kind that virtual tokens serve, inputs for them, and adapters with loud values."""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftConfig, get_peft_model
from transformers import AutoConfig, AutoModel, AutoModelForAudioClassification, AutoModelForSequenceClassification

SIZES = {"vocab_size": 60, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SMALL = {**SIZES, "hidden_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
HALVES = {"vocab_size": 60, "d_model": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
CONVOLUTIONS = {"conv_dim": (16, 16), "conv_stride": (5, 2), "conv_kernel": (10, 3), "num_feat_extract_layers": 2}
POSITIONS = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16}
SPEECH = {**SMALL, **CONVOLUTIONS, **POSITIONS, "mask_time_prob": 0.0}
OF_KIND: dict[str, dict[str, Any]] = {
    "llama": {**SMALL, "num_key_value_heads": 2},
    "distilbert": {"vocab_size": 60, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "pad_token_id": 0},
    "gpt2": {"vocab_size": 60, "n_embd": 32, "n_layer": 2, "n_head": 4, "pad_token_id": 0, "eos_token_id": 2},
    "modernbert": {
        **SMALL,
        **{"cls_token_id": 1, "sep_token_id": 2, "local_attention": 4, "global_attn_every_n_layers": 2},
    },
    "bart": {
        **HALVES,
        **{"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 2},
        **{"encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64, "forced_eos_token_id": None},
    },
    "t5": {**HALVES, "d_kv": 6, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0},
    "wav2vec2": SPEECH,
    "hubert": SPEECH,
    "wavlm": SPEECH,
}
TEXT = ("bert", "roberta", "electra", "distilbert", "modernbert", "nomic_bert", "gpt2", "llama", "t5", "bart")
SOUND = ("wav2vec2", "hubert", "wavlm")
KINDS = (*TEXT, *SOUND[:2])


def tiny(kind: str, head: Any = AutoModel, implementation: str = "sdpa", **changes: Any) -> Any:
    """A model in evaluation mode, of weights large enough that attention matters."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**OF_KIND.get(kind, SMALL), **changes})
    model = head.from_config(config, attn_implementation=implementation)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


def classifier(kind: str, **changes: Any) -> Any:
    head = AutoModelForAudioClassification if kind in SOUND else AutoModelForSequenceClassification
    return tiny(kind, head, num_labels=2, **changes)


def batch_for(kind: str, rows: int = 3, length: int = 9) -> dict[str, torch.Tensor]:
    """Words, the last row three shorter; or sound."""
    generator = torch.Generator().manual_seed(1)
    if kind in SOUND:
        return {"input_values": torch.randn(rows, 200, generator=generator)}
    ids = torch.randint(5, 60, (rows, length), generator=generator)
    ids[:, -1] = 2
    mask = torch.ones_like(ids)
    ids[-1, -3:], mask[-1, -3:] = 0, 0
    ids[-1, -4] = 2
    return {"input_ids": ids, "attention_mask": mask}


def states_of(model: Any, kind: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """The bare backbone's last states; of a seq2seq model those of its decoder."""
    if kind in ("t5", "bart"):
        batch = {**batch, "decoder_input_ids": torch.arange(5, 10).expand(len(batch["input_ids"]), -1)}
    return model(**batch)[0]  # type: ignore[no-any-return]


def adapted(model: Any, config: PeftConfig, std: float = 0.5) -> Any:
    """The model with an adapter of large random values, in evaluation mode."""
    wrapped = get_peft_model(model, config).eval()
    shout(wrapped, std)
    return wrapped


def shout(model: Any, std: float = 0.5, seed: int = 3) -> None:
    """Give everything trainable large random values."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=std, generator=generator)
