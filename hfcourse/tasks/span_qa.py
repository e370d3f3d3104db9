"""Question + document -> the span that answers, or none. The lecture's fourth use of BERT.

Documents longer than the model are read in overlapping windows; the best span over all windows is the answer (BERT,
arXiv 1810.04805; SQuAD, 1606.05250 and 1806.03822).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hfcourse.errors import ConfigError, DataError
from hfcourse.heads.spec import HeadSpec
from hfcourse.metrics import qa
from hfcourse.tasks import tables
from hfcourse.tasks.base import Batch, Row, Task, TaskContext

if TYPE_CHECKING:
    import datasets

    from hfcourse.data.encode import EncodedExamples
    from hfcourse.tasks.spans import Spans

_ANSWERS = ("answers", "answer")


@dataclass(frozen=True, kw_only=True)
class SpanQAConfig:
    """Which questions, and how long documents are read."""

    kind: ClassVar[str] = "span_qa"
    head_kind: ClassVar[str] = "span"
    data: str = "pydocs/answer"
    """A builder (squad, drcd, cmrc2018, with data_dir), a SQuAD-like JSON file or folder, a table, or a Hub id."""
    data_dir: str | None = None
    """Raw files, for builders that read some."""
    train_limit: int = 0
    """Use only so many training examples, drawn by seed, smaller draws inside larger ones; 0 for `limit`."""
    question: str = "question"
    """Column of the question."""
    context: str = "context"
    """Column of the document."""
    stride: int = 64
    """Tokens that two windows of a document share."""
    longest_answer: int = 30
    """Tokens in the longest answer."""
    n_best: int = 20
    """Starts and ends that are combined in each window."""
    no_answer: bool | None = None
    """Whether a question may have no answer (SQuAD v2); found in the data where not given."""
    language: Literal["auto", "words", "characters"] = "auto"
    """Units of F1: words, or characters as for Chinese; auto looks at the document."""
    dev_share: float = 0.1
    """Share of the training rows cut off as dev split where none is given."""

    def __post_init__(self) -> None:
        for name in ("longest_answer", "n_best"):
            if getattr(self, name) < 1:
                raise ConfigError(f"task.{name} is {getattr(self, name)}: it must be 1 or more")
        if self.stride < 0:
            raise ConfigError(f"task.stride is {self.stride}: it must be 0 or more")

    def build(self, context: TaskContext, *, new: str | None = None) -> SpanQA:
        """Load and encode; with `new`, only the questions of that file."""
        return SpanQA(self, context, new)


class SpanQA(Task):
    """Rows are windows; answers are questions."""

    metric = "f1"
    head = HeadSpec(kind="span")

    def __init__(self, config: SpanQAConfig, context: TaskContext, new: str | None) -> None:
        self.name, self.config, self.tokenizer = config.data, config, tables.ready(context.tokenizer)
        raw = self._load(context, new)
        for split, table in raw.items():
            tables.named_column(table, config.question, (), f"{self.name}, {split}", "question")
            tables.named_column(table, config.context, (), f"{self.name}, {split}", "context")
        raw = {split: self._with_answers(split, table, context) for split, table in raw.items()}
        every = (answers for table in raw.values() for answers in table[tables.TARGET] if answers is not None)
        self.no_answer = config.no_answer if config.no_answer is not None else any(not a["text"] for a in every)
        self._raw = tables.limited(
            tables.with_dev(raw, context, share=config.dev_share), context, train=config.train_limit
        )
        self.splits = {split: self._encode(split, table, context) for split, table in self._raw.items()}

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        import torch

        from hfcourse.data.encode import pad_inputs

        batch = pad_inputs(rows, self.tokenizer)
        if all(row["start"] is not None for row in rows):
            batch["start_positions"] = torch.tensor([row["start"] for row in rows])
            batch["end_positions"] = torch.tensor([row["end"] for row in rows])
        return batch

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        """Scores of every start and end as they are, float32 (time, 2): spans are searched per document."""
        return list(logits.float().cpu().numpy())

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        from hfcourse.tasks.spans import Spans

        examples, table, config = self.splits[split].table, self._raw[split], self.config  # type: ignore[attr-defined]
        found = [Spans() for _ in range(len(table))]
        windows = zip(examples["question"], examples["starts"], examples["ends"], predictions, strict=True)
        for question, starts, ends, scores in windows:
            found[question].add(scores, starts, ends, n_best=config.n_best, longest=config.longest_answer)
        ids = table["id"] if "id" in table.column_names else range(len(table))
        columns = (ids, table[config.question], table[config.context], table[tables.TARGET], found)
        answers = [self._answer(*row) for row in zip(*columns, strict=True)]
        if self.no_answer and all(answer["reference"] is not None for answer in answers):
            self._tune(answers)
        return answers

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        count = max(len(answers), 1)
        names = ["f1", "em"] + (["best_f1", "best_em"] if all("best_f1" in answer for answer in answers) else [])
        return {name: sum(answer[name] for answer in answers) / count for name in names}

    def _load(self, context: TaskContext, new: str | None) -> tables.Tables:
        from hfcourse.data.loading import is_squad_file, load

        source = new or self.config.data
        if not is_squad_file(source):
            return tables.load_tables(self.config.data, self.config.data_dir, context, new)
        splits = dict(load("squad", data_dir=source, cache_dir=context.cache_dir))
        return {"test": next(iter(splits.values()))} if new else splits

    def _with_answers(self, split: str, table: datasets.Dataset, context: TaskContext) -> datasets.Dataset:
        """Every question with its answers in one layout, each where it stands; without those that stand nowhere."""
        from hfcourse.tasks.spans import place, read_answers

        column = next((name for name in _ANSWERS if name in table.column_names), None)
        cells = table[column] if column else [None] * len(table)
        targets, lost = [], []
        for row, (text, cell) in enumerate(zip(table[self.config.context], cells, strict=True)):
            answers = read_answers(cell)
            placed = None if answers is None else [place(text, answer, at) for answer, at in answers]
            if answers and placed and None in placed and context.strict:
                wrong = answers[placed.index(None)][0]
                name = table["id"][row] if "id" in table.column_names else f"in row {row + 1}"
                raise DataError(f"{self.name}, {split}, question {name}: answer {wrong[:40]!r} is not in its document")
            kept = [at for at in placed or () if at is not None]
            if answers and not kept:
                lost.append(row)
            begin, stop = kept[0] if kept else (-1, -1)
            texts = {"text": [answer for answer, _ in answers or ()], "begin": begin, "stop": stop}
            targets.append(None if answers is None else texts)
        tables.refuse_unlabelled(targets, self.name, split)
        table = tables.with_targets(table, targets)
        if not lost:
            return table
        if len(lost) == len(table):
            raise DataError(f"{self.name}, {split}: no question has its answer in its document")
        context.notes.append(f"{self.name}, {split}: {len(lost)} questions dropped: the answer is not in the document")
        return table.select([row for row in range(len(table)) if row not in set(lost)])

    def _encode(self, split: str, table: datasets.Dataset, context: TaskContext) -> EncodedExamples:
        from hfcourse.data.encode import encode, tokenizer_key
        from hfcourse.tasks.spans import encode_windows

        arguments = {
            "tokenizer": self.tokenizer,
            "max_length": context.max_length,
            "stride": min(self.config.stride, context.max_length // 4),
            "longest_question": max(context.max_length // 2 - 4, 1),
        }
        key = {**arguments, "tokenizer": tokenizer_key(self.tokenizer)}
        names = {self.config.question: "question", self.config.context: "context", tables.TARGET: "target"}
        columns = table.select_columns(list(names)).rename_columns(names)
        columns = tables.with_column(columns, "number", list(range(len(table))))
        examples = encode(columns, encode_windows, key=key, arguments=arguments)
        cut = {n for n, short in zip(examples.table["question"], examples.table["cut"], strict=True) if short}
        if cut and context.strict:
            raise DataError(f"{self.name}, {split}: {len(cut)} questions exceed {arguments['longest_question']} tokens")
        if cut:
            context.notes.append(f"{self.name}, {split}: {len(cut)} questions of more than half the input were cut")
        return examples

    def _answer(self, id_: Any, question: str, context: str, target: Any, found: Spans) -> dict[str, Any]:
        (begin, stop), score, confidence = found.best(with_null=self.no_answer)
        text = context[begin:stop].strip()
        difference = found.null - score
        given = "" if self.no_answer and difference > 0 else text
        answer = {"id": id_, "prediction": given, "reference": None, "confidence": confidence}
        answer |= {"question": question, "text": context}
        if self.no_answer:
            answer |= {"span": text, "null_difference": difference}
        if target is None:
            return answer
        units = self._units(context)
        judged = {"em": qa.exact_match(given, target["text"], units), "f1": qa.f1(given, target["text"], units)}
        return answer | {"reference": target["text"]} | judged

    def _units(self, context: str) -> qa.Units:
        fixed = {"words": qa.words, "characters": qa.characters}
        return fixed.get(self.config.language) or qa.segmenter(context)

    def _tune(self, answers: list[dict[str, Any]]) -> None:
        """SQuAD v2's best_f1 and best_em: what the best threshold for "no answer" would have given."""
        differences = [answer["null_difference"] for answer in answers]
        units = [self._units(answer["text"]) for answer in answers]
        nulls = [float(not answer["reference"]) for answer in answers]
        for name, function in (("f1", qa.f1), ("em", qa.exact_match)):
            spans = [function(a["span"], a["reference"], u) for a, u in zip(answers, units, strict=True)]
            threshold = qa.best_threshold(differences, spans, nulls)
            for answer, with_span, without in zip(answers, spans, nulls, strict=True):
                answer[f"best_{name}"] = with_span if answer["null_difference"] <= threshold else without
