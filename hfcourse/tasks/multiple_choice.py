"""Context and question + several choices -> one of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hfcourse.errors import DataError
from hfcourse.heads.spec import HeadSpec
from hfcourse.metrics import classification as metrics
from hfcourse.tasks import tables
from hfcourse.tasks.base import Batch, Row, Task, TaskContext

if TYPE_CHECKING:
    import datasets
    import numpy as np

    from hfcourse.data.encode import EncodedExamples
    from hfcourse.objectives.base import Objective

_TEXTS = ("context", "article", "passage", "premise", "sent1", "ctx", "question", "text")
_QUESTIONS = ("question", "sent2")
_CHOICES = ("choices", "endings", "options")
_LABELS = ("label", "answer", "answerKey", "gold")


@dataclass(frozen=True, kw_only=True)
class MultipleChoiceConfig:
    """Which table, which columns."""

    kind: ClassVar[str] = "multiple_choice"
    head_kind: ClassVar[str] = "multiple_choice"
    data: str = ""
    """A file or folder of json/jsonl/parquet (choices as a list) or csv/tsv (a column a choice), or a Hub id."""
    data_dir: str | None = None
    """Raw files, for builders that read some."""
    train_limit: int = 0
    """Use only so many training examples, drawn by seed, smaller draws inside larger ones; 0 for `limit`."""
    text: str = ""
    """Column of the context that every choice is read with; found by the usual names where not given."""
    question: str = ""
    """Column of a question (or of a sentence's beginning) that stands before each choice; none where neither given
    nor found beside the context."""
    choices: tuple[str, ...] = ()
    """Column with the list of choices, or one column for each; found by the usual names where not given."""
    label: str = ""
    """Column of the right choice: its number from 0, its letter or its text; found by the usual names."""
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
        self.name, self.config, self.tokenizer = config.data, config, tables.ready(context.tokenizer)
        raw = tables.load_tables(config.data, config.data_dir, context, new)
        self._find_columns(raw.get("train", next(iter(raw.values()))), labelled=new is None)
        read = tables.lenient(self._read_targets, context) if new else self._read_targets
        raw = {split: tables.with_targets(table, read(split, table)) for split, table in raw.items()}
        self._raw = tables.limited(
            tables.with_dev(raw, context, share=config.dev_share), context, train=config.train_limit
        )
        self._choices = {split: self._read_choices(split, table) for split, table in self._raw.items()}
        self._targets = {split: list(table[tables.TARGET]) for split, table in self._raw.items()}
        self.splits = {split: self._encode(split, table, context) for split, table in self._raw.items()}

    @property
    def objective(self) -> Objective:
        from hfcourse.objectives.choices import CountedChoices

        return CountedChoices()

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        """``input_ids`` (batch, choices, time); ``choice_counts`` (batch,) where rows have different numbers."""
        import torch

        from hfcourse.data.encode import pad_inputs

        counts = [len(row["choices"]) for row in rows]
        most = max(counts)
        # What fills up a row with fewer choices is read, but takes no part (see the objective).
        flat = [row["choices"][n if n < len(row["choices"]) else 0] for row in rows for n in range(most)]
        batch = {name: t.view(len(rows), most, -1) for name, t in pad_inputs(flat, self.tokenizer).items()}
        if min(counts) < most:
            batch["choice_counts"] = torch.tensor(counts)
        if all(row["target"] is not None for row in rows):
            batch["labels"] = torch.tensor([row["target"] for row in rows])
        return batch

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        confidence, best = logits.float().softmax(dim=-1).max(dim=-1)
        return list(zip(best.tolist(), confidence.tolist(), strict=True))

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        table, choices, targets = self._raw[split], self._choices[split], self._targets[split]
        texts, questions = table[self.text], table[self.question] if self.question else [None] * len(table)
        return [
            {
                "id": number,
                "prediction": choices[number][best],
                "reference": None if target is None else choices[number][target],
                "confidence": confidence,
                "text": texts[number],
                **({"question": questions[number]} if self.question else {}),
                "choices": choices[number],
                "choice": best,
            }
            for number, ((best, confidence), target) in enumerate(zip(predictions, targets, strict=True))
        ]

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        predictions, references = [a["prediction"] for a in answers], [a["reference"] for a in answers]
        return {"accuracy": metrics.accuracy(predictions, references)}

    def _find_columns(self, table: datasets.Dataset, *, labelled: bool) -> None:
        config, there = self.config, table.column_names
        self.text = tables.named_column(table, config.text, _TEXTS, self.name, "text")
        guess = "" if config.text else next((name for name in _QUESTIONS if name in there and name != self.text), "")
        asked = config.question or guess
        self.question = tables.named_column(table, asked, (), self.name, "question") if asked else ""
        numbered = sorted(name for name in there if re.fullmatch(r"(choice|ending|option|answer)_?[0-9a-e]", name))
        names = config.choices or tuple(name for name in _CHOICES if name in there)[:1] or tuple(numbered)
        if not names:
            raise DataError(f"{self.name}: which column holds the choices? Set --task.choices: {', '.join(there)}")
        self.columns = [tables.named_column(table, name, (), self.name, "choices") for name in names]
        guesses = [name for name in _LABELS if name not in names]
        known = config.label in there or (not config.label and bool(set(guesses) & {*there}))
        self.label = tables.named_column(table, config.label, guesses, self.name, "label") if labelled or known else ""

    def _read_choices(self, split: str, table: datasets.Dataset) -> list[list[str]]:
        """The choices of every row.

        Raises:
            DataError: fewer than two, with the row.
        """
        if len(self.columns) > 1:
            rows = zip(*(table[name] for name in self.columns), strict=True)
            found = [[str(cell) for cell in row if cell is not None and cell != ""] for row in rows]
        else:
            # Some Hub sets hold {"text": [...], "label": [...]}.
            cells = (cell["text"] if isinstance(cell, dict) else cell for cell in table[self.columns[0]])
            found = [list(map(str, cell)) if isinstance(cell, list) else [] for cell in cells]
        few = next((number for number, choices in enumerate(found, start=1) if len(choices) < 2), None)
        if few is not None:
            raise DataError(
                f"{self.name}, {split}, row {few}: fewer than two choices: column {self.columns[0]!r} must be a list, "
                "or name one column for each choice"
            )
        return found

    def _read_targets(self, split: str, table: datasets.Dataset) -> list[int | None]:
        choices = self._read_choices(split, table)
        if not self.label or self.label not in table.column_names:
            targets: list[int | None] = [None] * len(table)
        else:
            first = table[self.columns[0]]
            keys = [cell.get("label") if isinstance(cell, dict) else None for cell in first]
            where = f"{self.name}, {split}, row"
            rows = enumerate(zip(table[self.label], choices, keys, strict=True), start=1)
            targets = [_target(cell, row, names, f"{where} {n}") for n, (cell, row, names) in rows]
        tables.refuse_unlabelled(targets, self.name, split)
        return targets

    def _encode(self, split: str, table: datasets.Dataset, context: TaskContext) -> Grouped:
        import datasets as library

        from hfcourse.data.encode import encode, tokenizer_key
        from hfcourse.tasks.classification import encode_texts

        counts = [len(choices) for choices in self._choices[split]]
        before = [f"{question} " for question in table[self.question]] if self.question else [""] * len(table)
        rows = list(zip(table[self.text], before, self._choices[split], strict=True))
        first = [text for text, _, choices in rows for _ in choices]
        second = [question + choice for _, question, choices in rows for choice in choices]
        pairs = library.Dataset.from_dict({"first": first, "second": second})
        key = {"tokenizer": tokenizer_key(self.tokenizer), "max_length": context.max_length}
        arguments = {"tokenizer": self.tokenizer, "max_length": context.max_length}
        examples = encode(pairs, encode_texts, key=key, arguments=arguments)
        tables.note_cut(self.name, split, sum(examples.table["cut"]), len(examples), context)
        return Grouped(examples, counts, self._targets[split])


class Grouped:
    """Rows of several encoded choices each."""

    def __init__(self, examples: EncodedExamples, counts: list[int], targets: list[int | None]) -> None:
        import numpy as np

        self.examples, self.targets = examples, targets
        self.edges = np.concatenate([[0], np.cumsum(counts)])
        widest = np.maximum.reduceat(examples.lengths, self.edges[:-1])
        self.lengths = widest * np.asarray(counts)

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Sequence[int] | np.ndarray) -> list[Row]:
        """Rows with their encoded ``choices`` and ``target``."""
        import numpy as np

        spans = [np.arange(self.edges[row], self.edges[row + 1]) for row in rows]
        flat = iter(self.examples.take(np.concatenate(spans)))
        return [
            {"row": int(row), "choices": [next(flat) for _ in span], "target": self.targets[int(row)]}
            for row, span in zip(rows, spans, strict=True)
        ]


def _target(cell: Any, choices: list[str], keys: list[str] | None, where: str) -> int | None:
    """The number of the right choice, given as a number, a letter, its key in the data, or its text."""
    if cell is None or cell == "" or (isinstance(cell, int) and cell < 0):
        return None
    word = tables.label_word(cell)
    for names in (keys, choices):
        if names and word in names:
            return names.index(word)
    number = int(word) if word.isdigit() else ord(word.upper()) - ord("A") if len(word) == 1 else -1
    if not 0 <= number < len(choices):
        raise DataError(
            f"{where}: label {word!r} is none of the {len(choices)} choices (a number from 0, A-Z, or text)"
        )
    return number
