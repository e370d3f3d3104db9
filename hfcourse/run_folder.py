"""The run-folder contract: what lies where, written whole or not at all.

    config.yaml          all of it, resolved
    log.jsonl            a line each log step
    metrics.json         final scores; its presence says that the run is finished
    checkpoint-<step>/   resumable state
    model/               the saved model with tokenizer and card
    predictions/         answers for each split
    report.html          curves, tables and examples

Reports, suites and resuming read nothing else.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from hfcourse import checkpoints, disk
from hfcourse.config import read_yaml
from hfcourse.errors import RunFolderError

SAMPLES = "samples"
"""Beside the splits in predictions/: texts that a model has written (id, prompt, prediction)."""
# What may differ between a run and its resumption: it changes what a person sees, or when, not what is learned.
_COSMETIC = {"train.progress", "train.log_every", "train.trackers", "train.keep_checkpoints", "train.save_every"}
_COSMETIC |= {"devices"}  # how many runs of a comparison go on at a time
_OURS = {"config.yaml", "log.jsonl", "metrics.json", "model", "predictions", "report.html", "tokenizer"}
_OURS |= {"scores.json", "table.md", "submission", "submission.zip"}  # of a suite
_OURS |= {"exits.json", "exits.html"}  # of early exit
_OURS |= {"compare.json", "compare.html"}  # of a comparison of methods
_OURS |= {"answers", "ladder.json", "corpus"}  # of an evaluation by prompts; of a ladder of models
_OURS |= {"units", "methods.json", "folds.json"}  # of recordings as units; of comparisons of pretraining
_OURS |= {"hfcourse"}  # of TensorBoard, which takes the project's name


class RunFolder:
    """One run on disk. Make it with `create`, find it with `open`."""

    def __init__(self, path: Path, *, resume: bool = False, overwrite: bool = False, is_main: bool = True) -> None:
        self.path = path
        self.is_main = is_main
        self.resume = resume
        self.overwrite = overwrite

    def __fspath__(self) -> str:
        return str(self.path)

    @classmethod
    def create(
        cls, path: str | Path, config: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False
    ) -> RunFolder:
        """Make the folder and write config.yaml, or take up the run that is there.

        Raises:
            RunFolderError: it holds another run or foreign files, or cannot be written.
        """
        run = cls(Path(path), resume=resume, overwrite=overwrite)
        with disk.clear_errors(run.path):
            if run.path.is_dir() and any(run.path.iterdir()):
                run._take_over(config)
            run.path.mkdir(parents=True, exist_ok=True)
            run._remove_side_files()
            run.write_text("config.yaml", yaml.safe_dump(dict(config), sort_keys=False, allow_unicode=True))
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """A run that is there.

        Raises:
            RunFolderError: the folder is missing or holds no run.
        """
        path = Path(path)
        if not (path / "config.yaml").is_file():
            what = "holds no run (no config.yaml)" if path.is_dir() else "is not there"
            raise RunFolderError(f"{path} {what}: name the folder of a run, such as runs/bert-tour-1")
        return cls(path)

    @classmethod
    def attach(cls, path: str | Path, *, resume: bool) -> RunFolder:
        """The view of a process that is not the one that made the folder."""
        return cls(Path(path), resume=resume, is_main=False)

    def child(self, name: str, config: Mapping[str, Any]) -> RunFolder:
        """A run inside this one, taken up or begun as this one was."""
        if not self.is_main:
            return RunFolder.attach(self.path / name, resume=self.resume)
        return RunFolder.create(self.path / name, config, resume=self.resume, overwrite=self.overwrite)

    @property
    def config(self) -> dict[str, Any]:
        """The run's resolved settings; ConfigError if a hand has broken the file."""
        place = self.path / "config.yaml"
        return read_yaml(place.read_text(encoding="utf-8", errors="replace"), str(place))

    @property
    def finished(self) -> bool:
        """Whether the run came to its end."""
        return (self.path / "metrics.json").is_file()

    @property
    def model_dir(self) -> Path:
        """Where the finished model is saved."""
        return self.path / "model"

    # Files

    def write_text(self, name: str, text: str) -> Path:
        """Write a file whole or not at all; an older one stays intact if it fails."""
        return self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> Path:
        """As `write_text`."""
        place = self.path / name
        side = place.with_name(f".{place.name}.partial")
        with disk.clear_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                with side.open("wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                side.replace(place)
            finally:
                side.unlink(missing_ok=True)
        return place

    def write_json(self, name: str, value: Any) -> Path:
        """Write one JSON file."""
        return self.write_text(name, json.dumps(value, indent=1, ensure_ascii=False) + "\n")

    def read_json(self, name: str) -> Any:
        """Read one JSON file of the run."""
        return json.loads((self.path / name).read_text(encoding="utf-8"))

    def write_predictions(self, split: str, answers: list[dict[str, Any]]) -> Path:
        """``predictions/<split>.jsonl``, one answer a line."""
        lines = "".join(json.dumps(answer, ensure_ascii=False) + "\n" for answer in answers)
        return self.write_text(f"predictions/{split}.jsonl", lines)

    def read_predictions(self, split: str) -> list[dict[str, Any]]:
        """What `write_predictions` wrote; empty if there is none.

        Raises:
            RunFolderError: a line was damaged since.
        """
        return disk.read_lines(self.path / "predictions" / f"{split}.jsonl", may_be_torn=False)

    @contextlib.contextmanager
    def replacing(self, folder: Path, advice: str = disk.ADVICE) -> Iterator[Path]:
        """An empty side folder that takes the place of `folder` when the block ends well."""
        side = folder.with_name(f".{folder.name}.partial")
        with disk.clear_errors(folder, advice):
            shutil.rmtree(side, ignore_errors=True)
            side.mkdir(parents=True)
            try:
                yield side
                disk.swap(side, folder)
            finally:
                shutil.rmtree(side, ignore_errors=True)

    # Log

    def append_log(self, record: Mapping[str, Any]) -> None:
        """One line in log.jsonl."""
        place = self.path / "log.jsonl"
        with disk.clear_errors(place), place.open("a+b") as file:
            line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
            file.write((b"\n" if disk.is_torn(file) else b"") + line)

    def read_log(self) -> list[dict[str, Any]]:
        """All whole lines of log.jsonl; one torn by a crash is dropped."""
        return disk.read_lines(self.path / "log.jsonl", may_be_torn=True)

    def cut_log(self, step: int) -> None:
        """Drop what was logged after `step`: a run that goes on from there writes it again."""
        kept = [record for record in self.read_log() if record.get("step", 0) <= step]
        self.write_text("log.jsonl", "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in kept))

    # Checkpoints

    @contextlib.contextmanager
    def new_checkpoint(self, step: int) -> Iterator[Path]:
        """An empty side folder that becomes ``checkpoint-<step>`` when the block ends well."""
        advice = "the older checkpoints are intact; free some space and go on with --resume"
        with self.replacing(self.path / f"checkpoint-{step}", advice) as side:
            yield side
            checkpoints.seal(side)

    def checkpoints(self) -> list[Path]:
        """Every checkpoint, newest first, good or not."""
        return checkpoints.found(self.path)

    def newest_good_checkpoint(self) -> Path | None:
        """The newest checkpoint whose files are as they were written; damaged ones are named in a warning."""
        return checkpoints.newest_good(self.path)

    def drop_old_checkpoints(self, keep: int, protect: Path | None = None) -> None:
        """Remove all but the newest `keep` and the protected one."""
        for place in self.checkpoints()[keep:]:
            if place != protect:
                with disk.clear_errors(place):
                    hidden = place.with_name(f".{place.name}.dropped.partial")
                    place.replace(hidden)  # a kill from here on leaves no half checkpoint
                    shutil.rmtree(hidden)

    # How a folder is taken

    def _take_over(self, config: Mapping[str, Any]) -> None:
        """Decide what happens to a folder that is not empty."""
        if not (self.path / "config.yaml").is_file():
            foreign = sorted(entry.name for entry in self.path.iterdir())
            if not all(name.startswith(".") and name.endswith(".partial") for name in foreign):
                raise RunFolderError(f"{self.path} holds files that are no run ({foreign[0]!r}): give an empty folder")
        elif self.overwrite:
            self._remove_run()
        elif not self.resume:
            raise RunFolderError(f"{self.path} holds a run already: give another --output_dir, --resume or --overwrite")
        else:
            odd = _differences(self.config, config)
            if odd:
                key, before, now = odd[0]
                more = f" (and {len(odd) - 1} more)" if len(odd) > 1 else ""
                raise RunFolderError(
                    f"{self.path}: cannot resume with other settings: {key} was {before!r} and is now {now!r}{more}; "
                    "use the run's own, or another --output_dir"
                )

    def _remove_run(self) -> None:
        """Remove what a run wrote, and nothing else."""
        entries = sorted(self.path.iterdir(), key=lambda entry: entry.name == "config.yaml")
        for entry in entries:  # config.yaml last: until then the folder is known for a run
            nested = entry.is_dir() and (entry / "config.yaml").is_file()
            if entry.name in _OURS or checkpoints.step_of(entry) is not None or nested:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def _remove_side_files(self) -> None:
        """What a killed run left half-written."""
        for entry in self.path.glob(".*.partial"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _is_cosmetic(key: str) -> bool:
    return any(key == one or key.endswith(f".{one}") for one in _COSMETIC)  # the tour nests whole runs


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Settings that decide results and differ: (key, before, now)."""
    old, new = _flat(before), _flat(json.loads(json.dumps(now)))
    keys = [key for key in {**old, **new} if key != "variant" and not _is_cosmetic(key)]
    return [(key, old.get(key), new.get(key)) for key in keys if old.get(key) != new.get(key)]
