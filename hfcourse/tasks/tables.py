"""Tables of examples: splits that are there or cut off, limits, columns found by name, sets of labels."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hfcourse.errors import DataError, ModelError
from hfcourse.tasks.base import Context, TaskContext

if TYPE_CHECKING:
    import datasets
    from transformers import PreTrainedTokenizerBase

    Tables = dict[str, datasets.Dataset]

_CUT, _LIMIT = 101, 102
"""Streams of draws."""
TARGET = "_target"
"""Column of numbers for the loss."""


def load_tables(data: str, data_dir: str | None, context: Context, new: str | None) -> Tables:
    """All splits, or with `new` only that file's rows under ``test``."""
    from hfcourse.data.loading import load

    if new is not None:
        return {"test": next(iter(load(new).values()))}
    splits = load(data, data_dir=data_dir, revision=context.revision, cache_dir=context.cache_dir)
    first = [split for split in ("train", "dev", "test") if split in splits]
    return {split: splits[split] for split in dict.fromkeys([*first, *splits])}


def with_targets(table: datasets.Dataset, targets: Sequence[Any]) -> datasets.Dataset:
    """The table with what is to be learned of each row under `TARGET`.

    Targets are read off the whole table, before anything is cut off or left out: so an error names the row of
    the file, and the set of labels does not depend on a limit.
    """
    return with_column(table, TARGET, list(targets))


def with_column(table: datasets.Dataset, name: str, values: list[Any]) -> datasets.Dataset:
    """The table with one more column; no bar is shown where rows that were chosen are copied for it."""
    import hashlib
    import pickle

    import datasets

    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    # Else the library pickles the values in Python for its own fingerprint, which takes longer than all the rest.
    fingerprint = hashlib.sha256(pickle.dumps((table._fingerprint, name, values))).hexdigest()[:16]
    try:
        return table.add_column(name, values, new_fingerprint=fingerprint)
    finally:
        if not bars:
            datasets.enable_progress_bars()


def lenient(
    read: Callable[[str, datasets.Dataset], list[Any]], context: Context
) -> Callable[[str, datasets.Dataset], list[Any]]:
    """`read` for new rows: labels that do not fit are left aside with a note, the rows are answered all the same."""

    def tried(split: str, table: datasets.Dataset) -> list[Any]:
        try:
            return read(split, table)
        except DataError as error:
            context.notes.append(f"the rows are answered without their labels: {error}")
            return [None] * len(table)

    return tried


def split_cells(table: datasets.Dataset, names: Iterable[str]) -> datasets.Dataset:
    """The table with lists of words where these columns hold text with spaces."""
    for name in filter(None, names):
        if isinstance(table[0][name], str):
            words = [str(cell).split() for cell in table[name]]
            table = with_column(table, "_cells", words).remove_columns(name).rename_column("_cells", name)
    return table


