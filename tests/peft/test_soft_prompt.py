"""Soft prompts: compared with layers that were given the longer sequence by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForMultipleChoice, AutoModelForSeq2SeqLM

from hfcourse.backbones.last_layer import last_layer_at
from hfcourse.errors import ConfigError, ModelError
from hfcourse.peft import SoftPromptConfig
from hfcourse.peft.soft_prompt_layer import SoftPromptLayer, lengthened
from tests.peft.kinds import adapted, batch_for, classifier, tiny


def five() -> SoftPromptConfig:
    """Afresh for each model: the library writes a model's places into it."""
    return SoftPromptConfig(num_virtual_tokens=5)


def prompt_of(model: Any) -> Tensor:
    """The prompt (n, H) of a model's first stack."""
    return next(module for module in model.modules() if isinstance(module, SoftPromptLayer)).prompt()


def longer_mask(mask: Tensor) -> Tensor:
    return torch.cat([torch.ones(len(mask), 5, dtype=torch.long), mask], dim=1)


def check(ours: Tensor, theirs: Tensor, mask: Tensor) -> None:
    torch.testing.assert_close(ours[mask.bool()], theirs[:, 5:][mask.bool()], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "distilbert"])
@torch.no_grad()
def test_encoders_over_the_longer_sequence(kind: str) -> None:
    batch = batch_for(kind)
    wrapped = adapted(tiny(kind), five())
    ours, prompt = wrapped(**batch)[0], prompt_of(wrapped)
    bare = wrapped.unload()
    states = bare.embeddings(batch["input_ids"])
    if kind == "electra" and hasattr(bare, "embeddings_project"):
        states = bare.embeddings_project(states)
    mask = longer_mask(batch["attention_mask"])[:, None, None].bool().expand(-1, -1, 14, -1)
    encoder = bare.transformer if kind == "distilbert" else bare.encoder
    theirs = encoder(torch.cat([prompt.expand(3, -1, -1), states], dim=1), attention_mask=mask)[0]

    check(ours, theirs, batch["attention_mask"])


@torch.no_grad()
def test_decoder_with_learnt_positions() -> None:
    """GPT-2 on embeddings that hold their positions already."""
    batch = batch_for("gpt2")
    wrapped = adapted(tiny("gpt2"), five())
    ours, prompt = wrapped(**batch)[0], prompt_of(wrapped)
    bare = wrapped.unload()
    states = bare.wte(batch["input_ids"]) + bare.wpe(torch.arange(9))
    bare.wpe.weight.zero_()
    inputs = torch.cat([prompt.expand(3, -1, -1), states], dim=1)
    theirs = bare(inputs_embeds=inputs, attention_mask=longer_mask(batch["attention_mask"]))[0]

    check(ours, theirs, batch["attention_mask"])


@torch.no_grad()
def test_decoder_with_rotary_positions() -> None:
    """LLaMA: all virtual tokens at position 0."""
    batch = batch_for("llama")
    wrapped = adapted(tiny("llama"), five())
    ours, prompt = wrapped(**batch)[0], prompt_of(wrapped)
    bare = wrapped.unload()
    inputs = torch.cat([prompt.expand(3, -1, -1), bare.embed_tokens(batch["input_ids"])], dim=1)
    positions = torch.cat([torch.zeros(5, dtype=torch.long), torch.arange(9)]).expand(3, -1)
    mask = longer_mask(batch["attention_mask"])
    theirs = bare(inputs_embeds=inputs, attention_mask=mask, position_ids=positions)[0]

    check(ours, theirs, batch["attention_mask"])


@torch.no_grad()
def test_relative_positions_run_on_to_the_left() -> None:
    """T5's encoder: the prompt stands right before the first token."""
    batch = batch_for("t5")
    wrapped = adapted(tiny("t5"), five())
    ours, prompt = wrapped.base_model.model.encoder(**batch)[0], prompt_of(wrapped)
    bare = wrapped.unload()
    inputs = torch.cat([prompt.expand(3, -1, -1), bare.shared(batch["input_ids"])], dim=1)
    theirs = bare.encoder(inputs_embeds=inputs, attention_mask=longer_mask(batch["attention_mask"]))[0]

    check(ours, theirs, batch["attention_mask"])


