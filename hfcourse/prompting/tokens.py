"""Prompts as tokens: contexts, and what each option adds to them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from hfcourse.errors import DataError, ModelError
from hfcourse.prompting.requests import Prompt

_TOGETHER = 512
"""Prompts without a shared text that are tokenised at once."""
_BORDER = 64
"""Characters of a shared text that are tokenised with each query: more than a tokenizer looks ahead."""
_BETWEEN_WORDS = re.compile(r"(?<=\w) (?=\w)")


@dataclass(frozen=True)
class Question:
    """A prompt in tokens, behind the head of its group."""

    number: int
    """Its place among the prompts that were given."""
    context: list[int]
    options: list[list[int]]
    """What follows the context; never empty."""

    @property
    def longest(self) -> int:
        """Tokens of the context and its longest option."""
        return len(self.context) + max(map(len, self.options), default=0)


@dataclass(frozen=True)
class Group:
    """Prompts that begin with the same tokens."""

    head: list[int]
    """What was tokenised once for all of them; empty where they share no text."""
    questions: list[Question]


class Tokens:
    """What a tokenizer makes of texts, with the special tokens that it puts in front and none behind.

    Args:
        tokenizer: any of transformers'.
        chat: the texts hold their special tokens already.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, chat: bool = False) -> None:
        self.tokenizer = tokenizer
        inner = self.bare(["a"])[0]
        whole: list[int] = tokenizer("a", verbose=False)["input_ids"]
        places = [i for i in range(len(whole)) if whole[i : i + len(inner)] == inner]
        self.front = whole[: places[0]] if places and not chat else []
        bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
        self.start: int | None = eos if bos is None else bos
        self._start_text = "" if self.start is None else str(tokenizer.decode(self.start))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text; one that brings its start token gets no second one."""
        given = self._start_text and self.front
        return [
            ids if given and text.startswith(self._start_text) else self.front + ids
            for text, ids in zip(texts, self.bare(texts), strict=True)
        ]

    def groups(self, prompts: Sequence[Prompt]) -> Iterator[Group]:
        """All prompts, those with the same shared text together.

        An option's tokens are what it adds to its context: both are tokenised together, as lm-evaluation-harness does
        (0.4.13). White space at the end of a context goes to the option, where most tokenizers learnt it.

        Raises:
            DataError: an option without tokens, or two of one prompt with the same.
            ModelError: an empty context, and no token to start a text with.
        """
        counts = Counter(prompt.shared for prompt in prompts)
        alone = [number for number, prompt in enumerate(prompts) if counts[prompt.shared] == 1 or not prompt.shared]
        for start in range(0, len(alone), _TOGETHER):
            yield self._group("", alone[start : start + _TOGETHER], prompts)
        shared: dict[str, list[int]] = {}
        for number, prompt in enumerate(prompts):
            if counts[prompt.shared] > 1 and prompt.shared:
                shared.setdefault(prompt.shared, []).append(number)
        for text, numbers in shared.items():
            yield self._group(text, numbers, prompts)

    def _group(self, shared: str, numbers: list[int], prompts: Sequence[Prompt]) -> Group:
        texts = [prompts[number].shared + prompts[number].query for number in numbers]
        contexts = [
            text.rstrip() if prompts[number].options else text for text, number in zip(texts, numbers, strict=True)
        ]
        wholes = [
            text + option + prompts[number].suffix
            for text, number in zip(texts, numbers, strict=True)
            for option in prompts[number].options
        ]
        head, tails = self._behind(shared.rstrip(), [*contexts, *wholes])
        rest = iter(tails[len(contexts) :])
        questions = []
        for number, text, context in zip(numbers, contexts, tails, strict=False):
            added = [next(rest) for _ in prompts[number].options]
            empty = not (text and (head or context))
            options = [whole[0 if empty else len(context) :] for whole in added]
            if empty:
                context, options = self._unconditional(number, options)
            check_options(f"prompt {number}", prompts[number].options, options)
            questions.append(Question(number, context, options))
        return Group(head, questions)

    def _behind(self, shared: str, texts: list[str]) -> tuple[list[int], list[list[int]]]:
        """The tokens that all texts have in front, and what each has behind them.

        What follows a place between two words has no say in the tokens before it, so those are computed once. A
        tokenizer for which that does not hold shows it on the first and the last text; then each is read whole.
        """
        places = [match.start() for match in _BETWEEN_WORDS.finditer(shared, 0, max(len(shared) - _BORDER, 0))]
        trials = [texts[0], texts[-1]]
        for cut in (places[-1], places[-1] + 1) if places else ():
            (head,) = self.encode([shared[:cut]])
            if self.encode(trials) == [head + tail for tail in self.bare([text[cut:] for text in trials])]:
                return head, self.bare([text[cut:] for text in texts])
        return [], self.encode(texts)

    def _unconditional(self, number: int, options: list[list[int]]) -> tuple[list[int], list[list[int]]]:
        """Without a context a text begins with its start token; an option that brings it along loses it."""
        if self.start is None:
            raise ModelError(
                f"prompt {number} is empty before its options, and the tokenizer has neither a bos nor an eos token: "
                "give a query"
            )
        front = self.front or [self.start]
        bare = [ids[len(self.front) :] if self.front == ids[: len(self.front)] else ids for ids in options]
        return front, [ids[1:] if ids[:1] == [self.start] else ids for ids in bare]

    def bare(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of each text, without special ones."""
        if not texts:
            return []
        encoded: Any = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        return encoded["input_ids"]  # type: ignore[no-any-return]


def check_options(where: str, texts: Sequence[str], options: Sequence[Sequence[int]]) -> None:
    """Options must be told apart by their tokens.

    Raises:
        DataError: one has none, or two have the same.
    """
    seen: dict[tuple[int, ...], int] = {}
    for place, (text, ids) in enumerate(zip(texts, options, strict=True)):
        if not ids:
            raise DataError(f"{where}: option {text!r} has no tokens of its own: write it out")
        other = seen.setdefault(tuple(ids), place)
        if other != place:
            raise DataError(f"{where}: options {texts[other]!r} and {text!r} have the same tokens: change one")


def check_length(number: int, tokens: int, longest: int) -> None:
    """A prompt must fit.

    Raises:
        DataError: it does not.
    """
    if tokens > longest:
        raise DataError(
            f"prompt {number} has {tokens} tokens with its answer, and the model takes {longest}: "
            "give fewer or shorter examples"
        )


def require_options(prompts: Sequence[Prompt]) -> None:
    """Only options can be compared.

    Raises:
        DataError: a prompt has none.
    """
    for number, prompt in enumerate(prompts):
        if not prompt.options:
            raise DataError(f"prompt {number} has no options to compare: give some, or let the model generate")
