"""The sizes of a vocabulary's entries add up to the text that they stand for."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AddedToken, PreTrainedTokenizerFast

from hfcourse.data import tokenizers
from hfcourse.data.token_text import is_lossless, text_sizes
from hfcourse.data.tokenizers import TokenizerConfig

TEXTS = ["The naïve  value\n\nis 漢字 🤖.\n", "def f(x):\n\treturn -x  # ok\n", "a\u0301 b"]


def sentencepiece_like() -> PreTrainedTokenizerFast:
    """Spaces as ``▁``, and bytes for what has no entry (LLaMA 2)."""
    entries = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "▁ab", "ba"]
    merges = [("▁", "a"), ("▁a", "b"), ("b", "a")]
    backend = Tokenizer(
        models.BPE({entry: n for n, entry in enumerate(entries)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>", eos_token="</s>")


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_ours_keep_every_byte(kind: str) -> None:
    config = TokenizerConfig(kind=kind, style="gpt", lowercase=False, vocab_size=300)  # type: ignore[arg-type]
    tokenizer = tokenizers.train(TEXTS, config)
    assert is_lossless(tokenizer)
    sizes = text_sizes(tokenizer)
    for text in TEXTS:
        ids = tokenizer(text)["input_ids"]
        assert sizes["bytes"][ids].sum() == len(text.encode())
        assert sizes["characters"][ids].sum() == len(text)
    assert sizes["bytes"][tokenizer.eos_token_id] == sizes["bytes"][tokenizer.pad_token_id] == 0
    # What is unknown is taken for one character of one byte.
    assert sizes["bytes"][tokenizer.unk_token_id] == sizes["characters"][tokenizer.unk_token_id] == 1


def test_added_tokens_are_text_as_they_stand() -> None:
    """GPT-NeoX's kind has runs of spaces beside its byte pairs."""
    tokenizer = tokenizers.train(TEXTS, TokenizerConfig(kind="bpe", style="gpt", lowercase=False, vocab_size=300))
    tokenizer.add_tokens([AddedToken("    ", normalized=False), AddedToken("été", normalized=False)])
    text, sizes = "ab    été ab", text_sizes(tokenizer)
    ids = tokenizer(text)["input_ids"]
    assert sizes["bytes"][ids].sum() == 14 and sizes["characters"][ids].sum() == 12


def test_sentencepiece_with_lone_bytes() -> None:
    tokenizer = sentencepiece_like()
    sizes = text_sizes(tokenizer)
    for text in ["ab ba é", "a 漢 b🤖", "ab  ab"]:
        ids = tokenizer(text)["input_ids"]
        assert sizes["bytes"][ids].sum() == len(text.encode()) + 1  # with the space that it puts in front
        assert sizes["characters"][ids].sum() == len(text) + 1
    assert is_lossless(tokenizer)


def test_what_folds_or_drops_is_not_lossless() -> None:
    assert not is_lossless(tokenizers.train(TEXTS, TokenizerConfig(vocab_size=100)))
    assert not is_lossless(tokenizers.train(TEXTS, TokenizerConfig(kind="bpe", style="gpt", vocab_size=300)))


def test_words_without_a_decoder() -> None:
    """They are joined by spaces."""
    backend = Tokenizer(models.WordLevel({"one": 0, "naïve": 1, "</s>": 2}, unk_token="</s>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="</s>", eos_token="</s>")
    sizes, ids = text_sizes(tokenizer), tokenizer("one naïve one")["input_ids"]
    assert sizes["bytes"][ids].sum() == len(" one naïve one".encode())
    assert sizes["characters"][ids].sum() == len(" one naïve one")
