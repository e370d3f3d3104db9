"""A language model on tasks it has not been trained for: asked with zero, one and a few examples, several draws each.

An answer is kept as soon as it is there, under the text that was asked: a run that goes on asks only what is missing,
and no answer can be taken for that to another question.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol, TypeVar

from hfcourse import disk
from hfcourse.engine.signals import StopSignals
from hfcourse.errors import ConfigError, DataError, Interrupted
from hfcourse.prompting import answers, tables
from hfcourse.prompting.answers import Answer
from hfcourse.prompting.compose import Chat, Composer, Question
from hfcourse.prompting.draws import Draw, Neighbours, Select
from hfcourse.prompting.judging import METRICS, MetricUse
from hfcourse.prompting.requests import Generation, OptionScore, Prompt, Scorer
from hfcourse.prompting.tables import Tables
from hfcourse.prompting.templates import Template
from hfcourse.run_folder import RunFolder
from hfcourse.suites import fewshot_scores, prompted

SHOTS = (0, 1, 8)
"""Numbers of examples where neither the user nor a task's file names any."""
_SPARE = 16
"""Neighbours looked for beyond the examples that are shown: a row's own copies fall out."""
_T = TypeVar("_T", list[OptionScore], str)


class Wanted(Protocol):
    """What the recipe's settings say of the evaluation."""

    tasks: tuple[str, ...]
    shots: tuple[int, ...]
    draws: int
    seed: int
    select: Select
    by_row: bool
    metrics: tuple[str, ...]
    unconditional: str
    limit: int
    strict: bool
    trust_task_code: bool

    @property
    def folders(self) -> Mapping[str, str]:
        """Builder -> raw files; under the empty name those of all others."""


@dataclass(frozen=True)
class Cell:
    """One task with so many examples, drawn under one seed."""

    tables: Tables
    shots: int
    draw: Draw

    @property
    def name(self) -> str:
        """Of its files."""
        seed = "" if self.draw.is_fixed or not self.shots else f"-seed{self.draw.seed}"
        return f"{self.tables.template.name.replace('/', '-')}-{self.shots}shot{seed}"


def judge(wanted: Wanted, scorer: Scorer, run: RunFolder, *, chat: Chat | None = None) -> None:
    """Ask, judge, write predictions/, scores.json, table.md and report.html.

    Args:
        wanted: the recipe's settings.
        scorer: the model.
        run: the folder; what it holds of an earlier start is not asked again.
        chat: write prompts as conversations.

    Raises:
        ConfigError, DataError: a task that is unknown, cannot be read or does not fit its data.
        Interrupted: a signal; it goes on with --resume.
    """
    from hfcourse.engine.progress import say

    if run.finished:
        say(f"{run.path}: already finished")
    if run.finished or not run.is_main:  # one process asks
        return
    began = time.perf_counter()
    cells = [cell for task in _read(wanted) for cell in _cells(task, wanted)]
    for cell in cells:  # a mistake in the last task is better known before the first is answered
        _composer(cell, scorer, wanted, chat).question(cell.tables.rows[0], 0, _shown(cell, 0))
    found = []
    for number, cell in enumerate(cells, start=1):
        records = _records(cell, scorer, run, wanted, chat)
        run.write_predictions(cell.name, records)
        result = fewshot_scores.result(cell.tables.template, cell.shots, cell.draw.seed, records)
        found.append(result)
        say(f"{cell.name}: {result.words}, {number} of {len(cells)}")
    fewshot_scores.write(found, [cell.tables.template for cell in cells], run, time.perf_counter() - began)


def _read(wanted: Wanted) -> Iterator[Tables]:
    """Every task with its rows."""
    names = wanted.tasks or prompted.DEFAULT
    templates, members = prompted.choose(names, wanted.folders, trust=wanted.trust_task_code)
    reached = 0
    missing: list[DataError] = []
    for template in templates:
        template = replace(template, metrics=_with_metrics(template, wanted.metrics))
        many = any(wanted.shots or ((template.shots,) if template.shots is not None else SHOTS))
        folder = prompted.folder_for(template, wanted.folders)
        try:
            yield tables.read(template, data_dir=folder, limit=wanted.limit, need_examples=many)
            reached += 1
        except DataError as error:
            if template.name not in members:
                raise
            missing.append(error)
    if missing:
        if not reached:
            raise missing[0]
        from hfcourse.engine.progress import say

        say(f"{len(missing)} tasks left out, the first because {missing[0]}")


def _with_metrics(template: Template, names: Sequence[str]) -> tuple[MetricUse, ...]:
    """The task's metrics and those that the user adds, where they fit it."""
    own = {use.name for use in template.metrics}
    more = [name for name in names if name not in own and template.output in METRICS[name].outputs]
    return (*template.metrics, *(MetricUse(name=name) for name in more))


