"""Text that a causal or seq2seq model writes: greedy, with beams, or drawn."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfcourse.errors import ConfigError, DataError, ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import GenerationConfig, PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class DecodingConfig:
    """How the next token is chosen. Without temperature, top_k, top_p and min_p it is the likeliest one (greedy)."""

    max_new_tokens: int = 100
    """Most tokens that are written; a text that ends itself is shorter."""
    temperature: float | None = None
    """Draw: below 1 likely tokens become likelier still, above 1 they become less so; 0 draws nothing."""
    top_k: int = 0
    """Draw among so many likeliest tokens; 0 for all."""
    top_p: float = 1.0
    """Draw among the likeliest tokens that together have this probability (nucleus, arXiv 1904.09751); 1 for all."""
    min_p: float = 0.0
    """Draw among tokens with at least this share of the likeliest one's probability (arXiv 2407.01082); 0 for all."""
    num_beams: int = 1
    """Keep so many likeliest beginnings at once (beam search); 1 for none."""
    samples: int = 1
    """Texts for each prompt: drawn ones, or the best of the beams."""

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "num_beams", "samples"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}: it must be 1 or more")
        if self.top_k < 0 or (self.temperature or 0) < 0:
            name = "top_k" if self.top_k < 0 else "temperature"
            raise ConfigError(f"{name} is {getattr(self, name)}: it must be 0 or more")
        if not 0 < self.top_p <= 1 or not 0 <= self.min_p <= 1:
            name = "min_p" if 0 < self.top_p <= 1 else "top_p"
            raise ConfigError(f"{name} is {getattr(self, name)}: it is a share, so it must lie between 0 and 1")
        asked = [f"{name} {value:g}" for name, value in self._narrowing().items()]
        if self.temperature == 0 and asked:
            raise ConfigError(f"temperature is 0, which draws nothing, and {asked[0]} chooses what is drawn from")
        if self.num_beams > 1 and self.draws:
            drawn = asked[0] if asked else f"temperature {self.temperature:g}"
            raise ConfigError(f"num_beams is {self.num_beams} and {drawn} draws: beams look for the likeliest text")
        if self.num_beams == 1 and self.samples > 1 and not self.draws:
            raise ConfigError(f"samples is {self.samples} and nothing is drawn: all would be the same; set temperature")
        if self.samples > self.num_beams > 1:
            raise ConfigError(f"samples is {self.samples} and num_beams is {self.num_beams}: there are no more texts")

    @property
    def draws(self) -> bool:
        """Whether chance has a part in it."""
        return bool(self.temperature or self._narrowing())

    def _narrowing(self) -> dict[str, float]:
        """Settings other than their neutral value that only drawing reads."""
        neutral = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
        return {name: getattr(self, name) for name, value in neutral.items() if getattr(self, name) != value}


