"""A model that needs no weights: what it answers can be worked out by hand, and it counts what it is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hfcourse.prompting.requests import Generation, OptionScore, Prompt


class Parrot:
    """Finds an option the likelier the more often the prompt holds it; generates the prompt's last word, and a line."""

    apart = False
    writes = True

    def __init__(self, max_length: int = 10_000, stop_after: int | None = None) -> None:
        self.max_length = max_length
        self.stop_after = stop_after
        """Fail after so many answers, as a machine that is switched off."""
        self.asked: list[Prompt] = []

    def count(self, text: str) -> int:
        """Words."""
        return len(text.split())

    def behind(self, text: str, options: Sequence[str]) -> list[list[int]]:
        """Words again, as numbers."""
        return [[hash(word) for word in option.split()] for option in options]

    def log_likelihoods(
        self, prompts: Sequence[Prompt], done: Callable[[int, list[OptionScore]], None] | None = None
    ) -> list[list[OptionScore]]:
        found = []
        for number, prompt in enumerate(prompts):
            self._note(prompt)
            text = (prompt.shared + prompt.query).split()
            found.append([self._score(option, text) for option in prompt.options])
            if done is not None:
                done(number, found[-1])
        return found

    def generate(
        self, prompts: Sequence[Prompt], how: Generation, done: Callable[[int, str], None] | None = None
    ) -> list[str]:
        found = []
        for number, prompt in enumerate(prompts):
            self._note(prompt)
            found.append(f" {prompt.query.split()[-1]} ")
            if done is not None:
                done(number, found[-1])
        return found

    def _note(self, prompt: Prompt) -> None:
        if self.stop_after is not None and len(self.asked) >= self.stop_after:
            raise RuntimeError("switched off")
        self.asked.append(prompt)

    @staticmethod
    def _score(option: str, text: Sequence[str]) -> OptionScore:
        words = option.split()
        hits = sum(text.count(word) for word in words)
        return OptionScore(-1.0 / (1 + hits) - 0.01 * len(words), max(len(words), 1), hits > 0)
