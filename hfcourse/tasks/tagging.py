"""Words -> tags: entities, parts of speech. The lecture's second use of BERT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hfcourse.errors import DataError
from hfcourse.heads.spec import HeadSpec
from hfcourse.metrics import tagging as metrics
from hfcourse.tasks import tables
from hfcourse.tasks.base import Batch, Row, Task, TaskContext

if TYPE_CHECKING:
    import datasets
    import numpy as np

    from hfcourse.data.encode import EncodedExamples

_WORDS = ("tokens", "words", "text")
_TAGS = ("tags", "ner_tags", "pos_tags", "upos", "labels", "label")
IGNORED = -100


@dataclass(frozen=True, kw_only=True)
class TaggingConfig:
    """Which table of words and tags."""

    kind: ClassVar[str] = "tagging"
    head_kind: ClassVar[str] = "frame"
    data: str = "pydocs/terms"
    """A builder, a file or folder of CoNLL (.conll, .bio, .conllu) or with columns of lists, or a Hub id."""
    data_dir: str | None = None
    """Raw files, for builders that read some."""
    train_limit: int = 0
    """Use only so many training examples, drawn by seed, smaller draws inside larger ones; 0 for `limit`."""
    words: str = ""
    """Column of words; found by the usual names where not given."""
    tags: str = ""
    """Column of tags; found by the usual names where not given."""
    stride: int = 32
    """Tokens that two windows share, where a sentence is longer than the model."""
    dev_share: float = 0.1
    """Share of the training rows cut off as dev split where none is given."""

    def build(self, context: TaskContext, *, new: str | None = None) -> Tagging:
        """Load and encode; with `new`, only the rows of that file, tagged or not."""
        return Tagging(self, context, new)


class Tagging(Task):
    """The first token of each word carries its tag; sentences longer than the model go in windows, no word is lost."""

    def __init__(self, config: TaggingConfig, context: TaskContext, new: str | None) -> None:
        self.name, self.config, self.tokenizer = config.data, config, tables.ready(context.tokenizer)
        raw = self._load(context, new)
        first = raw.get("train", next(iter(raw.values())))
        self.words = tables.named_column(first, config.words, _WORDS, self.name, "words")
        tagged = new is None or config.tags in first.column_names or bool(set(_TAGS) & {*first.column_names})
        self.tags = tables.named_column(first, config.tags, _TAGS, self.name, "tags") if tagged else ""
        raw = {split: tables.split_cells(table, (self.words, self.tags)) for split, table in raw.items()}
        self.labels = tables.Labels(self._label_names(raw, context, new))
        read = tables.lenient(self._numbers, context) if new else self._numbers
        raw = {split: tables.with_targets(table, read(split, table)) for split, table in raw.items()}
        raw = tables.limited(tables.with_dev(raw, context, share=config.dev_share), context, train=config.train_limit)
        self._raw = raw
        self.head = HeadSpec(kind="frame", labels=self.labels.names)
        self.metric = "f1" if metrics.has_entities(self.labels.names) else "accuracy"
        self._targets = {split: list(table[tables.TARGET]) for split, table in raw.items()}
        self.splits = {split: self._encode(split, table, context) for split, table in raw.items()}

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        import numpy as np
        import torch

        from hfcourse.data.encode import pad_inputs

        batch = pad_inputs(rows, self.tokenizer)
        if all(row["target"] is not None for row in rows):
            labels = np.full(batch["input_ids"].shape, IGNORED, dtype=np.int64)
            for number, row in enumerate(rows):
                labels[number, row["at"]] = row["target"]
            batch["labels"] = torch.from_numpy(labels)
        return batch

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        """The best tag of every token of a window, int16 (time,); `answers` knows where words start."""
        import numpy as np

        return list(logits.argmax(dim=-1).cpu().numpy().astype(np.int16))

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        import numpy as np

        windows: Windowed = self.splits[split]  # type: ignore[assignment]
        sentences = list(self._raw[split][self.words])
        names = np.array(self.labels.names, dtype=object)
        # A word that the tokenizer makes nothing of (a lone control character) is tagged as outside.
        other = "O" if "O" in self.labels.names else self.labels.names[0]
        found = [np.full(len(words), other, dtype=object) for words in sentences]
        for row, best in enumerate(predictions):
            found[windows.sentences[row]][windows.words[row]] = names[best[windows.starts[row]]]
        return [
            {
                "id": number,
                "prediction": tags.tolist(),
                "reference": None if target is None else [self.labels.names[t] for t in target],
                "tokens": words,
                "text": " ".join(words),
            }
            for number, (words, tags, target) in enumerate(zip(sentences, found, self._targets[split], strict=True))
        ]

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        predictions = [answer["prediction"] for answer in answers]
        references = [answer["reference"] for answer in answers]
        if self.metric == "f1":
            return metrics.entity_scores(predictions, references)
        return {"accuracy": metrics.tag_accuracy(predictions, references)}

    def _load(self, context: TaskContext, new: str | None) -> tables.Tables:
        """CoNLL files go through their builders; everything else is a table."""
        import datasets

        from hfcourse.data.loading import conll_builder, load

        source = new or self.config.data
        builder = conll_builder(source)
        if builder is None:
            return tables.load_tables(self.config.data, self.config.data_dir, context, new)
        if new and builder != "conllu" and (sentences := _words_only(Path(new))):
            return {"test": datasets.Dataset.from_dict({"tokens": sentences})}
        splits = dict(load(builder, data_dir=source, cache_dir=context.cache_dir))
        return {"test": next(iter(splits.values()))} if new else splits

    def _label_names(self, raw: tables.Tables, context: TaskContext, new: str | None) -> tuple[str, ...]:
        from hfcourse.data.loading import labels_of

        if new is not None and context.model_labels:
            return context.model_labels
        first = raw.get("train", next(iter(raw.values())))
        names = labels_of(first, self.tags) or _complete({str(tag) for tags in first[self.tags] for tag in tags})
        if len(names) < 2:
            raise DataError(f"{self.name}: column {self.tags!r} has fewer than two tags: there is nothing to learn")
        return tables.in_models_order(tuple(names), context, self.name)

    def _numbers(self, split: str, table: datasets.Dataset) -> list[list[int] | None]:
        from hfcourse.data.loading import labels_of

        if not self.tags or self.tags not in table.column_names:
            return [None] * len(table)
        declared = labels_of(table, self.tags)
        numbers: list[list[int] | None] = []
        for row, (words, tags) in enumerate(zip(table[self.words], table[self.tags], strict=True), start=1):
            where = f"{self.name}, {split}, row {row}"
            if len(words) != len(tags):
                raise DataError(f"{where}: {len(words)} words but {len(tags)} tags")
            if any(isinstance(tag, int) and tag < 0 for tag in tags):
                numbers.append(None)  # a hidden test set
                continue
            named = (declared[tag] if declared and isinstance(tag, int) else tag for tag in tags)
            numbers.append([self.labels.number(tag, where) for tag in named])
        tables.refuse_unlabelled(numbers, self.name, split)
        return numbers

    def _encode(self, split: str, table: datasets.Dataset, context: TaskContext) -> Windowed:
        from hfcourse.data.encode import encode, tokenizer_key

        arguments = {
            "tokenizer": self.tokenizer,
            "max_length": context.max_length,
            "stride": min(self.config.stride, context.max_length // 4),
            "spaced": _needs_spaces(self.tokenizer),
        }
        key = {**arguments, "tokenizer": tokenizer_key(self.tokenizer)}
        words = table.select_columns([self.words]).rename_columns({self.words: "words"})
        numbered = tables.with_column(words, "sentence", list(range(len(words))))
        examples = encode(numbered, encode_words, key=key, arguments=arguments)
        more = len(examples) - len(table)
        if more and context.strict:
            raise DataError(
                f"{self.name}, {split}: {more} windows too many: sentences exceed {context.max_length} tokens"
            )
        if more:
            context.notes.append(f"{self.name}, {split}: long sentences were read in {more} more windows")
        return Windowed(examples, self._targets[split])


class Windowed:
    """Encoded windows; each knows its sentence, its words, and where in the window they start."""

    def __init__(self, examples: EncodedExamples, targets: list[list[int] | None]) -> None:
        self.examples, self.targets, self.lengths = examples, targets, examples.lengths
        self.sentences: list[int] = list(examples.table["sentence"])
        """Number of the sentence that each window belongs to."""
        self.words: list[list[int]] = list(examples.table["words"])
        """Numbers of the words that each window answers for."""
        self.starts: list[list[int]] = list(examples.table["at"])
        """Positions of the first tokens of these words."""

    def __len__(self) -> int:
        return len(self.examples)

    def take(self, rows: Sequence[int] | np.ndarray) -> list[Row]:
        """Windows with their ``target``: the tag of each of their words."""
        taken = self.examples.take(rows)
        for row in taken:
            tags = self.targets[row["sentence"]]
            row["target"] = None if tags is None else [tags[word] for word in row["words"]]
        return taken


def encode_words(
    columns: dict[str, list[Any]], tokenizer: Any, max_length: int, stride: int, spaced: bool
) -> dict[str, list[Any]]:
    """Windows of token ids: ``words`` are those a window answers for, ``at`` the positions of their first tokens.

    A word in the overlap of two windows is answered by the one in which it lies further from the edge. `spaced` puts
    a space before each word but the first, for tokenizers to which " word" and "word" are different things.
    """
    import numpy as np

    # An empty word gives no token and could carry no tag.
    words = [[word if word.strip() else "." for word in map(str, sentence)] for sentence in columns["words"]]
    if spaced:
        words = [[*sentence[:1], *(" " + word for word in sentence[1:])] for sentence in words]
    encoded = tokenizer(
        words,
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_attention_mask=False,
    )
    sample = np.asarray(encoded.pop("overflow_to_sample_mapping"))
    lengths = np.array([len(ids) for ids in encoded["input_ids"]])
    window, word, at = _first_tokens([encoded.word_ids(number) for number in range(len(sample))], lengths)
    # The first token of a word that was cut at a window's start is a later piece of it. It lies at the very edge, so
    # the window before, which has the word's beginning, is at least as good and stands first.
    room = np.minimum(at, lengths[window] - 1 - at)
    order = np.lexsort((window, -room, word, sample[window]))
    owner = np.stack([sample[window], word])[:, order]
    best = np.sort(order[np.append(True, (owner[:, 1:] != owner[:, :-1]).any(axis=0))]) if len(order) else order
    edges = np.searchsorted(window[best], np.arange(1, len(sample)))
    return {
        **{name: list(values) for name, values in encoded.items()},
        "sentence": [columns["sentence"][number] for number in sample],
        "words": [part.tolist() for part in np.split(word[best], edges)],
        "at": [part.tolist() for part in np.split(at[best], edges)],
    }


def _first_tokens(word_ids: list[list[int | None]], lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Window, word and position of every token that begins a word in its window, each int64 (words of all windows,)."""
    import numpy as np

    words = np.nan_to_num(np.array([word for ids in word_ids for word in ids], dtype=float), nan=-1).astype(np.int64)
    window = np.repeat(np.arange(len(lengths)), lengths)
    at = np.arange(len(words)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    new = (at == 0) | (words != np.roll(words, 1))
    first = np.flatnonzero(new & (words >= 0))
    return window[first], words[first], at[first]


def _complete(tags: set[str]) -> tuple[str, ...]:
    """Tags in order, ``O`` first; an entity type that was seen to begin may also go on, and the other way round."""
    if metrics.has_entities(sorted(tags)) and all(tag[:1] in "OBI" for tag in tags):
        tags = tags | {mark + tag[2:] for tag in tags - {"O"} for mark in ("B-", "I-")}
    return tuple(sorted(tags, key=lambda tag: (tag != "O", tag[2:] if tag[1:2] == "-" else tag, tag)))


def _words_only(path: Path) -> list[list[str]] | None:
    """Sentences of a CoNLL file that has words alone (new rows); None if any line has more."""
    from hfcourse.data.files import read_text

    lines = [line.split() for line in read_text(path).split("\n")]
    if any(len(cells) > 1 for cells in lines if cells[:1] != ["-DOCSTART-"]):
        return None
    sentences: list[list[str]] = [[]]
    for cells in lines:
        if not cells:
            sentences.append([])
        elif cells[0] != "-DOCSTART-":
            sentences[-1].append(cells[0])
    return [sentence for sentence in sentences if sentence]


def _needs_spaces(tokenizer: Any) -> bool:
    """Whether this is a byte-level tokenizer (GPT-2, RoBERTa) that takes a word without a space for a word's end."""
    import json

    backend = getattr(tokenizer, "backend_tokenizer", None)
    step = json.loads(backend.to_str())["pre_tokenizer"] if backend is not None else None
    steps = [step, *(step.get("pretokenizers") or [])] if step else []
    return any(one["type"] == "ByteLevel" and not one["add_prefix_space"] for one in steps)
