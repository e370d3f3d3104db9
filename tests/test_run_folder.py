"""The run folder: written whole or not at all, taken up or refused, whatever the disk does."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hfcourse import run_folder
from hfcourse.errors import ConfigError, RunFolderError
from hfcourse.run_folder import RunFolder

CONFIG: dict[str, Any] = {
    "recipe": "bert/pretrain",
    "variant": ["small"],
    "seed": 0,
    "optim": {"lr": 1e-5, "betas": (0.9, 0.98)},
    "train": {"steps": 10, "progress": True},
}


def changed(**parts: Any) -> dict[str, Any]:
    return {**CONFIG, **parts}


def filled(path: Path) -> RunFolder:
    """A run with one of everything."""
    run = RunFolder.create(path, CONFIG)
    run.append_log({"step": 1, "loss": 2.0})
    run.write_predictions("dev", [{"row": 0}])
    run.write_json("metrics.json", {"score": 1})
    run.child("part", CONFIG)
    with run.new_checkpoint(1) as folder:
        (folder / "weights").write_bytes(b"w")
    with run.replacing(run.model_dir) as folder:
        (folder / "weights").write_bytes(b"w")
    return run


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


# How a folder is taken


def test_config_is_written_and_read(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "a" / "b", CONFIG)
    assert run.config == {**CONFIG, "optim": {"lr": 1e-5, "betas": [0.9, 0.98]}}
    assert RunFolder.open(tmp_path / "a" / "b").config == run.config
    assert not run.finished and names(run.path) == ["config.yaml"] and os.fspath(run) == str(run.path)


def test_a_folder_that_holds_a_run_is_refused(tmp_path: Path) -> None:
    run = filled(tmp_path / "run")
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(RunFolderError, match=r"run holds a run already: .*--resume or --overwrite"):
        RunFolder.create(run.path, CONFIG)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before


def test_overwrite_removes_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    run = filled(tmp_path / "run")
    (run.path / "notes.txt").write_text("mine")
    (run.path / "pictures").mkdir()
    again = RunFolder.create(run.path, changed(seed=1), overwrite=True)
    assert names(run.path) == ["config.yaml", "notes.txt", "pictures"]
    assert again.config["seed"] == 1 and not again.finished


@pytest.mark.parametrize("mode", [{}, {"overwrite": True}, {"resume": True}])
def test_files_that_are_no_run_are_never_touched(tmp_path: Path, mode: dict[str, bool]) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(RunFolderError, match=r"holds files that are no run \('thesis.tex'\)"):
        RunFolder.create(tmp_path, CONFIG, **mode)
    assert names(tmp_path) == ["thesis.tex"]


def test_an_interrupted_overwrite_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = filled(tmp_path / "run")
    removed: list[Path] = []
    remove = Path.unlink

    def killed(self: Path, missing_ok: bool = False) -> None:
        if len(removed) == 2:
            raise KeyboardInterrupt
        removed.append(self)
        remove(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            RunFolder.create(run.path, CONFIG, overwrite=True)
    assert removed
    RunFolder.create(run.path, CONFIG, overwrite=True)
    assert names(run.path) == ["config.yaml"]


def test_resume_takes_up_the_same_run_and_clears_what_a_kill_left(tmp_path: Path) -> None:
    run = filled(tmp_path / "run")
    (run.path / ".checkpoint-2.partial").mkdir()
    (run.path / ".metrics.json.partial").write_text("{")
    again = RunFolder.create(run.path, CONFIG, resume=True)
    assert again.resume and again.finished and again.read_log() == [{"step": 1, "loss": 2.0}]
    assert not [name for name in names(run.path) if name.startswith(".")]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (changed(seed=1), "seed was 0 and is now 1;"),
        (changed(optim={"lr": 2e-5, "betas": [0.9, 0.9]}), r"optim.lr was 1e-05 and is now 2e-05 \(and 1 more\)"),
        (changed(recipe="bert/finetune"), "recipe was 'bert/pretrain' and is now 'bert/finetune'"),
        (changed(new=1), "new was None and is now 1"),
        ({key: value for key, value in CONFIG.items() if key != "seed"}, "seed was 0 and is now None"),
    ],
)
def test_resume_with_other_settings_names_them(tmp_path: Path, config: dict[str, Any], said: str) -> None:
    RunFolder.create(tmp_path, CONFIG)
    with pytest.raises(RunFolderError, match=rf"cannot resume with other settings: {said}"):
        RunFolder.create(tmp_path, config, resume=True)
    assert RunFolder.open(tmp_path).config["seed"] == 0


def test_resume_may_change_what_only_a_person_sees(tmp_path: Path) -> None:
    nested = {**CONFIG, "topic": {"train": {"progress": True}}, "devices": 1}
    RunFolder.create(tmp_path, nested)
    quiet = {
        **nested,
        "train": {"steps": 10, "progress": False},
        "topic": {"train": {"progress": False}},
        "variant": [],
        "devices": 2,
    }
    assert RunFolder.create(tmp_path, quiet, resume=True).config["topic"]["train"]["progress"] is False


def test_resume_begins_afresh_where_nothing_is(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "new", CONFIG, resume=True)
    assert run.newest_good_checkpoint() is None and run.read_log() == []


def test_open_wants_a_run(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="nowhere is not there"):
        RunFolder.open(tmp_path / "nowhere")
    with pytest.raises(RunFolderError, match=r"holds no run \(no config.yaml\)"):
        RunFolder.open(tmp_path)


def test_a_broken_config_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("seed: [")
    with pytest.raises(ConfigError, match=r"config.yaml, line 1: not YAML"):
        _ = RunFolder.open(tmp_path).config


def test_children_begin_as_their_parent_did(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, CONFIG)
    run.child("part", CONFIG).write_json("metrics.json", {})
    with pytest.raises(RunFolderError, match="part holds a run already"):
        run.child("part", CONFIG)
    assert RunFolder.create(tmp_path, CONFIG, resume=True).child("part", CONFIG).finished
    assert not RunFolder.create(tmp_path, CONFIG, overwrite=True).child("part", CONFIG).finished


def test_the_other_processes_write_nothing(tmp_path: Path) -> None:
    other = RunFolder.attach(tmp_path / "run", resume=True).child("part", CONFIG)
    assert (other.is_main, other.resume, names(tmp_path)) == (False, True, [])


# Log


def test_a_torn_last_line_is_dropped_and_spoils_no_other(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, CONFIG)
    run.append_log({"step": 1, "word": "ü"})
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write('{"step": 2, "word": "ü'.encode()[:-1])
    assert [record["step"] for record in run.read_log()] == [1]
    run.append_log({"step": 3})
    assert [record["step"] for record in run.read_log()] == [1, 3]


def test_cutting_drops_what_came_after_a_step(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, CONFIG)
    run.cut_log(0)
    for step in (1, 2, 2, 3):
        run.append_log({"step": step})
    run.cut_log(2)
    assert [record["step"] for record in run.read_log()] == [1, 2, 2]


def test_damaged_predictions_are_not_passed_over(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, CONFIG)
    place = run.write_predictions("test", [{"row": 0, "text": "a\u2028b"}, {"row": 1}])
    assert run.read_predictions("test")[0]["text"] == "a\u2028b" and run.read_predictions("none") == []
    place.write_text(place.read_text().replace("1}", "1"))
    with pytest.raises(RunFolderError, match=r"test.jsonl, line 2: damaged"):
        run.read_predictions("test")


# What the disk refuses


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, every file takes a few bytes and no more, as a full disk does."""

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    opened = Path.open

    def open_full(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if "r" in mode and "+" not in mode:
            return opened(self, mode, *args, **kwargs)
        raw = io.BufferedRandom(Full(str(self), "a+b" if "a" in mode else "w+b"))  # type: ignore[arg-type]
        return raw if "b" in mode else io.TextIOWrapper(raw, encoding="utf-8")

    return lambda: monkeypatch.setattr(Path, "open", open_full)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_said_and_the_older_file_stays(tmp_path: Path, full_disk: Callable[[], None]) -> None:
    run = RunFolder.create(tmp_path, CONFIG)
    run.write_json("metrics.json", {"old": 1})
    full_disk()
    writes: list[Callable[[], Any]] = [
        lambda: run.write_json("metrics.json", {"new": 2}),
        lambda: run.append_log({"step": 1}),
        lambda: run.write_predictions("dev", [{"row": 1}]),
    ]
    for write in writes:
        with pytest.raises(RunFolderError, match="the disk is full: free some space"):
            write()
    assert run.read_json("metrics.json") == {"old": 1} and run.read_log() == []
    assert not list(tmp_path.rglob("*.partial"))


def test_a_full_disk_in_a_checkpoint_leaves_the_older_ones(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, CONFIG)
    with run.new_checkpoint(1) as folder:
        (folder / "weights").write_bytes(b"old")
    said = r"checkpoint-2: the disk is full: the older checkpoints are intact; .*--resume"
    errors = [OSError(errno.ENOSPC, "full"), RuntimeError("I/O error: No space left on device (os error 28)")]
    for error in errors:  # the second is how safetensors puts it
        with pytest.raises(RunFolderError, match=said), run.new_checkpoint(2) as folder:
            (folder / "weights").write_bytes(b"half")
            raise error
    assert names(tmp_path) == ["checkpoint-1", "config.yaml"]
    assert run.newest_good_checkpoint() == tmp_path / "checkpoint-1"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 64 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_really_full(tiny_disk: Path) -> None:
    import torch
    from safetensors.torch import save_file

    run = RunFolder.create(tiny_disk / "run", CONFIG)
    with run.new_checkpoint(1) as folder:
        save_file({"w": torch.zeros(1000)}, folder / "model.safetensors")
    with pytest.raises(RunFolderError, match="the disk is full"), run.new_checkpoint(2) as folder:
        save_file({"w": torch.zeros(100_000)}, folder / "model.safetensors")
    with pytest.raises(RunFolderError, match="the disk is full"):
        run.write_text("report.html", "x" * 100_000)
    assert run.newest_good_checkpoint() == run.path / "checkpoint-1"
    assert names(run.path) == ["checkpoint-1", "config.yaml"]


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_a_read_only_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(RunFolderError, match=r"cannot write here \(.*\): give another --output_dir"):
        RunFolder.create(tmp_path / "run", CONFIG)


@pytest.mark.parametrize("inside", ["run", ""])
def test_a_path_through_a_file_is_one_line(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunFolderError, match=r"cannot write here \((Not a directory|File exists)\)"):
        RunFolder.create(tmp_path / "file" / inside, CONFIG)


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"cannot write here \(File name too long\)"):
        RunFolder.create(tmp_path / ("x" * 300), CONFIG)


