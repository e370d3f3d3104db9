"""Context and question + several choices -> one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hfcourse.errors import DataError
from hfcourse.heads.spec import HeadSpec
from hfcourse.metrics import classification as metrics
from hfcourse.tasks import tables
from hfcourse.tasks.base import Batch, Row, Task, TaskContext

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True, kw_only=True)
class MultipleChoiceConfig:
    """Which table, which columns."""

    kind: ClassVar[str] = "multiple_choice"
    head_kind: ClassVar[str] = "multiple_choice"
    data: str = ""
    """A file or folder of json/jsonl/parquet (choices as a list) or csv/tsv (a column a choice), or a Hub id."""
    data_dir: str | None = None
    """Raw files, for builders that read some."""
    text: str = ""
    """Column of the context or question that every choice is read with; found by the usual names where not given."""
    choices: tuple[str, ...] = ()
    """Column with the list of choices, or one column for each; found by the usual names where not given."""
    label: str = ""
    """Column of the right choice, as its number from 0 or as its text; found by the usual names where not given."""
    dev_share: float = 0.1
    """Share of the training rows cut off as dev split where none is given."""

    def build(self, context: TaskContext, *, new: str | None = None) -> MultipleChoice:
        """Load and encode; with `new`, only the rows of that file."""
        return MultipleChoice(self, context, new)


class MultipleChoice(Task):
    """Every choice is read with the context; the highest score wins. Rows may have different numbers of choices."""

    metric = "accuracy"
    head = HeadSpec(kind="multiple_choice")

    def __init__(self, config: MultipleChoiceConfig, context: TaskContext, new: str | None) -> None:
        if not config.data and new is None:
            raise DataError("multiple choice has no data of its own: set --task.data")
        self.name, self.config, self.tokenizer = config.data, config, context.tokenizer
        raw = tables.load_tables(config.data, config.data_dir, context, new)
        first = raw.get("train", next(iter(raw.values())))
        self.text = tables.named_column(first, config.text, ("question", "context", "sent1", "text"), self.name, "text")
        names = config.choices or tuple(n for n in ("choices", "endings", "options") if n in first.column_names)[:1]
        if not names:
            raise DataError(f"{self.name}: which column holds the choices? Set --task.choices: {first.column_names}")
        self.columns = [tables.named_column(first, name, [], self.name, "choices") for name in names]
        guesses = ("label", "answer", "answerKey", "gold")
        labelled = new is None or config.label in first.column_names or bool(set(guesses) & {*first.column_names})
        self.label = tables.named_column(first, config.label, guesses, self.name, "label") if labelled else ""
        raw = tables.limited(tables.with_dev(raw, context, share=config.dev_share), context)
        self._raw = raw
        self._choices = {split: self._read_choices(table) for split, table in raw.items()}
        self._targets = {split: self._read_targets(split, table) for split, table in raw.items()}
        self.splits = {split: self._encode(split, table, context) for split, table in raw.items()}

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        import torch

        from hfcourse.data.encode import pad_inputs

        most = max(len(row["choices"]) for row in rows)
        # A row with fewer choices repeats its first one; the repetition is never an answer.
        flat = [row["choices"][n if n < len(row["choices"]) else 0] for row in rows for n in range(most)]
        batch = {name: t.view(len(rows), most, -1) for name, t in pad_inputs(flat, self.tokenizer).items()}
        self._counts = [len(row["choices"]) for row in rows]
        if all(row["target"] is not None for row in rows):
            batch["labels"] = torch.tensor([row["target"] for row in rows])
        return batch

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        scores = [row[:count].float().softmax(dim=-1) for row, count in zip(logits, self._counts, strict=True)]
        return [(int(score.argmax()), float(score.max())) for score in scores]

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        texts, choices, targets = self._raw[split][self.text], self._choices[split], self._targets[split]
        return [
            {
                "id": number,
                "prediction": choices[number][best],
                "reference": None if target is None else choices[number][target],
                "confidence": confidence,
                "text": texts[number],
                "choices": choices[number],
            }
            for number, ((best, confidence), target) in enumerate(zip(predictions, targets, strict=True))
        ]

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        predictions, references = [a["prediction"] for a in answers], [a["reference"] for a in answers]
        return {"accuracy": metrics.accuracy(predictions, references)}

    def _read_choices(self, table: datasets.Dataset) -> list[list[str]]:
        if len(self.columns) > 1:
            return [list(map(str, row)) for row in zip(*(table[name] for name in self.columns), strict=True)]
        cells = table[self.columns[0]]
        # Some Hub sets hold {"text": [...], "label": [...]}.
        return [list(map(str, cell["text"] if isinstance(cell, dict) else cell)) for cell in cells]

    def _read_targets(self, split: str, table: datasets.Dataset) -> list[int | None]:
        if not self.label or self.label not in table.column_names:
            return [None] * len(table)
        pairs = zip(table[self.label], self._choices[split], strict=True)
        return [_target(cell, c, f"{self.name}, {split}, row {n}") for n, (cell, c) in enumerate(pairs, start=1)]

    def _encode(self, split: str, table: datasets.Dataset, context: TaskContext) -> Any:
        import datasets as library

        from hfcourse.data.encode import encode, tokenizer_key
        from hfcourse.tasks.classification import encode_texts

        counts = [len(choices) for choices in self._choices[split]]
        first = [text for text, count in zip(table[self.text], counts, strict=True) for _ in range(count)]
        second = [choice for choices in self._choices[split] for choice in choices]
        pairs = library.Dataset.from_dict({"first": first, "second": second})
        key = {"tokenizer": tokenizer_key(self.tokenizer), "max_length": context.max_length}
        arguments = {"tokenizer": self.tokenizer, "max_length": context.max_length}
        examples = encode(pairs, encode_texts, key=key, arguments=arguments)
        tables.note_cut(self.name, split, sum(examples.table["cut"]), len(examples), context)
        return Grouped(examples, counts, self._targets[split])


class Grouped:
    """Rows of several encoded choices each."""

    def __init__(self, examples: Any, counts: list[int], targets: list[int | None]) -> None:
        import numpy as np

        self.examples, self.targets = examples, targets
        self.edges = np.concatenate([[0], np.cumsum(counts)])
        widest = np.maximum.reduceat(examples.lengths, self.edges[:-1])
        self.lengths = widest * np.asarray(counts)

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Any) -> list[Row]:
        """Rows with their encoded ``choices`` and ``target``."""
        taken = []
        for row in map(int, rows):
            choices = self.examples.take(range(self.edges[row], self.edges[row + 1]))
            taken.append({"row": row, "choices": choices, "target": self.targets[row]})
        return taken


def _target(cell: Any, choices: list[str], where: str) -> int | None:
    """The number of the right choice, given as a number, a letter or its text."""
    if cell is None or cell == "":
        return None
    word = tables.label_word(cell)
    if word in choices:
        return choices.index(word)
    number = int(word) if word.isdigit() else ord(word.upper()) - ord("A") if len(word) == 1 else -1
    if not 0 <= number < len(choices):
        raise DataError(
            f"{where}: label {word!r} is none of the {len(choices)} choices (a number from 0, A-Z, or text)"
        )
    return number
