"""Fixtures for the whole suite. Nothing here or in any test needs the network."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # the cores are shared out among the workers
os.environ.setdefault("OMP_NUM_THREADS", "2")  # tiny models get slower with more

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Copies of public corpora, where a developer has them (HFCOURSE_TEST_DATA; by default ../shared/data)."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("HFCOURSE_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no public corpora at {folder}: set HFCOURSE_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few of the standard library's packages, copied: a pydocs of seconds instead of half a minute."""
    import email
    import json
    import logging
    import unittest

    folder = tmp_path_factory.mktemp("packages")
    for module in (email, json, logging, unittest):
        source = Path(str(module.__file__)).parent
        shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns("__pycache__", "test*"))
        # The standard library says little about parameters: these functions do.
        words = [f"{source.name[0]}{a}{b}" for a in ("lar", "mor", "nim", "pok", "rul") for b in "aeiouwyz"]
        functions = [DESCRIBED.format(source.name, word) for word in words]
        (folder / source.name / "described.py").write_text("".join(functions))
    return folder


DESCRIBED = """
def {0}_{1}(first_{1}, last_{1}=None):
    \"\"\"Do the {1} of all that {0} is able to do.

    Args:
        first_{1} (int): Where the {1} of {0} begins.
        last_{1} (int): Where the {1} of {0} ends.
    \"\"\"
"""


@pytest.fixture(autouse=True, scope="session")
def own_caches(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Token stores go to a folder of the session, so that no test finds what an earlier one left."""
    os.environ["HFCOURSE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