def test_a_reader_never_sees_a_mixture(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, CONFIG)
    place = run.write_json("metrics.json", {"old": 1})
    with place.open() as reader:  # opened before, read after
        run.write_json("metrics.json", {"new": 2})
        assert json.load(reader) == {"old": 1}


# Killed while writing

WRITER = """
import itertools, sys
from pathlib import Path
from hfcourse.run_folder import RunFolder
run = RunFolder.create(Path(sys.argv[1]), {"seed": 0}, resume=True)
print("ready", flush=True)
for step in itertools.count():
    run.write_json("metrics.json", {"numbers": [step] * 20_000})
    run.append_log({"step": step, "text": "x" * 1000})
    with run.new_checkpoint(step) as folder:
        (folder / "weights").write_bytes(bytes([step % 256]) * 100_000)
    run.drop_old_checkpoints(2)
    with run.replacing(run.model_dir) as folder:
        (folder / "weights").write_bytes(bytes([step % 256]) * 100_000)
"""


@pytest.mark.parametrize("delay", [0.03, 0.11, 0.3])
def test_killed_at_any_moment_nothing_is_half_written(tmp_path: Path, delay: float) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "run")], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay)
        process.send_signal(signal.SIGKILL)
    run = RunFolder.open(tmp_path / "run")
    if run.finished:
        assert len(set(run.read_json("metrics.json")["numbers"])) == 1
    steps = [record["step"] for record in run.read_log()]
    assert steps == list(range(len(steps)))
    for place in run.checkpoints():
        assert run_folder.checkpoints.damage(place) is None
    if run.model_dir.exists():
        assert len((run.model_dir / "weights").read_bytes()) == 100_000
    RunFolder.create(run.path, {"seed": 0}, resume=True)
    assert not list(run.path.glob(".*"))


def test_the_files_are_plain(tmp_path: Path) -> None:
    """Reports and other tools read them without us."""
    run = filled(tmp_path)
    assert json.loads((tmp_path / "predictions" / "dev.jsonl").read_text()) == {"row": 0}
    assert json.loads((tmp_path / "log.jsonl").read_text()) == {"step": 1, "loss": 2.0}
    assert (run.path / "config.yaml").read_text().startswith("recipe: bert/pretrain\nvariant:\n- small\nseed: 0\n")
