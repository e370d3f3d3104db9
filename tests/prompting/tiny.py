"""Small random models and tokenizers, and prompts with much in common."""

from __future__ import annotations

import functools
from typing import Any

import torch
from tokenizers import processors
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from hfcourse.data.tokenizers import TokenizerConfig, train
from hfcourse.prompting.requests import Prompt

WORDS = "the cat sat on a mat while dogs ran home and birds sang about rain snow wind good bad terrible wonderful"
TEXTS = [f"Question: {a} {b}?\nAnswer: {c}. {d}" for a in WORDS.split() for b, c, d in [WORDS.split()[:3]] * 2]
SIZES: dict[str, dict[str, Any]] = {
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    "llama": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    },
    "bloom": {"hidden_size": 32, "n_layer": 2, "n_head": 4},
    "gpt_neo": {
        "hidden_size": 32,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": 8,
        "max_position_embeddings": 512,
    },
    "mamba": {"hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "gemma2": {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 512,
        "final_logit_softcapping": 2.0,
    },
    "t5": {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0},
    "bart": {
        "d_model": 32,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "decoder_ffn_dim": 48,
        "max_position_embeddings": 512,
        "decoder_start_token_id": 3,
    },
    "bert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
    "modernbert": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
}


@functools.cache
def tokenizer(kind: str, lowercase: bool = False) -> PreTrainedTokenizerBase:
    """`bos`: bytes with a start token in front, as Llama; `eos`: bytes with an end token alone, as GPT-2;
    `end`: SentencePiece whose texts end with one, as T5; `masks`: WordPiece, as BERT."""
    pieces: Any = {"bos": "bpe", "eos": "bpe", "end": "unigram", "masks": "wordpiece"}[kind]
    made: Any = train(TEXTS, TokenizerConfig(kind=pieces, vocab_size=330, lowercase=lowercase))
    start, end = made.convert_tokens_to_ids("[CLS]"), made.convert_tokens_to_ids("[SEP]")
    templates = {
        "bos": ("[CLS] $A", {"bos_token": "[CLS]", "eos_token": "[SEP]"}),
        "eos": ("$A", {"eos_token": "[SEP]"}),
        "end": ("$A [SEP]", {"eos_token": "[SEP]"}),
    }
    if kind != "masks":
        template, special = templates[kind]
        tokens = [("[CLS]", start), ("[SEP]", end)]
        made.backend_tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=tokens)
        made.add_special_tokens(special)
        made.model_input_names = ["input_ids", "attention_mask"]
    return made  # type: ignore[no-any-return]


def model(name: str, tokens: PreTrainedTokenizerBase, **more: Any) -> PreTrainedModel:
    """With weights so large that every place and token matters."""
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    config = AutoConfig.for_model(name, vocab_size=len(tokens), **{**special, **SIZES[name], **more})
    makers: dict[str, Any] = {"t5": AutoModelForSeq2SeqLM, "bart": AutoModelForSeq2SeqLM}
    makers |= dict.fromkeys(("bert", "modernbert"), AutoModelForMaskedLM)
    torch.manual_seed(0)
    made: Any = makers.get(name, AutoModelForCausalLM).from_config(config)
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    return made.eval()  # type: ignore[no-any-return]


EXAMPLES = "Questions and answers.\n\n" + "".join(
    f"Question: {word} sat on the mat while birds sang?\nAnswer: {'good' if i % 2 else 'terrible'}\n\n"
    for i, word in enumerate(["cat", "dogs", "rain", "snow", "wind"])
)


def prompts(options: tuple[str, ...] = (" good", " terrible", " wonderful birds sang")) -> list[Prompt]:
    """Two shared texts, one that nobody shares, none at all; queries of different lengths, one that ends in a space."""
    words = WORDS.split()
    queries = [f"Question: {' '.join(words[i : i + 1 + i % 5])}?\nAnswer:" for i in range(10)]
    found = [Prompt(shared=EXAMPLES, query=query, options=options) for query in queries]
    found += [Prompt(shared=EXAMPLES[: len(EXAMPLES) // 2], query=query, options=options) for query in queries[:3]]
    found += [Prompt(query=query, options=options[: 2 + i % 2]) for i, query in enumerate(queries)]
    found += [Prompt(shared="Only here. ", query="the cat ", options=("sat", "ran home"))]
    return found
