"""How much text each entry of a vocabulary stands for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PROBE = "Line one,  two spaces.\n\n\tA tab; naïve CASE.\n"


def text_sizes(tokenizer: PreTrainedTokenizerBase) -> dict[str, np.ndarray]:
    """UTF-8 ``bytes`` and ``characters`` of each entry's text, int64 (vocabulary,); special tokens have none.

    Of a tokenizer that knows bytes, a character counts where its first byte stands. An unknown token stands for one
    character, taken for one byte.
    """
    tokens = [token or "" for token in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
    if _decoders(tokenizer) & {"ByteLevel"}:
        sizes = _byte_level(tokens)
        for number, token in tokenizer.added_tokens_decoder.items():  # written as they are, not as bytes
            sizes[number] = _sizes(token.content)
    else:
        sizes = np.array([_sizes(text) for text in _texts(tokenizer, tokens)], dtype=np.int64).reshape(-1, 2)
    sizes[tokenizer.all_special_ids] = 0
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id != tokenizer.eos_token_id:
        sizes[tokenizer.unk_token_id] = 1
    return {"bytes": sizes[:, 0], "characters": sizes[:, 1]}


def is_lossless(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether text comes back as it was: case, spaces and line ends. Letters that are unknown do not count."""
    known = [char for char in _PROBE if tokenizer.unk_token_id not in _ids(tokenizer, char)]
    probe = "".join(known)
    back: Any = tokenizer.decode(_ids(tokenizer, probe), clean_up_tokenization_spaces=False)
    return bool(probe) and back.removeprefix(" ") == probe.removeprefix(" ")


def _ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]  # type: ignore[no-any-return]


def _decoders(tokenizer: Any) -> set[str]:
    """Names of the steps by which a fast tokenizer makes text of tokens; none for a slow one."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return set()
    decoder = json.loads(backend.to_str()).get("decoder") or {}
    return {step["type"] for step in [decoder, *decoder.get("decoders", ())] if step}


def _byte_level(tokens: list[str]) -> np.ndarray:
    """Each letter of a token stands for one byte; those that go on with a character are 0x80 to 0xBF."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    first = {letter for byte, letter in bytes_to_unicode().items() if not 0x80 <= byte < 0xC0}
    return np.array([(len(token), sum(map(first.__contains__, token))) for token in tokens], dtype=np.int64)


def _texts(tokenizer: Any, tokens: list[str]) -> list[str | int]:
    """What each token adds to a text that has begun; a lone byte (``<0xE4>``) as its number."""
    begun = _ids(tokenizer, "a")
    start = len(tokenizer.decode(begun, clean_up_tokenization_spaces=False))
    rows = [[*begun, number] for number in range(len(tokens))]
    whole = tokenizer.batch_decode(rows, clean_up_tokenization_spaces=False)
    return [int(token[3:5], 16) if _is_byte(token) else text[start:] for token, text in zip(tokens, whole, strict=True)]


def _is_byte(token: str) -> bool:
    return len(token) == 6 and token.startswith("<0x") and token.endswith(">")


def _sizes(text: str | int) -> tuple[int, int]:
    if isinstance(text, int):
        return 1, int(not 0x80 <= text < 0xC0)
    return len(text.encode("utf-8", "replace")), len(text)
