"""A language model on tasks it has not been trained for: asked with zero, one and a few examples, in several draws."""

from __future__ import annotations

import collections
import functools
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from hfcourse.errors import ConfigError, DataError, ModelError
from hfcourse.prompting import answers, judging, tables
from hfcourse.prompting.compose import Chat, Composer, Question
from hfcourse.prompting.draws import Draw, Neighbours, Select
from hfcourse.prompting.judging import METRICS, MetricUse
from hfcourse.prompting.rendering import Row
from hfcourse.prompting.requests import Scorer
from hfcourse.prompting.tables import Tables
from hfcourse.prompting.templates import Template
from hfcourse.run_folder import RunFolder
from hfcourse.suites import fewshot_scores, prompted
from hfcourse.suites.kept import Kept

SHOTS = (0, 1, 8)
"""Numbers of examples where neither the user nor a task's file names any."""


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
        """What its files are called."""
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
        ModelError: a task whose answers are written, of a model that cannot write.
        Interrupted: a signal; it goes on with --resume.
    """
    from hfcourse.engine.progress import say

    if run.finished:
        say(f"{run.path}: already finished")
    if run.finished or not run.is_main:  # one process asks
        return
    began = time.perf_counter()
    cells = [cell for task in _read(wanted, scorer) for cell in _cells(task, wanted)]
    for cell in cells:  # a mistake in the last task is better known before the first is answered
        composer = _composer(cell, scorer, wanted, chat)
        _check(cell, composer.question(cell.tables.rows[0], 0, _shown(cell, 0)))
        if not cell.draw.is_of_a_row:  # one more, as a row that is among them is shown another
            composer.check_examples(cell.draw.first(cell.shots + 1) if cell.shots else [])
        elif cell.shots == max(one.shots for one in cells if one.tables is cell.tables):  # holds those of fewer
            for number in range(1, len(cell.tables.rows)):
                composer.check_examples(_shown(cell, number))
    for cell in {cell.tables.template.name: cell for cell in cells}.values():  # of a task all cells ask the same rows
        composer = _composer(cell, scorer, wanted, chat)
        behind = functools.lru_cache(maxsize=1024)(scorer.behind)  # most rows end alike and have the same choices
        for number, row in enumerate(cell.tables.rows):
            composer.check(row, number, behind)
    found = []
    for number, cell in enumerate(cells, start=1):
        records = _records(cell, scorer, run, wanted, chat)
        run.write_predictions(cell.name, records)
        result = fewshot_scores.result(cell.tables.template, cell.shots, cell.draw.seed, records)
        found.append(result)
        say(f"{cell.name}: {result.words}, {number} of {len(cells)}")
    fewshot_scores.write(found, [cell.tables.template for cell in cells], run, time.perf_counter() - began)


def _check(cell: Cell, first: Question) -> None:
    """Refuse metrics that do not fit the task's rows, of which `first` is one as it is asked."""
    template = cell.tables.template
    if judging.correlates(template.metrics):
        targets = [str(template.gold(row)) for row in cell.tables.rows]
        judging.check_numbers(template.metrics, [*first.choices, *targets], template.name)
    apart = [use.name for use in template.metrics if use.name in judging.NEED_ONE_QUESTION]
    if apart and len(first.prompts) > 1:
        raise ConfigError(
            f"task {template.name}: {apart[0]} compares answers to one question, and here the choices are questions "
            "of their own: leave it out"
        )


def _read(wanted: Wanted, scorer: Scorer) -> Iterator[Tables]:
    """Every task with its rows."""
    names = wanted.tasks or prompted.DEFAULT
    templates, members = prompted.choose(names, wanted.folders, trust=wanted.trust_task_code)
    if not scorer.writes:
        templates = _compared(templates, members if wanted.tasks else {one.name for one in templates})
    for name in wanted.metrics:
        if not any(name in {use.name for use in _with_metrics(one, wanted.metrics)} for one in templates):
            raise ConfigError(f"metrics: none of the tasks can be judged by {name}: leave it out")
    reached = 0
    missing: list[DataError] = []
    for template in templates:
        template = replace(template, metrics=_with_metrics(template, wanted.metrics))
        many = any(_counts(template, wanted))
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


