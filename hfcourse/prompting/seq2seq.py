"""Encoder-decoders: the encoder reads the question, the decoder says the option."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

from hfcourse.data.batching import plan
from hfcourse.errors import ModelError
from hfcourse.prompting.base import ModelScorer
from hfcourse.prompting.generation import written
from hfcourse.prompting.plain import Collected, Text, padded, read, texts_of
from hfcourse.prompting.projection import logits_at
from hfcourse.prompting.requests import Generation, OptionScore, Prompt
from hfcourse.prompting.tokens import Question, check_length, check_options

_STATES = 4
"""Encoder states that decoder rows may hold together, as times ``batch_tokens``."""


class Seq2SeqScorer(ModelScorer):
    """Likelihoods and answers of an encoder-decoder.

    A prompt is encoded once for all of its options. The encoder sees the special tokens that the tokenizer adds; an
    option has none, its end is not scored. A suffix is read as part of its option.

    Raises:
        ModelError: the model has no token that answers begin with.
    """

    apart = True

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        batch_tokens: int,
        chat: bool = False,
    ) -> None:
        super().__init__(model, tokenizer, max_length=max_length, batch_tokens=batch_tokens, chat=chat)
        self.special = not chat
        # Soft prompts of peft's stand in front of what the encoder reads: it must be called through them.
        self.encodes_once = not getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False)
        start = self.inner.generation_config.decoder_start_token_id
        if start is None:
            raise ModelError(
                f"{type(self.inner).__name__} does not say how its answers begin: set decoder_start_token_id in its "
                "generation_config.json"
            )
        self.start = int(start)

    def behind(self, text: str, options: Sequence[str]) -> list[list[int]]:
        """The tokens of each option: the decoder says it by itself, with the white space that a text ends in."""
        space = text[len(text.rstrip()) :]
        return self.tokens.bare([space + option for option in options])

    def _scored(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, list[OptionScore]]]:
        for questions in self._batches(self._questions(prompts)):
            yield from self._read(questions)

    def _written(self, prompts: Sequence[Prompt], how: Generation) -> Iterator[tuple[int, str]]:
        for questions in self._batches(self._questions(prompts)):
            ids, mask = padded([question.context for question in questions], self.pad, self.device)
            inputs = {"input_ids": ids, "attention_mask": mask}
            answers = written(self.model, self.tokenizer, how, inputs, 1, self.pad)
            yield from zip((question.number for question in questions), answers, strict=True)

    def _batches(self, questions: list[Question]) -> Iterator[list[Question]]:
        lengths = np.array([len(question.context) for question in questions], dtype=np.int64)
        for batch in plan(lengths, examples=max(len(questions), 1), tokens=self.batch_tokens, shuffle=False):
            yield [questions[number] for number in batch]

    def _questions(self, prompts: Sequence[Prompt]) -> list[Question]:
        """Both sides in tokens; white space at the end of what is encoded goes to the option, as in causal models."""
        if not prompts:
            return []
        texts = [prompt.shared + prompt.query for prompt in prompts]
        contexts = [text.rstrip() if p.options else text for text, p in zip(texts, prompts, strict=True)]
        said = [
            text[len(context) :] + option + prompt.suffix
            for text, context, prompt in zip(texts, contexts, prompts, strict=True)
            for option in prompt.options
        ]
        encoded: Any = self.tokenizer(contexts, add_special_tokens=self.special, verbose=False)
        options = iter(self.tokens.bare(said))
        questions = []
        for number, (prompt, ids) in enumerate(zip(prompts, encoded["input_ids"], strict=True)):
            question = Question(number, ids or [self.start], [next(options) for _ in prompt.options])
            check_options(f"prompt {number}", prompt.options, question.options)
            check_length(number, max(len(ids), *map(len, question.options), 0), self.longest)
            questions.append(question)
        return questions

    def _read(self, questions: list[Question]) -> Iterator[tuple[int, list[OptionScore]]]:
        ids, mask = padded([question.context for question in questions], self.pad, self.device)
        states: Any = None
        if self.encodes_once:
            states = self.inner.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        owned = [(owner, text) for owner, q in enumerate(questions) for text in texts_of(q, [self.start])]
        lengths = np.array([len(text.ids) for _, text in owned])
        rows = max(_STATES * self.batch_tokens // ids.shape[1], 1)
        collected = Collected()
        for batch in plan(lengths, examples=rows, tokens=self.batch_tokens, shuffle=False):
            owners, texts = zip(*(owned[number] for number in batch), strict=True)
            mine = torch.tensor(owners, device=self.device)
            known = BaseModelOutput(last_hidden_state=states[mine]) if self.encodes_once else None
            question = {"input_ids": ids[mine]} if known is None else {"encoder_outputs": known}
            yield from collected.add(texts, self._decode(texts, {**question, "attention_mask": mask[mine]}))

    def _decode(self, texts: Sequence[Text], questions: dict[str, Any]) -> list[OptionScore]:
        """Scores of all options of `texts`, whose questions are given in the model's own terms."""
        ids, own = padded([text.ids for text in texts], self.pad, self.device)
        rows, columns, reading = read(texts, self.device)
        call = partial(self.model, **questions, decoder_input_ids=ids, decoder_attention_mask=own, use_cache=False)
        return reading.scores(logits_at(self.inner, rows, columns, ids.shape[1], call))
