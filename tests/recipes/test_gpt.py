"""GPT from end to end: pretrained, saved as a plain class, resumed, written with, and fine-tuned as BERT is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from hfcourse import recipe
from hfcourse.data.token_shards import TokenStore
from hfcourse.engine import step as steps
from hfcourse.engine.predict import predict
from hfcourse.errors import ConfigError, DataError, Interrupted, ModelError, RunFolderError
from hfcourse.run_folder import RunFolder

WORDS = [f"{a}{b}" for a in "bdfglmnprst" for b in ("a", "e", "i", "o")]
TEXT = "\n".join(" ".join(WORDS[(3 * n + k * k) % 44] for k in range(n % 9 + 3)) + ".\n" for n in range(700))


def run(folder: Path, *words: str) -> RunFolder:
    """``hfcourse run`` in this process."""
    quiet = [] if words[0] == "gpt/generate" else ["--no-train.progress"]
    recipe.start(*recipe.parse([*words, "--output_dir", str(folder), *quiet]))
    return RunFolder.open(folder)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "poem.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def pretrained(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """A GPT-2 over byte pairs of a corpus, and a LLaMA over the characters of a file."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "gpt2": run(folder / "gpt2", "gpt/pretrain", "debug", "--task.data", str(text)),
        "llama": run(folder / "llama", "gpt/pretrain", "shakespeare", "llama", "debug", "--task.data_dir", str(text)),
    }


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_pretraining_leaves_a_complete_folder(family: str, pretrained: dict[str, RunFolder]) -> None:
    done = pretrained[family]
    for name in ("config.yaml", "log.jsonl", "metrics.json", "model/tokenizer.json", "model/generation_config.json"):
        assert (done.path / name).is_file(), name
    assert done.read_json("metrics.json")["scores"]["dev"].keys() == {
        "loss", "perplexity", "bits_per_byte", "bits_per_character"
    }  # fmt: skip
    assert "text-generation" in (done.model_dir / "README.md").read_text()
    samples = done.read_predictions("samples")
    assert [sample["id"] for sample in samples] == [0, 1]
    page = (done.path / "report.html").read_text()
    assert 'id="samples"' in page and "bits_per_byte" in page
    config = json.loads((done.model_dir / "config.json").read_text())
    assert config["model_type"] == family and config["tie_word_embeddings"]
    assert config.get("n_positions", config.get("max_position_embeddings")) == 32


