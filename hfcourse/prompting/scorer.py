"""How a model answers prompts, by what kind of language model it is."""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hfcourse.backbones.load import longest_input
from hfcourse.errors import ModelError
from hfcourse.peft.wrap import unwrapped
from hfcourse.prompting.causal import CausalScorer
from hfcourse.prompting.masked import MaskedScorer
from hfcourse.prompting.requests import Scorer
from hfcourse.prompting.seq2seq import Seq2SeqScorer

_UNBOUNDED = 2048
"""Tokens that fit where neither model nor tokenizer knows a bound."""
_NO_BOUND = 10**6
"""A tokenizer that says more than this says nothing."""


def scorer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    batch_tokens: int = 4096,
    cache: bool = True,
    chat: bool = False,
) -> Scorer:
    """The scorer for a causal, seq2seq or masked language model, which is put into evaluation mode.

    Args:
        model: on its device, perhaps with an adapter around it.
        tokenizer: its own.
        batch_tokens: most tokens of a forward pass, padding included.
        cache: compute what prompts share once (causal models).
        chat: prompts come out of a chat template and hold their special tokens.

    Raises:
        ModelError: the model has no language-model head.
    """
    inner: Any = unwrapped(model)
    model.eval()
    longest = _longest(inner, tokenizer)
    if inner.can_generate() and inner.config.is_encoder_decoder:
        return Seq2SeqScorer(model, tokenizer, max_length=longest, batch_tokens=batch_tokens, chat=chat)
    if inner.can_generate():
        return CausalScorer(model, tokenizer, max_length=longest, batch_tokens=batch_tokens, cache=cache, chat=chat)
    guesses = inner.get_output_embeddings() is not None or "masked_lm" in getattr(inner, "heads", {})
    if guesses and tokenizer.mask_token_id is not None:
        return MaskedScorer(model, tokenizer, max_length=longest, batch_tokens=batch_tokens)
    raise ModelError(
        f"{type(inner).__name__} predicts no words: take a model with a causal, seq2seq or masked language-model head"
    )


def _longest(model: Any, tokenizer: PreTrainedTokenizerBase) -> int:
    """Tokens that fit, special ones included."""
    config = model.config
    bound = longest_input(config) or longest_input(config.get_text_config(decoder=True))
    return bound or (tokenizer.model_max_length if tokenizer.model_max_length < _NO_BOUND else _UNBOUNDED)
