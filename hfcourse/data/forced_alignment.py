"""The best path of a known text through the answers of a CTC model, for recordings of any length in bounded memory.

Viterbi's search goes over all frames and all tokens; only its way back needs memory of frames times tokens. Here the
search keeps its scores at the edges of blocks. From the end on, each block is then searched again, among the few tokens
that a path may have passed in it, for the best path's state at the block's edges, and torchaudio's `forced_align` finds
what lies between. The path is that of the whole search. Shapes: frames T, tokens of the text L, columns of the
emissions C.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

BLOCK = 1000
"""Frames between two edges: of 20 ms each, 20 seconds."""
BLANK = 0
"""Column of the blank."""


@dataclass(frozen=True)
class Spans:
    """Where each token of a text was said."""

    begins: np.ndarray
    """The first frame of each token, int64 (L,)."""
    ends: np.ndarray
    """The frame behind its last, int64 (L,)."""
    scores: np.ndarray
    """Sum of the token's log probabilities over its frames, float64 (L,)."""


def frames_needed(tokens: np.ndarray) -> int:
    """The fewest frames that tokens (L,) fit into: one each, and a blank between equal neighbours."""
    return len(tokens) + int((tokens[1:] == tokens[:-1]).sum())


def align(emissions: np.ndarray, tokens: np.ndarray, *, block: int = BLOCK) -> Spans:
    """The most likely place of every token.

    Args:
        emissions: log probabilities, float32 (T, C), the blank's in the first column; may be a memory map.
        tokens: columns of the text's tokens, int64 (L,), 1 or more.
        block: frames that are looked at together.

    Raises:
        ValueError: the text needs more frames than there are.
    """
    if frames_needed(tokens) > len(emissions) or not len(tokens):
        raise ValueError(f"{len(tokens)} tokens do not fit into {len(emissions)} frames")
    edges = [*range(0, len(emissions), block), len(emissions)]
    states = _states_at_edges(emissions, tokens, edges)
    begins, ends = np.full(len(tokens), len(emissions)), np.zeros(len(tokens), dtype=np.int64)
    scores = np.zeros(len(tokens))
    for number, (first, last) in enumerate(states):
        at, labels = _piece(emissions[edges[number] : edges[number + 1]], tokens, first, last)
        if not len(labels):
            continue
        values = emissions[edges[number] : edges[number + 1]][np.arange(len(labels)), labels]
        # Frames of a token are neighbours; a token that lies across an edge has frames on both sides.
        spoken = np.flatnonzero(labels != BLANK)
        np.minimum.at(begins, at[spoken], edges[number] + spoken)
        np.maximum.at(ends, at[spoken], edges[number] + spoken + 1)
        np.add.at(scores, at[spoken], values[spoken])
    return Spans(begins, ends, scores)


