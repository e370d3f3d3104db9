"""How a vocabulary is learnt from text, kind by kind: each gives a `tokenizers.Tokenizer` without a template."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from hfcourse.data.tokenizers import TokenizerConfig

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
"""Of a tokenizer in BERT's style."""
GPT_SPECIAL = ("<|pad|>", "<|unk|>", "<|endoftext|>")
"""Of one in GPT's style: the last one stands between documents, begins a text and ends it."""
_ALPHABET_TEXTS = 1000
"""Characters are counted in about so many texts."""
_COVERAGE = 0.9999
"""Share of the characters of the text that WordPiece has an entry for."""


def wordpiece(texts: list[str], config: TokenizerConfig) -> Tokenizer:
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


def bpe(texts: list[str], config: TokenizerConfig) -> Tokenizer:
    """Byte pairs over bytes: no text is unknown (GPT-2)."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    if config.lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    # In GPT's style what is decoded is what was read, to the last space.
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=config.style == "bert")
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        special_tokens=list(config.special),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    return tokenizer


def unigram(texts: list[str], config: TokenizerConfig) -> Tokenizer:
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


def char(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """One entry a character of the text, by its code point: nothing is lost, line ends and spaces included."""
    import numpy as np
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    counts = np.zeros(0x110000, dtype=np.int64)
    for text in texts:
        read = text.lower() if config.lowercase else text
        counts += np.bincount(
            np.frombuffer(read.encode("utf-32-le", "replace"), dtype=np.uint32), minlength=len(counts)
        )
    common = (-counts).argsort(kind="stable")[
        : min(int(np.count_nonzero(counts)), config.vocab_size - len(config.special))
    ]
    entries = [*config.special, *map(chr, sorted(common.tolist()))]
    vocabulary = {entry: number for number, entry in enumerate(entries)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=config.special[1]))
    if config.lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    tokenizer.add_special_tokens(list(config.special))
    return tokenizer
