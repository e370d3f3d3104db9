"""One or two sentences -> a class, several labels, or a number. The lecture's first and third use of BERT."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hfcourse.errors import ConfigError, DataError
from hfcourse.heads.spec import HeadSpec, Layers, Pooling, Problem
from hfcourse.metrics import classification as metrics
from hfcourse.tasks import tables
from hfcourse.tasks.base import Batch, Row, Task, TaskContext
from hfcourse.tasks.known import KNOWN, Known

if TYPE_CHECKING:
    import datasets

    from hfcourse.objectives.base import Objective

_TEXTS = ("text", "sentence", "sentence1", "premise", "question1", "question", "review", "content", "title")
_PAIRS = ("text_pair", "sentence2", "hypothesis", "question2")
_LABELS = ("label", "labels", "class", "category", "target", "score")


@dataclass(frozen=True, kw_only=True)
class ClassificationConfig:
    """Which table, which columns, which kind of answer."""

    kind: ClassVar[str] = "classification"
    head_kind: ClassVar[str] = "sequence"
    data: str = "pydocs/topic"
    """A builder (pydocs/topic, glue/cola), a file or folder of csv/tsv/json/jsonl/parquet, or a Hub id."""
    data_dir: str | None = None
    """Raw files, for builders that read some."""
    train_limit: int = 0
    """Use only so many training examples, drawn by seed, smaller draws inside larger ones; 0 for `limit`."""
    text: str = ""
    """Column of the (first) sentence; found by the usual names where not given."""
    text_pair: str = ""
    """Column of the second sentence; none where neither given nor known."""
    label: str = ""
    """Column of the answer; found by the usual names where not given."""
    problem: Literal["auto", "single_label_classification", "multi_label_classification", "regression"] = "auto"
    """auto: regression if labels are fractions, several labels if cells are lists, else one class."""
    separator: str = "|"
    """Between the labels of a text cell, where several may hold."""
    pooling: Pooling = "native"
    """How states become one vector; `native` is the model's own way."""
    layers: Layers = "last"
    """`mix` learns a weighted sum of all layers; `exits` puts a classifier on each of them (bert/early_exit)."""
    class_weights: bool = False
    """Weigh examples so that every class counts the same."""
    stratify: bool = True
    """Keep the classes' shares when a dev split is cut off."""
    dev_share: float = 0.1
    """Share of the training rows cut off as dev split where none is given."""

    def __post_init__(self) -> None:
        if self.class_weights and self.layers == "exits":
            raise ConfigError("task.class_weights weighs the last layer's answers alone: not with task.layers exits")

    def build(self, context: TaskContext, *, new: str | None = None) -> Classification:
        """Load and encode; with `new`, only the rows of that file, labelled or not."""
        return Classification(self, context, new)