def _cells(task: Tables, wanted: Wanted) -> Iterator[Cell]:
    """A cell for every number of examples and every draw that differs."""
    template = task.template
    counts = wanted.shots or ((template.shots,) if template.shots is not None else SHOTS)
    select: Select = template.select or wanted.select
    if template.select and wanted.select != "random":
        raise ConfigError(f"task {template.name} says itself how its examples are chosen: leave out --select")
    neighbours = None
    if select == "nearest" and any(counts):
        texts = [str(template.as_example.ask(row)) for row in task.pool]
        neighbours = Neighbours(texts, [str(template.ask(row)) for row in task.rows], max(counts) + _SPARE)

    def labels() -> Sequence[Any]:
        target = template.target
        if isinstance(target, str) and hasattr(task.pool, "column_names") and target in task.pool.column_names:
            return list(task.pool[target])  # type: ignore[call-overload]
        return [template.as_example.answer_text(row) for row in task.pool]

    for shots in dict.fromkeys(counts):
        for seed in range(wanted.seed, wanted.seed + wanted.draws):
            has_classes = isinstance(template.choices, tuple)
            draw = Draw(
                task=template.name,
                pool=task.pool,
                pool_name=task.pool_name,
                select=select,
                seed=seed,
                by_row=wanted.by_row,
                labels=labels if has_classes else None,
                neighbours=neighbours,
            )
            yield Cell(task, shots, draw)
            if not shots or draw.is_fixed:
                break


def _composer(cell: Cell, scorer: Scorer, wanted: Wanted, chat: Chat | None) -> Composer:
    template = cell.tables.template
    calibrate = any(use.name == "acc_calibrated" for use in template.metrics)
    return Composer(template, scorer, chat=chat, strict=wanted.strict, calibrate=calibrate)


def _shown(cell: Cell, number: int) -> list[Any]:
    return cell.draw.shown(cell.tables.rows[number], number, cell.shots)


def _records(cell: Cell, scorer: Scorer, run: RunFolder, wanted: Wanted, chat: Chat | None) -> list[dict[str, Any]]:
    """Every row of a cell, answered and judged."""
    template = cell.tables.template
    composer = _composer(cell, scorer, wanted, chat)
    questions = [composer.question(row, n, _shown(cell, n)) for n, row in enumerate(cell.tables.rows)]
    asked = {q.number: answers.prompts(template, q, wanted.unconditional) for q in questions if q.fits}
    with _Kept(run, cell.name) as kept:
        given = kept.ask([prompt for prompts in asked.values() for prompt in prompts], scorer, composer.generation)

    def record(question: Question) -> dict[str, Any]:
        if not question.fits:
            return answers.left_out(question)
        return answers.record(template, question, [given[prompt] for prompt in asked[question.number]])

    return [record(question) for question in questions]


class _Kept:
    """The answers of one cell on disk, a line each."""

    def __init__(self, run: RunFolder, name: str) -> None:
        self._run = run
        self._name = name
        self._place = run.path / "answers" / f"{name}.jsonl"

    def __enter__(self) -> _Kept:
        self._known = {line["key"]: line for line in disk.read_lines(self._place, may_be_torn=True)}
        with disk.clear_errors(self._place):
            self._place.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._place.open("a+b")
            if disk.is_torn(self._file):
                self._file.write(b"\n")
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def ask(self, prompts: Sequence[Prompt], scorer: Scorer, how: Generation) -> dict[Prompt, Answer]:
        """The answer to each prompt, once; the model is asked what is not on disk.

        Raises:
            Interrupted: a signal came; what was answered is kept.
        """
        keys = {prompt: _key(prompt, how) for prompt in prompts}
        given: dict[Prompt, Answer] = {p: _answer(self._known[key]) for p, key in keys.items() if key in self._known}
        missing = [prompt for prompt in keys if prompt not in given]
        chosen = [prompt for prompt in missing if prompt.options]
        written = [prompt for prompt in missing if not prompt.options]
        from hfcourse.engine.progress import bar

        with StopSignals() as signals, bar(self._name, len(keys), done=len(given)) as shown:

            def keep(asked: Sequence[Prompt]) -> Callable[[int, _T], None]:
                def done(number: int, answer: _T) -> None:
                    given[asked[number]] = answer
                    self._write(keys[asked[number]], answer)
                    shown.update(len(given))
                    if signals.received:
                        raise Interrupted(f"{self._run.path}: stopped; go on with --resume", signals.received)

                return done

            try:
                if chosen:
                    scorer.log_likelihoods(chosen, keep(chosen))
                if written:
                    scorer.generate(written, how, keep(written))
            except DataError as error:
                raise DataError(f"{self._name}: {error}") from error
        return given

    def _write(self, key: str, answer: Answer) -> None:
        line: dict[str, Any] = {"key": key}
        line |= {"text": answer} if isinstance(answer, str) else {"options": [list(asdict(o).values()) for o in answer]}
        with disk.clear_errors(self._place):
            self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self._file.flush()


def _key(prompt: Prompt, how: Generation) -> str:
    """What is asked, in a few letters."""
    asked = [prompt.shared + prompt.query, prompt.options, prompt.suffix]
    return hashlib.sha256(json.dumps([*asked, None if prompt.options else asdict(how)]).encode()).hexdigest()[:32]


def _answer(line: Mapping[str, Any]) -> Answer:
    return line["text"] if "text" in line else [OptionScore(*one) for one in line["options"]]
