"""A backbone's place in a model, taken by states that are known already: heads then run alone."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.modeling_outputs import BaseModelOutputWithPooling


class _Output(BaseModelOutputWithPooling):  # type: ignore[misc]
    """Also asked for what decoders and seq2seq models give besides: they have none of it here."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("_"):
            raise AttributeError(name)


class GivenStates(nn.Module):
    """What comes as embeddings are the backbone's last states (B, T, H), or those of all layers (B, T, L, H).

    A pooler stands above the states and is kept: it is trained with the head. `means` says that the one state of each
    row is the mean of all that it has, in each layer of normalised ones: the output then has ``means`` true.
    """

    def __init__(self, pooler: nn.Module | None, *, means: bool = False) -> None:
        super().__init__()
        self.pooler, self.means = pooler, means

    def forward(self, input_ids: Any = None, inputs_embeds: Any = None, **_: Any) -> BaseModelOutputWithPooling:
        """The output that heads read; whatever else a backbone is told is passed over."""
        layers: Any = tuple(inputs_embeds.unbind(dim=2)) if inputs_embeds.dim() == 4 else None
        states: Any = inputs_embeds if layers is None else layers[-1]
        pooled = self.pooler(states) if self.pooler is not None else None
        output = _Output(last_hidden_state=states, pooler_output=pooled, hidden_states=layers)
        object.__setattr__(output, "means", self.means)
        return output
