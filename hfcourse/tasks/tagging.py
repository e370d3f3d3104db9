"""Words -> tags: entities, parts of speech. The lecture's second use of BERT."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hfcourse.errors import DataError
from hfcourse.heads.spec import HeadSpec
from hfcourse.metrics import tagging as metrics
from hfcourse.tasks import tables
from hfcourse.tasks.base import Batch, Row, Task, TaskContext

if TYPE_CHECKING:
    import datasets

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
        self.name, self.config, self.tokenizer = config.data, config, context.tokenizer
        raw = self._load(context, new)
        first = raw.get("train", next(iter(raw.values())))
        self.words = tables.named_column(first, config.words, _WORDS, self.name, "words")
        tagged = new is None or config.tags in first.column_names or bool(set(_TAGS) & {*first.column_names})
        self.tags = tables.named_column(first, config.tags, _TAGS, self.name, "tags") if tagged else ""
        raw = tables.limited(tables.with_dev(raw, context, share=config.dev_share), context)
        self._raw = raw
        self.labels = tables.Labels(self._label_names(raw, context, new))
        self.head = HeadSpec(kind="frame", labels=self.labels.names)
        entities = any(name.startswith("B-") for name in self.labels.names)
        self.metric = "f1" if entities else "accuracy"
        self._targets = {split: self._numbers(split, table) for split, table in raw.items()}
        self.splits = {split: self._encode(split, table, context) for split, table in raw.items()}

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        import numpy as np
        import torch

        from hfcourse.data.encode import pad_inputs

        batch = pad_inputs(rows, self.tokenizer)
        labels = np.full(batch["input_ids"].shape, IGNORED, dtype=np.int64)
        for number, row in enumerate(rows):
            if row["target"] is not None:
                labels[number, row["at"]] = row["target"]
        if any(row["target"] is not None for row in rows):
            batch["labels"] = torch.from_numpy(labels)
        # Where the words of each row start, for `predict`: not a model input, so kept outside the batch.
        self._at = [row["at"] for row in rows]
        return batch

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        best = logits.argmax(dim=-1).cpu().numpy()
        return [best[number, at].tolist() for number, at in enumerate(self._at)]

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        examples: Windowed = self.splits[split]  # type: ignore[assignment]
        sentences = self._raw[split][self.words]
        found: list[list[str]] = [
            ["O" if "O" in self.labels.names else self.labels.names[0]] * len(s) for s in sentences
        ]
        for row, tags in enumerate(predictions):
            for word, tag in zip(examples.words_of(row), tags, strict=True):
                found[examples.sentence_of(row)][word] = self.labels.names[tag]
        return [
            {
                "id": number,
                "prediction": tags,
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
        from hfcourse.data.load import conll_builder, load

        source = new or self.config.data
        builder = conll_builder(source)
        if builder is None:
            return tables.load_tables(self.config.data, self.config.data_dir, context, new)
        splits = dict(load(builder, data_dir=source, cache_dir=context.cache_dir))
        return {"test": next(iter(splits.values()))} if new else splits

    def _label_names(self, raw: tables.Tables, context: TaskContext, new: str | None) -> tuple[str, ...]:
        from hfcourse.data.load import labels_of

        if new is not None and context.model_labels:
            return context.model_labels
        first = raw.get("train", next(iter(raw.values())))
        names = labels_of(first, self.tags) or tables.find_labels(tag for tags in first[self.tags] for tag in tags)
        if len(names) < 2:
            raise DataError(f"{self.name}: column {self.tags!r} has fewer than two tags: there is nothing to learn")
        return tables.in_models_order(tuple(names), context, self.name)

    def _numbers(self, split: str, table: datasets.Dataset) -> list[list[int] | None]:
        from hfcourse.data.load import labels_of

        if not self.tags or self.tags not in table.column_names:
            return [None] * len(table)
        declared = labels_of(table, self.tags)
        numbers: list[list[int] | None] = []
        for row, (words, tags) in enumerate(zip(table[self.words], table[self.tags], strict=True), start=1):
            where = f"{self.name}, {split}, row {row}"
            if len(words) != len(tags):
                raise DataError(f"{where}: {len(words)} words but {len(tags)} tags")
            if any(isinstance(tag, int) and tag < 0 for tag in tags):
                numbers.append(None)
                continue
            named = (declared[tag] if declared and isinstance(tag, int) else tag for tag in tags)
            numbers.append([self.labels.number(tag, where) for tag in named])
        return numbers

    def _encode(self, split: str, table: datasets.Dataset, context: TaskContext) -> Windowed:
        from hfcourse.data.encode import encode, tokenizer_key

        arguments = {
            "tokenizer": self.tokenizer,
            "max_length": context.max_length,
            "stride": min(self.config.stride, context.max_length // 4),
        }
        key = {**arguments, "tokenizer": tokenizer_key(self.tokenizer)}
        words = table.select_columns([self.words]).rename_columns({self.words: "words"})
        numbered = words.add_column("sentence", list(range(len(words))))
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

    def __init__(self, examples: Any, targets: list[list[int] | None]) -> None:
        self.examples, self.targets, self.lengths = examples, targets, examples.lengths
        self._sentences = examples.table["sentence"]
        self._words = examples.table["words"]

    def __len__(self) -> int:
        return len(self.examples)

    def sentence_of(self, row: int) -> int:
        """Number of the sentence that a window belongs to."""
        return self._sentences[row]  # type: ignore[no-any-return]

    def words_of(self, row: int) -> list[int]:
        """Numbers of the words that a window answers for."""
        return self._words[row]  # type: ignore[no-any-return]

    def take(self, rows: Any) -> list[Row]:
        """Windows with their ``target``: the tag of each of their words."""
        taken = self.examples.take(rows)
        for row in taken:
            tags = self.targets[row["sentence"]]
            row["target"] = None if tags is None else [tags[word] for word in row["words"]]
        return taken


def encode_words(columns: dict[str, list[Any]], tokenizer: Any, max_length: int, stride: int) -> dict[str, list[Any]]:
    """Windows of token ids: ``words`` are those a window answers for, ``at`` the positions of their first tokens.

    A word in the overlap of two windows is answered by the one in which it lies further from the edge.
    """
    # An empty word gives no token and could carry no tag.
    words = [[word if str(word).strip() else "." for word in sentence] for sentence in columns["words"]]
    encoded = tokenizer(
        words,
        is_split_into_words=True,
        truncation=True,
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_attention_mask=False,
    )
    sample = encoded.pop("overflow_to_sample_mapping")
    rows: dict[str, list[Any]] = {name: list(values) for name, values in encoded.items()}
    rows |= {"sentence": [], "words": [], "at": []}
    starts: list[dict[int, int]] = []
    for number in range(len(sample)):
        ids, first = encoded.word_ids(number), {}
        for position, word in enumerate(ids):
            if word is not None and word not in first:
                first[word] = position
        starts.append(first)
    owner: dict[tuple[int, int], tuple[int, int]] = {}
    for number, first in enumerate(starts):
        length = len(rows["input_ids"][number])
        for word, position in first.items():
            # The first token of a word cut off at a window's start is a later piece of it: never preferred.
            room = min(position, length - 1 - position)
            key = (sample[number], word)
            if key not in owner or room > owner[key][0]:
                owner[key] = (room, number)
    for number, first in enumerate(starts):
        kept = [(word, at) for word, at in first.items() if owner[(sample[number], word)][1] == number]
        rows["sentence"].append(columns["sentence"][sample[number]])
        rows["words"].append([word for word, _ in kept])
        rows["at"].append([at for _, at in kept])
    return rows