def _piece(emissions: np.ndarray, tokens: np.ndarray, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of the token at each frame of a block, and its column, int64 (T,); nothing where all is blank.

    Args:
        emissions: of the block, (T, C).
        tokens: of the whole text.
        first: state at the first frame: 2 i + 1 for token i, 2 i for the blank before it.
        last: state at the last frame.
    """
    import torchaudio.functional

    begin, end = first // 2, (last + 1) // 2  # tokens that have a frame in the block
    if begin == end:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    known = torch.from_numpy(np.array(emissions))
    # What the whole search found at the edges is all that is allowed there.
    for frame, state in ((0, first), (-1, last)):
        kept = known[frame, column := BLANK if state % 2 == 0 else int(tokens[state // 2])].clone()
        known[frame] = -torch.inf
        known[frame, column] = kept
    inside = torch.from_numpy(tokens[begin:end].astype(np.int32))[None]
    labels = torchaudio.functional.forced_align(known[None], inside, blank=BLANK)[0][0].numpy().astype(np.int64)
    begun = (labels != BLANK) & (labels != np.concatenate([[BLANK], labels[:-1]]))
    return begin + begun.cumsum() - 1, labels


def _states_at_edges(emissions: np.ndarray, tokens: np.ndarray, edges: list[int]) -> list[tuple[int, int]]:
    """The best path's state at the first and at the last frame of each block."""
    search = _Search(torch.from_numpy(tokens))
    before: list[tuple[Tensor, Tensor]] = []
    for begin, end in pairwise(edges):
        before.append(search.level())
        for row in _rows(emissions, begin, end):
            search.step(row)
    state, found = search.best(), []
    for (begin, end), scores in zip(reversed([*pairwise(edges)]), reversed(before), strict=True):
        # A path passes one token a frame at most.
        last = (state + 1) // 2
        first = max(0, last - (end - begin) - 1)
        window = _Search(torch.from_numpy(tokens[first:last]), scores, first)
        to_first, to_last = window.origins(_rows(emissions, begin, end))
        at_last = state - 2 * first
        at_first = int(to_last[at_last])
        found.append((at_first + 2 * first, state))
        state = int(to_first[at_first]) + 2 * first
    return found[::-1]


def _rows(emissions: np.ndarray, begin: int, end: int) -> Tensor:
    return torch.from_numpy(np.array(emissions[begin:end], dtype=np.float32))


class _Search:
    """Scores of the best paths to every state, one frame after another.

    State 2 i + 1 is token i, 2 i the blank before it, 2 L the blank behind the last. Blanks (L + 1,) and tokens (L,)
    are kept apart, as what they may follow differs.
    """

    def __init__(self, tokens: Tensor, scores: tuple[Tensor, Tensor] | None = None, first: int = 0) -> None:
        """Begin before the first frame, or at `scores` of a longer text, whose tokens these are from `first` on."""
        self.tokens, count = tokens, len(tokens)
        # A token may follow another without a blank between, but not itself.
        self.repeats = torch.zeros(max(count - 1, 0)).masked_fill(tokens[1:] == tokens[:-1], -torch.inf)
        if scores is None:
            scores = torch.full((count + 1,), -torch.inf), torch.full((count,), -torch.inf)
            scores[0][0] = 0.0
        self.blank, self.token = scores[0][first : first + count + 1], scores[1][first : first + count]

    def step(self, row: Tensor) -> None:
        """One more frame (C,)."""
        blank, token = self.blank, self.token
        self.blank = torch.cat([blank[:1], torch.maximum(blank[1:], token)]) + row[BLANK]
        best = torch.maximum(token, blank[:-1])
        torch.maximum(best[1:], token[:-1] + self.repeats, out=best[1:])
        self.token = best.add_(row.index_select(0, self.tokens))

    def level(self) -> tuple[Tensor, Tensor]:
        """The scores, counted anew from the best: sums over hours would lose their last digits."""
        best = torch.maximum(self.blank.max(), self.token.max())
        self.blank, self.token = self.blank - best, self.token - best
        return self.blank, self.token

    def origins(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Go over frames (T, C), and tell where the best path to each state was.

        Returns:
            Of each state at the first frame, the state before it; of each at the last frame, the one at the first.
        """
        to_first = self._step_from(rows[0], torch.arange(2 * len(self.token) + 1))
        to_last = torch.arange(2 * len(self.token) + 1)
        for row in rows[1:]:
            to_last = self._step_from(row, to_last)
        return to_first, to_last

    def _step_from(self, row: Tensor, origins: Tensor) -> Tensor:
        """One more frame; what paths remember (2 L + 1,) goes with them."""
        blank, token, from_blank, from_token = self.blank, self.token, origins[0::2], origins[1::2]
        moved = torch.empty_like(origins)
        moved[0] = from_blank[0]
        moved[2::2] = torch.where(token > blank[1:], from_token, from_blank[1:])
        moved[1::2] = torch.where(blank[:-1] > token, from_blank[:-1], from_token)
        over = token[:-1] + self.repeats > torch.maximum(token, blank[:-1])[1:]
        moved[3::2] = torch.where(over, from_token[:-1], moved[3::2])
        self.step(row)
        return moved

    def best(self) -> int:
        """The state in which the whole text has been said."""
        return 2 * len(self.token) - int(self.token[-1] > self.blank[-1])
