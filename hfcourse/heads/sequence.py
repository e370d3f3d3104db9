"""One answer for a whole input: classification, several labels at once, regression, and choosing among inputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hfcourse.heads.base import Batch, Head, HeadOutput, Standardize, States
from hfcourse.heads.spec import HeadSpec


class Pooling(nn.Module):
    """(B, T, H) -> (B, H): the first state, or the mean, the maximum or a learned attention over all real ones."""

    def __init__(self, kind: str, hidden: int) -> None:
        super().__init__()
        self.kind = kind
        self.query = nn.Linear(hidden, 1) if kind == "attentive" else None

    def forward(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """`mask` (B, T) is true at real states; None when all are."""
        if self.kind == "cls":
            return states[:, 0]
        if self.kind == "max":
            return (states if mask is None else states.masked_fill(~mask[..., None], -torch.inf)).amax(dim=1)
        if self.query is not None:
            scores = self.query(states).squeeze(-1)
            scores = scores if mask is None else scores.masked_fill(~mask, -torch.inf)
            return torch.einsum("bt,bth->bh", scores.softmax(dim=1), states)
        if mask is None:
            return states.mean(dim=1)
        weights = mask.to(states.dtype)[..., None]
        return (states * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class SequenceHead(Head):
    """Pool, standardise where the spec says so, drop out, project. Logits (B, labels).

    BERT's first use in the lecture: sequence -> class.
    """

    def __init__(self, spec: HeadSpec, hidden: int, dropout: float) -> None:
        super().__init__(spec)
        self.pooling = Pooling("mean" if spec.pooling == "native" else spec.pooling, hidden)
        self.standardize = Standardize(hidden) if spec.standardize else None
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(hidden, max(len(spec.labels), 1))

    def forward(self, output: States, batch: Batch) -> HeadOutput:
        logits = self.answer(output.states, output.mask)
        labels = batch.get("labels")
        return HeadOutput(None if labels is None else self.loss(logits, labels), logits)

    def answer(self, states: Tensor, mask: Tensor | None) -> Tensor:
        """(B, T, H) and what of it is no padding -> (B, labels)."""
        vectors = self.pooling(states, mask)
        if self.standardize is not None:
            vectors = self.standardize(vectors)
        return self.projection(self.dropout(vectors))  # type: ignore[no-any-return]

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy, binary cross entropy per label, or squared error, in fp32."""
        logits = logits.float()
        if self.spec.problem == "regression":
            return F.mse_loss(logits.view(labels.shape), labels.float())
        if self.spec.problem == "multi_label_classification":
            return F.binary_cross_entropy_with_logits(logits, labels.float())
        return F.cross_entropy(logits, labels)


class MultipleChoiceHead(Head):
    """A score for each of several inputs, softmax over them. Inputs (B, choices, T), logits (B, choices)."""

    def __init__(self, spec: HeadSpec, hidden: int, dropout: float) -> None:
        super().__init__(spec)
        self.pooling = Pooling("cls" if spec.pooling == "native" else spec.pooling, hidden)
        self.dropout = nn.Dropout(dropout)
        self.projection = nn.Linear(hidden, 1)

    def forward(self, output: States, batch: Batch) -> HeadOutput:
        scores = self.projection(self.dropout(self.pooling(output.states, output.mask)))
        logits = scores.view(-1, batch["input_ids"].shape[1])
        labels = batch.get("labels")
        return HeadOutput(None if labels is None else F.cross_entropy(logits.float(), labels), logits)


class PairHead(Head):
    """Do two segments belong together? Next sentence (BERT) or sentence order (ALBERT), from the first state.

    Logits (B, 2): class 0 is "as in the text", as in transformers' BERT. Labels come as ``pair_labels``.
    """

    def __init__(self, spec: HeadSpec, hidden: int, dropout: float) -> None:
        super().__init__(spec)
        self.transform = nn.Sequential(nn.Linear(hidden, hidden), nn.Tanh(), nn.Dropout(dropout))
        self.projection = nn.Linear(hidden, 2)

    def forward(self, output: States, batch: Batch) -> HeadOutput:
        logits = self.projection(self.transform(output.states[:, 0]))
        labels = batch.get("pair_labels")
        return HeadOutput(None if labels is None else F.cross_entropy(logits.float(), labels), logits)
