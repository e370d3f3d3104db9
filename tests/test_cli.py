"""The command line as a person meets it: what is printed where, and with which exit code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hfcourse import __version__, cli
from hfcourse.errors import Interrupted, TrainingError
from tests.test_recipe import SOURCE


@pytest.fixture(autouse=True)
def plant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    (tmp_path / "plant.py").write_text(SOURCE)


def call(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(words)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def loaded_by(code: str) -> set[str]:
    """The packages that a fresh Python has loaded after some code."""
    code += "\nimport sys, json; print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


HEAVY = {"torch", "transformers", "datasets", "accelerate", "evaluate", "numpy", "pandas", "sklearn", "matplotlib"}


@pytest.mark.parametrize(
    "words",
    [["--help"], ["list"], ["show", "bert/finetune", "topic"], ["show", "bert/tour"], ["show", "speech/methods"]],
)
def test_looking_around_loads_nothing_heavy(words: list[str]) -> None:
    code = f"from hfcourse import cli\ntry: cli.main({words!r})\nexcept SystemExit as e: assert e.code == 0"
    assert not loaded_by(code) & HEAVY


def test_importing_loads_nothing_at_all() -> None:
    assert not loaded_by("import hfcourse") & (HEAVY | {"yaml", "rich"})


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"], ["run", "--help"], ["report", "-h"]])
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*words) == 0
    out = capsys.readouterr().out
    assert all(f"hfcourse {verb}" in out for verb in ("run", "suite", "list", "show", "copy", "predict", "report"))
    assert all(flag in out for flag in ("--output_dir", "--seed", "--config", "--resume", "--overwrite"))


@pytest.mark.parametrize(("verb", "setting"), [("extract", "dtype: float16"), ("align", "doubt: -2.0")])
def test_help_of_a_verb_with_settings_shows_them(verb: str, setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(verb, "--help") == 0 and f"\n{setting}\n" in capsys.readouterr().out
    assert call(verb, "--model=none") == 2 and f"usage: hfcourse {verb}" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0 and capsys.readouterr().out == f"hfcourse {__version__}\n"


def test_list_names_recipes_and_variants_on_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("bert/pretrain ") and "Pretrain" in line for line in lines)
    assert any(line.startswith("  small ") for line in lines)
    assert not any(line.startswith(("  main ", "  base ", "  learn ")) for line in lines)
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines)


@pytest.mark.parametrize("verb", [["show"], ["run", "--help"]])
def test_show_is_a_dry_run_that_can_be_given_back(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(verb[0], "plant.py", "small", "--optim.lr", "1e-6", *verb[1:]) == 0
    shown = capsys.readouterr().out
    assert "# In metres.\nheight: 2.0\n" in shown and "  lr: 1.0e-06\n" in shown
    assert not Path("runs").exists()
    Path("shown.yaml").write_text(shown)
    assert call("show", "--config", "shown.yaml") == 0
    assert capsys.readouterr().out == shown


def test_run_and_the_script_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["small", "--seed", "7", "--output_dir"]
    assert call("run", "plant.py", *words, "one") == 0
    for command in (["plant.py"], ["-m", "hfcourse", "run", "plant.py"]):
        where = f"by-{len(command)}"
        done = subprocess.run([sys.executable, *command, *words, where], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        for name in ("config.yaml", "metrics.json"):
            assert (Path(where) / name).read_text() == (Path("one") / name).read_text()


def test_the_allocator_is_tuned_before_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys\nfrom hfcourse import cli\nfrom hfcourse.engine import machine\n"
        "machine.tune_allocator = lambda: print('torch' in sys.modules)\n"
        "try: cli.main(['run', 'plant.py'])\nexcept SystemExit: pass"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rnu"], "unknown command 'rnu': did you mean 'run'"),
        (["run"], "name a recipe"),
        (["run", "bert/pretrian"], "unknown recipe 'bert/pretrian': did you mean 'bert/pretrain'"),
        (["run", "plant.py", "smal"], "did you mean 'small'"),
        (["run", "plant.py", "--optim.lrr", "1"], "did you mean '--optim.lr'"),
        (["run", "plant.py", "--output_dir", "plant.py/x"], "cannot write here"),
        (["show", "plant.py", "--seed", "one"], "--seed is 'one': expected a whole number"),
        (["list", "bert"], "usage: hfcourse list"),
        (["copy", "plant.py"], "usage: hfcourse copy NAME DIR"),
        (["copy", "plant.py", "."], "plant.py is there already"),
        (["predict", "nowhere"], "usage: hfcourse predict RUN FILE [--out FILE]"),
        (["predict", "nowhere", "rows.tsv"], "nowhere is not there"),
        (["predict", "nowhere", "--out"], "--out needs a file"),
        (["report", "nowhere", "--uot", "page.html"], "unknown flag '--uot': did you mean '--out'"),
        (["report"], "usage: hfcourse report RUN ... [--out FILE]"),
        (["report", "nowhere"], "nowhere is not there"),
        (["report", "."], "holds no run"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*words) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("error: ") and printed.err.count("\n") == 1
    assert said in printed.err


def test_copy_prints_what_it_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("copy", "bert/tour", "mine") == 0
    assert capsys.readouterr().out == "mine/tour.py\nmine/README.md\n"


def test_out_is_handed_on(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    import hfcourse.engine.predict
    import hfcourse.report

    monkeypatch.setattr(hfcourse.report, "report", lambda runs, out: f"{runs} {out}")
    monkeypatch.setattr(hfcourse.engine.predict, "predict", lambda run, file, out: f"{run} {file} {out}")
    assert call("report", "a", "--out", "page.html", "b") == 0
    assert call("predict", "run", "--out=rows.csv", "rows.tsv") == 0
    paths = [Path("a"), Path("b")]
    assert capsys.readouterr().out == f"{paths} page.html\nrun rows.tsv rows.csv\n"


def failing(error: str) -> None:
    source = SOURCE.replace('    """Grow."""\n', f'    """Grow."""\n    {error}\n')
    Path("failing.py").write_text(source)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("from hfcourse.errors import TrainingError; raise TrainingError('the loss is nan at step 3')", 2),
        ("from hfcourse.errors import Interrupted; raise Interrupted('stopped at step 3', 15)", 143),
        ("raise KeyboardInterrupt", 130),
    ],
)
def test_errors_of_a_run_have_their_code(error: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    failing(error)
    assert call("run", "failing.py", "--output_dir", f"run-{code}-{len(error)}") == code
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1


def test_one_process_of_several_speaks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    assert call("run", "nothing") == 2 and capsys.readouterr().err == ""


def test_a_bug_keeps_its_traceback() -> None:
    failing("raise ZeroDivisionError('a bug')")
    done = subprocess.run([sys.executable, "failing.py"], capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" in done.stderr and "ZeroDivisionError: a bug" in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_who_goes_away_is_no_error(unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "hfcourse", "list"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_exit_codes_are_the_shells() -> None:
    assert (Interrupted("", 2).exit_code, Interrupted("", 15).exit_code, TrainingError("").exit_code) == (130, 143, 2)
