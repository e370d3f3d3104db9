"""Decoders from scratch: the sizes of the papers, embeddings tied, special tokens of the tokenizer."""

from __future__ import annotations

import pytest
from transformers import GPT2LMHeadModel, LlamaForCausalLM, PreTrainedTokenizerBase

from hfcourse import model
from hfcourse.backbones.presets import PRESETS, is_decoder
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.data import tokenizers
from hfcourse.data.tokenizers import TokenizerConfig
from hfcourse.heads.spec import HeadSpec

HEAD = HeadSpec(kind="causal_lm")


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return tokenizers.train(["abc def"], TokenizerConfig(kind="char", style="gpt", lowercase=False))


def test_which_presets_are_decoders() -> None:
    found = {name for name in PRESETS if is_decoder(name)}
    assert {"gpt2-tiny", "gpt2-base", "llama-nano", "llama-baby"} <= found
    assert not is_decoder("bert-tiny") and not is_decoder("gpt2")
    assert "gpt2-medium" not in PRESETS  # the Hub's


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_native_tied_and_with_the_tokenizers_special_tokens(family: str, tokenizer: PreTrainedTokenizerBase) -> None:
    net = model.build(f"{family}-tiny", HEAD, tokenizer=tokenizer, backbone=BackboneConfig(positions=48))
    assert type(net) is {"gpt2": GPT2LMHeadModel, "llama": LlamaForCausalLM}[family]
    assert net.get_output_embeddings().weight is net.get_input_embeddings().weight
    assert net.config.max_position_embeddings == 48 and net.config.use_cache
    for config in (net.config, net.generation_config):
        assert (config.pad_token_id, config.bos_token_id, config.eos_token_id) == (0, 2, 2)


def test_padding_that_ends_texts_is_no_padding(tokenizer: PreTrainedTokenizerBase) -> None:
    tokenizer.pad_token = tokenizer.eos_token
    try:
        net = model.build("llama-tiny", HEAD, tokenizer=tokenizer)
        assert net.config.pad_token_id is None and net.get_input_embeddings().padding_idx is None
        assert net.generation_config.pad_token_id == 2
    finally:
        tokenizer.pad_token = "<|pad|>"


def test_the_papers_sizes(tokenizer: PreTrainedTokenizerBase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(tokenizer), "__len__", lambda self: 50_257)
    net = model.build("gpt2-base", HEAD, tokenizer=tokenizer)
    assert model.parameter_counts(net)["all"] == 124_439_808  # GPT-2's
    monkeypatch.setattr(type(tokenizer), "__len__", lambda self: 65)
    nano = model.build("gpt2-nano", HEAD, tokenizer=tokenizer, backbone=BackboneConfig(positions=64))
    assert 790_000 < model.parameter_counts(nano)["all"] < 820_000
