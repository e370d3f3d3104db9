"""The rows that a task asks about, and those that its examples come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcourse.data import loading
from hfcourse.errors import DataError, unknown
from hfcourse.prompting import judging
from hfcourse.prompting.rendering import Row
from hfcourse.prompting.templates import Source, Template

if TYPE_CHECKING:
    import datasets


@dataclass(frozen=True)
class Tables:
    """A task with its data."""

    template: Template
    """With its choices filled in, where they are the classes of a column."""
    rows: Sequence[Row]
    """The questions."""
    pool: Sequence[Row]
    """The examples."""
    pool_name: str
    """Where they come from, for errors."""


def read(template: Template, *, data_dir: str | None = None, limit: int = 0, need_examples: bool = True) -> Tables:
    """The questions and examples of a task.

    Args:
        template: the task.
        data_dir: the raw files, for builders that read some.
        limit: the first so many questions; 0: all.
        need_examples: whether any example will be shown.

    Raises:
        DataError: no such table or split; a split without rows or whose labels are hidden; multiple choice without
            choices.
    """
    source = template.source
    splits = _splits(source, source.data, data_dir)
    table = _split(splits, source.split, template.name)
    template = _with_classes(template, table)
    rows = _processed(table, source.process, template.name)
    rows = rows if not limit or limit >= len(rows) else _first(rows, limit)
    if _hides_labels(template, rows[0]):
        raise DataError(f"task {template.name}: the labels of split {source.split!r} are hidden")
    if template.samples or not need_examples:
        return Tables(template, rows, template.samples, "its samples")
    other, colon, name = source.shots.rpartition(":")
    pool = _split(_splits(source, other, data_dir) if colon else splits, name, template.name)
    return Tables(template, rows, _processed(pool, source.shots_process, template.name), f"split {name!r}")


def _splits(source: Source, data: str, data_dir: str | None) -> Mapping[str, datasets.Dataset]:
    if loading.is_builder(data) and source.config:
        data = f"{data}/{source.config}"
    if not source.by_library and not (source.config and not loading.is_builder(data)):
        return loading.load(data, data_dir=data_dir)  # type: ignore[no-any-return]
    import datasets

    options = dict(source.options)
    if "data_files" in options:
        options["data_files"] = _found(options["data_files"], Path(source.folder))
    try:
        with loading.quiet():
            splits: Any = datasets.load_dataset(data, source.config or None, **options)
    except Exception as error:
        reason = " ".join(str(_cause(error)).split()) or type(error).__name__
        raise DataError(f"{data} {source.config}".strip() + f": the table cannot be read ({reason[:300]})") from error
    return {str(split): table for split, table in splits.items()}


def _cause(error: BaseException) -> BaseException:
    """What went wrong with the file, inside the library's wrapping."""
    return _cause(error.__cause__) if error.__cause__ is not None else error


def _found(files: Any, folder: Path) -> Any:
    """Paths as they are, or from the folder of the task's file where that is where they lie."""
    if isinstance(files, Mapping):
        return {split: _found(some, folder) for split, some in files.items()}
    if isinstance(files, list):
        return [_found(one, folder) for one in files]
    path = Path(files)
    beside = folder / path
    return str(beside) if not path.exists() and "://" not in str(files) and any(_matches(beside)) else str(files)


def _matches(path: Path) -> list[Path]:
    return [path] if path.exists() else sorted(path.parent.glob(path.name))


def _split(splits: Mapping[str, datasets.Dataset], name: str, task: str) -> datasets.Dataset:
    """A split by its own name, or by another usual word for it."""
    found = name if name in splits else loading.SPLITS.get(name.lower(), name)
    if found not in splits:
        raise DataError(f"task {task}: {unknown('split', name, splits)}")
    if not len(splits[found]):
        raise DataError(f"task {task}: split {name!r} is empty")
    return splits[found]


def _processed(table: Any, process: Any, task: str) -> Sequence[Row]:
    found = table if process is None else process(table)
    if not hasattr(found, "__getitem__") or not hasattr(found, "__len__"):
        raise DataError(
            f"task {task}: its process_docs gives back a {type(found).__name__}: a table or a list is needed"
        )
    if not len(found):
        raise DataError(f"task {task}: its process_docs leaves no row")
    return found  # type: ignore[no-any-return]


def _hides_labels(template: Template, row: Row) -> bool:
    """Whether the right choice is -1, as in benchmarks whose answers nobody is told."""
    chooses = template.output == "multiple_choice" and not judging.by_number(template.metrics)
    return chooses and not isinstance(template.ask(row), int) and template.gold(row) == -1


def _first(rows: Any, limit: int) -> Sequence[Row]:
    return rows.select(range(limit)) if hasattr(rows, "select") else rows[:limit]  # type: ignore[no-any-return]


def _with_classes(template: Template, table: datasets.Dataset) -> Template:
    """Multiple choice without choices: those are the classes of the target's column."""
    if template.output != "multiple_choice" or template.choices is not None:
        return template
    column = template.target
    labels = loading.labels_of(table, column) if isinstance(column, str) and column in table.column_names else None
    if not labels:
        raise DataError(f"task {template.name}: it has no choices, and its target {column!r} is no column of classes")
    return replace(template, choices=tuple(label.replace("_", " ") for label in labels))
