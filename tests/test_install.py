"""An installed wheel has everything: recipes, builders, templates; and works from any folder."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of what is under version control, so that nothing is left in the checkout."""
    if int(metadata.version("setuptools").split(".")[0]) < 77:
        pytest.skip("building needs setuptools 77 or newer: pip install -c constraints.txt setuptools")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], capture_output=True)
    if archive.returncode:
        pytest.skip("not a git checkout")
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive.stdout, check=True)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", str(out), str(source)], check=True)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_file(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files"], capture_output=True, text=True, check=True)
    homes = {"hfcourse/": "hfcourse/", "recipes/": "hfcourse_recipes/", "datasets_scripts/": "hfcourse_datasets/"}
    for file in listed.stdout.splitlines():
        for folder, package in homes.items():
            if file.startswith(folder):
                assert package + file.removeprefix(folder) in names, file


def test_it_works_from_any_folder(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    here = tmp_path / "here"
    here.mkdir()

    def call(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, cwd=here, env={"PYTHONPATH": str(place)}
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert str(place) in call("-c", "import hfcourse; print(hfcourse.__file__)")
    assert "bert/tour" in call("-m", "hfcourse", "list")
    assert "model:" in call("-m", "hfcourse", "show", "bert/pretrain", "small")
    assert call("-m", "hfcourse", "copy", "bert/pretrain", "mine").split() == ["mine/pretrain.py", "mine/README.md"]
    assert "model:" in call("mine/pretrain.py", "small", "--help")
    assert "glue" in call("-c", "import hfcourse_datasets.glue as builder; print(builder.__file__)")
