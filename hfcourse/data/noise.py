"""Random draws that depend on what is drawn for, never on when: masks, swaps, negatives.

A number is a hash of (seed, epoch, row, position, stream). So an example gets the same masks whatever batch or process
it falls into, others in the next epoch, and nothing has to be saved to resume. Shapes: rows B, positions T.
"""

from __future__ import annotations

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MASK, RANDOM, KEEP = 1, 2, 3
"""What happens to a chosen position; 0 where none was chosen."""


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finaliser: every input bit moves every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed


def uniform(seed: int, epoch: int, rows: np.ndarray, width: int, stream: int = 0) -> np.ndarray:
    """Numbers in [0, 1), float64 (B, width); different streams are independent draws for one row."""
    with np.errstate(over="ignore"):
        key = np.zeros(1, dtype=np.uint64)
        for part in (seed, epoch, stream):
            key = _mix(key + np.uint64(part % 2**64) * _GOLDEN + _GOLDEN)
        key = _mix(key + np.asarray(rows).astype(np.uint64) * _GOLDEN)
        bits = _mix(key[:, None] + (np.arange(width, dtype=np.uint64) + np.uint64(1)) * _GOLDEN)
    return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def budget(maskable: np.ndarray, rate: float) -> np.ndarray:
    """How many positions of each row are chosen: the nearest whole number to `rate` of them, but one at least."""
    counts = maskable.sum(axis=1)
    number: np.ndarray = np.minimum(np.maximum(np.rint(rate * counts).astype(np.int64), 1), counts)
    return number


def choose_tokens(maskable: np.ndarray, rate: float, draws: np.ndarray) -> np.ndarray:
    """Exactly the budget of each row, bool (B, T): the positions with the smallest draws (B, T)."""
    ranks = np.where(maskable, draws, np.inf).argsort(axis=1).argsort(axis=1)
    return maskable & (ranks < budget(maskable, rate)[:, None])


def choose_words(maskable: np.ndarray, starts: np.ndarray, rate: float, draws: np.ndarray) -> np.ndarray:
    """Whole words as near to the budget as they come, bool (B, T). `starts` is true at the first token of each word.

    A word is never split: a row may hold more or less than its budget by half a word, and on average holds it.
    """
    return _choose_groups(maskable, word_numbers(maskable, starts), rate, draws)


def choose_spans(
    maskable: np.ndarray, starts: np.ndarray, rate: float, draws: np.ndarray, lengths: np.ndarray, longest: int = 10
) -> np.ndarray:
    """Runs of whole words whose length is geometric (SpanBERT: p 0.2, at most 10 words, 3.8 on average), bool (B, T).

    Words are cut into consecutive runs of drawn lengths, and runs are chosen at random up to the budget.
    `draws` and `lengths` are independent uniform numbers (B, T).
    """
    words = word_numbers(maskable, starts)
    within = lengths * (1 - 0.8**longest)  # the distribution is cut off at `longest`, not heaped up there
    drawn = np.floor(np.log1p(-within) / np.log(0.8)).astype(np.int64) + 1
    # Run k of a row covers the words from the sum of the first k lengths on.
    ends = drawn.cumsum(axis=1)
    is_end = np.zeros((len(words), words.shape[1] + 2), dtype=np.int64)
    np.put_along_axis(is_end, np.minimum(ends, words.shape[1] + 1), 1, axis=1)
    runs = np.take_along_axis(is_end.cumsum(axis=1), np.maximum(words, 0), axis=1)
    return _choose_groups(maskable, np.where(words >= 0, runs, -1), rate, draws)


def word_numbers(maskable: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The number of the word that each position belongs to, int64 (B, T), -1 where nothing may be masked."""
    after_gap = maskable & ~np.pad(maskable, ((0, 0), (1, 0)))[:, :-1]
    numbers = (maskable & (starts | after_gap)).cumsum(axis=1) - 1
    return np.where(maskable, numbers, -1)


def _choose_groups(maskable: np.ndarray, groups: np.ndarray, rate: float, draws: np.ndarray) -> np.ndarray:
    """Whole groups in the order of their draws, as long as at least half of the next one fits each row's budget."""
    rows, width = groups.shape
    # Groups counted through all rows at once: row r's group g is entry r * width + g.
    entries = (groups + np.arange(rows)[:, None] * width)[maskable]
    sizes = np.bincount(entries, minlength=rows * width).reshape(rows, width)
    order = np.where(sizes > 0, draws, np.inf).argsort(axis=1)
    in_order = np.take_along_axis(sizes, order, axis=1)
    before = in_order.cumsum(axis=1) - in_order
    fits = 2 * before + in_order <= 2 * budget(maskable, rate)[:, None]
    chosen_in_order = (fits | (before == 0)) & (in_order > 0)
    chosen = np.zeros((rows, width), dtype=bool)
    np.put_along_axis(chosen, order, chosen_in_order, axis=1)
    taken: np.ndarray = maskable & np.take_along_axis(chosen, np.maximum(groups, 0), axis=1)
    return taken


def actions(chosen: np.ndarray, draws: np.ndarray, random: float = 0.1, keep: float = 0.1) -> np.ndarray:
    """BERT's 80/10/10: `MASK`, `RANDOM` or `KEEP` at chosen positions, 0 elsewhere, int8 (B, T)."""
    action = np.where(draws < random, RANDOM, np.where(draws < random + keep, KEEP, MASK))
    return np.where(chosen, action, 0).astype(np.int8)


def corrupt(ids: np.ndarray, action: np.ndarray, mask_id: int, ordinary: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """The input a model sees, int64 (B, T): `mask_id`, a random one of the `ordinary` ids, or the token itself."""
    replacement = ordinary[(draws * len(ordinary)).astype(np.int64)]
    return np.where(action == MASK, mask_id, np.where(action == RANDOM, replacement, ids))
