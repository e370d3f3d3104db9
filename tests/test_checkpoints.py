"""Checkpoints: whole, sealed, and the one before where the newest is damaged."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from hfcourse import checkpoints
from hfcourse.run_folder import RunFolder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    run = RunFolder.create(tmp_path / "run", {"seed": 0})
    for step in (5, 10, 100):
        with run.new_checkpoint(step) as folder:
            (folder / "weights").write_bytes(bytes([step]) * 1000)
            (folder / "parts").mkdir()
            (folder / "parts" / "one").write_text(f"{step}")
    return run


def steps(run: RunFolder) -> list[str]:
    return [place.name for place in run.checkpoints()]


def test_newest_first_by_number(run: RunFolder) -> None:
    (run.path / "checkpoint-old").mkdir()
    assert steps(run) == ["checkpoint-100", "checkpoint-10", "checkpoint-5"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run.newest_good_checkpoint() == run.path / "checkpoint-100"


def truncate(folder: Path) -> None:
    (folder / "weights").write_bytes((folder / "weights").read_bytes()[:-1])


def flip_a_bit(folder: Path) -> None:
    content = bytearray((folder / "weights").read_bytes())
    content[500] ^= 1
    (folder / "weights").write_bytes(content)


def remove_a_file(folder: Path) -> None:
    (folder / "parts" / "one").unlink()


def remove_the_manifest(folder: Path) -> None:
    (folder / checkpoints.MANIFEST).unlink()


def tear_the_manifest(folder: Path) -> None:
    text = (folder / checkpoints.MANIFEST).read_text()
    (folder / checkpoints.MANIFEST).write_text(text[: len(text) // 2])


def empty_the_manifest(folder: Path) -> None:
    (folder / checkpoints.MANIFEST).write_text("{}")


def odd_manifest(folder: Path) -> None:
    (folder / checkpoints.MANIFEST).write_text('["weights"]')


def empty_the_folder(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGE = {
    truncate: r"weights has 999 bytes instead of 1000",
    flip_a_bit: "weights was altered",
    remove_a_file: "parts/one is missing",
    remove_the_manifest: "its manifest cannot be read",
    tear_the_manifest: "its manifest cannot be read",
    empty_the_manifest: "its manifest names no files",
    odd_manifest: "its manifest cannot be read",
    empty_the_folder: "its manifest cannot be read",
}


@pytest.mark.parametrize(("harm", "said"), DAMAGE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_damaged_one_is_named_and_the_one_before_is_used(
    run: RunFolder, harm: Callable[[Path], None], said: str
) -> None:
    harm(run.path / "checkpoint-100")
    with pytest.warns(UserWarning, match=rf"checkpoint-100 is damaged \({said}\)"):
        assert run.newest_good_checkpoint() == run.path / "checkpoint-10"


def test_none_left(run: RunFolder) -> None:
    for place in run.checkpoints():
        truncate(place)
    with pytest.warns(UserWarning) as caught:
        assert run.newest_good_checkpoint() is None
    assert len(caught) == 3


def test_an_error_inside_leaves_no_trace(run: RunFolder) -> None:
    with pytest.raises(ZeroDivisionError), run.new_checkpoint(200) as folder:
        (folder / "weights").write_bytes(b"half")
        assert steps(run) == ["checkpoint-100", "checkpoint-10", "checkpoint-5"]  # not seen before its end
        _ = 1 / 0
    assert steps(run) == ["checkpoint-100", "checkpoint-10", "checkpoint-5"]
    assert not list(run.path.glob(".*"))


def test_one_of_the_same_step_is_replaced(run: RunFolder) -> None:
    truncate(run.path / "checkpoint-100")
    with run.new_checkpoint(100) as folder:
        (folder / "weights").write_bytes(b"new")
    assert run.newest_good_checkpoint() == run.path / "checkpoint-100"
    assert (run.path / "checkpoint-100" / "weights").read_bytes() == b"new"


def test_old_ones_go_but_for_the_protected(run: RunFolder) -> None:
    run.drop_old_checkpoints(1, protect=run.path / "checkpoint-5")
    assert steps(run) == ["checkpoint-100", "checkpoint-5"]
    run.drop_old_checkpoints(5)
    assert steps(run) == ["checkpoint-100", "checkpoint-5"]
    assert not list(run.path.glob(".*"))


def test_a_kill_while_an_old_one_goes_leaves_no_half(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(place: Path) -> None:
        (place / "weights").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            run.drop_old_checkpoints(2)
    assert steps(run) == ["checkpoint-100", "checkpoint-10"]
    RunFolder.create(run.path, {"seed": 0}, resume=True)
    assert not list(run.path.glob(".*"))
