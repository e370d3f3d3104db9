"""Every recipe's debug variant runs on CPU, offline, on real data; two processes end where one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hfcourse import recipe
from hfcourse.engine.predict import predict
from hfcourse.errors import ConfigError
from hfcourse.run_folder import RunFolder

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *words: str) -> RunFolder:
    """``hfcourse run`` in this process."""
    recipe.start(*recipe.parse([*words, "--output_dir", str(folder), *quiet(words[0])]))
    return RunFolder.open(folder)


def quiet(name: str) -> list[str]:
    inner = {"bert/tour": ["pretrain.", "topic.", "terms.", "match.", "answer."], "bert/suite": ["finetune."]}
    inner["peft/compare"] = ["finetune."]
    parts = inner.get(name, [""])
    return [f"--no-{part}train.progress" for part in parts]


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return run(tmp_path_factory.mktemp("runs") / "pretrain", "bert/pretrain", "debug")


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
    for task in ("topic", "terms", "match", "answer"):
        pretrained, random = (
            RunFolder.open(tour.path / f"{task}-{start}").config for start in ("pretrained", "random")
        )
        assert pretrained["backbone"].pop("init") == "pretrained" and random["backbone"].pop("init") == "random"
        assert pretrained == random, "the starts differ in nothing else"


def test_a_suite_is_judged_and_resumed(
    pretrained: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["bert/suite", "pydocs", "debug", "--model", str(pretrained.path), "--tasks", "topic,answer"]
    done = run(tmp_path / "suite", *words)
    assert "2 of 4 tasks" in capsys.readouterr().out
    found = done.read_json("scores.json")
    topic = RunFolder.open(done.path / "topic").read_json("metrics.json")
    assert found["tasks"]["topic"]["score"] == pytest.approx(100 * topic["scores"]["test"]["accuracy"])
    assert found["average"]["tasks"] == 2 and "| average | 2 of 4 tasks |" in (done.path / "table.md").read_text()
    assert "answer" in (done.path / "report.html").read_text()
    # A task that was lost is run again, the other is taken as it is.
    (done.path / "metrics.json").unlink()
    (done.path / "answer" / "metrics.json").unlink()
    before = (done.path / "topic" / "metrics.json").stat().st_mtime_ns
    again = run(done.path, *words, "--resume")
    assert again.finished and again.read_json("scores.json")["tasks"].keys() == {"topic", "answer"}
    assert (done.path / "topic" / "metrics.json").stat().st_mtime_ns == before


def test_a_suite_behind_a_first_task_with_rates_to_choose_from(pretrained: RunFolder, tmp_path: Path) -> None:
    """STILTs with LoRA, merged in between; two rates; an interrupted suite goes on without the first task."""
    words = ["bert/suite", "pydocs", "debug", "--model", str(pretrained.path), "--tasks", "topic,match"]
    words += ["--first", "match", "--peft", "lora", "--sweep", "lr=1e-3,5e-3", "--finetune.train.steps", "3"]
    done = run(tmp_path / "suite", *words)
    tasks = done.read_json("scores.json")["tasks"]
    assert tasks.keys() == {"topic", "match"} and all(task["lr"] in (1e-3, 5e-3) for task in tasks.values())
    starts = {name: RunFolder.open(done.path / f"{name}-lr0.005").config["model"] for name in tasks}
    assert starts == {"topic": str(done.path / "first-match" / "model"), "match": str(pretrained.path)}
    chosen = RunFolder.open(done.path / f"topic-lr{tasks['topic']['lr']:g}").read_json("metrics.json")
    assert tasks["topic"]["score"] == pytest.approx(100 * chosen["scores"]["test"]["accuracy"])
    for lost in (done.path, done.path / "topic-lr0.005"):
        (lost / "metrics.json").unlink()
    before = (done.path / "first-match" / "metrics.json").stat().st_mtime_ns
    again = run(done.path, *words, "--resume").read_json("scores.json")["tasks"]
    assert again["topic"]["score"] == tasks["topic"]["score"]
    assert (done.path / "first-match" / "metrics.json").stat().st_mtime_ns == before


def test_a_suite_side_by_side(pretrained: RunFolder, tmp_path: Path) -> None:
    words = ["bert/suite", "pydocs", "debug", "--model", str(pretrained.path), "--tasks", "topic,answer"]
    both = run(tmp_path / "both", *words, "--devices", "2")
    scores = {name: task["score"] for name, task in both.read_json("scores.json")["tasks"].items()}
    assert scores.keys() == {"topic", "answer"}
    metrics = {name: RunFolder.open(both.path / name).read_json("metrics.json")["score"]["value"] for name in scores}
    assert scores == {name: pytest.approx(100 * value) for name, value in metrics.items()}


def test_a_suite_with_one_model(pretrained: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every task is judged by the joint model: on dev as it was while that was trained."""
    words = ["bert/suite", "pydocs", "debug", "--together", "--model", str(pretrained.path)]
    done = run(tmp_path / "suite", *words)
    joint = RunFolder.open(done.path / "together")
    on_dev = joint.read_json("metrics.json")["scores"]["dev"]
    tasks = done.read_json("scores.json")["tasks"]
    assert tasks.keys() == {"topic", "terms", "match", "answer"}
    for name in tasks:
        own = RunFolder.open(done.path / name)
        assert own.config["evaluate_only"] and own.config["model"] == str(joint.path)
        metrics = own.read_json("metrics.json")
        again = {f"{name}/{score}": value for score, value in metrics["scores"]["dev"].items() if score != "loss"}
        assert again == {score: on_dev[score] for score in on_dev if score.startswith(f"{name}/")}
        assert "test" in metrics["scores"] and metrics["steps"] == 0
    assert "learned together by one model" in (done.path / "report.html").read_text()
    # What was interrupted after the joint training goes on without training again.
    for lost in (done.path, done.path / "terms"):
        (lost / "metrics.json").unlink()
    before = (joint.path / "metrics.json").stat().st_mtime_ns
    assert run(done.path, *words, "--resume").read_json("scores.json")["tasks"] == tasks | {
        "terms": tasks["terms"] | {"seconds": pytest.approx(tasks["terms"]["seconds"], abs=60)}
    }
    assert (joint.path / "metrics.json").stat().st_mtime_ns == before