def _compared(templates: Sequence[Template], optional: Collection[str]) -> list[Template]:
    """The tasks that a model can answer that does not write; of a whole family the others are left out."""
    from hfcourse.engine.progress import say

    kept = [one for one in templates if one.output != "generate_until"]
    out = [one.name for one in templates if one.output == "generate_until"]
    named = [name for name in out if name not in optional]
    if named or not kept:
        raise ModelError(
            f"task {(named or out)[0]}: its answers are generated, and the model does not write: leave it out"
        )
    if out:
        say(f"{len(out)} tasks left out, as the model does not write: {', '.join(out)}")
    return kept


def _with_metrics(template: Template, names: Sequence[str]) -> tuple[MetricUse, ...]:
    """The task's metrics and those that the user adds, where they fit it."""
    if judging.by_number(template.metrics):
        return template.metrics
    own = {use.name for use in template.metrics}
    more = [name for name in names if name not in own and template.output in METRICS[name].outputs]
    return (*template.metrics, *(MetricUse(name=name) for name in more))


def _counts(template: Template, wanted: Wanted) -> tuple[int, ...]:
    """Numbers of examples: the user's, the task's, or the usual ones."""
    return wanted.shots or ((template.shots,) if template.shots is not None else SHOTS)


def _asked(template: Template, row: Row) -> str:
    """The text of a question; where its choices are questions of their own, all of them."""
    question = template.ask(row)
    return " ".join(template.answers(row)) if isinstance(question, int) else question


def _cells(task: Tables, wanted: Wanted) -> Iterator[Cell]:
    """A cell for every number of examples and every draw that differs."""
    template = task.template
    counts = _counts(template, wanted)
    select: Select = template.select or wanted.select
    if template.select and wanted.select != "random":
        raise ConfigError(f"task {template.name} says itself how its examples are chosen: leave out --select")
    neighbours = None
    if select == "nearest" and any(counts):
        texts = [_asked(template.as_example, row) for row in task.pool]
        if not any(text.strip() for text in texts):
            raise DataError(
                f"task {template.name}: --select nearest compares the text of questions, and those of {task.pool_name} "
                "have none: take random"
            )
        copies = max(collections.Counter(texts).values(), default=0)  # a row's own, of which none is shown to it
        neighbours = Neighbours(texts, [_asked(template, row) for row in task.rows], max(counts) + copies)

    @functools.cache
    def labels() -> Sequence[Any]:
        target = template.target
        if isinstance(target, str) and hasattr(task.pool, "column_names") and target in task.pool.column_names:
            return list(task.pool[target])  # type: ignore[call-overload]
        return [template.as_example.answer_text(row) for row in task.pool]

    for shots in dict.fromkeys(counts):
        for seed in range(wanted.seed, wanted.seed + wanted.draws):
            draw = Draw(
                task=template.name,
                pool=task.pool,
                pool_name=task.pool_name,
                select=select,
                seed=seed,
                by_row=wanted.by_row,
                labels=labels if isinstance(template.choices, tuple) else None,
                neighbours=neighbours,
            )
            yield Cell(task, shots, draw)
            if not shots or draw.is_fixed:
                break


def _composer(cell: Cell, scorer: Scorer, wanted: Wanted, chat: Chat | None) -> Composer:
    template = cell.tables.template
    calibrate = any(use.name == "acc_calibrated" for use in template.metrics)
    return Composer(template, scorer, apart=scorer.apart, chat=chat, strict=wanted.strict, calibrate=calibrate)


def _shown(cell: Cell, number: int) -> list[Any]:
    return cell.draw.shown(cell.tables.rows[number], number, cell.shots)


def _records(cell: Cell, scorer: Scorer, run: RunFolder, wanted: Wanted, chat: Chat | None) -> list[dict[str, Any]]:
    """Every row of a cell, answered and judged."""
    template = cell.tables.template
    composer = _composer(cell, scorer, wanted, chat)
    questions = [composer.question(row, n, _shown(cell, n)) for n, row in enumerate(cell.tables.rows)]
    asked = {q.number: answers.prompts(template, q, wanted.unconditional) for q in questions if q.fits}
    with Kept(run, cell.name) as kept:
        how = replace(composer.generation, seed=cell.draw.seed)
        given = kept.ask([prompt for prompts in asked.values() for prompt in prompts], scorer, how)

    def record(question: Question) -> dict[str, Any]:
        if not question.fits:
            return answers.left_out(question)
        return answers.record(template, question, [given[prompt] for prompt in asked[question.number]])

    return [record(question) for question in questions]
