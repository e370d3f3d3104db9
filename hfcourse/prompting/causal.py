"""Causal models: an option follows its context (Brown et al. 2020, arXiv 2005.14165)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from hfcourse.data.batching import plan
from hfcourse.prompting import packing, prefix
from hfcourse.prompting.base import ModelScorer
from hfcourse.prompting.generation import written
from hfcourse.prompting.plain import Collected, padded, read, texts_of
from hfcourse.prompting.projection import logits_at
from hfcourse.prompting.requests import Generation, OptionScore, Prompt
from hfcourse.prompting.tokens import Group, Question, check_length

_LOG = logging.getLogger(__name__)
_COPIES = 16
"""A batch that generates holds keys and values of up to so many times ``batch_tokens`` (the prefix, for each row)."""


class CausalScorer(ModelScorer):
    """Likelihoods and answers of a decoder.

    What prompts share is computed once, and their queries and options are packed behind it, where the model allows
    that (`prefix.obstacle`) and ``cache`` is on; otherwise each text is read on its own, in batches. A suffix is read
    as part of its option.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        max_length: int,
        batch_tokens: int,
        cache: bool = True,
        chat: bool = False,
    ) -> None:
        super().__init__(model, tokenizer, max_length=max_length, batch_tokens=batch_tokens, chat=chat)
        self.max_length = max_length - len(self.tokens.front)
        with torch.no_grad():
            obstacle = prefix.obstacle(model) if cache else ""
        self.packs = cache and not obstacle
        if obstacle:
            _LOG.warning("%s reads every prompt whole: %s", type(self.inner).__name__, obstacle)

    def _scored(self, prompts: Sequence[Prompt]) -> Iterator[tuple[int, list[OptionScore]]]:
        for group in self._groups(prompts, -1):  # the last token of an option is told, not read
            yield from self._packed(group) if self._may_pack(group) else self._plain(group)

    def _written(self, prompts: Sequence[Prompt], how: Generation) -> Iterator[tuple[int, str]]:
        for group in self._groups(prompts, how.max_new_tokens):
            yield from self._continued(group, how)

    def _groups(self, prompts: Sequence[Prompt], more: int) -> Iterator[Group]:
        """Prompts in tokens; `more` tokens than they have must fit."""
        for group in self.tokens.groups(prompts):
            for question in group.questions:
                check_length(question.number, len(group.head) + question.longest + more, self.longest)
            yield group

    def _may_pack(self, group: Group, more: int = 0) -> bool:
        bound = packing.exact_up_to(self.inner.config) if self.packs else 0
        longest = len(group.head) + max(question.longest for question in group.questions) + more
        return self.packs and (not bound or longest <= bound)

    def _packed(self, group: Group) -> Iterator[tuple[int, list[OptionScore]]]:
        """Behind their common prefix, many questions in a row."""
        known = prefix.Prefix(self.model, group)
        tokens = packing.row_tokens(self.inner.config, known.length, self.device, self.batch_tokens)
        for row in packing.rows(group.questions, known.cut, known.length, tokens, self.inner.dtype, self.device):
            rest = iter(row.reading.scores(prefix.logits_of(self.model, row, known.cache)))
            yield from ((question.number, [next(rest) for _ in question.options]) for question in row.questions)

    def _plain(self, group: Group) -> Iterator[tuple[int, list[OptionScore]]]:
        """Each text whole, padded on the right, where no causal model sees it; long ones first."""
        texts = [text for question in group.questions for text in texts_of(question, group.head + question.context)]
        lengths = np.array([len(text.ids) for text in texts])
        collected = Collected()
        for batch in plan(lengths, examples=len(texts), tokens=self.batch_tokens, shuffle=False):
            chosen = [texts[number] for number in batch]
            ids, mask = padded([text.ids for text in chosen], self.pad, self.device)
            rows, columns, reading = read(chosen, self.device)
            call = partial(self.model, input_ids=ids, attention_mask=mask, use_cache=False)
            logits = logits_at(self.inner, rows, columns, ids.shape[1], call)
            yield from collected.add(chosen, reading.scores(logits))

    def _continued(self, group: Group, how: Generation) -> Iterator[tuple[int, str]]:
        """Behind their common prefix; where a model cannot go on from one, rows of one length, without any padding."""
        known = prefix.Prefix(self.model, group) if self._may_pack(group, how.max_new_tokens) else None
        for chosen in self._alike(group.questions, known, how.max_new_tokens):
            if known is None:
                inputs = self._inputs([group.head + question.context for question in chosen])
            else:
                inputs = self._inputs([question.context[known.cut :] for question in chosen], known)
            start = inputs["input_ids"].shape[1]
            answers = written(self.model, self.tokenizer, how, inputs, start, self.pad)
            yield from zip((question.number for question in chosen), answers, strict=True)

    def _alike(self, questions: list[Question], known: prefix.Prefix | None, new: int) -> Iterator[list[Question]]:
        """Questions that are continued together."""
        lengths = np.array([len(question.context) for question in questions])
        same = (
            [np.flatnonzero(lengths == n) for n in np.unique(lengths)] if known is None else [np.arange(len(lengths))]
        )
        ahead = 0 if known is None else known.length
        for numbers in same:
            costs = lengths[numbers] + new
            most = max(_COPIES * self.batch_tokens // (ahead + int(costs.max())), 1)
            for batch in plan(costs, examples=most, tokens=self.batch_tokens, shuffle=False):
                yield [questions[number] for number in numbers[batch]]

    def _inputs(self, texts: list[list[int]], known: prefix.Prefix | None = None) -> dict[str, Any]:
        """What ``generate`` gets: rows that end together, and what stands before all of them."""
        ids, mask = padded(texts, self.pad, self.device, left=True)
        if known is None or known.cache is None:
            return {"input_ids": ids, "attention_mask": mask}
        mask = torch.nn.functional.pad(mask, (known.length, 0), value=1)
        cache = prefix.expanded(known.cache, len(texts))
        return {"input_ids": ids, "attention_mask": mask, "past_key_values": cache}
