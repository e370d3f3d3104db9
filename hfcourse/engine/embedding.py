"""Gradients of an embedding without a new table of zeros at every step.

torch fills a table as large as the embedding with zeros for each backward pass, though a batch touches a few hundred
of its rows; on CPU that is a sixteenth of a fine-tuning step, and the largest block that the heap has to find room
for. Here one table stays, and only the rows that the step before has touched are cleared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

_LARGE = 2**20
"""Elements of a table from which on it pays."""


class _Rows:
    """The gradient of one embedding, and which of its rows hold something."""

    def __init__(self, weight: Tensor, padding: int | None) -> None:
        self.weight = weight
        self.padding = padding
        self.table: Tensor | None = None
        self.touched: list[Tensor] = []
        self.shared = False
        """Whether anything else gives this weight a gradient: then torch's own way is the better one."""

    def add(self, ids: Tensor, gradient: Tensor) -> None:
        """Add `gradient` (..., H) to the rows `ids` (...)."""
        ids, rows = ids.flatten(), gradient.flatten(0, -2).to(self.weight.dtype)
        if self.padding is not None:
            kept = ids != self.padding
            ids, rows = ids[kept], rows[kept]
        if self.weight.grad is None:
            self.weight.grad = self._cleared()
        self.weight.grad.index_add_(0, ids, rows)
        self.touched.append(ids)

    @property
    def held(self) -> Tensor:
        """The rows (M, H) of the gradient that are not zero, for whoever reads all of it."""
        gradient = self.weight.grad
        assert gradient is not None
        if gradient is not self.table or not self.touched:
            return gradient
        return gradient.index_select(0, torch.cat(self.touched).unique())

    def _cleared(self) -> Tensor:
        if self.table is None:
            self.table = torch.zeros_like(self.weight)
        for ids in self.touched:
            self.table.index_fill_(0, ids, 0.0)
        self.touched.clear()
        return self.table


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, rows: _Rows) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.rows = rows
        return nn.functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:  # type: ignore[override]
        ctx.rows.add(*ctx.saved_tensors, gradient)
        return None, None, None


def gradient_of(parameter: nn.Parameter) -> Tensor:
    """A parameter's gradient, of such an embedding the rows alone that hold something: a norm of it is the same."""
    rows: _Rows | None = parameter.__dict__.get("rows")
    gradient: Tensor = parameter.grad if rows is None else rows.held  # type: ignore[assignment]
    return gradient


class RowGradientEmbedding(nn.Embedding):
    """`nn.Embedding` whose backward pass adds to the rows of one table that stays."""

    rows: _Rows

    def forward(self, input: Tensor) -> Tensor:
        """Ids of any shape -> (..., H)."""
        if not torch.is_grad_enabled() or self.rows.shared:
            return super().forward(input)
        return _Lookup.apply(self.weight, input, self.rows)  # type: ignore[no-any-return, no-untyped-call]


@contextmanager
def row_gradients_in(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Within the block the large embeddings of some modules on CPU, unless tied, keep their table of gradients."""
    every = {id(m): m for module in modules for m in module.modules()}.values()
    owners = Counter(id(p) for module in every for p in module.parameters(recurse=False))
    changed = [m for m in every if type(m) is nn.Embedding and _pays(m) and owners[id(m.weight)] == 1]
    hooks = []
    for embedding in changed:
        rows = embedding.__dict__["rows"] = _Rows(embedding.weight, embedding.padding_idx)
        embedding.weight.__dict__["rows"] = rows
        hooks.append(embedding.weight.register_hook(_watch(rows)))
        embedding.__class__ = RowGradientEmbedding
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for embedding in changed:
            embedding.__class__ = nn.Embedding
            embedding.weight.grad = None  # the table goes with the block
            del embedding.__dict__["rows"], embedding.weight.__dict__["rows"]


def _watch(rows: _Rows) -> Any:
    def found(gradient: Tensor | None) -> None:
        """A gradient that came another way than by a lookup: the head has borrowed the table."""
        if gradient is not None:
            rows.shared = True
            if rows.table is not None and rows.weight.grad is rows.table:
                rows.weight.grad = rows.table.clone()  # autograd adds to it in place
            rows.table, rows.touched = None, []

    return found


def _pays(embedding: nn.Embedding) -> bool:
    plain = not (embedding.sparse or embedding.scale_grad_by_freq or embedding.max_norm)
    weight = embedding.weight
    return plain and weight.requires_grad and weight.device.type == "cpu" and weight.numel() >= _LARGE
