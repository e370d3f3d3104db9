"""Answer new rows with a finished run: ``hfcourse predict RUN FILE``."""

from __future__ import annotations

import csv
import errno
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfcourse.config import from_dict
from hfcourse.engine.settings import BatchConfig
from hfcourse.errors import DataError, RunFolderError, unknown
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.base import Task, TaskContext
from hfcourse.tasks.classification import ClassificationConfig
from hfcourse.tasks.multiple_choice import MultipleChoiceConfig
from hfcourse.tasks.span_qa import SpanQAConfig
from hfcourse.tasks.tagging import TaggingConfig

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TaskConfig = ClassificationConfig | TaggingConfig | SpanQAConfig | MultipleChoiceConfig
KINDS: dict[str, type[TaskConfig]] = {
    config.kind: config for config in (ClassificationConfig, TaggingConfig, SpanQAConfig, MultipleChoiceConfig)
}
_INTERNAL = {"null_difference", "span", "best_em", "best_f1"}


def predict(run: Path, file: Path, out: Path | None = None) -> Path:
    """Answer every row of a file; labels it may have are kept as ``reference``.

    Args:
        run: the folder of a finished fine-tuning run.
        file: new rows in the layout that the task was trained on (a table, CoNLL, SQuAD's JSON).
        out: where the answers go, by its ending as jsonl, tsv or csv; ``FILE.predictions.jsonl`` where not given.

    Returns:
        The file that was written.

    Raises:
        RunFolderError: no such run, one that is not finished, or a place that cannot be written.
        DataError: a missing or unreadable file, a missing column, an unknown ending of `out`.
    """
    folder = RunFolder.open(run)
    settings = _task_settings(folder)
    out = out or file.with_name(f"{_stem(file)}.predictions.jsonl")
    write = _writer(out)
    if not file.is_file():
        raise DataError(f"{file}: no such file: name the rows to answer")
    model, task = _model_and_task(folder, settings, file)
    from hfcourse.engine.evaluate import predictions

    batch = from_dict(BatchConfig, folder.config.get("batch") or {})
    answers = predictions(model, task, "test", batch=batch)
    _replace(out, write([_public(answer) for answer in answers]))
    return out


def _task_settings(folder: RunFolder) -> TaskConfig:
    saved = folder.config.get("task")
    if not isinstance(saved, dict):
        inner = sorted(path.parent.name for path in folder.path.glob("*/config.yaml"))
        hint = f"name one of the runs in it: {', '.join(inner)}" if inner else "name a fine-tuning run"
        raise RunFolderError(f"{folder.path}: this run has no task of its own: {hint}")
    kind = str(saved.get("kind"))
    if kind.endswith("pretraining"):
        raise RunFolderError(f"{folder.path}: a pretraining run answers no rows: fine-tune its model first")
    if kind == "together":
        raise RunFolderError(f"{folder.path}: this run has several tasks: name a run of the one that is meant")
    if kind not in KINDS:
        raise RunFolderError(f"{folder.path}: {unknown('task kind', kind, KINDS)}")
    if not (folder.model_dir / "config.json").is_file():
        raise RunFolderError(f"{folder.path}: no model here yet: let the run finish (--resume goes on with it)")
    return from_dict(KINDS[kind], saved, where=str(folder.path / "config.yaml"), prefix="task.")


def _model_and_task(folder: RunFolder, settings: TaskConfig, file: Path) -> tuple[PreTrainedModel, Task]:
    """The trained model on its device, and the run's task over the new rows."""
    from accelerate import Accelerator

    from hfcourse import model
    from hfcourse.data import tokenizers
    from hfcourse.engine.progress import say

    place = str(folder.model_dir)
    tokenizer = tokenizers.load(place)
    net = model.load(place)
    context = TaskContext(
        tokenizer=tokenizer,
        max_length=model.input_length(place, tokenizer, int(folder.config.get("max_length") or 0)),
        seed=int(folder.config.get("seed") or 0),
        strict=bool(folder.config.get("strict")),
        model_labels=model.trained_labels(place, settings.head_kind),
    )
    task = _resolved(settings, net, folder).build(context, new=str(file))
    for note in context.notes:
        say(note)
    return net.to(Accelerator().device), task


def _resolved(settings: TaskConfig, net: PreTrainedModel, folder: RunFolder) -> TaskConfig:
    """Settings that were found in the training data, which new rows without labels do not tell."""
    if isinstance(settings, ClassificationConfig):
        specs = [spec for spec in getattr(net.config, "specs", ()) if spec.kind == "sequence"]
        problem = specs[0].problem if specs else net.config.problem_type
        return replace(settings, problem=problem or settings.problem)
    if isinstance(settings, SpanQAConfig) and settings.no_answer is None:
        answered = [folder.read_predictions(split) for split in ("dev", "test")]
        return replace(settings, no_answer=any(rows and "null_difference" in rows[0] for rows in answered))
    return settings


def _stem(file: Path) -> str:
    """``rows.json.gz`` -> ``rows``."""
    name = file.name.removesuffix(".gz")
    return name.rsplit(".", 1)[0] if "." in name.lstrip(".") else name


def _public(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without what only scoring needs; without a reference where there is none."""
    hidden = _INTERNAL | ({"reference"} if answer.get("reference") is None else set())
    return {key: value for key, value in answer.items() if key not in hidden}


def _writer(out: Path) -> Callable[[list[dict[str, Any]]], str]:
    """How answers become text, by the file's ending; refused before anything is computed."""
    ending = out.suffix.lower()
    if ending in {".jsonl", ".ndjson"}:
        return lambda answers: "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
    if ending not in {".tsv", ".csv"}:
        raise DataError(f"{out}: cannot write {ending or 'a file without an ending'!r}: name a .jsonl, .tsv or .csv")
    return lambda answers: _table(answers, "\t" if ending == ".tsv" else ",")


def _table(answers: list[dict[str, Any]], delimiter: str) -> str:
    text = io.StringIO(newline="")
    columns = list(dict.fromkeys(key for answer in answers for key in answer))
    writer = csv.DictWriter(text, columns, delimiter=delimiter, lineterminator="\n")
    writer.writeheader()
    writer.writerows({key: _cell(value) for key, value in answer.items()} for answer in answers)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Lists of words become one cell that can be taken apart again."""
    if not isinstance(value, list):
        return value
    if all(isinstance(item, str) and not any(c.isspace() for c in item) for item in value):
        return " ".join(value)
    return json.dumps(value, ensure_ascii=False)


def _replace(out: Path, text: str) -> None:
    """Write the file whole or not at all."""
    side = out.with_name(f".{out.name}.partial")
    try:
        try:
            side.write_text(text, encoding="utf-8")
            side.replace(out)
        finally:
            side.unlink(missing_ok=True)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else f"cannot write here ({error.strerror})"
        raise RunFolderError(f"{out}: {reason}: give another --out") from error
