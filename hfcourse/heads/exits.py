"""A classifier on every layer, so that an input may leave before the last one (early exit)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from torch import Tensor, nn

from hfcourse.heads.base import Batch, Head, HeadOutput, States
from hfcourse.heads.sequence import SequenceHead
from hfcourse.heads.spec import HeadSpec

Part = Literal["all", "last", "others"]


class Exit(SequenceHead):
    """One exit: a sequence head with a pooler of its own, as DeeBERT's off-ramps (arXiv 2004.12993).

    The norm comes first because pre-norm models hand on states that grow from layer to layer.
    """

    def __init__(self, spec: HeadSpec, hidden: int, dropout: float) -> None:
        super().__init__(replace(spec, standardize=False), hidden, dropout)  # its norm does that
        self.transform = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.Tanh())

    def answer(self, states: Tensor, mask: Tensor | None) -> Tensor:
        return self.projection(self.dropout(self.transform(self.pooling(states, mask))))  # type: ignore[no-any-return]


class ExitsHead(Head):
    """An exit on each of L layers. Logits (B, labels) are the last one's; `exits` has them all.

    The loss is a mean over the exits that learn. Layer n weighs n, as in PABEE (arXiv 2006.04152).
    """

    def __init__(self, spec: HeadSpec, hidden: int, dropout: float, layers: int) -> None:
        super().__init__(spec)
        self.exits = nn.ModuleList(Exit(spec, hidden, dropout) for _ in range(layers))
        self.learning = range(layers)
        """The exits (from 0) that have a part in the loss."""

    def forward(self, output: States, batch: Batch) -> HeadOutput:
        assert output.layers is not None
        last = len(self.exits) - 1
        read = sorted({*self.learning, last}) if "labels" in batch else [last]
        outputs = {n: self.exits[n](States(output.layers[n + 1], mask=output.mask), batch) for n in read}
        if "labels" not in batch:
            return HeadOutput(None, outputs[last].logits)
        loss = sum((n + 1) * outputs[n].loss for n in self.learning) / sum(n + 1 for n in self.learning)
        return HeadOutput(loss, outputs[last].logits)


def let_learn(model: Any, part: Part) -> None:
    """Decide what of a `HeadedModel` with exits is trained.

    Args:
        model: is changed in place.
        part: ``all`` at once (PABEE); or, in DeeBERT's two stages, first the backbone with the ``last`` exit alone,
            which is ordinary fine-tuning, then the ``others`` on a backbone that stays as it is.
    """
    head: ExitsHead = model.heads["sequence"]
    last = len(head.exits) - 1
    head.learning = {"all": range(last + 1), "last": range(last, last + 1), "others": range(last)}[part]
    model.backbone.requires_grad_(part != "others")
    for number, one in enumerate(head.exits):
        one.requires_grad_(number in head.learning)
