"""Attention with the fast dropout masks what SDPA masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, T5Config, T5Model

from hfcourse.backbones.attention import plain_attention
from hfcourse.engine import dropout


@pytest.mark.parametrize("causal", [True, False])
def test_attention_equals_sdpa_where_nothing_is_dropped(causal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dropout, "fast_dropout", lambda weights, p: weights)
    query, key, value = torch.randn(3, 2, 4, 7, 8, generator=torch.Generator().manual_seed(0)).unbind()
    module = torch.nn.Module()
    ours, _ = dropout._attention(module, query, key, value, None, dropout=0.1, is_causal=causal)
    plain = F.scaled_dot_product_attention(query, key, value, is_causal=causal)
    torch.testing.assert_close(ours, plain.transpose(1, 2))
    # A mask says more than the causal order: it holds that too.
    mask = torch.ones(2, 1, 7, 7, dtype=torch.bool).tril()
    mask[1, :, :, 5:] = False
    mask |= torch.eye(7, dtype=torch.bool)
    ours, _ = dropout._attention(module, query, key, value, mask, dropout=0.1, is_causal=causal)
    plain = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    torch.testing.assert_close(ours, plain.transpose(1, 2))


@pytest.mark.parametrize("kind", ["free", "causal", "padded"])
def test_bf16_learns_by_plain_products_what_it_learns_by_sdpa(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> torch.Tensor:
        called.append(1)
        return plain_attention(*args, **kwargs)

    monkeypatch.setattr(dropout, "plain_attention", counted)
    module, causal = torch.nn.Module(), kind == "causal"
    mask = (torch.arange(9) < torch.tensor([[9], [6]]))[:, None, None] if kind == "padded" else None
    states = torch.randn(3, 2, 4, 9, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    weights = torch.randn(2, 9, 4, 8, generator=torch.Generator().manual_seed(1))

    def learned(dtype: torch.dtype) -> list[torch.Tensor]:
        inputs = states.detach().to(dtype).requires_grad_()
        found, _ = dropout._attention(module, *inputs.unbind(), mask, scaling=0.5, is_causal=causal)
        (found * weights).sum().backward()
        assert inputs.grad is not None
        return [found.detach().float(), inputs.grad.float()]

    ours = learned(torch.bfloat16)
    assert len(called) == 1
    whole = learned(torch.float32)  # by SDPA
    assert len(called) == 1
    for found, expected in zip(ours, whole, strict=True):
        assert (found - expected).norm() < 0.01 * expected.norm()
    with torch.no_grad():
        dropout._attention(module, *states.unbind(), mask, is_causal=causal)
    long = torch.randn(3, 1, 1, 257, 2).bfloat16().requires_grad_()
    dropout._attention(module, *long.unbind(), None, is_causal=causal)
    assert len(called) == 1  # nothing is learned, or there are too many keys


@pytest.mark.parametrize("kind", ["gpt2", "llama", "grouped", "modernbert", "nomic_bert"])
def test_every_kind_of_model_learns_in_bf16_by_plain_products(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with rotary positions, which are in fp32, with grouped heads, and past the reach of local attention."""
    called: list[torch.dtype] = []

    def counted(query: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        found = plain_attention(query, *args, **kwargs)
        called.append(found.dtype)
        return found

    monkeypatch.setattr(dropout, "plain_attention", counted)
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "pad_token_id": 0}
    more = {"intermediate_size": 48} if kind != "gpt2" else {"attn_pdrop": 0.0}
    more |= {"num_key_value_heads": 2} if kind == "grouped" else {}
    more |= {"local_attention": 4, "global_attn_every_n_layers": 2} if kind == "modernbert" else {}
    more |= {"attention_probs_dropout_prob": 0.0} if kind == "nomic_bert" else {}
    model = AutoModel.from_config(AutoConfig.for_model("llama" if kind == "grouped" else kind, **sizes, **more))
    ids, mask = torch.randint(3, 40, (2, 24)), torch.ones(2, 24, dtype=torch.long)
    mask[1, 6:] = 0  # most of the padding lies beyond what local attention of a padded state reaches
    weights = torch.randn(2, 24, 32) * mask[..., None]

    def learned(bf16: bool) -> torch.Tensor:
        model.zero_grad()
        with dropout.fast_dropout_in(model), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            states = model.train()(input_ids=ids, attention_mask=mask).last_hidden_state
        (states.float() * weights).sum().backward()
        return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])

    for module in model.modules():
        if type(module) is torch.nn.Dropout:
            module.p = 0.0
    ours = learned(True)
    assert called == [torch.bfloat16] * 3
    whole = learned(False)  # by SDPA
    assert len(called) == 3 and torch.isfinite(ours).all()
    assert (ours - whole).norm() < 0.05 * whole.norm()


def test_positions_that_a_model_adds_to_its_scores_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """T5 knows no other positions."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 40, "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2}
    model = T5Model(T5Config(**sizes, dropout_rate=0.5)).train()
    for layer in (model.encoder.block[0], model.decoder.block[0]):
        torch.nn.init.normal_(layer.layer[0].SelfAttention.relative_attention_bias.weight)
    ids, mask = torch.randint(0, 40, (2, 7)), torch.ones(2, 7, dtype=torch.long)
    mask[1, 5:] = 0
    inputs = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": ids}
    expected = model.eval()(**inputs).last_hidden_state
    monkeypatch.setattr(dropout, "fast_dropout", lambda states, p: states)
    with dropout.fast_dropout_in(model.train()):
        found = model(**inputs).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("p", [0.1, 0.5, 0.003])  # the last would be 0 if a share were rounded the same each time
def test_each_number_is_dropped_as_often_as_asked(p: float) -> None:
    torch.manual_seed(0)
    ones = torch.ones(50, 40, dtype=torch.bfloat16)
    calls, rates = 400, []
    mean = torch.zeros(50, 40)
    for _ in range(calls):
        found = dropout.fast_dropout(ones, p).float()
        kept = found[found > 0]
        assert len(kept.unique()) <= 1  # what is kept is scaled alike
        rates.append(float((found == 0).float().mean()))
        mean += found / calls
    # What a call drops is one of two shares, and their mean is p: what is kept makes up for it on average.
    assert abs(sum(rates) / calls - p) < 0.06 * p + 5e-4
    assert abs(float(mean.mean()) - 1) < 5e-3
    assert float(mean.std()) < 1.5 * (p / (1 - p) / calls) ** 0.5  # no place is dropped more than others
    assert max(abs(rate - p) for rate in rates) < 1 / 128 + 5 * (p * (1 - p) / ones.numel()) ** 0.5


def test_neighbours_are_dropped_independently_and_a_seed_tells_the_mask() -> None:
    ones = torch.ones(1000, 1001)
    torch.manual_seed(1)
    first, second = (dropout.fast_dropout(ones, 0.25) == 0 for _ in range(2))
    torch.manual_seed(1)
    assert torch.equal(dropout.fast_dropout(ones, 0.25) == 0, first)
    flat = first.flatten().float() - 0.25
    for shift in (1, 2, 7, 8, 1001):
        assert abs(float((flat[shift:] * flat[:-shift]).mean())) < 1e-3
    assert abs(float(((first.float() - 0.25) * (second.float() - 0.25)).mean())) < 1e-3


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 4), (5, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_every_shape(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Nothing at all, too: a step may hold no masked state."""
    states = torch.ones(shape, dtype=dtype, requires_grad=True)
    found = dropout.fast_dropout(states, 0.5)
    found.sum().backward()
    assert found.shape == states.shape and found.dtype == dtype
    assert states.grad is not None and torch.equal(states.grad, found.detach())
