"""WavLM's attention as one fused product: the values of transformers' class, without weights that nobody reads."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.wavlm.modeling_wavlm import WavLMAttention

from hfcourse.backbones.attention import hidden, plain_attention, plain_is_faster


class FusedWavLMAttention(WavLMAttention):  # type: ignore[misc]
    """Bias of gated relative positions and padding as one mask."""

    def torch_multi_head_self_attention(  # type: ignore[override]
        self, hidden_states: Tensor, attention_mask: Tensor | None, gated_position_bias: Tensor
    ) -> tuple[Tensor, None]:
        """States (B, S, H); no weights.

        Args:
            hidden_states: (B, S, H).
            attention_mask: (B, S), true at states that are no padding; None where none is.
            gated_position_bias: (B x heads, S, S).
        """
        rows, length, _ = hidden_states.shape

        def split(states: Tensor) -> Tensor:
            return states.view(rows, length, self.num_heads, self.head_dim).transpose(1, 2)

        queries, keys, values = (split(project(hidden_states)) for project in (self.q_proj, self.k_proj, self.v_proj))
        bias = gated_position_bias.view(rows, self.num_heads, length, length).to(queries.dtype)
        if attention_mask is not None:
            bias = bias.masked_fill(~attention_mask[:, None, None, :].bool(), hidden(bias.dtype))
        dropout = self.dropout if self.training else 0.0
        if not dropout and plain_is_faster(queries, keys, values):
            mixed = plain_attention(queries, keys, values, bias)
        else:
            mixed = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias, dropout_p=dropout)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None


def fuse_attention(model: nn.Module) -> None:
    """Have every WavLM attention in a model work so; weights, names and config stay, so it is saved as before."""
    for module in model.modules():
        if type(module) is WavLMAttention:
            found: Any = module
            found.__class__ = FusedWavLMAttention
