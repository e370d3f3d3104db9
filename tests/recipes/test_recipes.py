"""Every recipe's debug variant runs on CPU, offline, on real data; two processes end where one does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hfcourse import recipe
from hfcourse.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]
NAMES = [found.name for found in recipe.every()]


def run(folder: Path, *words: str) -> RunFolder:
    """``hfcourse run`` in this process."""
    recipe.start(*recipe.parse([*words, "--output_dir", str(folder), *quiet(words[0])]))
    return RunFolder.open(folder)


def quiet(name: str) -> list[str]:
    parts = ["pretrain.", "topic.", "terms.", "match.", "answer."] if name == "bert/tour" else [""]
    return [f"--no-{part}train.progress" for part in parts]


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(tmp_path_factory.mktemp("runs") / "pretrain", "bert/pretrain", "debug")


def test_there_are_recipes() -> None:
    assert {"bert/pretrain", "bert/finetune", "bert/tour"} <= set(NAMES)


def test_pretraining_leaves_a_complete_folder(pretrained: RunFolder) -> None:
    for name in ("config.yaml", "log.jsonl", "metrics.json", "report.html", "model/README.md", "model/tokenizer.json"):
        assert (pretrained.path / name).is_file(), name
    scores = pretrained.read_json("metrics.json")["scores"]["test"]
    assert scores.keys() >= {"loss", "perplexity", "masked_accuracy", "pair_accuracy"}


@pytest.mark.parametrize("variants", [["modern"], ["nsp"], ["mlm"], ["spans"], ["electra"]])
def test_pretraining_variants(variants: list[str], pretrained: RunFolder, tmp_path: Path) -> None:
    words = ["bert/pretrain", *variants, "debug", "--tokenizer", str(pretrained.path / "tokenizer")]
    words += ["--model", "modernbert-tiny" if variants == ["modern"] else "bert-tiny", "--train.steps", "2"]
    assert run(tmp_path / "run", *words).finished


@pytest.mark.parametrize("task", ["topic", "terms", "match", "answer"])
def test_finetuning_each_way(task: str, pretrained: RunFolder, tmp_path: Path) -> None:
    done = run(tmp_path / "run", "bert/finetune", task, "debug", "--model", str(pretrained.path))
    metrics = done.read_json("metrics.json")
    assert metrics["score"]["split"] == "test" and metrics["steps"] == 6
    assert len(done.read_predictions("test")) == 48
    # What was trained is evaluated as it is, from a fresh load.
    words = ["bert/finetune", task, "debug", "evaluate", "--model", str(done.path)]
    again = run(tmp_path / "again", *words).read_json("metrics.json")
    assert again["scores"]["test"] == pytest.approx(metrics["scores"]["test"], abs=1e-3)


def test_the_tour(tmp_path: Path) -> None:
    tour = run(tmp_path / "tour", "bert/tour", "debug")
    assert tour.finished and (tour.path / "report.html").stat().st_size > 20_000
    assert tour.read_json("metrics.json")["tasks"].keys() == {"topic", "terms", "match", "answer"}


def test_a_saved_config_repeats_the_run(pretrained: RunFolder, tmp_path: Path) -> None:
    again = run(tmp_path / "again", "bert/pretrain", "--config", str(pretrained.path / "config.yaml"))
    timing = {"seconds", "tokens_per_s"}
    first, second = (
        [{k: v for k, v in record.items() if k not in timing} for record in one.read_log()]
        for one in (pretrained, again)
    )
    assert first == second


@pytest.mark.parametrize("words", [["pretrain", "debug"], ["finetune", "topic", "debug"]])
def test_two_processes_end_where_one_does(words: list[str], pretrained: RunFolder, tmp_path: Path) -> None:
    name, *rest = words
    rest += ["--backbone.dropout", "0", "--train.precision", "fp32", "--no-train.progress"]
    if name == "finetune":
        rest += ["--model", str(pretrained.path)]
    script = str(ROOT / "recipes" / "bert" / f"{name}.py")
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launchers = {
        "one": [sys.executable],
        "two": [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"],
    }
    for where, launcher in launchers.items():
        command = [*launcher, script, *rest, "--output_dir", str(tmp_path / where)]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (RunFolder.open(tmp_path / where).read_json("metrics.json") for where in ("one", "two"))
    assert (one["processes"], two["processes"]) == (1, 2)
    for split, scores in one["scores"].items():
        for metric, value in scores.items():
            near = 1e-4 * max(1.0, abs(value)) if metric == "perplexity" else 1e-4
            assert two["scores"][split][metric] == pytest.approx(value, abs=near), (split, metric)