def ready(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, if it can do what tasks need: know which word and character a token comes from, and pad.

    Raises:
        ModelError: it has no fast backend, or nothing to pad with.
    """
    if not tokenizer.is_fast:
        kind = type(tokenizer).__name__
        raise ModelError(f"{kind} cannot tell which word a token comes from: give one with a tokenizer.json")
    if tokenizer.pad_token is None:
        if tokenizer.eos_token is None:
            raise ModelError("the tokenizer has neither a padding nor an end token: give another with --tokenizer")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def refuse_unlabelled(targets: Sequence[Any], name: str, split: str) -> None:
    """Raise DataError for a row without a label where every row needs one: to train and to select."""
    if split in {"train", "dev"} and None in targets:
        row = targets.index(None) + 1
        raise DataError(f"{name}, {split}, row {row}: no label: fill it in or leave the row out")


def with_dev(tables: Tables, context: Context, *, share: float, by: str | None = None) -> Tables:
    """Cut a dev split off the training one where none is given; `by` a column, its values keep their shares.

    Which rows go is drawn by seed and row, so that the same table is always cut the same way.
    """
    import numpy as np

    from hfcourse.data.noise import uniform

    if "train" not in tables or "dev" in tables:
        return tables
    train = tables["train"]
    if len(train) < 2:
        raise DataError(f"the training split has {len(train)} row: too few to cut a dev split off")
    draws = uniform(context.seed, 0, np.arange(len(train)), 1, _CUT)[:, 0]
    values = np.array([str(value) for value in train[by]] if by else [""] * len(train))
    held = np.zeros(len(train), dtype=bool)
    for value in np.unique(values):
        rows = np.flatnonzero(values == value)
        count = round(share * len(rows)) if by else max(1, round(share * len(rows)))
        held[rows[np.argsort(draws[rows], kind="stable")[:count]]] = True
    if not held.any():
        held[draws.argmin()] = True
    context.notes.append(f"no dev split: {int(held.sum())} of {len(train)} training rows cut off as one")
    return tables | {"train": train.select(np.flatnonzero(~held)), "dev": train.select(np.flatnonzero(held))}


def limited(tables: Tables, context: Context, *, train: int = 0) -> Tables:
    """At most `context.limit_of` rows of each split (of the training one `train`, if given), in the order of the table.

    They are drawn by seed; what a smaller limit keeps, a larger one keeps too.
    """
    import numpy as np

    from hfcourse.data.noise import uniform

    kept = {}
    for split, table in tables.items():
        limit = (train if split == "train" else 0) or context.limit_of(split) or len(table)
        draws = uniform(context.seed, 0, np.arange(len(table)), 1, _LIMIT)[:, 0]
        kept[split] = table.select(np.sort(np.argsort(draws, kind="stable")[:limit]))
    return kept


def named_column(table: datasets.Dataset, name: str, guesses: Sequence[str], where: str, role: str) -> str:
    """The column the user named, or the first of the usual names that is there.

    Raises:
        DataError: the named column is missing (with the nearest), or nothing could be guessed.
    """
    from hfcourse.data.loading import column

    if name:
        return column(table, name, where)
    found = next((guess for guess in guesses if guess in table.column_names), None)
    if found is None:
        raise DataError(f"{where}: which column is the {role}? Set --task.{role}: {', '.join(table.column_names)}")
    return found


def note_cut(name: str, split: str, cut: int, total: int, context: TaskContext) -> None:
    """Log that inputs were longer than the model, or refuse them under `strict`."""
    if not cut:
        return
    message = f"{name}, {split}: {cut} of {total} inputs are longer than {context.max_length} tokens"
    if context.strict:
        raise DataError(f"{message}: raise --max_length, or leave out --strict to cut them")
    context.notes.append(f"{message} and were cut")


@dataclass(frozen=True)
class Labels:
    """A fixed set of class names."""

    names: tuple[str, ...]

    def number(self, value: Any, where: str) -> int:
        """The class of a cell.

        Raises:
            DataError: not in the set, with where it stands and the nearest name.
        """
        word = label_word(value)
        try:
            return self._numbers[word]
        except KeyError:
            near = difflib.get_close_matches(word, self.names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"the set is {', '.join(self.names[:12])}"
            raise DataError(f"{where}: label {word!r} does not occur in training: {hint}") from None

    @property
    def _numbers(self) -> Mapping[str, int]:
        cached: Mapping[str, int] | None = self.__dict__.get("_cache")
        if cached is None:
            cached = {name: number for number, name in enumerate(self.names)}
            object.__setattr__(self, "_cache", cached)
        return cached


def label_word(value: Any) -> str:
    """A label as a word: 1.0 and 1 are the same, True is "True"."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def find_labels(values: Iterable[Any]) -> tuple[str, ...]:
    """All labels that occur, numbers in their order, words alphabetically."""
    words = {label_word(value) for value in values if value is not None and label_word(value) != ""}
    try:
        return tuple(sorted(words, key=float))
    except ValueError:
        return tuple(sorted(words))


def in_models_order(names: tuple[str, ...], context: Context, name: str) -> tuple[str, ...]:
    """The data's labels in the order of an already fine-tuned model, where that has them all (and maybe more)."""
    theirs = context.model_labels
    if not theirs:
        return names
    folded = {label.casefold(): label for label in names}
    if len(theirs) == len(names) and {label.casefold() for label in theirs} == set(folded):
        return tuple(folded[label.casefold()] for label in theirs)
    generic = all(label == f"LABEL_{number}" for number, label in enumerate(theirs))
    if set(folded) < {label.casefold() for label in theirs}:
        return tuple(folded.get(label.casefold(), label) for label in theirs)
    if not (generic and len(theirs) == len(names)):
        shown = ", ".join(theirs[:6])
        context.notes.append(f"{name}: the model's labels ({shown}) are not the data's: its head is new")
    return names