def test_glue_with_one_model(pretrained: RunFolder, tmp_path: Path) -> None:
    """RTE and MNLI side by side, from a random start; the diagnostic rows are answered by MNLI's head."""
    nli = "index\t" + "x\t" * 7 + "sentence1\tsentence2\tlabel1\tgold_label\n"
    rows = "".join(
        f"{n}\t" + "-\t" * 7 + f"a {n} b\tb {n} a\tneutral\t{label}\n"
        for n, label in enumerate(("entailment", "neutral", "contradiction") * 6)
    )
    unlabelled = nli.replace("\tlabel1\tgold_label", "") + "0\t" + "-\t" * 7 + "a\tb\n"
    files = {name: text for name, text in GLUE_FILES.items() if name.startswith("RTE")} | {
        "MNLI/train.tsv": nli + rows,
        "MNLI/dev_matched.tsv": nli + rows,
        "MNLI/dev_mismatched.tsv": nli + rows,
        "MNLI/test_matched.tsv": unlabelled,
        "MNLI/test_mismatched.tsv": unlabelled,
        "diagnostic/diagnostic.tsv": "index\tsentence1\tsentence2\n" + "".join(f"{n}\ta\t{n}\n" for n in range(5)),
    }
    for name, text in files.items():
        place = tmp_path / "glue" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    words = ["bert/suite", "glue", "debug", "--together", "--model", str(pretrained.path)]
    words += ["--data_dir", str(tmp_path / "glue"), "--finetune.backbone.init", "random", "--peft", "lora"]
    done = run(tmp_path / "suite", *words)
    assert done.read_json("scores.json")["tasks"].keys() == {"mnli", "rte", "ax"}
    assert RunFolder.open(done.path / "ax").config["model"] == str(done.path / "mnli")
    answers = RunFolder.open(done.path / "ax").read_predictions("test")
    assert len(answers) == 5 and {a["prediction"] for a in answers} <= {"entailment", "neutral", "contradiction"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--together", "--sweep", "lr=1e-5"], "together is on and sweep"),
        (["--together", "--devices", "2"], "together is on and devices 2"),
        (["--power", "0.5"], "power is 0.5, which only counts for --together"),
        (["--together", "--power", "1.5"], "power is 1.5: it must lie in"),
        (["--together", "--tasks", "topic"], "together needs two tasks or more, and there is topic alone"),
    ],
)
def test_a_suite_refuses_what_contradicts_one_model(words: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "suite", "bert/suite", "pydocs", "debug", *words)


