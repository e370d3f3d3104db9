"""Several tasks in turn: each batch is one task's, and its loss is that task's own."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from hfcourse.objectives.base import Batch, Objective, Output


class Together(Objective):
    """A batch names its task under ``head``; the loss goes by that name, so that each task has a curve of its own.

    For objectives of the one term ``loss`` that train nothing beside the model.
    """

    leaves_out = True

    def __init__(self, members: Mapping[str, Objective]) -> None:
        self.members = dict(members)

    def counts(self, batch: Batch) -> dict[str, int]:
        name = str(batch["head"])
        return {name: self.members[name].counts(batch)["loss"]}

    def __call__(self, model: nn.Module, batch: Batch, *, need_logits: bool) -> Output:
        name = str(batch["head"])
        output = self.members[name](model, batch, need_logits=need_logits)
        losses = {name: output.losses["loss"]} if output.losses else {}
        return Output(losses=losses, logits=output.logits)
