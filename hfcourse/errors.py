"""The errors a user can meet: one clear line each, and the exit code of the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HfcourseError(Exception):
    """Something the user can mend. The message is one line: what is wrong, where, and what to do."""

    exit_code = 2


class ConfigError(HfcourseError):
    """A setting is unknown, mistyped or contradicts another one."""


class DataError(HfcourseError):
    """A file, split, column, label or encoding is not what the task needs."""


class ModelError(HfcourseError):
    """A model, tokenizer or checkpoint cannot serve the task."""


class RunFolderError(HfcourseError):
    """The output folder cannot be used: it holds another run, is read-only or full."""


class TrainingError(HfcourseError):
    """Training cannot go on, for example because the loss is not a number."""


class Interrupted(HfcourseError):
    """A signal stopped the run after a checkpoint was written.

    The exit code is the shell's convention, 128 + the signal's number: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """One line for an unknown name, with the nearest known ones: ``unknown task 'topc': did you mean 'topic'?``"""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        return f"unknown {kind} {name!r}: did you mean {', '.join(map(repr, near))}?"
    return f"unknown {kind} {name!r}: choose one of {', '.join(names)}"
