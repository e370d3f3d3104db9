"""Multiple choice where rows have different numbers of choices."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from hfcourse.objectives.base import Batch, Output, Supervised


class CountedChoices(Supervised):
    """Cross entropy over the choices that a row really has.

    A batch is as wide as its row with the most choices; ``choice_counts`` (batch,) says how many each row has, and
    the scores behind them take no part. Without it every row has all of them.
    """

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        counts = batch.get("choice_counts")
        if counts is None:
            return super().__call__(model, batch, need_logits=need_logits)
        labels = batch.get("labels")
        logits = model(**{name: t for name, t in batch.items() if name not in {"choice_counts", "labels"}}).logits
        absent = torch.arange(logits.shape[1], device=logits.device) >= counts[:, None]
        logits = logits.float().masked_fill(absent, -torch.inf)
        losses = {} if labels is None else {"loss": F.cross_entropy(logits, labels)}
        return Output(losses=losses, logits=logits if need_logits else None)
