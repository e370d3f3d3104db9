"""What scorers of all architectures have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast

import torch
from transformers import PreTrainedTokenizerBase

from hfcourse.peft.wrap import unwrapped
from hfcourse.prompting.requests import Generation, OptionScore, Prompt
from hfcourse.prompting.tokens import Tokens, require_options

_Answer = TypeVar("_Answer")


class ModelScorer(ABC):
    """A `Scorer` around a model of transformers.

    Args:
        model: perhaps with an adapter around it; on its device and in evaluation mode.
        tokenizer: its own.
        max_length: tokens that fit, special ones included.
        batch_tokens: most tokens of a forward pass, padding included.
        chat: the texts hold their special tokens already.
    """

    apart = False
    writes = True

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, *, max_length: int, batch_tokens: int, chat: bool = False
    ) -> None:
        self.model, self.tokenizer, self.batch_tokens = model, tokenizer, batch_tokens
        self.inner = cast(Any, unwrapped(model))
        self.device: torch.device = self.inner.device
        self.tokens = Tokens(tokenizer, chat=chat)
        self.longest = max_length
        self.max_length = max_length - (0 if chat else tokenizer.num_special_tokens_to_add())
        padding = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
        self.pad = next(token for token in padding if token is not None)

    def count(self, text: str) -> int:
        """Tokens of a text, special ones not counted."""
        return len(self.tokens.bare([text])[0])

    def behind(self, text: str, options: Sequence[str]) -> list[list[int]]:
        """The tokens that each option adds to a text."""
        context, *wholes = self.tokens.bare([text.rstrip(), *(text + option for option in options)])
        return [whole[len(context) :] for whole in wholes]

    @torch.no_grad()
    def log_likelihoods(
        self, prompts: Sequence[Prompt], done: Callable[[int, list[OptionScore]], None] | None = None
    ) -> list[list[OptionScore]]:
        """How likely each option of each prompt is.

        Raises:
            DataError: a prompt that is too long; options that are missing or cannot be told apart.
        """
        require_options(prompts)
        return _in_order(len(prompts), self._scored(prompts), done)

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Prompt], how: Generation, done: Callable[[int, str], None] | None = None
    ) -> list[str]:
        """What the model says to each prompt, up to a stop string. Options and suffixes are passed over.

        Raises:
            DataError: a prompt that leaves no room for an answer. ModelError: the model cannot write.
        """
        if how.temperature:  # a start that asks only what is missing draws anew, not what others were answered with
            torch.manual_seed(how.seed + len(prompts))
        return _in_order(
            len(prompts), self._written([Prompt(shared=p.shared, query=p.query) for p in prompts], how), done
        )

    @abstractmethod
    def _scored(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, list[OptionScore]]]:
        """Prompts by number with their scores, as they come."""

    @abstractmethod
    def _written(self, prompts: Sequence[Prompt], how: Generation) -> Iterator[tuple[int, str]]:
        """Prompts by number with their answers, as they come."""


def _in_order(
    count: int, found: Iterator[tuple[int, _Answer]], done: Callable[[int, _Answer], None] | None
) -> list[_Answer]:
    answers: dict[int, _Answer] = {}
    for number, answer in found:
        answers[number] = answer
        if done is not None:
            done(number, answer)
    return [answers[number] for number in range(count)]
