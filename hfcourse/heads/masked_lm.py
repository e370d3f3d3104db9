"""A word for every masked position (BERT, arXiv 1810.04805), tied to the input embedding."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfcourse.heads.base import Batch, Head, HeadOutput, States
from hfcourse.heads.losses import IGNORED, linear_cross_entropy
from hfcourse.heads.spec import HeadSpec


class MaskedLMHead(Head):
    """Transform, then project onto the input embedding.

    The projection borrows the backbone's embedding matrix at every call instead of holding a second name for it:
    there is no tie to be lost in saving, loading or wrapping. Logits (masked, V) with labels, (B, T, V) without.
    """

    def __init__(self, spec: HeadSpec, hidden: int, embedding: int, vocabulary: int) -> None:
        super().__init__(spec)
        self.transform = nn.Sequential(nn.Linear(hidden, embedding), nn.GELU(), nn.LayerNorm(embedding))
        self.bias = nn.Parameter(torch.zeros(vocabulary))

    def forward(self, output: States, batch: Batch) -> HeadOutput:
        """With labels (B, T), only the positions that carry one are projected."""
        assert output.embedding is not None
        labels = batch.get("labels")
        if labels is None:
            return HeadOutput(None, self.project(self.transform(output.states), output.embedding))
        masked = labels != IGNORED
        states = self.transform(output.states[masked])
        loss = linear_cross_entropy(states, output.embedding, self.bias, labels[masked])
        logits = states.new_empty(0) if self.training else self.project(states, output.embedding)
        return HeadOutput(loss, logits)

    def project(self, states: Tensor, embedding: Tensor) -> Tensor:
        """(..., E) -> (..., V)."""
        return F.linear(states, embedding, self.bias)
