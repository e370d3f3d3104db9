"""Train a tokenizer, or load any existing one; what is saved is an ordinary transformers tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hfcourse.errors import ConfigError, DataError, ModelError

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

    from hfcourse.backbones.settings import BackboneConfig

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


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
    """Learn from about so much text; more changes little and takes longer."""
    max_length: int = 512
    """What the saved tokenizer says is the longest input."""

    def __post_init__(self) -> None:
        if self.vocab_size < 100:
            raise ConfigError(f"train_tokenizer.vocab_size is {self.vocab_size}: it must be 100 or more")


def train(texts: Iterable[str], config: TokenizerConfig) -> PreTrainedTokenizerFast:
    """A tokenizer learnt from text; the same text gives the same vocabulary.

    Inputs are encoded as ``[CLS] A [SEP]`` or ``[CLS] A [SEP] B [SEP]``.

    Raises:
        DataError: there is no text.
    """
    from transformers import PreTrainedTokenizerFast

    sample = _sample(texts, config.sample_bytes)
    if not sample:
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
        train(texts, config).save_pretrained(folder)
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
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ModelError(f"{name}: no tokenizer here: give one with --tokenizer ({reason})") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer  # type: ignore[no-any-return]


def word_starts(tokenizer: PreTrainedTokenizerBase) -> Any:
    """bool (vocabulary,): which entries begin a word (WordPiece's ``##``, BPE's ``Ġ``, SentencePiece's ``▁``)."""
    import numpy as np

    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    marked = [token is not None and token[:1] in {"Ġ", "▁"} for token in tokens]
    if any(marked):
        return np.array(marked)
    return np.array([token is None or not token.startswith("##") for token in tokens])


def _sample(texts: Iterable[str], size: int) -> list[str]:
    """Texts up to about `size` characters."""
    sample: list[str] = []
    held = 0
    for text in texts:
        sample.append(text)
        held += len(text)
        if held >= size:
            break
    return sample


def _wordpiece(texts: list[str], config: TokenizerConfig) -> Tokenizer:
    """BERT's: words and punctuation apart, then the pieces whose union makes text likeliest (arXiv 1609.08144)."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=config.lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=config.vocab_size, special_tokens=list(SPECIAL), limit_alphabet=1000, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return tokenizer


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
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

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
        num_threads=1,  # sums in another order would give another vocabulary
        minloglevel=2,
    )
    model = protobuf.ModelProto()
    model.ParseFromString(written.getvalue())
    tokenizer = Tokenizer(models.Unigram([(piece.piece, piece.score) for piece in model.pieces], unk_id=1))
    steps = [normalizers.NFKC(), normalizers.Replace("\n", " ")]
    tokenizer.normalizer = normalizers.Sequence([*steps, normalizers.Lowercase()] if config.lowercase else steps)
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
