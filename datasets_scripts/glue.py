"""GLUE (arXiv 1804.07461): nine tasks and the diagnostic set, from the original TSV files.

``data_dir`` is the folder that holds ``CoLA/``, ``SST-2/``, ... (some of them are enough), or one task's own folder.
Columns and labels are as the benchmark names them; rows of the hidden test sets have label -1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets

from .base import fingerprint_of, raw_files, read_text

_ENTAILMENT = ("entailment", "not_entailment")
_NLI = ("entailment", "neutral", "contradiction")


@dataclass(frozen=True)
class Task:
    """One task: its folder's name, its columns (ours -> names in the files), its classes."""

    folder: str
    columns: dict[str, tuple[str, ...]]
    labels: tuple[str, ...] = ()
    """In the order of their numbers; empty for regression."""
    label_names: tuple[str, ...] = ("label", "gold_label")
    headless: tuple[str, ...] = ()
    """Columns of files without a header line."""
    torn: bool = False
    """Whether the published files hold rows that are cut short; everybody leaves them out."""


_PAIR = {"sentence1": ("sentence1", "#1 string"), "sentence2": ("sentence2", "#2 string")}
TASKS = {
    "cola": Task(
        "CoLA",
        {"sentence": ("sentence",)},
        ("unacceptable", "acceptable"),
        headless=("source", "label", "orig_mark", "sentence"),
    ),
    "sst2": Task("SST-2", {"sentence": ("sentence",)}, ("negative", "positive")),
    "mrpc": Task("MRPC", _PAIR, ("not_equivalent", "equivalent"), ("label", "quality")),
    "qqp": Task(
        "QQP",
        {"question1": ("question1",), "question2": ("question2",)},
        ("not_duplicate", "duplicate"),
        ("is_duplicate", "label"),
        torn=True,
    ),
    "stsb": Task("STS-B", _PAIR, (), ("score", "label")),
    "mnli": Task("MNLI", {"premise": ("sentence1", "premise"), "hypothesis": ("sentence2", "hypothesis")}, _NLI),
    "qnli": Task("QNLI", {"question": ("question",), "sentence": ("sentence",)}, _ENTAILMENT),
    "rte": Task("RTE", _PAIR, _ENTAILMENT),
    "wnli": Task("WNLI", _PAIR, ("not_entailment", "entailment")),
    "ax": Task(
        "diagnostic",
        {"premise": ("sentence1", "premise"), "hypothesis": ("sentence2", "hypothesis")},
        _NLI,
    ),
}
# Names of files by split. MNLI has two dev and two test sets; the matched ones are dev and test.
FILES = {
    "train": ("train", "msr_paraphrase_train"),
    "dev": ("dev", "dev_matched", "val", "validation"),
    "dev_mismatched": ("dev_mismatched",),
    "test": ("test", "test_matched", "msr_paraphrase_test", "diagnostic", "ax", "diagnostic-full"),
    "test_mismatched": ("test_mismatched",),
}


def fingerprint(data_dir: str | None) -> str:
    """Changes with the builder and the raw files."""
    return fingerprint_of(__file__, raw_files(data_dir))


