"""Description, examples and question become a prompt that fits the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

from hfcourse.errors import DataError, ModelError
from hfcourse.prompting import judging
from hfcourse.prompting.rendering import Row
from hfcourse.prompting.requests import Generation, Prompt
from hfcourse.prompting.templates import Template
from hfcourse.prompting.tokens import check_options

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Texts that say nothing: what a model answers to them is its bias (Zhao et al. 2021, arXiv 2102.09690)."""
_SPECIAL = 3
"""Room for the special tokens that a model may put around a text."""
_SEAM = 8
"""Tokens by which a whole may be longer than the sum of its parts."""
_BORDER = 64
"""Characters of a question that may change how its options are tokenised."""
Chat = Callable[[list[dict[str, str]], bool], str]
"""(messages, whether an answer is to follow) -> text."""
Behind = Callable[[str, tuple[str, ...]], Sequence[Sequence[int]]]
"""(text, options) -> the tokens of each option behind it."""


class Room(Protocol):
    """How much text fits: the part of a `Scorer` that composing needs."""

    max_length: int

    def count(self, text: str) -> int:
        """Tokens of a text."""
        ...


@dataclass(frozen=True, kw_only=True)
class Question:
    """One row as it is asked."""

    number: int
    """Its place in the table."""
    prompts: tuple[Prompt, ...]
    """One with all choices; where the choices are beginnings, one for each."""
    choices: tuple[str, ...]
    """As the task names them."""
    gold: Any
    """The place of the right choice, or places; without choices the right texts."""
    target: str
    """What the task's target says."""
    dropped: int
    """Examples left out for want of room."""
    fits: bool
    """Whether it fits without any example."""
    content_free: tuple[Prompt, ...] = ()
    """The same question about nothing, in several ways."""


