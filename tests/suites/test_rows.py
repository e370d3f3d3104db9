"""Which tasks of a suite are judged: those asked for, those whose files are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfcourse.errors import ConfigError, DataError
from hfcourse.suites.rows import GLUE, PYDOCS, SUITES, choose
from hfcourse.tasks.known import KNOWN


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """A GLUE folder with RTE and the diagnostic set alone."""
    for name, text in {"RTE": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tentailment\n", "diagnostic": "x"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / ("train.tsv" if name == "RTE" else "diagnostic.tsv")).write_text(text)
    return tmp_path


def test_only_what_is_there_is_judged(some: Path) -> None:
    rows, missing = choose(GLUE, [], str(some))
    assert [row.name for row in rows] == ["rte"]
    # AX is there, but the model that answers it is not.
    assert set(missing) == {row.name for row in GLUE.rows} - {"rte"}


def test_a_folder_without_anything_to_learn_from_is_no_task(some: Path) -> None:
    for name in ("CoLA", "SST-2"):
        (some / name).mkdir()
    (some / "SST-2" / "test.tsv").write_text("index\tsentence\n0\ta\n")
    assert [row.name for row in choose(GLUE, [], str(some))[0]] == ["rte"]
    with pytest.raises(DataError, match="the folder of sst2 holds no file of its train split"):
        choose(GLUE, ["sst2"], str(some))


def test_a_task_that_was_asked_for_must_be_there(some: Path) -> None:
    assert [row.name for row in choose(GLUE, ["rte"], str(some))[0]] == ["rte"]
    with pytest.raises(DataError, match="no folder of GLUE's cola"):
        choose(GLUE, ["rte", "cola"], str(some))
    with pytest.raises(DataError, match="no such folder"):
        choose(GLUE, [], str(some / "nowhere"))
    with pytest.raises(DataError, match="reads files that you have"):
        choose(GLUE, [], None)


def test_unknown_tasks_are_refused_with_the_nearest(some: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown task of glue 'colla': did you mean 'cola'\?"):
        choose(GLUE, ["colla"], str(some))
    with pytest.raises(ConfigError, match="ax is answered by the model of mnli: name that task too"):
        choose(GLUE, ["ax"], str(some))


def test_pydocs_needs_no_files() -> None:
    rows, missing = choose(PYDOCS, [], None)
    assert [row.name for row in rows] == ["topic", "terms", "match", "answer"] and not missing


def test_rows_agree_with_the_tasks() -> None:
    """A row scores what the task computes, the task's own score among it."""
    assert SUITES.keys() == {"glue", "pydocs"}
    for row in GLUE.rows:
        known = KNOWN[row.data]
        assert set(row.scores) <= set(known.scores) and known.scores[0] in row.scores
        assert not row.human or len(row.human) == len(row.measures)
