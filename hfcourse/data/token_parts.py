"""Documents as parts of a size that is tokenised at once, and their token ids."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np

Part = tuple[str, bool]
"""Text, and whether its document ends with it."""
_CHARACTERS_AT_ONCE = 2_000_000
_LONGEST = 200_000
"""Characters of a document that are tokenised as one text; where a word begins behind them, a longer one is cut."""
_WORD = re.compile(r"(?<=\S) (?=\S)")
"""A space at which no tokenizer looks across: every one of them begins something new there."""


def batches(documents: Iterator[str]) -> Iterator[list[Part]]:
    """Lists of parts of about `_CHARACTERS_AT_ONCE` in all, so that memory does not grow with documents."""
    held: list[Part] = []
    size = 0
    for text in documents:
        for part in parts_of(text):
            held.append(part)
            size += len(part[0])
            if size >= _CHARACTERS_AT_ONCE:
                yield held
                held, size = [], 0
    if held:
        yield held


def parts_of(text: str) -> Iterator[Part]:
    """A document in parts that have together the tokens of the whole."""
    start = 0
    while len(text) - start > _LONGEST and (word := _WORD.search(text, start + _LONGEST)) is not None:
        yield text[start : word.start()], False
        start = word.start()
    yield text[start:], True


class Encoder:
    """Parts -> their ids without special tokens, by a copy of the tokenizer that cuts and pads nothing."""

    def __init__(self, tokenizer: Any, end: int | None) -> None:
        from tokenizers import Tokenizer

        self.tokenizer, self.end = tokenizer, end
        self.unknown = getattr(tokenizer, "unk_token_id", None)
        self.dtype: np.dtype[Any] = np.dtype(np.uint16 if len(tokenizer) <= 2**16 else np.uint32)
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self.copy: Any = None
        if isinstance(backend, Tokenizer):
            self.copy = Tokenizer.from_str(backend.to_str())
            self.copy.no_truncation()
            self.copy.no_padding()
            self.copy.encode_special_tokens = True

    def __call__(self, parts: list[Part]) -> list[np.ndarray]:
        """One array for each part; the last one of a document has the token that ends it."""
        texts = [text for text, _ in parts]
        if self.copy is not None:
            found = [e.ids for e in self.copy.encode_batch_fast(texts, add_special_tokens=False)]
        else:
            found = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        if self.end is not None:
            found = [[*ids, self.end] if ends else ids for ids, (_, ends) in zip(found, parts, strict=True)]
        return [np.asarray(ids, dtype=self.dtype) for ids in found]

    def unknown_among(self, ids: np.ndarray) -> int:
        """How many stand for something that the tokenizer does not know; what ends a document does not."""
        if self.unknown is None or self.unknown == self.end:
            return 0
        return int(np.count_nonzero(ids == self.unknown))
