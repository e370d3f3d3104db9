"""The answers of a model on disk: kept as soon as they are there, under the text that was asked.

A run that goes on asks only what is missing, and no answer can be taken for that to another question.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

from hfcourse import disk
from hfcourse.data.frame_features import weights_hash
from hfcourse.engine.progress import bar
from hfcourse.engine.signals import StopSignals
from hfcourse.errors import DataError, Interrupted, RunFolderError
from hfcourse.prompting.answers import Answer
from hfcourse.prompting.requests import Generation, OptionScore, Prompt, Scorer
from hfcourse.run_folder import RunFolder

_WEIGHTS = "weights.json"
_T = TypeVar("_T", list[OptionScore], str)


def claim(run: RunFolder, model: Any) -> None:
    """Let a folder hold the answers of this model alone.

    Raises:
        RunFolderError: it has answers of other weights, as of a run that was trained again since.
    """
    place, weights = run.path / "answers" / _WEIGHTS, weights_hash(model)
    if place.is_file() and run.read_json(f"answers/{_WEIGHTS}")["weights"] != weights:
        raise RunFolderError(
            f"{run.path}: its answers are of other weights than the model has now: give another --output_dir, or "
            "--overwrite"
        )
    if run.is_main:
        run.write_json(f"answers/{_WEIGHTS}", {"weights": weights})


class Kept:
    """One file of answers, ``answers/<name>.jsonl``, open within a block."""

    def __init__(self, run: RunFolder, name: str) -> None:
        self._run = run
        self._name = name
        self._place = run.path / "answers" / f"{name}.jsonl"

    def __enter__(self) -> Kept:
        lines = disk.read_lines(self._place, may_be_torn=True)
        self._known = {line["key"]: line for line in lines if "key" in line}
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