@torch.no_grad()
def test_windows_let_the_prompt_through() -> None:
    """ModernBERT: real tokens see the prompt and their window, the prompt sees everything."""
    batch = batch_for("modernbert")
    wrapped = adapted(tiny("modernbert", global_attn_every_n_layers=100, num_hidden_layers=3), five())
    ours, prompt = wrapped(**batch)[0], prompt_of(wrapped)
    bare = wrapped.unload()
    states = torch.cat([prompt.expand(3, -1, -1), bare.embeddings(batch["input_ids"])], dim=1)
    positions = torch.cat([torch.zeros(5, dtype=torch.long), torch.arange(9)])[None]
    padding, seen = longer_mask(batch["attention_mask"]).bool(), torch.zeros(3, 1, 14, 14, dtype=torch.bool)
    for b in range(3):
        for q in range(14):
            for k in range(14):
                near = q < 5 or k < 5 or abs(q - k) <= bare.config.sliding_window
                seen[b, 0, q, k] = near and padding[b, k]
    for layer in bare.layers:
        mask = padding[:, None, None].expand(-1, -1, 14, -1) if layer.attention_type == "full_attention" else seen
        rotary = bare.rotary_emb(states, positions, layer.attention_type)
        states = layer(states, attention_mask=mask, position_embeddings=rotary)

    check(ours, bare.final_norm(states), batch["attention_mask"])