class Composer:
    """Writes the prompts of one task for one model."""

    def __init__(
        self,
        template: Template,
        room: Room,
        *,
        apart: bool = False,
        chat: Chat | None = None,
        strict: bool = False,
        calibrate: bool = False,
    ) -> None:
        """
        Args:
            template: the task.
            room: what fits.
            apart: an answer has as much room by itself.
            chat: examples become turns of a conversation; None: plain text.
            strict: refuse what does not fit, instead of leaving examples out.
            calibrate: write the content-free questions as well.
        """
        self.template = template
        self._room = room
        self._apart = apart
        self._count = lru_cache(maxsize=1024)(room.count)  # many rows share their beginning and their choices
        self._chat = chat
        self._strict = strict
        self._calibrate = calibrate and template.output == "multiple_choice"
        self._last: tuple[Sequence[Row], str] = ((), "")

    @property
    def generation(self) -> Generation:
        """How answers are generated: as the task says, but leaving the question half of a length that both share."""
        how, most = self.template.generation, self._room.max_length // (1 if self._apart else 2)
        return replace(how, max_new_tokens=max(1, min(how.max_new_tokens, most)))

    def question(self, row: Row, number: int, examples: Sequence[Row]) -> Question:
        """A row behind as many of its examples as fit; the oldest, farthest from the question, are dropped first.

        Raises:
            DataError: under `strict`, a prompt that does not fit; a target that is none of the choices.
        """
        (prompts, free), dropped = self._all(row, examples), 0
        while not (fits := all(map(self._fits, (*prompts, *free)))) and dropped < len(examples):
            dropped += 1
            prompts, free = self._all(row, examples[dropped:])
        if self._strict and (dropped or not fits):
            raise DataError(
                f"task {self.template.name}, row {number}: with {len(examples)} examples it does not fit the "
                f"{self._room.max_length} tokens of the model: give fewer --shots, or leave out --strict"
            )
        choices = self.template.answers(row)
        return Question(
            number=number,
            prompts=prompts,
            choices=tuple(choices),
            gold=self._gold(row, number, choices),
            target=str(self.template.gold(row)),
            dropped=dropped,
            fits=fits,
            content_free=free,
        )

    def check(self, row: Row, number: int, behind: Behind) -> None:
        """Refuse a row that cannot be judged, before anything is asked.

        Args:
            row: the question.
            number: its place in the table.
            behind: what the model reads of options.

        Raises:
            DataError: a target that is none of the choices; choices of which the model reads nothing, or the same.
        """
        self._gold(row, number, self.template.answers(row))
        for prompt in self._prompts(row, row, ()):
            if not prompt.options:
                continue
            tokens = behind((prompt.shared + prompt.query)[-_BORDER:], prompt.options)
            check_options(f"task {self.template.name}, row {number}", prompt.options, tokens)

    def check_examples(self, examples: Sequence[Row]) -> None:
        """Refuse examples that cannot be written.

        Raises:
            DataError: an answer that is none of the choices, or a field that an example lacks.
        """
        for example in examples:
            self._turn(example)

    def _all(self, row: Row, examples: Sequence[Row]) -> tuple[tuple[Prompt, ...], tuple[Prompt, ...]]:
        """The prompts of a question, and those of the same question about nothing."""
        prompts = self._prompts(row, row, examples)
        free = CONTENT_FREE if self._calibrate and len(prompts) == 1 else ()
        return prompts, tuple(self._prompts(_emptied(row, text), row, examples)[0] for text in free)

    def _prompts(self, asked: Row, row: Row, examples: Sequence[Row]) -> tuple[Prompt, ...]:
        """The prompts of a question; choices and target are those of `row`."""
        template = self.template
        question = template.ask(asked)
        delimiter = "" if self._chat else template.target_delimiter
        if isinstance(question, int):  # the choices are beginnings, and the same target follows each
            ending = (f"{delimiter}{template.gold(row)}",)
            return tuple(self._prompt(beginning, ending, row, examples) for beginning in template.answers(row))
        options: tuple[str, ...] = ()
        if template.output == "multiple_choice":
            options = tuple(f"{delimiter}{choice}" for choice in template.answers(row))
        elif template.output == "loglikelihood":
            options = (str(template.gold(row)),)
        return (self._prompt(question, options, row, examples),)

    def _prompt(self, question: str, options: tuple[str, ...], row: Row, examples: Sequence[Row]) -> Prompt:
        description = self.template.describe(row)
        if self._chat is None:
            return Prompt(shared=description + self._written(examples), query=question, options=options)
        turns = [{"role": "system", "content": description}] if description else []
        for asked, answer in map(self._turn, examples):
            turns += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        whole = self._chat([*turns, {"role": "user", "content": question}], True)
        before = self._chat(turns, False) if len(turns) > bool(description) else ""
        same = next((n for n, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before))
        return Prompt(shared=whole[:same], query=whole[same:], options=options)

    def _turn(self, example: Row) -> tuple[str, str]:
        """Question and answer of an example."""
        shown = self.template.as_example
        question = shown.ask(example)
        if not isinstance(question, int):
            return question, shown.answer_text(example)
        choices = shown.answers(example)
        if not 0 <= question < len(choices):
            raise DataError(
                f"task {shown.name}, text: an example gives the number {question}, and there are {len(choices)} choices"
            )
        return choices[question], shown.answer_text(example)

    def _written(self, examples: Sequence[Row]) -> str:
        """The examples as plain text; those of a fixed draw are written once."""
        before, text = self._last
        if len(before) == len(examples) and all(a is b for a, b in zip(before, examples, strict=True)):
            return text
        shown = self.template.as_example
        text = ""
        for question, answer in map(self._turn, examples):
            text += question + (f"{shown.target_delimiter}{answer}{shown.fewshot_delimiter}" if answer else "")
        self._last = (list(examples), text)
        return text

    def _fits(self, prompt: Prompt) -> bool:
        room = self._room.max_length - _SPECIAL
        ends = [option + prompt.suffix for option in prompt.options] or [prompt.suffix]
        if self._apart:
            if max(map(self._count, ends)) > room:
                return False
            ends = [""]
        elif not prompt.options:
            room -= self.generation.max_new_tokens
        parts = self._count(prompt.shared) + self._room.count(prompt.query) + max(map(self._count, ends))
        if parts + _SEAM <= room:
            return True
        whole = prompt.shared + prompt.query
        return max(self._room.count(whole + end) for end in ends) <= room

    def _gold(self, row: Row, number: int, choices: Sequence[str]) -> Any:
        template = self.template
        question = template.ask(row)
        gold = question if isinstance(question, int) else template.gold(row)
        several = gold if isinstance(gold, list) else [gold]
        chooses = template.output == "multiple_choice"
        if chooses and judging.by_number(template.metrics):
            return -1  # judged by its number, which need not be that of a choice
        places = [choices.index(one) if one in choices else one for one in several]
        for one in places:
            is_place = isinstance(one, int) and 0 <= one < len(choices)
            if not is_place and (chooses or (choices and isinstance(one, int))):
                named = ", ".join(map(repr, choices[:6]))
                raise DataError(
                    f"task {template.name}, row {number}: the target {one!r} is none of the choices {named}"
                )
        if not chooses:
            return [choices[one] if choices and isinstance(one, int) else str(one) for one in places]
        return places if isinstance(gold, list) else places[0]


def _emptied(row: Row, text: str) -> Row:
    """A row whose texts say nothing."""
    return {name: text if isinstance(value, str) else value for name, value in row.items()}


def _no_chat(error: Exception) -> ModelError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return ModelError(f"--chat: the tokenizer's chat template refuses the conversation ({reason}): leave out --chat")


def chat_of(tokenizer: Any) -> Chat:
    """How a tokenizer writes a conversation.

    Where its template knows no system turn, the description begins the first question.

    Raises:
        ModelError: it has no chat template. The function: the template refuses the conversation.
    """
    from jinja2 import TemplateError

    if not getattr(tokenizer, "chat_template", None):
        raise ModelError("--chat: the model's tokenizer has no chat template: leave out --chat")

    def written(messages: list[dict[str, str]], answer_follows: bool) -> str:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=answer_follows))

    def chat(messages: list[dict[str, str]], answer_follows: bool) -> str:
        try:
            return written(messages, answer_follows)
        except TemplateError as error:
            first, *rest = messages
            if first["role"] != "system" or not rest:
                raise _no_chat(error) from error
            joined = f"{first['content']}\n\n{rest[0]['content']}"
            try:
                return written([rest[0] | {"content": joined}, *rest[1:]], answer_follows)
            except TemplateError as again:
                raise _no_chat(again) from again

    return chat