def test_plain_transformers_loads_it(pretrained: dict[str, RunFolder], tmp_path: Path) -> None:
    """In a process that cannot import hfcourse, with pipeline too."""
    code = (
        "import sys; sys.modules['hfcourse'] = None\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer, pipeline\n"
        "for place in sys.argv[1:]:\n"
        "    tokenizer = AutoTokenizer.from_pretrained(place)\n"
        "    model = AutoModelForCausalLM.from_pretrained(place)\n"
        "    writer = pipeline('text-generation', model=place)\n"
        "    ids = tokenizer('ba be', return_tensors='pt').input_ids\n"
        "    print(float(model(input_ids=ids, labels=ids).loss), tokenizer.decode(ids[0]))\n"
        "    print(repr(writer('ba be', max_new_tokens=3, do_sample=False)[0]['generated_text'][:5]))\n"
    )
    places = [str(done.model_dir) for done in pretrained.values()]
    found = subprocess.run(
        [sys.executable, "-c", code, *places], capture_output=True, text=True, cwd=tmp_path, check=True
    )
    lines = found.stdout.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines[::2]] == ["ba be"] * 2 and lines[1::2] == ["'ba be'"] * 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_stopped_and_resumed_is_bit_identical(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    words = ["gpt/pretrain", "debug", "--task.data", str(text), "--limit", "24", "--train.precision", precision]
    words += ["--backbone.dropout", "0.1"]  # three steps an epoch: the cut moves twice
    whole = run(tmp_path / "whole", *words)
    advance = steps.Steps.advance

    def stopping(self: Any, received: int) -> int:
        if self.state.position.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return advance(self, received)

    with monkeypatch.context() as patched:
        patched.setattr(steps.Steps, "advance", stopping)
        with pytest.raises(Interrupted):
            run(tmp_path / "parts", *words)
    parts = run(tmp_path / "parts", *words, "--resume")
    first, second = (load_file(one.model_dir / "model.safetensors") for one in (whole, parts))
    assert first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
    timing = {"seconds", "tokens_per_s"}
    logs = [[{k: v for k, v in line.items() if k not in timing} for line in one.read_log()] for one in (whole, parts)]
    assert logs[0] == logs[1]
    assert whole.read_predictions("samples") == parts.read_predictions("samples")


def test_only_a_small_model_from_scratch_is_trained_by_muon(text: Path, tmp_path: Path) -> None:
    names = {
        words: recipe.parse(["gpt/pretrain", *words.split()])[2].optim.name
        for words in ("", "llama", "gpt2_base", "shakespeare", "shakespeare_gpu", "further --model DIR")
    }
    assert [words for words, name in names.items() if name == "muon"] == ["", "llama"]
    assert recipe.parse(["gpt/pretrain", "further", "--model", "DIR", "--peft", "lora"])[2].resolved().optim.lr == 1e-3
    with pytest.raises(ConfigError, match="model is empty: the variant further"):
        run(tmp_path / "none", "gpt/pretrain", "further", "debug", "--task.data", str(text))
    with pytest.raises(ConfigError, match="is for whole matrices, and peft"):
        recipe.parse(["gpt/pretrain", "--model", "DIR", "--peft", "lora"])


def test_going_on_with_a_trained_model_whole_and_with_lora(
    pretrained: dict[str, RunFolder], text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["gpt/pretrain", "further", "debug", "--model", str(pretrained["gpt2"].path), "--task.data", str(text)]
    on = run(tmp_path / "on", *words)
    before, after = (one.read_json("metrics.json")["scores"]["dev"]["loss"] for one in (pretrained["gpt2"], on))
    assert after < before
    adapted = run(tmp_path / "lora", *words, "--peft", "lora")
    matrices = (128 + 3 * 128) + (4 * 128 + 128)  # queries, keys and values in one; the feed-forward's last
    assert adapted.read_json("metrics.json")["parameters"]["trained"] == 2 * 16 * matrices
    # peft's prompts stand before the text, and take positions from it.
    prompts = [*words, "--peft", "prompt", "--peft.tokens", "8", "--train.steps", "4"]
    assert run(tmp_path / "prompt", *prompts, "--task.block_length", "24").finished
    with pytest.raises(ModelError, match="inputs of 40 tokens do not fit"):
        run(tmp_path / "long", *prompts)
    capsys.readouterr()
    done = run(
        tmp_path / "text", "gpt/generate", "--model", str(adapted.path), "--prompt", "ba be", "--max_new_tokens", "5"
    )
    assert capsys.readouterr().out.startswith("ba be") and len(done.read_predictions("samples")) == 1


def test_a_prompt_that_is_too_long_costs_the_samples_alone(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["gpt/pretrain", "debug", "--task.data", str(text), "--train.steps", "1", "--prompt", "ba " * 40]
    done = run(tmp_path / "run", *words)
    assert done.finished and (done.path / "report.html").is_file() and not done.read_predictions("samples")
    assert "no samples: the prompt has" in capsys.readouterr().err


def test_generating_leaves_what_was_written(
    pretrained: dict[str, RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["gpt/generate", "sample", "--model", str(pretrained["llama"].path), "--prompt", "ba", "--samples", "3"]
    done = run(tmp_path / "one", *words, "--max_new_tokens", "40")
    texts = done.read_predictions("samples")
    said = capsys.readouterr().out
    assert said.startswith("".join(f"ba{one['prediction']}\n" for one in texts)) and "samples: 3" in said
    metrics = done.read_json("metrics.json")
    assert metrics["tokens"] == sum(one["tokens"] for one in texts) and metrics["tokens_per_s"] > 0
    page = (done.path / "report.html").read_text()
    assert 'id="samples"' in page and "Not everything is there" not in page
    again = run(tmp_path / "two", *words, "--max_new_tokens", "40", "--no-stream")
    assert again.read_predictions("samples") == texts
    assert not capsys.readouterr().out.startswith("ba")
    assert run(tmp_path / "beam", "gpt/generate", "beam", *words[2:6], "--max_new_tokens", "5").finished


def test_a_fresh_preset_writes_too(tmp_path: Path, pretrained: dict[str, RunFolder]) -> None:
    words = ["gpt/generate", "debug", "--tokenizer", str(pretrained["gpt2"].path / "tokenizer")]
    assert run(tmp_path / "run", *words).read_predictions("samples")[0]["tokens"] <= 8


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("task", ["topic", "terms", "match"])
def test_used_as_bert_is(family: str, task: str, pretrained: dict[str, RunFolder], tmp_path: Path) -> None:
    """A head on the last token's state (topic, match) or on each (terms); judged again from disk it scores the same."""
    words, length = ["bert/finetune", task, "debug"], ["--max_length", "32"]
    done = run(tmp_path / "run", *words, *length, "--model", str(pretrained[family].path))
    config = json.loads((done.model_dir / "config.json").read_text())
    kind = "TokenClassification" if task == "terms" else "SequenceClassification"
    assert config["architectures"] == [f"{'GPT2' if family == 'gpt2' else 'Llama'}For{kind}"]
    assert config["pad_token_id"] == 0
    again = run(tmp_path / "again", *words, "evaluate", *length, "--model", str(done.path))
    first, second = (one.read_json("metrics.json")["scores"]["test"] for one in (done, again))
    assert second == pytest.approx(first, abs=1e-3)


def test_refused(text: Path, pretrained: dict[str, RunFolder], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="reads in both directions"):
        run(tmp_path / "bert", "gpt/pretrain", "debug", "--model", "bert-tiny", "--task.data", str(text))
    with pytest.raises(DataError, match=r"charlm.*expected a text file"):
        run(tmp_path / "none", "gpt/pretrain", "shakespeare", "debug")
    with pytest.raises(ConfigError, match=r"num_beams is 4 and temperature 0\.8"):
        recipe.parse(["gpt/generate", "--num_beams", "4", "--temperature", "0.8"])
    with pytest.raises(DataError, match="the model sees 32"):
        run(tmp_path / "long", "gpt/generate", "--model", str(pretrained["llama"].path), "--prompt", "ba " * 20)
    with pytest.raises(RunFolderError, match="answers no rows"):
        predict(pretrained["llama"].path, text)
    with pytest.raises(ModelError, match="no such folder"):
        run(tmp_path / "gone", "gpt/generate", "--model", "runs/not/here")


def test_a_truncated_token_file_is_made_again(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HFCOURSE_CACHE", str(tmp_path / "cache"))
    words = ["gpt/pretrain", "shakespeare", "debug", "--task.data_dir", str(text), "--train.steps", "2"]
    first = run(tmp_path / "one", *words)
    stores = [path.parent for path in (tmp_path / "cache" / "tokens").glob("*/manifest.json")]
    assert len(stores) == 2  # train and dev
    for store in stores:
        os.truncate(store / "0.0.tokens", 100)
    second = run(tmp_path / "two", *words)
    assert [line["loss"] for line in first.read_log()] == [line["loss"] for line in second.read_log()]
    assert all(TokenStore.open(store).tokens > 100 for store in stores)
