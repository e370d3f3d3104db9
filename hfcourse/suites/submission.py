"""The benchmark's own format: a zip of one TSV a task, every line checked before any is written."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from hfcourse.errors import DataError
from hfcourse.run_folder import RunFolder
from hfcourse.suites.rows import Row, Suite


def write(suite: Suite, runs: Mapping[str, RunFolder], out: RunFolder) -> str:
    """``submission.zip`` where every file can be filled; else what is there, under ``submission/``.

    Args:
        suite: whose rows name the files.
        runs: for each row the run whose answers are sent.
        out: the suite's folder.

    Returns:
        One line on what was written, or why it is not whole; empty for a suite that has no submission.
    """
    wanted = [(row, split, file) for row in suite.rows for split, file in row.submit.items()]
    if not wanted:
        return ""
    texts: dict[str, str] = {}
    problems: list[str] = []
    for row, split, file in wanted:
        if row.name not in runs:
            problems.append(f"{file} (no run)")
            continue
        try:
            texts[file] = lines(row, split, runs[row.name].read_predictions(split))
        except DataError as error:
            problems.append(f"{file} ({error})")
    if problems:
        for file, text in texts.items():
            out.write_text(f"submission/{file}", text)
        return f"no submission.zip: {len(problems)} of {len(wanted)} files cannot be filled, such as {problems[0]}"
    out.write_bytes("submission.zip", _zip(texts))
    return f"submission: {out.path / 'submission.zip'} ({len(texts)} files)"


def lines(row: Row, split: str, answers: list[dict[str, Any]]) -> str:
    """``index<TAB>prediction`` in the order of the test file.

    Raises:
        DataError: another number of answers than the official test set has, or answers out of order.
    """
    official = row.counts.get(split)
    if not answers:
        raise DataError(f"no answers to {split}")
    if official is not None and len(answers) != official:
        raise DataError(f"{len(answers):,} answers, where the official {split} has {official:,} rows")
    if [answer["id"] for answer in answers] != list(range(len(answers))):
        raise DataError(f"answers to {split} are not in the order of the file")
    spoken = [_spoken(row, answer["prediction"]) for answer in answers]
    return "index\tprediction\n" + "".join(f"{number}\t{word}\n" for number, word in enumerate(spoken))


def _spoken(row: Row, prediction: Any) -> str:
    """A prediction as the file has it; scores are held within the 0 to 5 of STS-B."""
    if isinstance(prediction, float):
        return f"{min(max(prediction, 0.0), 5.0):.3f}"
    return row.words.get(prediction, str(prediction))


def _zip(texts: Mapping[str, str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, text in texts.items():
            archive.writestr(zipfile.ZipInfo(file, (1980, 1, 1, 0, 0, 0)), text)  # the same bytes for the same answers
    return buffer.getvalue()
