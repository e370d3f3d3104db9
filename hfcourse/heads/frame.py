"""One answer for every state: tagging, spans (where an answer starts and ends), real or replaced."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfcourse.heads.base import Batch, Head, HeadOutput, Standardize, States
from hfcourse.heads.losses import IGNORED
from hfcourse.heads.spec import HeadSpec


class FrameHead(Head):
    """A class for every state (the lecture's sequence -> tags). Logits (B, T, labels); labels (B, T), -100 ignored."""

    def __init__(self, spec: HeadSpec, hidden: int, dropout: float) -> None:
        super().__init__(spec)
        self.standardize = Standardize(hidden) if spec.standardize else None
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(hidden, len(spec.labels))

    def forward(self, output: States, batch: Batch) -> HeadOutput:
        states = output.states
        if self.standardize is not None:
            states = self.standardize(states, output.mask)
        logits = self.projection(self.dropout(states))
        labels = batch.get("labels")
        loss = None if labels is None else F.cross_entropy(logits.float().flatten(0, 1), labels.flatten())
        return HeadOutput(loss, logits)


class SpanHead(Head):
    """A start and an end vector dotted with every state; no answer is position 0. Logits (B, T, 2)."""

    def __init__(self, spec: HeadSpec, hidden: int, dropout: float) -> None:
        super().__init__(spec)
        self.projection = nn.Linear(hidden, 2)

    def forward(self, output: States, batch: Batch) -> HeadOutput:
        logits = self.projection(output.states)
        if "start_positions" not in batch:
            return HeadOutput(None, logits)
        positions = torch.stack([batch["start_positions"], batch["end_positions"]], dim=1)
        # A position past the end stands for an answer that was cut off: it carries no loss.
        positions = positions.masked_fill(positions >= logits.shape[1], IGNORED)
        loss = F.cross_entropy(logits.float(), positions)
        return HeadOutput(loss, logits)


class ReplacedTokensHead(Head):
    """Was each token replaced? ELECTRA's discriminator (arXiv 2003.10555). Logits (B, T); labels (B, T) 0 or 1."""

    def __init__(self, spec: HeadSpec, hidden: int, dropout: float) -> None:
        super().__init__(spec)
        self.transform = nn.Sequential(nn.Linear(hidden, hidden), nn.GELU())
        self.projection = nn.Linear(hidden, 1)

    def forward(self, output: States, batch: Batch) -> HeadOutput:
        logits = self.projection(self.transform(output.states)).squeeze(-1)
        labels = batch.get("labels")
        return HeadOutput(None if labels is None else self.loss(logits, labels, output.mask), logits)

    @staticmethod
    def loss(logits: Tensor, labels: Tensor, mask: Tensor | None) -> Tensor:
        """Binary cross entropy over real tokens."""
        losses = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none")
        return losses.mean() if mask is None else losses[mask].mean()
