"""Attention by plain products gives what SDPA gives, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from transformers import WavLMConfig, WavLMModel

from hfcourse.backbones import attention
from hfcourse.backbones.attention import plain_attention
from hfcourse.backbones.speech import wavlm

HIDDEN = (torch.arange(7) < torch.tensor([[7], [4]]))[:, None, None]


@pytest.mark.parametrize("masked", ["free", "causal", "bool", "float"])
@pytest.mark.parametrize("biased", [False, True])
def test_plain_products_are_sdpa(masked: str, biased: bool) -> None:
    draws = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 2, 4, 7, 8, generator=draws).requires_grad_()
    bias = torch.randn(1, 4, 7, 7, generator=draws) if biased else None
    mask = {"bool": HIDDEN, "float": torch.zeros(2, 1, 1, 7).masked_fill(~HIDDEN, -1e9)}.get(masked)
    causal = masked == "causal"
    found = plain_attention(*inputs.unbind(), mask, bias=bias, scaling=0.3, is_causal=causal)
    added = torch.zeros(2, 4, 7, 7) if bias is None else bias.expand(2, -1, -1, -1)
    if masked != "free":
        seen = torch.ones(7, 7, dtype=torch.bool).tril() if causal else HIDDEN
        added = added.masked_fill(~seen, -torch.inf)
    expected = F.scaled_dot_product_attention(*inputs.unbind(), attn_mask=added, scale=0.3)
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, generator=draws)
    ours, theirs = (torch.autograd.grad((out * weights).sum(), inputs)[0] for out in (found, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_state_that_sees_nothing_has_no_nan(dtype: torch.dtype) -> None:
    """Nor do others' gradients; those who see something get what SDPA gives them."""
    inputs = torch.randn(3, 2, 2, 5, 4, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    mask = torch.ones(2, 1, 5, 5, dtype=torch.bool)
    mask[1, :, 3:] = False
    found = plain_attention(*inputs.unbind(), mask)
    expected = F.scaled_dot_product_attention(*inputs.unbind(), attn_mask=mask)
    torch.testing.assert_close(found[:, :, :3], expected[:, :, :3], rtol=0.02, atol=0.02)
    (gradient,) = torch.autograd.grad(found.sum(), inputs)
    assert torch.isfinite(found).all() and torch.isfinite(gradient).all()


def test_fewer_queries_than_keys_grouped_and_dropped() -> None:
    draws = torch.Generator().manual_seed(0)
    query, keys = torch.randn(1, 4, 3, 8, generator=draws), torch.randn(2, 1, 2, 6, 8, generator=draws)
    for causal in (False, True):
        found = plain_attention(query, *keys, is_causal=causal)
        expected = F.scaled_dot_product_attention(query, *keys, is_causal=causal, enable_gqa=True)
        torch.testing.assert_close(found, expected)
    one = plain_attention(query[:, :, :1], *keys, is_causal=True)  # a single query sees all keys
    torch.testing.assert_close(one, F.scaled_dot_product_attention(query[:, :, :1], *keys, enable_gqa=True))
    assert not plain_attention(query, *keys, drop=torch.zeros_like).any()


def test_wavlm_in_bf16_learns_by_plain_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Near what it learns in 32 bits, where SDPA is taken."""
    called: list[int] = []
    monkeypatch.setattr(wavlm, "plain_attention", lambda *args: called.append(1) or plain_attention(*args))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    net = WavLMModel(WavLMConfig(**sizes, attention_dropout=0.0, conv_dim=(8,) * 7, num_conv_pos_embeddings=4)).encoder
    wavlm.fuse_attention(net)
    states, mask = torch.randn(2, 12, 16), torch.arange(12) < torch.tensor([[12], [8]])
    weights = torch.randn(2, 12, 16) * mask[..., None]
    learned = {}
    for dtype in (torch.bfloat16, torch.float32):
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            found = net.eval()(states, attention_mask=mask).last_hidden_state
        (found.float() * weights).sum().backward()
        learned[dtype] = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None])
        net.zero_grad()
        assert len(called) == 2  # in bf16 alone
    assert (learned[torch.bfloat16] - learned[torch.float32]).norm() < 0.03 * learned[torch.float32].norm()


@pytest.mark.parametrize(
    ("dtype", "keys", "learns", "expected"),
    [
        (torch.bfloat16, 256, True, True),
        (torch.bfloat16, 257, True, False),
        (torch.bfloat16, 8, False, False),
        (torch.float32, 8, True, False),
    ],
)
def test_where_plain_products_are_taken(dtype: torch.dtype, keys: int, learns: bool, expected: bool) -> None:
    query, key = torch.zeros(1, 1, 4, 2, dtype=dtype), torch.zeros(1, 1, keys, 2, dtype=dtype)
    value = torch.zeros_like(key, requires_grad=learns)
    assert attention.plain_is_faster(query, key, value) is expected
    with torch.no_grad():
        assert not attention.plain_is_faster(query, key, value)
