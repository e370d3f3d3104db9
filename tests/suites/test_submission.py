"""The zip that the benchmark takes: eleven files, each as it must be, or none at all."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest

from hfcourse.errors import DataError
from hfcourse.run_folder import RunFolder
from hfcourse.suites import submission
from hfcourse.suites.rows import GLUE
from tests.suites.fake import SUITE

ROWS = {row.name: row for row in GLUE.rows}
FIRST = {
    "cola": "acceptable",
    "sst2": "negative",
    "mrpc": "equivalent",
    "stsb": 5.7,
    "qqp": "duplicate",
    "mnli": "contradiction",
    "qnli": "not_entailment",
    "rte": "entailment",
    "wnli": "not_entailment",
    "ax": "neutral",
}


def answers(prediction: Any, count: int) -> list[dict[str, Any]]:
    return [{"id": number, "prediction": prediction, "reference": None} for number in range(count)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    place = tmp_path_factory.mktemp("runs")
    found = {}
    for name, prediction in FIRST.items():
        found[name] = RunFolder.create(place / name, {"recipe": "bert/finetune"})
        for split in ROWS[name].submit:
            found[name].write_predictions(split, answers(prediction, ROWS[name].counts[split]))
    return found


def test_the_whole_zip(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    out = RunFolder.create(tmp_path / "suite", {"recipe": "bert/suite"})
    said = submission.write(GLUE, runs, out)
    assert said.endswith("(11 files)")
    with zipfile.ZipFile(out.path / "submission.zip") as archive:
        texts = {name: archive.read(name).decode() for name in archive.namelist()}
    assert len(texts) == 11
    heads = {name: text.splitlines()[:2] for name, text in texts.items()}
    assert {tuple(lines[:1]) for lines in heads.values()} == {("index\tprediction",)}
    assert {name: lines[1] for name, lines in heads.items()} == {
        "CoLA.tsv": "0\t1",
        "SST-2.tsv": "0\t0",
        "MRPC.tsv": "0\t1",
        "STS-B.tsv": "0\t5.000",  # no score is above 5
        "QQP.tsv": "0\t1",
        "MNLI-m.tsv": "0\tcontradiction",
        "MNLI-mm.tsv": "0\tcontradiction",
        "QNLI.tsv": "0\tnot_entailment",
        "RTE.tsv": "0\tentailment",
        "WNLI.tsv": "0\t0",
        "AX.tsv": "0\tneutral",
    }
    assert texts["AX.tsv"].count("\n") == 1105 and texts["AX.tsv"].splitlines()[-1] == "1103\tneutral"
    assert texts["QQP.tsv"].count("\n") == 390_966


def test_no_zip_where_a_file_cannot_be_filled(runs: dict[str, RunFolder], tmp_path: Path) -> None:
    out = RunFolder.create(tmp_path / "suite", {"recipe": "bert/suite"})
    some = {name: run for name, run in runs.items() if name in {"rte", "ax"}}
    said = submission.write(GLUE, some, out)
    assert "no submission.zip: 9 of 11 files cannot be filled, such as CoLA.tsv (no run)" in said
    assert not (out.path / "submission.zip").exists()
    assert sorted(path.name for path in (out.path / "submission").iterdir()) == ["AX.tsv", "RTE.tsv"]
    assert submission.write(SUITE, {}, out).startswith("no submission.zip: 1 of 1")


def test_lost_or_shuffled_rows_are_refused() -> None:
    with pytest.raises(DataError, match=r"2,999 answers, where the official test has 3,000 rows"):
        submission.lines(ROWS["rte"], "test", answers("entailment", 2999))
    shuffled = answers("entailment", 3000)[::-1]
    with pytest.raises(DataError, match="not in the order of the file"):
        submission.lines(ROWS["rte"], "test", shuffled)
    with pytest.raises(DataError, match="no answers"):
        submission.lines(ROWS["rte"], "test", [])
    assert submission.lines(ROWS["stsb"], "test", answers(-0.3, 1379)).splitlines()[1] == "0\t0.000"