class Writer:
    """A model with its tokenizer that goes on with prompts (causal) or answers them (seq2seq)."""

    def __init__(
        self, model: Any, tokenizer: PreTrainedTokenizerBase, config: DecodingConfig, *, seed: int = 0
    ) -> None:
        """Keep both, on an accelerator if there is one.

        Raises:
            ModelError: a model that writes no text.
        """
        import torch

        from hfcourse.backbones.load import longest_input
        from hfcourse.model import unwrapped
        from hfcourse.native import reads_both_ways

        inner: Any = unwrapped(model)
        self.seq2seq = bool(inner.config.is_encoder_decoder)
        if not inner.can_generate() or (not self.seq2seq and reads_both_ways(inner.config)):
            kind = type(inner).__name__
            raise ModelError(f"a {kind} writes no text: name a causal or seq2seq language model")
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()
        self.device = inner.device
        self.tokenizer: Any = tokenizer
        self.config, self.seed = config, seed
        self.longest = longest_input(inner.config.get_text_config())
        self.settings = _settings(inner.generation_config, tokenizer, config)
        ends = self.settings.eos_token_id
        self.ends = {*ends} if isinstance(ends, list) else {ends}

    def write(self, prompt: str, *, show: bool = False) -> Iterator[dict[str, Any]]:
        """What is written for a prompt, one text after the other: id, prompt, prediction, tokens, ended.

        A causal model goes on beyond its longest input with the last half of what it can see. Each text has draws of
        its own, whatever the number of texts.

        Args:
            prompt: may be empty; then the text begins where documents do.
            show: print each text as it is written (beams: when they are done).

        Raises:
            DataError: a prompt that leaves no room.
        """
        ids = self._prompt(prompt)
        rows: Iterable[list[int]]
        if self.config.num_beams > 1:
            rows = self._beams(ids)
        else:
            rows = (self._one(ids, number, prompt if show else None) for number in range(self.config.samples))
        for number, new in enumerate(rows):
            ended = bool(new) and new[-1] in self.ends
            text = self._text(ids, new)
            if show and self.config.num_beams > 1:
                print(("" if self.seq2seq else prompt) + text, flush=True)
            written = len(new) - ended
            yield {"id": number, "prompt": prompt, "prediction": text, "tokens": written, "ended": ended}

    def _prompt(self, prompt: str) -> list[int]:
        ids: list[int] = self.tokenizer(prompt, verbose=False)["input_ids"]
        if not self.seq2seq:
            while len(ids) > 1 and ids[-1] == self.tokenizer.eos_token_id:  # a template's end: the text is to go on
                ids = ids[:-1]
        if not ids:
            first = self.tokenizer.bos_token_id
            first = self.tokenizer.eos_token_id if first is None else first
            if first is None:
                raise DataError("the prompt is empty, and the tokenizer has no token that begins a text: give a prompt")
            ids = [first]
        if self.longest and len(ids) + (not self.seq2seq) > self.longest:
            raise DataError(f"the prompt has {len(ids)} tokens, and the model sees {self.longest}: shorten it")
        beams = self.config.num_beams > 1 and not self.seq2seq
        if beams and self.longest and len(ids) + self.config.max_new_tokens > self.longest:
            raise DataError(
                f"the prompt's {len(ids)} tokens and max_new_tokens {self.config.max_new_tokens} exceed the "
                f"{self.longest} that the model sees: with num_beams both must fit"
            )
        return ids

    def _beams(self, ids: list[int]) -> list[list[int]]:
        """The best texts of a beam search, without what follows an end."""
        found = self._generate(ids, self.config.max_new_tokens, None)
        return [self._cut(row) for row in found.tolist()]

    def _one(self, ids: list[int], number: int, shown: str | None) -> list[int]:
        """One text, in stretches of what the model can see; printed as it comes where `shown` is its beginning."""
        import torch

        torch.manual_seed(1_000_003 * self.seed + number)
        streamer = None
        if shown is not None:
            streamer = _Shown(self.tokenizer, [] if self.seq2seq else ids)
            print("" if self.seq2seq else shown, end="", flush=True)
        seen, new = ids, list[int]()
        while len(new) < self.config.max_new_tokens and not (new and new[-1] in self.ends):
            room = self.config.max_new_tokens - len(new)
            if self.longest:
                room = min(room, self.longest - (0 if self.seq2seq else len(seen)))
            written = self._cut(self._generate(seen, room, streamer)[0].tolist())
            new += written
            if self.seq2seq or not written:
                break
            seen = (seen + written)[-max(self.longest // 2, 1) :] if self.longest else seen + written
        if streamer is not None:
            streamer.close()
        return new

    def _generate(self, ids: list[int], room: int, streamer: Any) -> Tensor:
        """New tokens, (texts, at most `room`); shorter texts are padded."""
        import torch

        from hfcourse.peft.wrap import quiet_peft

        inputs = torch.tensor([ids], device=self.device)
        settings = copy.copy(self.settings)
        settings.max_new_tokens = room
        mask = torch.ones_like(inputs)
        with quiet_peft():  # its prompts take positions of their own, which it says at each step
            found = self.model.generate(
                input_ids=inputs, attention_mask=mask, generation_config=settings, streamer=streamer
            )
        start: int = 1 if self.seq2seq else len(ids)
        return found[:, start:]  # type: ignore[no-any-return]

    def _cut(self, row: list[int]) -> list[int]:
        """Up to the end that the model has set, which stays."""
        at = next((n for n, token in enumerate(row) if token in self.ends), len(row))
        return row[: at + 1]

    def _text(self, ids: list[int], new: list[int]) -> str:
        """The new text as it goes on behind the prompt."""

        def decoded(tokens: list[int]) -> str:
            return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

        before = "" if self.seq2seq else decoded(ids)
        whole = decoded(new if self.seq2seq else ids + new)
        return whole[len(before) :] if whole.startswith(before) else decoded(new)


def _settings(own: GenerationConfig, tokenizer: Any, config: DecodingConfig) -> GenerationConfig:
    """The model's own special tokens and constraints, and the choice of `config`."""
    settings = copy.deepcopy(own)
    settings.update(
        max_length=None,
        use_cache=True,
        do_sample=config.draws,
        num_beams=config.num_beams,
        num_return_sequences=config.samples if config.num_beams > 1 else 1,
        temperature=(config.temperature or 1.0) if config.draws else None,
        top_k=config.top_k if config.draws else None,
        top_p=config.top_p if config.draws else None,
        min_p=config.min_p if config.draws else None,  # 0.0 too: for None the checkpoint's own would be taken
    )
    if settings.eos_token_id is None:
        settings.eos_token_id = tokenizer.eos_token_id
    if settings.pad_token_id is None:
        settings.pad_token_id = tokenizer.pad_token_id
    return settings


class _Shown:
    """Prints a text while several calls of generate write it, as it goes on behind a prompt.

    What is new is decoded behind the tokens that were printed last, as some tokenizers drop a text's first space.
    """

    def __init__(self, tokenizer: Any, prompt: list[int]) -> None:
        self._tokenizer = tokenizer
        self._tokens = list(prompt)
        self._last, self._done = 0, len(prompt)  # printed last: from here to there
        self._begins = True

    def put(self, ids: Tensor) -> None:
        """The next tokens; the first ones of a call of generate are what it goes on with."""
        if self._begins:
            self._begins = False
            return
        self._tokens += ids.flatten().tolist()
        self._print(whole=False)

    def end(self) -> None:
        """Of a call of generate."""
        self._begins = True

    def close(self) -> None:
        """Of the text."""
        self._print(whole=True)
        print(flush=True)

    def _print(self, whole: bool) -> None:
        """What is new, unless `whole` up to a character whose last bytes are still to come."""
        before = self._decoded(self._tokens[self._last : self._done])
        text = self._decoded(self._tokens[self._last :])
        if len(text) > len(before) and (whole or not text.endswith("\ufffd")):
            print(text[len(before) :], end="", flush=True)
            self._last, self._done = self._done, len(self._tokens)

    def _decoded(self, tokens: list[int]) -> str:
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))
