"""Question + document -> the span that answers, or none. The lecture's fourth use of BERT.

Documents longer than the model are read in overlapping windows; the best span over all windows is the answer (BERT,
arXiv 1810.04805; SQuAD, 1606.05250 and 1806.03822).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from hfcourse.errors import DataError
from hfcourse.heads.spec import HeadSpec
from hfcourse.metrics import qa
from hfcourse.tasks import tables
from hfcourse.tasks.base import Batch, Row, Task, TaskContext

if TYPE_CHECKING:
    import datasets
    import numpy as np


@dataclass(frozen=True, kw_only=True)
class SpanQAConfig:
    """Which questions, and how long documents are read."""

    kind: ClassVar[str] = "span_qa"
    head_kind: ClassVar[str] = "span"
    data: str = "pydocs/answer"
    """A builder (squad, drcd, cmrc2018, with data_dir), a SQuAD-like JSON file or folder, a table, or a Hub id."""
    data_dir: str | None = None
    """Raw files, for builders that read some."""
    stride: int = 64
    """Tokens that two windows of a document share."""
    longest_answer: int = 30
    """Tokens in the longest answer."""
    n_best: int = 20
    """Starts and ends that are combined in each window."""
    no_answer: bool | None = None
    """Whether a question may have no answer (SQuAD v2); found in the training data where not given."""
    dev_share: float = 0.1
    """Share of the training rows cut off as dev split where none is given."""

    def build(self, context: TaskContext, *, new: str | None = None) -> SpanQA:
        """Load and encode; with `new`, only the questions of that file."""
        return SpanQA(self, context, new)


class SpanQA(Task):
    """Rows are windows; answers are questions."""

    metric = "f1"
    head = HeadSpec(kind="span")

    def __init__(self, config: SpanQAConfig, context: TaskContext, new: str | None) -> None:
        self.name, self.config, self.tokenizer = config.data, config, context.tokenizer
        raw = self._load(context, new)
        for split, table in raw.items():
            for name in ("question", "context"):
                tables.named_column(table, name, [], f"{self.name}, {split}", name)
        raw = tables.limited(tables.with_dev(raw, context, share=config.dev_share), context)
        self._raw = {split: self._checked(split, table, context) for split, table in raw.items()}
        every = (answers for table in self._raw.values() for answers in _answers(table) if answers is not None)
        self.no_answer = config.no_answer if config.no_answer is not None else any(not a["text"] for a in every)
        self.splits = {split: self._encode(table, context) for split, table in self._raw.items()}

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        import torch

        from hfcourse.data.encode import pad_inputs

        batch = pad_inputs(rows, self.tokenizer)
        if all(row["start"] is not None for row in rows):
            batch["start_positions"] = torch.tensor([row["start"] for row in rows])
            batch["end_positions"] = torch.tensor([row["end"] for row in rows])
        return batch

    def predict(self, logits: Any, batch: Batch) -> list[Any]:
        """Log-probability-like scores of every start and end, as they are: spans are searched per document."""
        scores = logits.float().cpu().numpy()
        return list(scores)

    def answers(self, split: str, predictions: list[Any]) -> list[dict[str, Any]]:
        examples, table = self.splits[split], self._raw[split]
        found: list[_Best] = [_Best() for _ in range(len(table))]
        offsets, questions = examples.table["offsets"], examples.table["question"]  # type: ignore[attr-defined]
        for row, scores in enumerate(predictions):
            self._search(scores, offsets[row], found[questions[row]])
        references = _answers(table)
        ids = table["id"] if "id" in table.column_names else list(range(len(table)))
        columns = zip(ids, table["question"], table["context"], references, found, strict=True)
        answers = [self._answer(*column) for column in columns]
        if self.no_answer and all(reference is not None for reference in references):
            self._tune(answers)
        return answers

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        count = max(len(answers), 1)
        scores = {name: sum(answer[name] for answer in answers) / count for name in ("f1", "em")}
        if self.no_answer:
            scores |= {f"best_{n}": sum(a.get(f"best_{n}", a[n]) for a in answers) / count for n in ("f1", "em")}
        return scores

    def _load(self, context: TaskContext, new: str | None) -> tables.Tables:
        from hfcourse.data.load import is_squad_file, load

        source = new or self.config.data
        if not is_squad_file(source):
            return tables.load_tables(self.config.data, self.config.data_dir, context, new)
        splits = dict(load("squad", data_dir=source, cache_dir=context.cache_dir))
        return {"test": next(iter(splits.values()))} if new else splits

    def _checked(self, split: str, table: datasets.Dataset, context: TaskContext) -> datasets.Dataset:
        """Without questions whose answer is not where the data says."""
        good = []
        for row, (text, answers) in enumerate(zip(table["context"], _answers(table), strict=True)):
            spans = zip(answers["answer_start"], answers["text"], strict=True) if answers else ()
            wrong = next((answer for start, answer in spans if text[start : start + len(answer)] != answer), None)
            if wrong is None:
                good.append(row)
            elif context.strict:
                name = table["id"][row] if "id" in table.column_names else row
                raise DataError(f"{self.name}, {split}, question {name}: answer {wrong[:40]!r} is not in its document")
        if len(good) < len(table):
            dropped = len(table) - len(good)
            context.notes.append(
                f"{self.name}, {split}: {dropped} questions dropped: their answer is not in the document"
            )
            if not good:
                raise DataError(f"{self.name}, {split}: no question has its answer in its document")
            return table.select(good)
        return table

    def _encode(self, table: datasets.Dataset, context: TaskContext) -> Any:
        from hfcourse.data.encode import encode, tokenizer_key

        room = context.max_length // 4
        arguments = {
            "tokenizer": self.tokenizer,
            "max_length": context.max_length,
            "stride": min(self.config.stride, room),
            "longest_question": 2 * room - 4,
        }
        key = {**arguments, "tokenizer": tokenizer_key(self.tokenizer)}
        columns = table.select_columns([c for c in ("question", "context", "answers") if c in table.column_names])
        columns = columns.add_column("_row", list(range(len(table))))
        return encode(columns, encode_windows, key=key, arguments=arguments)

    def _search(self, scores: np.ndarray, offsets: list[int], best: _Best) -> None:
        """The best span of one window: starts and ends by score, combined where they make a span of the document."""
        import numpy as np

        starts, ends = scores[: len(offsets) // 2, 0], scores[: len(offsets) // 2, 1]
        spans = np.asarray(offsets).reshape(-1, 2)
        inside = spans[:, 1] > 0
        best.null = min(best.null, float(starts[0] + ends[0]))
        if not inside.any():
            return
        top = min(self.config.n_best, int(inside.sum()))
        first = np.argsort(np.where(inside, -starts, np.inf), kind="stable")[:top]
        last = np.argsort(np.where(inside, -ends, np.inf), kind="stable")[:top]
        total = starts[first][:, None] + ends[last][None, :]
        length = last[None, :] - first[:, None] + 1
        total = np.where((length >= 1) & (length <= self.config.longest_answer), total, -np.inf)
        at = np.unravel_index(int(total.argmax()), total.shape)
        if total[at] > best.score:
            best.score = float(total[at])
            best.span = (int(spans[first[at[0]], 0]), int(spans[last[at[1]], 1]))

    def _answer(self, id_: Any, question: str, context: str, answers: Any, best: _Best) -> dict[str, Any]:
        text = context[slice(*best.span)]
        difference = best.null - best.score
        given = "" if self.no_answer and difference > 0 else text
        answer = {"id": id_, "prediction": given, "reference": None, "question": question, "text": context}
        if answers is None:
            return answer
        units = qa.segmenter("".join(answers["text"]) or context)
        judged = {"em": qa.exact_match(given, answers["text"], units), "f1": qa.f1(given, answers["text"], units)}
        if self.no_answer:
            judged |= {"span": text, "null_difference": difference}
        return answer | {"reference": answers["text"]} | judged

    def _tune(self, answers: list[dict[str, Any]]) -> None:
        """SQuAD v2's best_f1 and best_em: what the best threshold for "no answer" would have given."""
        differences = [answer["null_difference"] for answer in answers]
        for name, function in (("f1", qa.f1), ("em", qa.exact_match)):
            units = [qa.segmenter("".join(a["reference"]) or a["text"]) for a in answers]
            spans = [function(a["span"], a["reference"], u) for a, u in zip(answers, units, strict=True)]
            nulls = [float(not a["reference"]) for a in answers]
            threshold = qa.best_threshold(differences, spans, nulls)
            for answer, with_span, without in zip(answers, spans, nulls, strict=True):
                answer[f"best_{name}"] = with_span if answer["null_difference"] <= threshold else without


