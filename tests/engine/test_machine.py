"""Memory that a run takes, measured beside what this process does anyway."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hfcourse.engine import machine
from hfcourse.engine.fit import fit
from hfcourse.run_folder import RunFolder

from .toy import ToyTask, toy_config, toy_model

MIB = 2**20


def touched(mib: int) -> np.ndarray:
    """Memory that is really there."""
    return np.ones(mib * MIB, dtype=np.uint8)


@pytest.fixture
def resettable() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pytest.skip("this system does not let the high-water mark be set back")


@pytest.mark.usefixtures("resettable")
def test_memory_of_a_run_is_its_own() -> None:
    held = touched(100)
    before = touched(300)
    del before  # a peak before the run, given back
    highest = machine.peak_memory()
    use = machine.MemoryUse()
    assert use.peak() < 50 * MIB
    during = touched(200)
    del during
    assert 190 * MIB < use.peak() < 260 * MIB
    assert machine.MemoryUse().peak() < 50 * MIB
    assert machine.peak_memory() >= highest and len(held)  # of the process, whatever was reset


@pytest.mark.usefixtures("resettable")
def test_a_run_writes_down_what_training_takes(tmp_path: Path) -> None:
    held = touched(500)
    fit(toy_model(), ToyTask(), toy_config(), run := RunFolder.create(tmp_path / "run", {"recipe": "toy"}))
    found = run.read_json("metrics.json")
    assert 0 < found["training_memory_bytes"] < 400 * MIB < found["peak_memory_bytes"] and len(held)
