"""Train a tokenizer, or load any existing one; what is saved is an ordinary transformers tokenizer."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hfcourse.errors import ConfigError, DataError, ModelError, unknown

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    from hfcourse.backbones.settings import BackboneConfig

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_READ_AT_MOST = 20
"""A corpus is read up to so many times the size of the sample."""
_ALPHABET_TEXTS = 1000
"""Characters are counted in about so many texts."""
_COVERAGE = 0.9999
"""Share of the characters of the text that WordPiece has an entry for."""


@dataclass(frozen=True, kw_only=True)
class TokenizerConfig:
    """How a tokenizer is trained."""

    kind: Literal["wordpiece", "bpe", "unigram"] = "wordpiece"
    """wordpiece (BERT), bpe (bytes, as GPT-2), unigram (SentencePiece)."""
    vocab_size: int = 8192
    """Entries, special ones included; fewer if the text gives fewer."""
    lowercase: bool = True
    """Fold case (and accents, for wordpiece)."""
    sample_bytes: int = 10_000_000
    """Learn from about so much text, taken from all over the corpus; more changes little and takes longer."""
    max_length: int = 512
    """What the saved tokenizer says is the longest input."""

    def __post_init__(self) -> None:
        if self.vocab_size < 100:
            raise ConfigError(f"train_tokenizer.vocab_size is {self.vocab_size}: it must be 100 or more")
        if self.kind == "bpe" and self.vocab_size < 256 + len(SPECIAL):
            raise ConfigError(
                f"train_tokenizer.vocab_size is {self.vocab_size}: train_tokenizer.kind bpe needs "
                f"{256 + len(SPECIAL)} or more, every byte has an entry"
            )


def train(texts: Iterable[str], config: TokenizerConfig) -> PreTrainedTokenizerFast:
    """A tokenizer learnt from text; the same text gives the same vocabulary.

    Inputs are encoded as ``[CLS] A [SEP]`` or ``[CLS] A [SEP] B [SEP]``.

    Raises:
        DataError: there is no text.
    """
    from transformers import PreTrainedTokenizerFast

    sample = _sample(texts, config.sample_bytes)
    if not any(text and not text.isspace() for text in sample):
        raise DataError("no text to train a tokenizer on")
    backend = {"wordpiece": _wordpiece, "bpe": _bpe, "unigram": _unigram}[config.kind](sample, config)
    _add_template(backend)
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


def _wordpiece(texts: list[str], config: TokenizerConfig) -> Tokenizer:
    """BERT's: words and punctuation apart, then the pieces whose union makes text likeliest (arXiv 1609.08144)."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    alphabet = _alphabet(texts, tokenizer.normalizer, config.vocab_size)
    # Left alone, the trainer numbers the inner characters as its hash table gives them, and with them breaks ties:
    # no two vocabularies would be the same. Named beforehand, they have their numbers.
    inner = [f"##{char}" for char in alphabet]
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocab_size,
        special_tokens=[*SPECIAL, *inner],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    # The trainer marks what was named as special; the same vocabulary in a new model is not.
    trained = Tokenizer(models.WordPiece(tokenizer.get_vocab(), unk_token="[UNK]", max_input_chars_per_word=100))
    trained.normalizer, trained.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    trained.decoder = decoders.WordPiece()
    trained.add_special_tokens(list(SPECIAL))
    return trained


def _alphabet(texts: list[str], normalizer: Any, vocab_size: int) -> list[str]:
    """The characters that nearly all text is made of, in a fixed order; at most half of the vocabulary with ``##``."""
    import numpy as np

    whole = "".join(normalizer.normalize_str(text) for text in texts[:: max(1, len(texts) // _ALPHABET_TEXTS)])
    codes = np.frombuffer(whole.encode("utf-32-le", "replace"), dtype=np.uint32)
    counts = np.bincount(codes, minlength=1)
    counts[[code for code in counts.nonzero()[0].tolist() if chr(code).isspace()]] = 0
    common = (-counts).argsort(kind="stable")[: int(np.count_nonzero(counts))]
    before = counts[common].cumsum() - counts[common]
    kept = common[before < _COVERAGE * counts.sum()][: vocab_size // 4]
    return sorted(map(chr, kept.tolist()))


def _bpe(texts: list[str], config: TokenizerConfig) -> Tokenizer:
    """Byte pairs over bytes: no text is unknown (GPT-2)."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    if config.lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return tokenizer


def _unigram(texts: list[str], config: TokenizerConfig) -> Tokenizer:
    """SentencePiece's unigram language model (arXiv 1804.10959), trained by SentencePiece itself."""
    import io

    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as protobuf
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    written = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=(line for text in texts for line in text.split("\n") if line.strip()),
        model_writer=written,
        model_type="unigram",
        vocab_size=config.vocab_size,
        hard_vocab_limit=False,
        normalization_rule_name="nmt_nfkc_cf" if config.lowercase else "nmt_nfkc",
        pad_id=0,
        unk_id=1,
        bos_id=2,
        eos_id=3,
        pad_piece="[PAD]",
        unk_piece="[UNK]",
        bos_piece="[CLS]",
        eos_piece="[SEP]",
        control_symbols=["[MASK]"],
        num_threads=2,  # whatever the machine has: the vocabulary depends on how sums are split
        minloglevel=2,
    )
    model = protobuf.ModelProto()  # type: ignore[attr-defined]
    model.ParseFromString(written.getvalue())
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in model.pieces], unk_id=1))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Precompiled(model.normalizer_spec.precompiled_charsmap),  # SentencePiece's own table
            normalizers.Strip(),
            normalizers.Replace(Regex(" {2,}"), " "),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(list(SPECIAL))
    return tokenizer


def _add_template(tokenizer: Tokenizer) -> None:
    from tokenizers import processors

    cls, sep = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", cls), ("[SEP]", sep)],
    )


def texts_of(name: str, *, column: str = "text", data_dir: str | None = None) -> Iterator[str]:
    """The training texts of a corpus, shard by shard."""
    from hfcourse.data.documents import document_shards

    for shard in document_shards(name, column=column, data_dir=data_dir):
        yield from shard.documents()