@torch.no_grad()
def test_sound_over_the_longer_sequence() -> None:
    batch = batch_for("wav2vec2")
    wrapped = adapted(tiny("wav2vec2"), five())
    ours, prompt = wrapped(**batch)[0], prompt_of(wrapped)
    bare = wrapped.unload()
    frames, _ = bare.feature_projection(bare.feature_extractor(batch["input_values"]).transpose(1, 2))
    states = bare.encoder.layer_norm(frames + bare.encoder.pos_conv_embed(frames))
    states = torch.cat([prompt.expand(3, -1, -1), states], dim=1)
    for layer in bare.encoder.layers:
        states = layer(states)

    torch.testing.assert_close(ours, states[:, 5:], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_cross_attention_reads_with_every_virtual_token() -> None:
    """BART's decoder, its encoder left alone, over the longer sequence with a padded source."""
    batch, target = batch_for("bart"), torch.arange(5, 12).expand(3, -1)
    wrapped = adapted(tiny("bart"), SoftPromptConfig(num_virtual_tokens=5, target_modules=["decoder.layers"]))
    ours, prompt = wrapped(**batch, decoder_input_ids=target)[0], prompt_of(wrapped)
    bare = wrapped.unload()
    source = bare.encoder(**batch)[0]
    decoder = bare.decoder
    states = decoder.embed_tokens(target)
    states = decoder.layernorm_embedding(states + decoder.embed_positions(states[:, :, -1]))
    states = torch.cat([prompt.expand(3, -1, -1), states], dim=1)
    causal = torch.ones(12, 12, dtype=torch.bool).tril()[None, None].expand(3, -1, -1, -1)
    across = batch["attention_mask"].bool()[:, None, None].expand(-1, -1, 12, -1)
    for layer in decoder.layers:
        states = layer(states, causal, encoder_hidden_states=source, encoder_attention_mask=across)

    torch.testing.assert_close(ours, states[:, 5:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("as_numbers", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_masks_by_hand(causal: bool, as_numbers: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(2, 1, 4, 4, generator=generator) > 0.5
    mask = mask & torch.ones(4, 4, dtype=torch.bool).tril() if causal else mask
    mask[1, 0, :, 3] = False  # padding
    given = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo().min) if as_numbers else mask
    longer = lengthened(given, 2, causal)

    for b in range(2):
        for q in range(6):
            for k in range(6):
                if k < 2:
                    seen = q >= k or not causal
                elif q < 2:
                    seen = not causal and bool(mask[b, 0, :, k - 2].any())
                else:
                    seen = bool(mask[b, 0, q - 2, k - 2])
                assert bool(longer[b, 0, q, k] == 0 if as_numbers else longer[b, 0, q, k]) == seen, (b, q, k)


def test_dropped_layers_lose_no_prompt() -> None:
    """LayerDrop: whichever layers run, the first of them begins with the prompt and none finds an older one."""
    model = tiny("wav2vec2", layerdrop=0.5, num_hidden_layers=3, hidden_dropout=0.0, activation_dropout=0.0)
    model.config.attention_dropout = model.config.feat_proj_dropout = 0.0
    wrapped = adapted(model, five()).train()
    batch, layers = batch_for("wav2vec2"), model.encoder.layers
    ran: list[Tensor] = []
    for layer in layers:
        layer.base_layer.register_forward_pre_hook(lambda _, args: ran.append(args[0][:, :5]))
    counts = set()
    torch.manual_seed(0)
    for _ in range(12):
        ran.clear()
        assert wrapped(**batch)[0].shape[1] == 19
        counts.add(len(ran))
        if ran:
            torch.testing.assert_close(ran[0], prompt_of(wrapped).expand(3, -1, -1))
        assert layers[0].stack.states is None  # nothing is kept alive
    assert {1, 2} <= counts


@pytest.mark.parametrize("kind", ["bert", "modernbert"])
@torch.no_grad()
def test_the_short_cut_of_the_last_layer_stands_back(kind: str) -> None:
    wrapped, batch = adapted(classifier(kind), five()), batch_for(kind)
    whole = wrapped(**batch).logits
    with last_layer_at(wrapped.base_model.model, "first"):
        assert torch.equal(wrapped(**batch).logits, whole)


@pytest.mark.parametrize("kind", ["bert", "gpt2", "bart"])
@torch.no_grad()
def test_first_values_are_real_words_as_they_enter(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = torch.tensor([[7, 9, 11, 13, 15]])
    monkeypatch.setattr("hfcourse.peft.soft_prompt.random_words", lambda *_: words)
    model = tiny(kind)
    half = model.encoder if kind == "bart" else model
    entered = half(words, output_hidden_states=True).hidden_states[0]

    torch.testing.assert_close(prompt_of(get_peft_model(model.train(), five())), entered[0])


def test_generation_wants_no_cache() -> None:
    wrapped, batch = adapted(tiny("gpt2", AutoModelForCausalLM), five()), batch_for("gpt2", rows=1)
    batch = {name: values[:, :6] for name, values in batch.items()}
    how = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False}
    ids = batch["input_ids"]
    for _ in range(4):
        ids = torch.cat([ids, wrapped(input_ids=ids).logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)

    assert torch.equal(wrapped.generate(**batch, **how, use_cache=False), ids)
    with pytest.raises(ModelError, match="use_cache=False"):
        wrapped.generate(**batch, **how)


def test_a_half_that_keeps_its_cache() -> None:
    """Prompts in the encoder alone leave the decoder's cache as it is."""
    config = SoftPromptConfig(num_virtual_tokens=5, exclude_modules=["decoder.block"])
    wrapped, batch = adapted(tiny("t5", AutoModelForSeq2SeqLM), config), batch_for("t5")
    how = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False}

    cached = wrapped.generate(**batch, **how)
    assert torch.equal(cached, wrapped.generate(**batch, **how, use_cache=False))


@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
def test_p_tuning_puts_a_network_behind_the_embeddings(encoder: str) -> None:
    config = SoftPromptConfig(num_virtual_tokens=5, encoder=encoder, encoder_hidden_size=6)
    wrapped = get_peft_model(tiny("bert"), config)
    wide = 32 if encoder == "mlp" else 12
    lstm = 2 * (4 * 6 * (32 + 6) + 8 * 6) + 2 * (4 * 6 * (12 + 6) + 8 * 6) if encoder == "lstm" else 0
    wrapped(**batch_for("bert"))[0].square().sum().backward()

    assert prompt_of(wrapped).shape == (5, 32)
    assert wrapped.get_nb_trainable_parameters()[0] == 5 * 32 + lstm + (wide + 1) * 6 + (6 + 1) * 32
    assert all(values.grad is not None for values in wrapped.parameters() if values.requires_grad)


def test_a_mistyped_encoder_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown encoder 'lstmm': did you mean 'lstm'"):
        SoftPromptConfig(encoder="lstmm")


def test_an_error_in_between_leaves_nothing_behind() -> None:
    wrapped, batch = adapted(tiny("bert"), five()), batch_for("bert")
    before = wrapped(**batch)[0]

    def fail(*_: Any) -> None:
        raise KeyboardInterrupt

    hook = wrapped.base_model.model.encoder.layer[1].register_forward_pre_hook(fail)
    with pytest.raises(KeyboardInterrupt):
        wrapped(**batch)
    hook.remove()

    assert torch.equal(wrapped(**batch)[0], before)


def test_layers_told_of_lengths_in_unknown_ways_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("bert")
    monkeypatch.setattr(type(model.encoder.layer[0]), "forward", lambda self, hidden_states, relative_pos: None)
    with pytest.raises(ModelError, match="bert: they work for"):
        get_peft_model(model, five())


def test_choices_are_flattened_by_the_model_itself() -> None:
    wrapped, batch = adapted(tiny("bert", AutoModelForMultipleChoice), five()), batch_for("bert")

    assert wrapped(**{name: values[None] for name, values in batch.items()}).logits.shape == (1, 3)