def test_early_exit_is_trained_together_measured_and_resumed(pretrained: RunFolder, tmp_path: Path) -> None:
    words = ["bert/early_exit", "topic", "debug", "--model", str(pretrained.path), "--train.precision", "fp32"]
    done = run(tmp_path / "run", *words)
    for name in ("metrics.json", "report.html", "exits.json", "exits.html", "table.md", "model/README.md"):
        assert (done.path / name).is_file(), name
    found = done.read_json("exits.json")
    # Full inference is what the engine's own evaluation did.
    assert found["full"]["test"]["score"] == pytest.approx(done.read_json("metrics.json")["scores"]["test"]["accuracy"])
    # Stopped while it was measured: the training is taken as it is, the curve is made.
    (done.path / "exits.json").unlink()
    before = (done.path / "model" / "model.safetensors").stat().st_mtime_ns
    again = run(done.path, *words, "--resume").read_json("exits.json")
    assert (done.path / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert [p["score"] for p in again["points"]] == pytest.approx([p["score"] for p in found["points"]])
    # The saved model answers new rows, and is measured again without training.
    rows = [{"text": answer["text"]} for answer in done.read_predictions("test")[:5]]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answered = predict(done.path, tmp_path / "rows.jsonl").read_text().splitlines()
    expected = [answer["prediction"] for answer in done.read_predictions("test")[:5]]
    assert [json.loads(line)["prediction"] for line in answered] == expected
    words = ["bert/early_exit", "evaluate", "debug", "--model", str(done.path), "--exits.batch", "1"]
    assert run(tmp_path / "evaluated", *words).read_json("metrics.json")["steps"] == 0


def test_early_exit_in_two_stages(pretrained: RunFolder, tmp_path: Path) -> None:
    words = ["bert/early_exit", "after", "debug", "--model", str(pretrained.path)]
    done = run(tmp_path / "run", *words)
    first, both = (load_file(path / "model" / "model.safetensors") for path in (done.path / "backbone", done.path))
    same = {name for name in first if torch.equal(first[name], both[name])}
    other = {name for name in first if name.startswith("heads.sequence.exits.0.")}
    assert other and same == first.keys() - other  # bert-tiny has two layers: one exit below the last
    # Stopped in the second stage: the first is taken as it is.
    log = (done.path / "backbone" / "log.jsonl").read_text()
    (done.path / "metrics.json").unlink()
    (done.path / "exits.json").unlink()
    assert run(done.path, *words, "--resume").finished and (done.path / "exits.json").is_file()
    assert (done.path / "backbone" / "log.jsonl").read_text() == log


def test_early_exit_without_exits_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"task\.layers is mix"):
        recipe.parse(["bert/early_exit", "debug", "--task.layers", "mix"])
    with pytest.raises(ConfigError, match=r"peft\.method is lora, and early exit trains"):
        recipe.parse(["bert/early_exit", "debug", "--peft", "lora"])