class Glue(datasets.GeneratorBasedBuilder):
    """One config a task."""

    VERSION = datasets.Version("1.0.0")
    BUILDER_CONFIGS = [datasets.BuilderConfig(name=name) for name in TASKS]  # noqa: RUF012

    def _info(self) -> datasets.DatasetInfo:
        task = TASKS[self.config.name]
        features: dict[str, Any] = {name: datasets.Value("string") for name in task.columns}
        features["label"] = datasets.ClassLabel(names=list(task.labels)) if task.labels else datasets.Value("float32")
        return datasets.DatasetInfo(features=datasets.Features(features | {"idx": datasets.Value("int32")}))

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        folder = task_folder(self.config.name, self.config.data_dir)
        found = {split: _file(folder, names) for split, names in FILES.items()}
        splits = {split: path for split, path in found.items() if path is not None}
        if not splits:
            raise FileNotFoundError(f"{folder}: no train.tsv, dev.tsv or test.tsv of GLUE's {self.config.name} here")
        return [datasets.SplitGenerator(split, {"path": path, "split": split}) for split, path in splits.items()]

    def _generate_examples(self, path: Path, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        yield from enumerate(_rows(path, split, TASKS[self.config.name]))


def task_folder(name: str, data_dir: str | None) -> Path:
    """Where a task's files are.

    Raises:
        FileNotFoundError: no such folder, with the layout that is expected.
    """
    layout = f"give --task.data_dir a folder that holds {TASKS[name].folder}/train.tsv, dev.tsv (and test.tsv)"
    if data_dir is None:
        raise FileNotFoundError(f"glue/{name} reads files that you have: {layout}")
    root = Path(data_dir).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder: {layout}")
    below = {_task_of(path): path for path in sorted(root.iterdir(), reverse=True) if path.is_dir()}
    if name in below:
        return below[name]
    if _task_of(root.resolve()) in {None, name} and any(_file(root, names) for names in FILES.values()):
        return root
    raise FileNotFoundError(f"{root}: no folder of GLUE's {name}: {layout}")


def has_split(name: str, data_dir: str | None, split: str) -> bool:
    """Whether a task's folder holds a split's file.

    Raises:
        FileNotFoundError: no such folder, as `task_folder`.
    """
    return _file(task_folder(name, data_dir), FILES[split]) is not None


def _task_of(folder: Path) -> str | None:
    """The task whose folder this is (``CoLA``, ``cola`` and ``glue_cola`` are), by its name."""
    bare = re.sub(r"[^a-z0-9]", "", folder.name.lower()).removeprefix("glue")
    return "ax" if bare == "diagnostic" else bare if bare in TASKS else None


def _file(folder: Path, names: tuple[str, ...]) -> Path | None:
    """The first file of these names, with any of the usual endings."""
    files = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_file()}
    wanted = (f"{name}{ending}" for name in names for ending in (".tsv", ".tsv.gz", ".txt"))
    return next((files[name] for name in wanted if name in files), None)


def _rows(path: Path, split: str, task: Task) -> Iterator[dict[str, Any]]:
    # Bare quotes are ordinary characters in these files.
    text = read_text(path)
    lines = [line.split("\t") if line.strip() else [] for line in text.split("\n")]
    if not text.strip():
        raise ValueError(f"{path}: the file is empty")
    header = [name.strip().lower().lstrip("\ufeff") for name in lines[0]]
    places = {name: _place(header, names) for name, names in task.columns.items()}
    start = 1
    if any(place is None for place in places.values()):
        if not task.headless or len(header) != len(task.headless):
            raise ValueError(f"{path}, line 1: expected columns {', '.join(n[0] for n in task.columns.values())}")
        header, start = list(task.headless), 0
        places = {name: _place(header, names) for name, names in task.columns.items()}
    label_at = _place(header, task.label_names)
    if label_at is None and split == "train":
        raise ValueError(f"{path}, line 1: expected a column {task.label_names[0]}")
    count = 0
    for number, cells in enumerate(lines[start:], start=start + 1):
        if not cells or (task.torn and len(cells) < len(header)):
            continue
        if len(cells) < len(header):
            raise ValueError(f"{path}, line {number}: {len(cells)} cells under {len(header)} column names")
        row: dict[str, Any] = {name: cells[place] for name, place in places.items() if place is not None}
        label = cells[label_at] if label_at is not None else ""
        yield row | {"label": _label(label, task, f"{path}, line {number}"), "idx": count}
        count += 1


def _place(header: list[str], names: tuple[str, ...]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _label(cell: str, task: Task, where: str) -> int | float:
    """The class's number, or the score; -1 where there is none."""
    if not cell or cell == "-":
        return -1
    if not task.labels:
        try:
            return float(cell)
        except ValueError:
            raise ValueError(f"{where}: score {cell!r} is no number") from None
    if cell in task.labels:
        return task.labels.index(cell)
    if cell.isdigit() and int(cell) < len(task.labels):
        return int(cell)
    raise ValueError(f"{where}: label {cell!r} is none of {', '.join(task.labels)}")
