"""Train a tokenizer, or load any existing one; what is saved is an ordinary transformers tokenizer."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hfcourse.data import vocabularies
from hfcourse.data.vocabularies import GPT_SPECIAL, SPECIAL
from hfcourse.errors import ConfigError, DataError, ModelError, unknown

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    from hfcourse.backbones.settings import BackboneConfig

_READ_AT_MOST = 20
"""A corpus is read up to so many times the size of the sample."""


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """How a tokenizer is trained."""

    kind: Literal["wordpiece", "bpe", "unigram", "char"] = "wordpiece"
    """wordpiece (BERT), bpe (bytes, as GPT-2), unigram (SentencePiece), char (one entry a character of the text)."""
    style: Literal["bert", "gpt"] = "bert"
    """bert: inputs are [CLS] A [SEP] B [SEP]. gpt: texts as they are, <|endoftext|> between two; bpe and char alone."""
    vocab_size: int = 8192
    """Entries, special ones included; fewer if the text gives fewer."""
    lowercase: bool = True
    """Fold case (and accents, for wordpiece)."""
    sample_bytes: int = 10_000_000
    """Learn from about so much text, taken from all over the corpus (char reads all of it); more changes little and
    takes longer."""
    max_length: int = 512
    """What the saved tokenizer says is the longest input."""

    def __post_init__(self) -> None:
        if self.style == "gpt" and self.kind not in {"bpe", "char"}:
            raise ConfigError(
                f"train_tokenizer.style is gpt and train_tokenizer.kind is {self.kind}, which loses line ends and "
                "spaces: take bpe or char"
            )
        if self.vocab_size < 100:
            raise ConfigError(f"train_tokenizer.vocab_size is {self.vocab_size}: it must be 100 or more")
        if self.kind == "bpe" and self.vocab_size < 256 + len(self.special):
            raise ConfigError(
                f"train_tokenizer.vocab_size is {self.vocab_size}: train_tokenizer.kind bpe needs "
                f"{256 + len(self.special)} or more, every byte has an entry"
            )

    @property
    def special(self) -> tuple[str, ...]:
        """The special tokens, which have the first numbers: padding, unknown, then the style's own."""
        return SPECIAL if self.style == "bert" else GPT_SPECIAL


def gpt_tokenizer() -> TokenizerConfig:
    """GPT-2's kind: byte pairs, case kept, an end-of-text token between documents."""
    return TokenizerConfig(kind="bpe", style="gpt", lowercase=False)


def train(texts: Iterable[str], config: TokenizerConfig) -> PreTrainedTokenizerFast:
    """A tokenizer learnt from text; the same text gives the same vocabulary.

    Raises:
        DataError: there is no text.
    """
    backend: Any = None
    if config.kind == "char":
        backend = vocabularies.char(texts, config)
        empty = backend.get_vocab_size() == len(config.special)
    else:
        sample = _sample(texts, config.sample_bytes)
        empty = not any(text and not text.isspace() for text in sample)
        learn = {"wordpiece": vocabularies.wordpiece, "bpe": vocabularies.bpe, "unigram": vocabularies.unigram}
        backend = backend if empty else learn[config.kind](sample, config)
    if empty:
        raise DataError("no text to train a tokenizer on")
    _add_template(backend, config)
    return _bert_style(backend, config) if config.style == "bert" else _gpt_style(backend, config)


