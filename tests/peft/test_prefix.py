"""Prefixes: attention over them worked out by hand, and models that got the same numbers as a KV cache."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, DynamicCache

from hfcourse.errors import ConfigError
from hfcourse.peft import PrefixConfig, around
from hfcourse.peft.prefix import KVPrefixLayer
from hfcourse.peft.prefixed_attention import prefixed_attention
from tests.peft.kinds import TEXT, adapted, batch_for, shout, states_of, tiny


def five() -> PrefixConfig:
    """Afresh for each model: the library writes a model's places into it."""
    return PrefixConfig(num_virtual_tokens=5)


def layers_in(model: torch.nn.Module) -> list[KVPrefixLayer]:
    return [module for module in model.modules() if isinstance(module, KVPrefixLayer)]


def by_hand(query: Tensor, key: Tensor, value: Tensor, layer: Any, scale: float, seen: Any, bias: Any = None) -> Tensor:
    """(B, Q, H, D), one query after the other. `seen(b, q, k)` tells of real keys."""
    prefix = layer.kv_prefix_states["default"]
    rows, heads, queries, width = query.shape
    group = heads // key.shape[1]
    out = torch.zeros(rows, queries, heads, width)
    for b in range(rows):
        for h in range(heads):
            for q in range(queries):
                terms = [
                    (query[b, h, q] @ k * scale, v) for k, v in zip(*(p[h // group] for p in prefix()), strict=True)
                ]
                for k in range(key.shape[2]):
                    if seen(b, q, k):
                        score = query[b, h, q] @ key[b, h // group, k] * scale
                        score = score + (0 if bias is None else bias[0, h, q, k])
                        terms.append((score, value[b, h // group, k]))
                total = sum(math.exp(score) for score, _ in terms)
                out[b, q, h] = sum(math.exp(score) / total * v for score, v in terms)
    return out


@pytest.mark.parametrize("form", ["none", "bool", "float", "causal", "last"])
@pytest.mark.parametrize("kind", ["bert", "llama", "t5"])
@torch.no_grad()
def test_attention_by_hand(kind: str, form: str) -> None:
    """Every form of mask; grouped keys (LLaMA); a position bias and no scale (T5)."""
    layer = layers_in(adapted(tiny(kind), five()))[0]
    module: Any = layer.base_layer
    generator = torch.Generator().manual_seed(1)
    queries = 1 if form == "last" else 4
    query = torch.randn(2, 4, queries, layer.width, generator=generator)
    key = torch.randn(2, layer.heads, 4, layer.width, generator=generator)
    value = torch.randn(2, layer.heads, 4, layer.width, generator=generator)
    bias = torch.randn(1, 4, queries, 4, generator=generator) if kind == "t5" else None
    allowed = torch.rand(2, 1, queries, 4, generator=generator) > 0.4
    allowed[0, 0, 0] = False  # a query that sees prefixes alone
    masks = {"bool": allowed, "float": torch.zeros(allowed.shape).masked_fill(~allowed, torch.finfo().min)}
    scale = 1.0 if kind == "t5" else 0.3
    given = {} if bias is None else {"position_bias": bias}

    attended, _ = prefixed_attention(
        module, query, key, value, masks.get(form), scaling=scale, is_causal=form in ("causal", "last"), **given
    )

    def seen(b: int, q: int, k: int) -> bool:
        return bool(allowed[b, 0, q, k]) if form in masks else form != "causal" or k <= q

    torch.testing.assert_close(attended, by_hand(query, key, value, layer, scale, seen, bias), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "roberta", "electra", "gpt2", "llama"])
@torch.no_grad()
def test_as_a_cache_of_the_same_numbers_with_positions_unshifted(kind: str) -> None:
    """What `peft`'s own prefix tuning does, but for positions, which it shifts."""
    batch = batch_for(kind)
    wrapped = adapted(tiny(kind), five())
    cache = DynamicCache()
    for place, layer in enumerate(layers_in(wrapped)):
        cache.update(*(half.expand(3, -1, -1, -1) for half in layer.kv_prefix_states["default"]()), place)
    longer = torch.cat([torch.ones(3, 5, dtype=torch.long), batch["attention_mask"]], dim=1)
    positions = torch.arange(9) + (1 if kind == "roberta" else 0)

    ours = wrapped(**batch)[0]
    theirs = wrapped.unload()(
        input_ids=batch["input_ids"],
        attention_mask=longer,
        past_key_values=cache,
        position_ids=positions.expand(3, -1),
    )[0]

    read = batch["attention_mask"].bool()
    torch.testing.assert_close(ours[read], theirs[read], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bart", "t5"])
def test_generation_with_and_without_cache_is_the_same(kind: str) -> None:
    head = AutoModelForSeq2SeqLM if kind in ("bart", "t5") else AutoModelForCausalLM
    wrapped = adapted(tiny(kind, head), five())
    batch = {name: values.flip(1) for name, values in batch_for(kind).items()}  # padded on the left
    how = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False}
    cached = wrapped.generate(**batch, **how, use_cache=True)

    assert torch.equal(cached, wrapped.generate(**batch, **how, use_cache=False))
    with wrapped.disable_adapter():
        assert not torch.equal(cached, wrapped.generate(**batch, **how))


@torch.no_grad()
def test_local_attention_sees_prefixes_from_everywhere() -> None:
    """In a model of windows of two, a far token's state depends on the prefix of the last, local layer."""
    wrapped = adapted(tiny("modernbert", global_attn_every_n_layers=100), five())
    batch = {"input_ids": torch.full((1, 30), 7)}
    before = wrapped(**batch)[0]
    shout(layers_in(wrapped)[-1].kv_prefix_states, seed=8)

    assert ((wrapped(**batch)[0] - before).abs().amax(dim=-1) > 1e-3).all()


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_first_values_are_those_of_real_words(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    words = torch.tensor([[7, 9, 11, 13, 15]])
    model = tiny(kind)
    cache = model(words, use_cache=True).past_key_values
    monkeypatch.setattr("hfcourse.peft.prefix.random_words", lambda *_: words)
    wrapped = get_peft_model(model.train(), five())

    for layer, cached in zip(layers_in(wrapped), cache.layers, strict=True):
        keys, values = layer.kv_prefix_states["default"]()
        torch.testing.assert_close(keys, cached.keys[0])
        torch.testing.assert_close(values, cached.values[0])
    assert all(module.training for module in model.modules())
    drawn = around.random_words(model, 1000)
    assert drawn.shape == (1, 1000) and not {0, 1, 2} & set(drawn[0].tolist()) - {1 if kind == "gpt2" else 0}


@pytest.mark.parametrize("kind", TEXT)
@torch.no_grad()
def test_every_layer_starts_from_words(kind: str) -> None:
    wrapped = get_peft_model(tiny(kind), five())
    normal = get_peft_model(tiny(kind), PrefixConfig(num_virtual_tokens=5, start="normal"))

    for layer, other in zip(layers_in(wrapped), layers_in(normal), strict=True):
        for values, small in zip(layer.kv_prefix_states["default"](), other.kv_prefix_states["default"](), strict=True):
            assert values.std() > 0.05 > small.std()


def test_parameters_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    """2 x layers x tokens x key heads x head width."""
    wrapped = get_peft_model(tiny("llama"), five())
    wrapped.print_trainable_parameters()

    assert wrapped.get_nb_trainable_parameters()[0] == 2 * 2 * 5 * 2 * 8
    assert "trainable params: 320 " in capsys.readouterr().out


@torch.no_grad()
def test_layers_can_be_left_out() -> None:
    wrapped = adapted(tiny("bart"), PrefixConfig(num_virtual_tokens=5, exclude_modules=r"decoder\..*"))

    assert len(layers_in(wrapped)) == 2
    assert not states_of(wrapped, "bart", batch_for("bart")).isnan().any()


def test_the_mlp_is_shared_by_all_layers_and_after_a_load(tmp_path: Path) -> None:
    config = PrefixConfig(num_virtual_tokens=5, prefix_projection=True, encoder_hidden_size=12)
    wrapped = adapted(tiny("bert"), config)
    trunks = [layer.kv_prefix_states["default"].trunk for layer in layers_in(wrapped)]
    shared, own = 5 * 12 + 12 * 12 + 12, 2 * (12 + 1) * 2 * 32
    batch = batch_for("bert")
    answer = wrapped(**batch)[0]
    wrapped.save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(tiny("bert"), tmp_path, is_trainable=True).eval()
    first, second = (layer.kv_prefix_states["default"].trunk for layer in layers_in(loaded))

    assert trunks[0] is trunks[1] and wrapped.get_nb_trainable_parameters()[0] == shared + own
    assert first is second and torch.equal(loaded(**batch)[0], answer)


def test_a_mistyped_start_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown start 'word': did you mean 'words'"):
        PrefixConfig(start="word")