def test_methods_are_compared_and_resumed(
    pretrained: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["peft/compare", "debug", "--model", str(pretrained.path), "--methods", "full,lora", "--rates", "lora=2e-3"]
    done = run(tmp_path / "compare", *words)
    assert "accuracy, test" in capsys.readouterr().out
    found = done.read_json("compare.json")
    assert found["train_rows"] == 48 and found["steps"] == 6 and found["seeds"] == [0, 1]
    children = {path.parent.name for path in done.path.glob("*/metrics.json")}
    assert children == {f"{name}-seed{seed}" for name in ("full", "lora", "full-8", "lora-8") for seed in (0, 1)}
    small = RunFolder.open(done.path / "lora-8-seed1")
    metrics = small.read_json("metrics.json")
    assert metrics["counts"] == {"train": 8, "dev": 48, "test": 48} and metrics["steps"] == 6
    assert len([line for line in small.read_log() if line.get("split") == "dev"]) == 3  # every 2 of 6 steps
    assert (
        small.config["optim"]["lr"] == 2e-3 and RunFolder.open(done.path / "full-seed0").config["optim"]["lr"] == 5e-5
    )
    lora, full = found["methods"]["lora"], found["methods"]["full"]
    assert lora["trained"] < full["trained"] == found["parameters"] and lora["saved_bytes"] < full["saved_bytes"] / 5
    assert [point["examples"] for point in found["curves"]["lora"]] == [8, 48]
    assert "score against" not in (done.path / "table.md").read_text() and (done.path / "compare.html").is_file()
    # What was lost is run again, the others are taken as they are.
    (done.path / "metrics.json").unlink()
    (done.path / "lora-seed0" / "metrics.json").unlink()
    kept = done.path / "full-seed0" / "metrics.json"
    before = kept.stat().st_mtime_ns
    again = run(done.path, *words, "--resume").read_json("compare.json")
    assert again["methods"]["lora"]["scores"] == lora["scores"] and kept.stat().st_mtime_ns == before


def test_a_method_that_the_model_cannot_take_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["peft/compare", "debug", "--model", "modernbert-tiny", "--methods", "bitfit,linear", "--seeds", "1"]
    done = run(tmp_path / "compare", *words, "--examples=")
    found = done.read_json("compare.json")
    assert found["methods"].keys() == {"linear"} and found["refused"].keys() == {"bitfit"} and not found["curves"]
    assert "bitfit cannot take this model: bitfit trains biases" in capsys.readouterr().out
    assert not (done.path / "bitfit-seed0").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--methods", "lora,lora"], "each once"),
        (["--train.steps", "0"], "train.steps is 0"),
        (["--methods", "fusion,lora"], "fusion and two or more runs"),
        (["--rates", "lora:1e-3"], "METHOD=RATE"),
        (["--rates", "prefix=1e-3"], "prefix is no method here"),
        (["--examples", "0"], "each must be 1 or more"),
        (["--methods", "lorra"], "did you mean 'lora'"),
    ],
)
def test_a_comparison_refuses_what_it_cannot_do(words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe.parse(["peft/compare", "debug", *words])


GLUE_FILES = {
    "RTE/train.tsv": "index\tsentence1\tsentence2\tlabel\n" + "0\ta b\tb a\tentailment\n1\tc\td\tnot_entailment\n" * 9,
    "RTE/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\ta\ta\tentailment\n1\tb\td\tnot_entailment\n",
    "RTE/test.tsv": "index\tsentence1\tsentence2\n0\ta\tb\n1\tc\td\n",
    "WNLI/train.tsv": "index\tsentence1\tsentence2\tlabel\n" + "0\ta\tb\t1\n1\tc\td\t0\n" * 9,
    "WNLI/dev.tsv": "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t1\n",
    "WNLI/test.tsv": "",
}


def test_glue_with_an_empty_test_file(
    pretrained: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The task fails twice and is named; the other one is finished, its lost rows are named; exit code 2."""
    from hfcourse.cli import main

    for name, text in GLUE_FILES.items():
        place = tmp_path / "glue" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    words = ["suite", "glue", "--model", str(pretrained.path), "--data_dir", str(tmp_path / "glue")]
    words += ["--output_dir", str(tmp_path / "suite"), "--finetune.train.steps", "2", "--no-finetune.train.progress"]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    said = capsys.readouterr()
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "wnli failed twice" in errors[0] and "the file is empty" in errors[0]
    assert "rte: 2 rows in dev, where the official file has 277" in said.err
    assert "no submission.zip" in said.out
    suite = RunFolder.open(tmp_path / "suite")
    assert not suite.finished and suite.read_json("scores.json")["average"]["tasks"] == 1
    assert RunFolder.open(suite.path / "rte").finished


def test_a_saved_config_repeats_the_run(pretrained: RunFolder, tmp_path: Path) -> None:
    again = run(tmp_path / "again", "bert/pretrain", "--config", str(pretrained.path / "config.yaml"))
    timing = {"seconds", "tokens_per_s"}
    first, second = (
        [{k: v for k, v in record.items() if k not in timing} for record in one.read_log()]
        for one in (pretrained, again)
    )
    assert first == second


@pytest.mark.parametrize(
    "words", [["pretrain", "debug"], ["finetune", "topic", "debug"], ["finetune", "together", "debug"]]
)
def test_two_processes_end_where_one_does(words: list[str], pretrained: RunFolder, tmp_path: Path) -> None:
    name, *rest = words
    rest += ["--backbone.dropout", "0", "--train.precision", "fp32", "--no-train.progress"]
    if name == "finetune":
        rest += ["--model", str(pretrained.path)]
    script = str(ROOT / "recipes" / "bert" / f"{name}.py")
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launchers = {
        "one": [sys.executable],
        "two": [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"],
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
