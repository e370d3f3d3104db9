"""Jobs of a suite: finished ones are kept, failed ones tried again, signals stop all."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hfcourse.errors import ConfigError, DataError, Interrupted, ModelError
from hfcourse.run_folder import RunFolder
from hfcourse.suites.runner import Job, Learner, Plan, run_jobs
from tests.suites.fake import ROWS, SUITE, Fake, folder


def plan(**changes: object) -> Plan:
    return replace(Plan(suite=SUITE, rows=ROWS, seeds=(0,)), **changes)  # type: ignore[arg-type]


def jobs(wanted: Plan) -> list[Job]:
    return [job for row in wanted.learned for job in wanted.jobs(row)]


def test_names_say_what_varies() -> None:
    assert [job.name for job in jobs(plan())] == ["one", "two", "three"]
    both = plan(seeds=(0, 1), lrs=(1e-5, 2e-5))
    assert [job.name for job in both.jobs(ROWS[0])] == [
        "one-lr1e-05-seed0",
        "one-lr1e-05-seed1",
        "one-lr2e-05-seed0",
        "one-lr2e-05-seed1",
    ]


def test_finished_jobs_are_kept_and_the_rest_goes_on(tmp_path: Path) -> None:
    stopping = Fake(failures={"two": [Interrupted("stopped", 15)]})
    with pytest.raises(Interrupted):
        run_jobs(jobs(plan()), stopping.learner, folder(tmp_path / "suite"))
    assert [settings.row for settings in stopping.learned] == ["one", "two"]
    again = Fake()
    run = RunFolder.create(tmp_path / "suite", {"recipe": "bert/suite", "model": "start"}, resume=True)
    outcome = run_jobs(jobs(plan()), again.learner, run)
    assert [settings.row for settings in again.learned] == ["two", "three"]
    assert outcome.runs.keys() == {"one", "two", "three"} and not outcome.failed


def test_a_failed_job_gets_a_second_try_and_loses_no_other(tmp_path: Path) -> None:
    once, twice = [RuntimeError("cosmic\nray")], [DataError("two.tsv: gone"), DataError("two.tsv: gone")]
    fake = Fake(failures={"one": [*once], "two": [*twice]})
    outcome = run_jobs(jobs(plan()), fake.learner, folder(tmp_path / "suite"))
    assert [settings.row for settings in fake.learned] == ["one", "one", "two", "two", "three"]
    assert outcome.failed == {"two": "two.tsv: gone"}
    assert outcome.runs.keys() == {"one", "three"}


def test_a_mistake_that_no_task_escapes_stops_at_once(tmp_path: Path) -> None:
    fake = Fake(failures={"one": [ModelError("no such model")]})
    with pytest.raises(ModelError):
        run_jobs(jobs(plan()), fake.learner, folder(tmp_path / "suite"))
    assert len(fake.learned) == 1
    # What the first job did not meet may be the second one's own, and nothing that is there is lost.
    fake = Fake(failures={"two": [ModelError("no such head"), ModelError("no such head")]})
    outcome = run_jobs(jobs(plan()), fake.learner, folder(tmp_path / "other"))
    assert outcome.failed == {"two": "no such head"} and outcome.runs.keys() == {"one", "three"}
    fake = Fake(failures={"one": [ModelError("no such head"), ModelError("no such head")]})
    outcome = run_jobs(jobs(plan()), fake.learner, folder(tmp_path / "third"), others_wait=True)
    assert outcome.failed == {"one": "no such head"}


RECIPE = '''"""Write down how it was started."""

import os
import time
from dataclasses import dataclass, field

from hfcourse.engine.settings import TrainConfig
from hfcourse.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run."""

    row: str = ""
    """The task."""
    seconds: float = 1.0
    """How long it takes."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How."""


def base():
    """Nothing."""
    return Config()


def debug(config):
    """Nothing."""
    return config


def main(config, run):
    """Finish, unless the task is two."""
    began = time.time()
    if config.row == "two":
        raise DataError("two.tsv: gone")
    time.sleep(config.seconds)
    seconds = {"began": began, "ended": time.time(), "threads": os.environ.get("OMP_NUM_THREADS")}
    seconds["process"] = os.getpid()
    run.write_json("metrics.json", seconds)
'''


def written(place: Path) -> Learner:
    """A learner whose recipe lies in a file, so that other processes find it."""
    from dataclasses import dataclass, field

    from hfcourse.engine.settings import TrainConfig

    @dataclass(frozen=True, kw_only=True)
    class Config:
        row: str = ""
        seconds: float = 1.0
        train: TrainConfig = field(default_factory=TrainConfig)

    (place / "recipe.py").write_text(RECIPE)
    return Learner(
        recipe=str(place / "recipe.py"),
        settings=lambda row, seed, lr: Config(row=row.name, seconds=float(seed or 1)),
        learn=lambda *_: None,
    )


def test_side_by_side(tmp_path: Path) -> None:
    """Two at a time, each in its own process; one fails and is tried again."""
    outcome = run_jobs(jobs(plan()), written(tmp_path), folder(tmp_path / "suite"), devices=2)
    assert outcome.failed == {"two": "two.tsv: gone"}
    assert outcome.runs.keys() == {"one", "three"}
    ((_, one),), ((_, three),) = outcome.runs["one"], outcome.runs["three"]
    first, other = one.read_json("metrics.json"), three.read_json("metrics.json")
    assert first["threads"] is not None and other["ended"] > 0
    assert first["process"] != other["process"]


def test_one_after_another_in_processes_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outcome = run_jobs(jobs(plan()), written(tmp_path), folder(tmp_path / "suite"), isolate=True)
    assert outcome.failed == {"two": "two.tsv: gone"}
    ((_, one),), ((_, three),) = outcome.runs["one"], outcome.runs["three"]
    first, other = one.read_json("metrics.json"), three.read_json("metrics.json")
    assert len({first["process"], other["process"], os.getpid()}) == 3 and first["ended"] < other["began"]
    assert "two: failed, 2 of 3" in capsys.readouterr().err
    # Finished ones are taken as they are.
    again = RunFolder.create(tmp_path / "suite", {"recipe": "bert/suite", "model": "start"}, resume=True)
    (job,) = jobs(plan())[:1]
    assert run_jobs([job], written(tmp_path), again, isolate=True).runs["one"]
    assert one.read_json("metrics.json") == first


def test_a_launch_of_several_processes_is_not_shared_out_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="under a launch of several processes"):
        run_jobs(jobs(plan()), Fake().learner, folder(tmp_path / "suite"), devices=2)
    here = Fake()
    run_jobs(jobs(plan()), here.learner, folder(tmp_path / "here"), isolate=True)
    assert [settings.row for settings in here.learned] == ["one", "two", "three"]


def test_a_signal_stops_the_process_of_a_job_too(tmp_path: Path) -> None:
    """No process is left, no second try is made."""
    (slow,) = plan(seeds=(60,)).jobs(ROWS[0])  # sleeps for a minute
    began = time.monotonic()
    threading.Timer(4.0, os.kill, (os.getpid(), signal.SIGTERM)).start()
    with pytest.raises(Interrupted, match="--resume") as stopped:
        run_jobs([slow], written(tmp_path), folder(tmp_path / "suite"), isolate=True)
    assert stopped.value.exit_code == 143 and time.monotonic() - began < 30
    assert not (tmp_path / "suite" / slow.name / "metrics.json").exists()
