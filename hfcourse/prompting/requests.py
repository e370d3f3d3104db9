"""What is asked of a language model, and what it answers: the contract between prompts and scorers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One question to a model. Its full text is ``shared + query + option + suffix``."""

    shared: str = ""
    """Description and examples, the same for every query of a fixed draw; their keys and values are computed once."""
    query: str
    """What follows it."""
    options: tuple[str, ...] = ()
    """Continuations to be compared, each with its leading space or line break; none: the model generates."""
    suffix: str = ""
    """What follows an option, for masked models and for templates whose answer stands in the middle."""


@dataclass(frozen=True)
class OptionScore:
    """How likely one continuation is."""

    logprob: float
    """Natural logarithm, summed over its tokens; of a masked model, the pseudo-log-likelihood."""
    tokens: int
    """How many were summed."""
    greedy: bool
    """Every token was the likeliest."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """How an answer is generated."""

    max_new_tokens: int = 32
    """The longest answer."""
    stop: tuple[str, ...] = ("\n",)
    """An answer ends before the first of these."""
    temperature: float = 0.0
    """0: always the likeliest token."""
    top_k: int = 0
    """Draw among so many likeliest tokens; 0: all."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that together have this probability."""
    seed: int = 0
    """Decides what a temperature draws."""


class Scorer(Protocol):
    """A model that answers prompts. `scorer.scorer` makes one."""

    max_length: int
    """Tokens that fit: prompt and answer together, or each of them where they are `apart`."""
    apart: bool
    """Whether an answer takes no room from its prompt, as where an encoder reads and a decoder answers."""
    writes: bool
    """Whether it can generate; a masked model only compares options."""

    def count(self, text: str) -> int:
        """Tokens of a text, special ones not counted."""
        ...

    def behind(self, text: str, options: Sequence[str]) -> list[list[int]]:
        """The tokens by which each option is told apart from the others behind a text."""
        ...

    def log_likelihoods(
        self, prompts: Sequence[Prompt], done: Callable[[int, list[OptionScore]], None] | None = None
    ) -> list[list[OptionScore]]:
        """How likely each option of each prompt is.

        ``done(number of the prompt, its answer)`` is called as soon as a prompt is answered, in any order, so that
        what is known survives an interruption.
        """
        ...

    def generate(
        self, prompts: Sequence[Prompt], how: Generation, done: Callable[[int, str], None] | None = None
    ) -> list[str]:
        """One text a prompt; ``done`` as above."""
        ...
