"""Attention with the fast dropout masks what SDPA masks."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

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