class Classification(Task):
    """Rows of a table -> answers of one of three kinds."""

    def __init__(self, config: ClassificationConfig, context: TaskContext, new: str | None) -> None:
        self.name, self.config, self.tokenizer = config.data, config, tables.ready(context.tokenizer)
        self._known = KNOWN.get(config.data, Known(""))
        raw = tables.load_tables(config.data, config.data_dir, context, new)
        first = raw.get("train", next(iter(raw.values())))
        self._columns(first, required=new is None)
        self.problem = self._problem(first)
        if config.class_weights and self.problem != "single_label_classification":
            raise ConfigError(f"task.class_weights needs one class a row, and task.problem is {self.problem} here")
        self.labels = tables.Labels(self._label_names(raw, context, new))
        read = tables.lenient(self._read_targets, context) if new else self._read_targets
        raw = {split: tables.with_targets(table, read(split, table)) for split, table in raw.items()}
        by = self.label if config.stratify and self.problem == "single_label_classification" else None
        raw = tables.limited(
            tables.with_dev(raw, context, share=config.dev_share, by=by), context, train=config.train_limit
        )
        self.head = HeadSpec(
            kind="sequence",
            labels=self.labels.names,
            problem=self.problem,
            pooling=config.pooling,
            layers=config.layers,
        )
        self.mixes_lengths = self.problem == "regression"  # texts of one length have numbers that are alike
        self._targets = {split: list(table[tables.TARGET]) for split, table in raw.items()}
        self._raw = raw
        self.scores = self._scores()
        self.metric = next(iter(self.scores))
        self.splits = {split: self._encode(split, table, context) for split, table in raw.items()}

    @property
    def objective(self) -> Objective:
        if not self.config.class_weights:
            return super().objective
        from hfcourse.objectives.weighted import WeightedClasses

        targets = self._targets["train"]
        counts = [max(sum(t == number for t in targets), 1) for number in range(len(self.labels.names))]
        return WeightedClasses([len(targets) / (len(counts) * count) for count in counts])

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        import torch

        from hfcourse.data.encode import pad_inputs

        batch = pad_inputs(rows, self.tokenizer)
        targets = [row["target"] for row in rows]
        if all(target is not None for target in targets):
            whole = self.problem == "single_label_classification"
            batch["labels"] = torch.tensor(targets, dtype=torch.long if whole else torch.float32)
        return batch

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        logits = logits.float()
        if self.problem == "regression":
            return logits.reshape(len(logits)).tolist()  # type: ignore[no-any-return]
        if self.problem == "multi_label_classification":
            return logits.sigmoid().tolist()  # type: ignore[no-any-return]
        confidence, best = logits.softmax(dim=-1).max(dim=-1)
        return list(zip(best.tolist(), confidence.tolist(), strict=True))

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        table, targets = self._raw[split], self._targets[split]
        texts = table[self.text]
        pairs = table[self.text_pair] if self.text_pair else [None] * len(texts)
        rows = []
        for number, (prediction, target) in enumerate(zip(predictions, targets, strict=True)):
            answer = {"id": number, **self._spoken(prediction), "reference": self._reference(target)}
            rows.append(answer | {"text": texts[number]} | ({"text_pair": pairs[number]} if self.text_pair else {}))
        return rows

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        predictions = [answer["prediction"] for answer in answers]
        references = [answer["reference"] for answer in answers]
        return {name: function(predictions, references) for name, function in self.scores.items()}

    def _spoken(self, prediction: Any) -> dict[str, Any]:
        """A prediction in the data's own words."""
        if self.problem == "regression":
            return {"prediction": prediction}
        names = self.labels.names
        if self.problem == "multi_label_classification":
            chosen = [name for name, probability in zip(names, prediction, strict=True) if probability > 0.5]
            return {"prediction": chosen, "confidence": min(max(p, 1 - p) for p in prediction)}
        return {"prediction": names[prediction[0]], "confidence": prediction[1]}

    def _reference(self, target: Any) -> Any:
        if target is None or self.problem == "regression":
            return target
        if self.problem == "multi_label_classification":
            return [name for name, on in zip(self.labels.names, target, strict=True) if on]
        return self.labels.names[target]

    def _scores(self) -> Mapping[str, Callable[[Any, Any], float]]:
        from functools import partial

        if self.problem == "regression":
            return {"pearson": metrics.pearson, "spearman": metrics.spearman}
        if self.problem == "multi_label_classification":
            return {"micro_f1": metrics.micro_f1, "exact": metrics.accuracy}
        every: dict[str, Callable[[Any, Any], float]] = {
            "accuracy": metrics.accuracy,
            "macro_f1": metrics.f1,
            "matthews": metrics.matthews,
            "f1": partial(metrics.f1, positive=self._known.positive),
        }
        return {name: every[name] for name in (self._known.scores if self._known.text else ("accuracy", "macro_f1"))}

    def _columns(self, table: datasets.Dataset, *, required: bool) -> None:
        where, config, known = self.name, self.config, self._known
        self.text = tables.named_column(table, config.text, [known.text, *_TEXTS], where, "text")
        guesses = [known.text_pair] if known.text else [p for p in _PAIRS if p != self.text and not config.text]
        pair = config.text_pair or next((name for name in guesses if name in table.column_names), "")
        self.text_pair = tables.named_column(table, pair, [], where, "text_pair") if pair else ""
        for name in filter(None, (self.text, self.text_pair)):
            if isinstance(table[0][name], list | dict):
                raise DataError(f"{where}: column {name!r} holds lists, not text: name a column of text")
        guesses = [name for name in _LABELS if name not in {self.text, self.text_pair}]
        if (
            required
            or config.label in table.column_names
            or (not config.label and set(guesses) & {*table.column_names})
        ):
            self.label = tables.named_column(table, config.label, guesses, where, "label")
        else:
            self.label = ""

    def _problem(self, table: datasets.Dataset) -> Problem:
        if self.config.problem != "auto":
            return self.config.problem
        if self._known.text:
            return self._known.problem  # type: ignore[return-value]
        from hfcourse.data.loading import labels_of

        if self.label and labels_of(table, self.label) is None:
            values = table[self.label][:1000]
            if any(isinstance(value, list) for value in values):
                return "multi_label_classification"
            if _fractions(values):
                return "regression"
        return "single_label_classification"

    def _label_names(self, raw: tables.Tables, context: TaskContext, new: str | None) -> tuple[str, ...]:
        from hfcourse.data.loading import labels_of

        if self.problem == "regression":
            return (self.label or "value",)
        if new is not None and context.model_labels:
            return context.model_labels
        first = raw.get("train", next(iter(raw.values())))
        declared = labels_of(first, self.label)
        if declared:
            return tables.in_models_order(tuple(declared), context, self.name)
        cells = (cell for table in ([raw["train"]] if "train" in raw else raw.values()) for cell in table[self.label])
        if self.problem == "multi_label_classification":
            names = tables.find_labels(label for cell in cells for label in self._several(cell))
        else:
            names = tables.find_labels(cells)
        if len(names) < 2 and "train" in raw:
            shown = f"only {names[0]!r}" if names else "no label"
            raise DataError(f"{self.name}: column {self.label!r} has {shown} in training: there is nothing to learn")
        return tables.in_models_order(names, context, self.name)

    def _several(self, cell: Any) -> list[Any]:
        if isinstance(cell, str):
            return [part for part in cell.split(self.config.separator) if part.strip()]
        return list(cell or [])

    def _read_targets(self, split: str, table: datasets.Dataset) -> list[Any]:
        """Numbers for the loss; None where a row has no label."""
        from hfcourse.data.loading import labels_of

        if not self.label or self.label not in table.column_names:
            return [None] * len(table)
        declared = labels_of(table, self.label)
        cells = table[self.label]
        where = f"{self.name}, {split}, row"
        targets = [self._target(cell, declared, f"{where} {n}") for n, cell in enumerate(cells, start=1)]
        tables.refuse_unlabelled(targets, self.name, split)
        return targets

    def _target(self, cell: Any, declared: list[str] | None, where: str) -> Any:
        several_cells = self.problem == "multi_label_classification"
        if cell is None or (cell == "" and not several_cells) or (declared and isinstance(cell, int) and cell < 0):
            return None
        if self.problem == "regression":
            try:
                number = float(cell)
            except (TypeError, ValueError):
                raise DataError(f"{where}: label {cell!r} is no number, as regression needs") from None
            # GLUE writes -1 where a test label is hidden; a missing number may also come as nan.
            return None if math.isnan(number) or (self._known.text and number == -1) else number
        if several_cells:
            several = [declared[c] if declared and isinstance(c, int) else c for c in self._several(cell)]
            on = {self.labels.number(label, where) for label in several}
            return [float(number in on) for number in range(len(self.labels.names))]
        return self.labels.number(declared[cell] if declared and isinstance(cell, int) else cell, where)

    def _encode(self, split: str, table: datasets.Dataset, context: TaskContext) -> Any:
        from hfcourse.data.encode import encode, tokenizer_key

        columns = [self.text] + ([self.text_pair] if self.text_pair else [])
        texts = table.select_columns(columns).rename_columns(dict(zip(columns, ("first", "second"), strict=False)))
        key = {"tokenizer": tokenizer_key(self.tokenizer), "max_length": context.max_length}
        arguments = {"tokenizer": self.tokenizer, "max_length": context.max_length}
        examples = encode(texts, encode_texts, key=key, arguments=arguments)
        tables.note_cut(self.name, split, sum(examples.table["cut"]), len(examples), context)
        return Labelled(examples, self._targets[split])


