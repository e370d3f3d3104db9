"""Examples for pretraining: windows over a token store, all of one width, found by arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from hfcourse.data.token_shards import TokenStore

_SLACK = 16
"""How far a window may move to begin and end between words."""


class Windows:
    """Consecutive windows of a token stream; implements `hfcourse.tasks.base.Examples`.

    The rest at the end of each piece of the store is left out. Under a limit the windows are spread evenly over the
    stream.

    Args:
        store: tokens.
        width: of each window.
        limit: at most so many windows; 0 for all.
        starts: bool (vocabulary,), which tokens begin a word; given, a window moves up to `_SLACK` tokens to the
            right, so that it begins and ends between words.
        part: which share of the stream, from where to where.
        overlap: how many tokens a window has in common with the next one: 1 where each token is to be guessed from
            those before it.
    """

    def __init__(
        self,
        store: TokenStore,
        width: int,
        *,
        limit: int = 0,
        starts: np.ndarray | None = None,
        part: tuple[float, float] = (0.0, 1.0),
        overlap: int = 0,
    ) -> None:
        self.store, self.width, self.starts = store, width, starts
        self.slack = 0 if starts is None else _SLACK
        self.stride = width - overlap
        held = [max(len(tokens) - self.slack - overlap, 0) // self.stride for tokens, _ in store.shards]
        self.edges = np.cumsum([0, *held])
        self.begin, self.end = (int(share * self.edges[-1]) for share in part)
        available = self.end - self.begin
        self.count = min(available, limit) if limit else available

    def __len__(self) -> int:
        return self.count

    @cached_property
    def lengths(self) -> np.ndarray:
        """All windows are full; what is seen again in the next one counts once."""
        return np.full(self.count, self.stride, dtype=np.int64)

    def take(self, rows: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Rows with their window; ``source`` leads to the others (next sentence draws from them)."""
        windows = self.windows(rows)
        return [{"row": int(row), "window": windows[n], "source": self} for n, row in enumerate(rows)]

    def windows(self, rows: Sequence[int] | np.ndarray, *, shift: int = 0) -> np.ndarray:
        """Token ids, int64 (rows, width); each window `shift` tokens to the right, but never over the end of a part."""
        spread = self.begin + np.asarray(rows, dtype=np.int64) * (self.end - self.begin) // self.count
        pieces = np.searchsorted(self.edges, spread, side="right") - 1
        last = np.minimum(self.edges[pieces + 1], self.end) - self.edges[pieces] - 1
        first = np.minimum((spread - self.edges[pieces]) * self.stride + shift, last * self.stride)
        long = self.width + self.slack
        tokens = [self.store.shards[p][0][t : t + long] for p, t in zip(pieces, first, strict=True)]
        seen = np.stack(tokens).astype(np.int64)
        if self.starts is None:
            return seen
        begins = self.starts[seen]
        # Better at one end than at none, where words are long.
        fits = begins[:, : self.slack] * (1 + begins[:, self.width :])
        positions = fits.argmax(axis=1)[:, None] + np.arange(self.width)
        return np.take_along_axis(seen, positions, axis=1)


class MovingWindows(Windows):
    """Windows that are cut at other places in each epoch: who makes a batch of them asks for their tokens then."""

    def take(self, rows: Sequence[int] | np.ndarray) -> list[dict[str, Any]]:
        """Rows without tokens; ``source`` leads to them."""
        return [{"row": int(row), "source": self} for row in rows]
