"""What a person sees while a run goes on: a bar with loss, tokens/s and the time left, and lines for what happened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

_console = Console(stderr=True, highlight=False)


def say(line: str) -> None:
    """One line for the person who waits, above any bar."""
    _console.print(line, markup=False, soft_wrap=True)


class Bar:
    """One running bar; does nothing when switched off or when nobody watches."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._task = progress.add_task("", total=total, note="") if progress else None

    def update(self, done: int, note: str = "", total: int | None = None) -> None:
        """Show how far it is, and a short note such as the loss."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, note=note, total=total or self._total)


@contextmanager
def bar(title: str, total: int, *, done: int = 0, shown: bool = True) -> Iterator[Bar]:
    """A bar titled `title` over `total` steps; removed at the end when it goes well."""
    if not (shown and _console.is_terminal):
        yield Bar(None, total)
        return
    columns = (
        TextColumn(title, markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=_console, transient=True) as progress:
        running = Bar(progress, total)
        running.update(done)
        yield running
