"""Runs forked from one process that has imported everything: apart from each other, and told apart when they fail."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hfcourse.errors import Interrupted
from hfcourse.suites.processes import Worker, environment

RECIPE = '''"""Say in which process it ran and what it found there."""

import os
import time
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """A run."""

    does: str = ""
    """What goes wrong."""


def base():
    """Nothing."""
    return Config()


def debug(config):
    """Nothing."""
    return config


def main(config, run):
    """Leave a trace in the process."""
    run.write_json("metrics.json", {"process": os.getpid(), "parent": os.getppid(), "traces": len(TRACES)})
    TRACES.append(1)
    print("not for the user")
    if config.does == "raise":
        raise RuntimeError("cosmic ray")
    if config.does == "die":
        os.abort()
    if config.does == "sleep":
        time.sleep(60)


import torch  # noqa: E402

TRACES = torch.__dict__.setdefault("_traces_of_a_test", [])
'''


@pytest.fixture
def worker() -> Iterator[Worker]:
    one = Worker({**os.environ, "OF_THIS_WORKER": "7"})
    yield one
    one.close()


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "recipe.py").write_text(RECIPE)
    return tmp_path / "recipe.py"


def ask(recipe: Path, name: str, does: str = "") -> list[str]:
    return ["run", str(recipe), "--output_dir", str(recipe.parent / name), "--does", does]


def metrics(recipe: Path, name: str) -> dict[str, int]:
    import json

    found: dict[str, int] = json.loads((recipe.parent / name / "metrics.json").read_text())
    return found


def test_runs_share_the_imports_and_nothing_else(
    worker: Worker, recipe: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        assert worker.run(ask(recipe, name)) == (0, "")
    one, two = metrics(recipe, "one"), metrics(recipe, "two")
    assert one["process"] != two["process"] and one["parent"] == two["parent"] != os.getpid()
    assert one["traces"] == two["traces"] == 0  # what the first left behind in torch is not there
    assert "not for the user" not in capfd.readouterr().out


def test_what_went_wrong_is_told_and_the_next_run_is_well(worker: Worker, recipe: Path) -> None:
    code, said = worker.run(["run", "no/such_recipe"])
    assert code == 2 and said.startswith("error: ") and "no/such_recipe" in said
    code, said = worker.run(ask(recipe, "one", "raise"))
    assert code == 1 and said.splitlines()[-1] == "RuntimeError: cosmic ray"
    assert worker.run(ask(recipe, "two", "die"))[0] == -6
    assert worker.run(ask(recipe, "three")) == (0, "")  # nothing of the last run's errors


def test_a_process_that_is_gone_is_started_again(worker: Worker, recipe: Path) -> None:
    assert worker.run(ask(recipe, "one"))[0] == 0
    os.kill(metrics(recipe, "one")["parent"], 9)
    codes = [worker.run(ask(recipe, name))[0] for name in ("two", "three")]
    assert codes[-1] == 0  # the first may still have met the dying one, and is told that it failed
    assert metrics(recipe, "three")["parent"] != metrics(recipe, "one")["parent"]


def waited(what: Callable[[], bool], seconds: float = 60.0) -> float:
    """How long it took."""
    began = time.monotonic()
    while not what():
        assert time.monotonic() - began < seconds
        time.sleep(0.1)
    return time.monotonic() - began


def lives(process: int) -> bool:
    """Whether it runs; one that has ended and is not yet reaped does not."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_stopped_while_it_runs_and_for_good(worker: Worker, recipe: Path) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(worker.run(ask(recipe, "slow", "sleep"))[0]), daemon=True)
    thread.start()
    waited((recipe.parent / "slow" / "metrics.json").exists)
    worker.stop()
    thread.join(20)
    assert codes == [-15] and not lives(metrics(recipe, "slow")["process"])
    with pytest.raises(Interrupted):
        worker.run(ask(recipe, "later"))
    assert not (recipe.parent / "later").exists()


def test_stopped_before_there_is_anything_to_stop(worker: Worker, recipe: Path) -> None:
    found: list[BaseException] = []

    def run() -> None:
        try:
            worker.run(ask(recipe, "slow", "sleep"))
        except Interrupted as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    waited(lambda: worker._server is not None)
    worker.stop()  # it still imports
    thread.join(20)
    assert found and not (recipe.parent / "slow").exists()


def test_a_run_does_not_outlive_whoever_asked_for_it(recipe: Path) -> None:
    words = f"Worker(dict(os.environ)).run({ask(recipe, 'slow', 'sleep')!r})"
    asking = subprocess.Popen(
        [sys.executable, "-c", f"import os\nfrom hfcourse.suites.processes import Worker\n{words}"]
    )
    waited((recipe.parent / "slow" / "metrics.json").exists)
    found = metrics(recipe, "slow")
    asking.kill()
    asking.wait()
    waited(lambda: not lives(found["process"]) and not lives(found["parent"]), 20)


def test_an_environment_for_each_device(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    assert [environment(device, 4)["OMP_NUM_THREADS"] for device in range(4)] == ["1"] * 4
    assert environment(1, 2)["OMP_NUM_THREADS"] == "3"
    assert environment(0, 1) == dict(os.environ)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [environment(device, 3)["CUDA_VISIBLE_DEVICES"] for device in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")  # those that the user may have
    assert [environment(device, 3)["CUDA_VISIBLE_DEVICES"] for device in range(3)] == ["5", "GPU-7", "5"]
