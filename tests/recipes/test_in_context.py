"""The recipe with real models of every kind: what is asked, kept and refused on the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hfcourse import cli, recipe
from hfcourse.errors import ConfigError, DataError, HfcourseError, ModelError, RunFolderError
from hfcourse.run_folder import RunFolder
from tests.prompting import tiny

MODULE = recipe.find("gpt/in_context").module
TASK = """
task: sense
dataset_path: json
dataset_kwargs: {data_files: {train: rows.jsonl, test: rows.jsonl}}
output_type: multiple_choice
training_split: train
test_split: test
doc_to_text: "Question: {{q}}?\\nAnswer:"
doc_to_target: label
doc_to_choice: [good, terrible]
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    words = tiny.WORDS.split()
    rows = [{"q": " ".join(words[n : n + 3]), "label": n % 2} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sense.yaml").write_text(TASK)
    return tmp_path / "sense.yaml"


def saved(name: str, kind: str, folder: Path) -> str:
    place = folder / name
    tiny.model(name, tiny.tokenizer(kind)).save_pretrained(place)
    tiny.tokenizer(kind).save_pretrained(place)
    return str(place)


def run(folder: Path, *words: str) -> RunFolder:
    recipe.start(*recipe.parse(["gpt/in_context", *words, "--output_dir", str(folder)]))
    return RunFolder.open(folder)


@pytest.mark.parametrize(("name", "kind"), [("gpt2", "eos"), ("llama", "bos"), ("t5", "end"), ("bert", "masks")])
def test_every_kind_of_model(name: str, kind: str, task: Path, tmp_path: Path) -> None:
    words = ["--model", saved(name, kind, tmp_path), "--task", str(task), "--shots", "0,2", "--draws", "2"]
    words += ["--metrics", "acc_norm,acc_mutual_info,acc_calibrated"]
    done = run(tmp_path / "run", *words)
    ways = done.read_json("scores.json")["tasks"]["sense"]["shots"]["2"]["scores"]
    assert ways.keys() == {"acc", "acc_norm", "acc_mutual_info", "acc_calibrated"}
    assert done.finished and done.read_json("scores.json")["tasks"]["sense"]["shots"].keys() == {"0", "2"}
    records = done.read_predictions("sense-2shot-seed1")
    assert len(records) == 8 and all(len(record["logprobs"]) == 2 for record in records)
    assert not any(record["prompt"].count(record["prompt"].split("\n")[-2]) > 1 for record in records)


def test_likelihoods_are_those_of_the_model_alone(task: Path, tmp_path: Path) -> None:
    """Description, examples, batches and cache change nothing: one text at a time gives the same."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = saved("gpt2", "eos", tmp_path)
    done = run(tmp_path / "run", "--model", place, "--task", str(task), "--shots", "2", "--draws", "1")
    net, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    for record in done.read_predictions("sense-2shot-seed0")[:3]:
        for option, expected in zip(record["options"], record["logprobs"], strict=True):
            context = tokenizer(record["prompt"])["input_ids"]
            whole = torch.tensor([tokenizer(record["prompt"] + option)["input_ids"]])
            with torch.no_grad():
                logs = net(whole).logits.log_softmax(-1)[0, :-1].gather(1, whole[0, 1:, None])
            assert logs[len(context) - 1 :].sum().item() == pytest.approx(expected, abs=1e-3)


def test_an_adapter_is_asked_with_its_backbone(task: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    from hfcourse.prompting import models

    place = saved("gpt2", "eos", tmp_path)
    net, _ = models.load(place)
    tuned: Any = get_peft_model(net, LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True))
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            weight.data.fill_(0.3)
    tuned.save_pretrained(tmp_path / "adapter")
    tiny.tokenizer("eos").save_pretrained(tmp_path / "adapter")
    net.config.save_pretrained(tmp_path / "adapter")
    words = ["--task", str(task), "--shots", "0"]
    plain = run(tmp_path / "plain", "--model", place, *words).read_predictions("sense-0shot")
    adapted = run(tmp_path / "adapted", "--model", str(tmp_path / "adapter"), *words).read_predictions("sense-0shot")
    assert plain[0]["logprobs"] != pytest.approx(adapted[0]["logprobs"], abs=1e-2)


def test_the_command_line(task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = saved("gpt2", "eos", tmp_path)
    words = ["suite", "fewshot", "--model", model, "--tasks", str(task), "--shots", "0,1", "--draws", "1"]
    place = ["--output_dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, *place])
    assert ended.value.code == 0 and "sense" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        cli.main([*words, *place, "--resume"])
    assert ended.value.code == 0 and "already finished" in capsys.readouterr().err


def test_answers_of_other_weights_are_not_taken_over(task: Path, tmp_path: Path) -> None:
    model = saved("gpt2", "eos", tmp_path)
    words = ["--model", model, "--task", str(task), "--shots", "0"]
    before = run(tmp_path / "run", *words).read_predictions("sense-0shot")
    (tmp_path / "run" / "metrics.json").unlink()  # as if it had been interrupted
    assert run(tmp_path / "run", *words, "--resume").read_predictions("sense-0shot") == before
    trained_again = tiny.model("gpt2", tiny.tokenizer("eos"))
    trained_again.get_input_embeddings().weight.data[::2] += 1
    trained_again.save_pretrained(model)
    with pytest.raises(RunFolderError, match="its answers are of other weights than the model has now"):
        run(tmp_path / "run", *words, "--resume")
    assert RunFolder.open(tmp_path / "run").read_predictions("sense-0shot") == before
    assert run(tmp_path / "run", *words, "--overwrite").read_predictions("sense-0shot") != before


@pytest.mark.parametrize(
    ("words", "kind", "reason"),
    [
        ([], ConfigError, "--model is missing"),
        (["--model", "bert-tinny"], ModelError, "did you mean 'bert-tiny'"),
        (["--model", "gpt2", "--chat"], ModelError, "no chat template"),
        (["--model", "gpt2", "--task", "no.yaml"], ConfigError, "cannot read the task"),
        (["--model", "gpt2", "--tasks", "glue/rtee"], ConfigError, "did you mean 'glue/rte'"),
        (["--model", "gpt2", "--tasks", "word_pairs"], DataError, "--data_dir word_pairs=FOLDER"),
        (["--model", "gpt2", "--tasks", "glue/rte"], DataError, "folder that holds RTE"),
        (["--model", "gpt2", "--shots", "9"], DataError, "9 examples are asked for"),
        (["--model", "bert", "--task", "write.yaml", "--shots", "0"], ModelError, "does not write"),
        (
            ["--model", "bert", "--task", "write.yaml", "--metrics", "acc"],
            ModelError,
            "task w: its answers are generated",
        ),
        (["--model", "gpt2", "--task", "write.yaml", "--metrics", "acc"], ConfigError, "can be judged by acc"),
        (["--model", "gpt2", "--strict", "--shots", "7", "--task", "long.yaml"], DataError, "leave out --strict"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str],
    kind: type[HfcourseError],
    reason: str,
    task: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, tokens in (("gpt2", "eos"), ("bert", "masks")):
        saved(name, tokens, tmp_path)
    (tmp_path / "write.yaml").write_text(
        "include: sense.yaml\ntask: w\noutput_type: generate_until\ndoc_to_choice: null\n"
    )
    (tmp_path / "long.yaml").write_text('include: sense.yaml\ntask: l\ndoc_to_text: "{{ q * 20 }}"\n')
    words = [str(tmp_path / word) if word in {"gpt2", "bert"} else word for word in words]
    given = words if {"--task", "--tasks"} & set(words) else [*words, "--task", str(task)]
    with pytest.raises(kind) as error:
        run(tmp_path / "run", *given)
    assert reason in str(error.value) and "\n" not in str(error.value)


def test_a_preset_gets_a_tokenizer_of_its_own_kind(task: Path, tmp_path: Path, packages: Path) -> None:
    done = run(
        tmp_path / "run", "--model", "gpt2-tiny", "--task", str(task), "--shots", "0", "--metrics", "acc_mutual_info"
    )
    assert done.finished  # what is asked without a question begins with the end of a text, which BERT's kind has not
    assert "<|endoftext|>" in (done.path / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8")


def test_settings_that_contradict_each_other() -> None:
    for change, reason in {
        ("by_row", "select"): "by_row draws anew for every row, and select is first",
        ("unconditional",): "add it to metrics",
        ("draws",): "draws and batch_tokens must be 1 or more",
        ("shots",): "limit and shots must be 0 or more",
        ("data_dir",): "name the builder of each",
    }.items():
        values: dict[str, Any] = {"by_row": True, "select": "first", "unconditional": "A:", "draws": 0}
        values |= {"shots": (-1,), "data_dir": ("a", "b")}
        with pytest.raises(ConfigError, match=reason):
            replace(MODULE.base(), **{name: values[name] for name in change})
    assert replace(MODULE.base(), data_dir=("glue=G", "A")).folders == {"glue": "G", "": "A"}
