"""Masked models: an option stands in the text, and each of its tokens is guessed from the others.

The pseudo-log-likelihood (Salazar et al. 2020, arXiv 1910.14659) masks one token at a time. A word of several tokens
then helps to guess itself, so what is rare and long looks likely; masked along with a token are therefore those that
follow it in its word (Kauf and Ivanova 2023, arXiv 2305.10588), unless ``whole_words`` is False.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from hfcourse.backbones.last_layer import last_layer_at
from hfcourse.data.batching import plan
from hfcourse.errors import ModelError
from hfcourse.heads.losses import IGNORED
from hfcourse.prompting.base import ModelScorer
from hfcourse.prompting.plain import padded
from hfcourse.prompting.projection import Reading, logits_at
from hfcourse.prompting.requests import Generation, OptionScore, Prompt
from hfcourse.prompting.tokens import check_length, check_options

_TOGETHER = 256
"""Prompts whose masked texts are sorted by length together, and answered before the next."""


@dataclass(frozen=True)
class _Guess:
    """One token to be guessed: a text with masks in it, and the place that is read."""

    ids: tuple[int, ...]
    place: int


_Asked = tuple[_Guess, int]
"""A token where it is guessed."""


class MaskedScorer(ModelScorer):
    """Pseudo-log-likelihoods of an encoder with a masked-LM head. It compares options and cannot write.

    A suffix stands behind the option and is not scored.

    Raises:
        ModelError: the tokenizer cannot say which characters a token stands for.
    """

    writes = False

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        batch_tokens: int,
        whole_words: bool = True,
    ) -> None:
        if not tokenizer.is_fast:
            raise ModelError(f"{type(tokenizer).__name__} does not tell where its tokens stand: take a fast tokenizer")
        super().__init__(model, tokenizer, max_length=max_length, batch_tokens=batch_tokens)
        self.whole_words = whole_words
        self.mask = int(tokenizer.mask_token_id)

    def _written(self, prompts: Sequence[Prompt], how: Generation) -> Iterator[tuple[int, str]]:
        raise ModelError(f"{type(self.inner).__name__} fills gaps and does not write: give it tasks with options")

    def _scored(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, list[OptionScore]]]:
        numbers = range(len(prompts))
        for start in range(0, len(prompts), _TOGETHER):
            yield from self._scored_together({n: prompts[n] for n in numbers[start : start + _TOGETHER]})

    def _scored_together(self, prompts: dict[int, Prompt]) -> Iterator[tuple[int, list[OptionScore]]]:
        """Options whose masked texts are the same (those of one token) share them."""
        wanted = {number: self._options(number, prompt) for number, prompt in prompts.items()}
        told = self._told([asked for options in wanted.values() for option in options for asked in option])
        for number, options in wanted.items():
            yield number, [_total([told[asked] for asked in option]) for option in options]

    def _options(self, number: int, prompt: Prompt) -> list[list[_Asked]]:
        """For each option its tokens, and the texts in which they are guessed."""
        front = prompt.shared + prompt.query
        texts = [front + option + prompt.suffix for option in prompt.options]
        encoded: Any = self.tokenizer(texts, return_offsets_mapping=True, verbose=False)
        asked: list[list[_Asked]] = []
        for row, (ids, option) in enumerate(zip(encoded["input_ids"], prompt.options, strict=True)):
            check_length(number, len(ids), self.longest)
            starts, ends = np.array(encoded["offset_mapping"][row]).T
            inside = (starts < ends) & (starts < len(front) + len(option)) & (ends > len(front))
            words = encoded.word_ids(row) if self.whole_words else range(len(ids))
            asked.append([(self._masked(ids, place, words), ids[place]) for place in np.flatnonzero(inside).tolist()])
        check_options(f"prompt {number}", prompt.options, [[token for _, token in option] for option in asked])
        return asked

    def _masked(self, ids: list[int], place: int, words: Sequence[int | None]) -> _Guess:
        """The text with a mask at `place` and at what follows it in its word."""
        masked, end = list(ids), place
        while end < len(ids) and words[end] == words[place]:
            masked[end] = self.mask
            end += 1
        return _Guess(tuple(masked), place)

    def _told(self, asked: Sequence[_Asked]) -> dict[_Asked, OptionScore]:
        """How likely each token is where it is guessed."""
        by_guess: dict[_Guess, set[int]] = {}
        for guess, token in asked:
            by_guess.setdefault(guess, set()).add(token)
        guesses = list(by_guess)
        lengths = np.array([len(guess.ids) for guess in guesses])
        told: dict[_Asked, OptionScore] = {}
        for batch in plan(lengths, examples=len(guesses), tokens=self.batch_tokens, shuffle=False):
            chosen = [guesses[number] for number in batch]
            pairs = [(row, guess, token) for row, guess in enumerate(chosen) for token in by_guess[guess]]
            reading = Reading.empty()
            for row, _, token in pairs:
                reading.add([row], [token])
            scores = reading.scores(self._logits(chosen))
            told.update({(guess, token): score for (_, guess, token), score in zip(pairs, scores, strict=True)})
        return told

    def _logits(self, guesses: list[_Guess]) -> Tensor:
        """(guesses, V)"""
        ids, mask = padded([list(guess.ids) for guess in guesses], self.pad, self.device)
        rows = torch.arange(len(guesses), device=self.device)
        columns = torch.tensor([guess.place for guess in guesses], device=self.device)
        inputs = {"input_ids": ids, "attention_mask": mask}
        with last_layer_at(self.inner, rows * ids.shape[1] + columns):
            if hasattr(self.inner, "heads"):  # our own head projects what has a label
                labels = torch.full_like(ids, IGNORED)
                labels[rows, columns] = self.mask
                return self.model(**inputs, labels=labels, head="masked_lm").logits  # type: ignore[no-any-return]
            return logits_at(self.inner, rows, columns, ids.shape[1], lambda: self.model(**inputs))


def _total(scores: Sequence[OptionScore]) -> OptionScore:
    """Of an option, by those of its tokens."""
    return OptionScore(math.fsum(one.logprob for one in scores), len(scores), all(one.greedy for one in scores))