@dataclass
class _Best:
    """The best span of a document so far, in characters, and the lowest score of "no answer"."""

    span: tuple[int, int] = (0, 0)
    score: float = float("-inf")
    null: float = float("inf")


def _answers(table: datasets.Dataset) -> list[dict[str, Any] | None]:
    return table["answers"] if "answers" in table.column_names else [None] * len(table)  # type: ignore[no-any-return]


def encode_windows(
    columns: dict[str, list[Any]], tokenizer: Any, max_length: int, stride: int, longest_question: int
) -> dict[str, list[Any]]:
    """Windows of [question, document]. ``offsets`` are (start, end) characters of each token, flat; 0, 0 outside.

    ``start`` and ``end`` are token positions of the first answer if it lies whole in the window, else 0 (the first
    token stands for "no answer here"); None without answers. ``question`` is the row of the table.
    """
    questions = [" ".join(question.split()) for question in columns["question"]]
    short = tokenizer(questions, add_special_tokens=False, truncation=True, max_length=longest_question)
    full = [len(ids) >= longest_question for ids in short["input_ids"]]
    questions = [tokenizer.decode(i) if f else q for q, i, f in zip(questions, short["input_ids"], full, strict=True)]
    encoded = tokenizer(
        questions,
        columns["context"],
        truncation="only_second",
        max_length=max_length,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        return_attention_mask=False,
    )
    rows: dict[str, list[Any]] = {
        name: list(values)
        for name, values in encoded.items()
        if name not in {"overflow_to_sample_mapping", "offset_mapping"}
    }
    rows |= {"offsets": [], "start": [], "end": [], "question": []}
    for number, sample in enumerate(encoded["overflow_to_sample_mapping"]):
        belongs = encoded.sequence_ids(number)
        spans = [span if b == 1 else (0, 0) for span, b in zip(encoded["offset_mapping"][number], belongs, strict=True)]
        rows["offsets"].append([edge for span in spans for edge in span])
        start, end = _positions(spans, columns["answers"][sample] if "answers" in columns else None)
        rows["start"].append(start)
        rows["end"].append(end)
        rows["question"].append(columns["_row"][sample])
    return rows


def _positions(spans: list[tuple[int, int]], answers: dict[str, Any] | None) -> tuple[int | None, int | None]:
    """Tokens of the first answer in a window."""
    if answers is None:
        return None, None
    if not answers["text"]:
        return 0, 0
    begin = answers["answer_start"][0]
    stop = begin + len(answers["text"][0])
    inside = [at for at, (first, last) in enumerate(spans) if last > begin and first < stop and last > first]
    if not inside or spans[inside[0]][0] > begin or spans[inside[-1]][1] < stop:
        return 0, 0
    return inside[0], inside[-1]