def _bert_style(backend: Any, config: TokenizerConfig) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=config.max_length,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def _gpt_style(backend: Any, config: TokenizerConfig) -> PreTrainedTokenizerFast:
    from transformers import PreTrainedTokenizerFast

    pad, unk, end = GPT_SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token=pad,
        unk_token=unk,
        bos_token=end,
        eos_token=end,
        model_max_length=config.max_length,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def train_once(texts: Iterable[str], config: TokenizerConfig, folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer saved in `folder`, trained first where there is none (a run that is resumed has one)."""
    if not (folder / "tokenizer.json").is_file():
        # Written beside and renamed: neither a killed run nor another process leaves or sees half of it.
        folder.parent.mkdir(parents=True, exist_ok=True)
        side = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            train(texts, config).save_pretrained(side)
            side.chmod(0o755)
            with contextlib.suppress(OSError):  # another process was first: its tokenizer is the same
                side.replace(folder)
        finally:
            shutil.rmtree(side, ignore_errors=True)
    return load(str(folder))


def load(name: str, backbone: BackboneConfig | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, a run or a Hub id; one without a padding token pads with its end token.

    Raises:
        ModelError: there is none.
    """
    from transformers import AutoTokenizer

    from hfcourse.backbones.load import locate
    from hfcourse.backbones.presets import PRESETS
    from hfcourse.backbones.settings import BackboneConfig

    hub = backbone or BackboneConfig()
    if name in PRESETS:
        raise ModelError(f"preset {name!r} has no tokenizer: give one with --tokenizer (a run folder has one)")
    place = name if (Path(name) / "tokenizer.json").is_file() else locate(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(place, revision=hub.revision, cache_dir=hub.cache_dir)
    except Exception as error:  # a damaged file raises whatever the library trips over
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        if Path(place).exists() or "/" in name:
            raise ModelError(f"{name}: no tokenizer here: give one with --tokenizer ({reason})") from error
        raise ModelError(f"{unknown('model', name, PRESETS)} (no tokenizer under that name: {reason})") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer  # type: ignore[no-any-return]


def for_model(model: str, given: str, folder: Path, backbone: BackboneConfig | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer that is `given`, or the model's own.

    A preset has no vocabulary: one in its style is learnt from the text that is always there, and kept in `folder`.
    """
    from hfcourse.backbones.presets import PRESETS, is_decoder

    if given or model not in PRESETS:
        return load(given or model, backbone)
    config = gpt_tokenizer() if is_decoder(model) else TokenizerConfig()
    return train_once(texts_of("pydocs/text"), config, folder)


def word_starts(tokenizer: PreTrainedTokenizerBase) -> Any:
    """bool (vocabulary,): which entries begin a word.

    WordPiece marks the others (``##``). BPE and SentencePiece mark the space in front (``Ġ``, ``▁``): there
    punctuation and Chinese or Japanese characters, which come without one, begin a word as well.
    """
    import numpy as np

    tokens = [token or "" for token in tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))]
    if any(token[:1] in {"Ġ", "▁"} for token in tokens):
        return np.array([token in tokenizer.all_special_tokens or _opens(token[:1]) for token in tokens])
    return np.array([not token.startswith("##") for token in tokens])


def _opens(char: str) -> bool:
    """Whether a word begins at this character wherever it stands (``Ċ`` and ``ĉ`` are bytes' newline and tab)."""
    ideograph = "\u2e80" <= char <= "\ua4cf" or "\uf900" <= char <= "\ufaff" or "\U00020000" <= char <= "\U0003ffff"
    return char in {"Ġ", "▁", "Ċ", "ĉ"} or ideograph or (char.isascii() and not char.isalnum())


def _sample(texts: Iterable[str], size: int) -> list[str]:
    """Texts of about `size` characters in all, evenly spaced over the corpus (its first part, if it is huge)."""
    kept: list[str] = []
    held = read = 0
    step = 1
    for number, text in enumerate(texts):
        if read >= _READ_AT_MOST * size:
            break
        read += len(text)
        if number % step:
            continue
        kept.append(text[:size])
        held += len(kept[-1])
        while held > 2 * size and len(kept) > 1:  # every second one of what is here, and of what comes
            kept, step = kept[::2], 2 * step
            held = sum(map(len, kept))
    share = min(1.0, size / max(held, 1))
    return [text for n, text in enumerate(kept) if int((n + 1) * share) > int(n * share)] or kept[:1]


def _add_template(tokenizer: Tokenizer, config: TokenizerConfig) -> None:
    """How one text or two become an input; in GPT's style a text alone stays open, to be gone on with."""
    from tokenizers import processors

    used = config.special[2:4]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0" if config.style == "bert" else "$A:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1" if config.style == "bert" else "$A:0 <|endoftext|>:0 $B:1",
        special_tokens=[(token, tokenizer.token_to_id(token)) for token in used],
    )


def texts_of(name: str, *, column: str = "text", data_dir: str | None = None) -> Iterator[str]:
    """The training texts of a corpus, shard by shard."""
    from hfcourse.data.documents import document_shards

    for shard in document_shards(name, column=column, data_dir=data_dir):
        yield from shard.documents()