class Labelled:
    """Encoded inputs with targets beside them, so that the cache of inputs outlives a change of labels."""

    def __init__(self, examples: Any, targets: list[Any]) -> None:
        self.examples, self.targets = examples, targets
        self.lengths = examples.lengths

    def __len__(self) -> int:
        return len(self.examples)

    def take(self, rows: Any) -> list[Row]:
        """Rows with their ``target``."""
        return [row | {"target": self.targets[row["row"]]} for row in self.examples.take(rows)]


def encode_texts(columns: dict[str, list[Any]], tokenizer: Any, max_length: int) -> dict[str, list[Any]]:
    """Token ids of one or two texts a row, cut at `max_length` from the end of the longer one; ``cut`` says where.

    A text without any token (an empty one, where a tokenizer adds nothing) is read as the token that ends texts.
    """
    first = [str(text) if text is not None else "" for text in columns["first"]]
    second = [str(text) if text is not None else "" for text in columns["second"]] if "second" in columns else None
    encoded = tokenizer(first, second, truncation=True, max_length=max_length, return_attention_mask=False)
    full = [n for n, ids in enumerate(encoded["input_ids"]) if len(ids) >= max_length]
    cut = [False] * len(first)
    if full:
        again = tokenizer(
            [first[n] for n in full],
            [second[n] for n in full] if second else None,
            return_attention_mask=False,
            verbose=False,
        )
        for n, ids in zip(full, again["input_ids"], strict=True):
            cut[n] = len(ids) > max_length
    end = tokenizer.pad_token_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
    for n in [n for n, ids in enumerate(encoded["input_ids"]) if not ids]:
        for name, rows in encoded.items():
            rows[n] = [end if name == "input_ids" else 0]
    return {**dict(encoded), "cut": cut}


def _fractions(values: list[Any]) -> bool:
    """Whether labels are numbers of which some are no whole ones."""
    try:
        numbers = [float(value) for value in values if value not in (None, "")]
    except (TypeError, ValueError):
        return False
    return any(not number.is_integer() for number in numbers)
