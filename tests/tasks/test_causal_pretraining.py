"""Blocks for guessing the next token, and what their scores mean."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from hfcourse.data import tokenizers
from hfcourse.data.tokenizers import TokenizerConfig
from hfcourse.errors import ConfigError, DataError
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.base import TaskContext
from hfcourse.tasks.causal_pretraining import CausalPretraining, CausalPretrainingConfig
from tests.no_double import on_such_a_device

CHAR = TokenizerConfig(kind="char", style="gpt", lowercase=False)
BLOCK = 16


def grammar(count: int, seed: int) -> str:
    """Documents in which each letter says which two may follow."""
    generator = np.random.default_rng(seed)
    letters = "abcdefghijklmnop"
    documents = []
    for _ in range(count):
        place, text = 0, []
        for coin in generator.integers(2, size=60):
            place = (3 * place + coin + 1) % 16
            text.append(letters[place])
        documents.append("".join(text))
    return "\n\n".join(documents)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "train.txt").write_text(grammar(400, 0))
    (folder / "dev.txt").write_text(grammar(40, 1))
    return folder


@pytest.fixture(scope="module")
def context(corpus: Path) -> TaskContext:
    return TaskContext(tokenizer=tokenizers.train(tokenizers.texts_of(str(corpus)), CHAR), seed=3)


def build(corpus: Path, context: TaskContext, **settings: object) -> CausalPretraining:
    return CausalPretrainingConfig(data=str(corpus), block_length=BLOCK, **settings).build(context)  # type: ignore[arg-type]


def test_documents_end_with_a_token_and_every_token_is_asked_for_once(corpus: Path, context: TaskContext) -> None:
    task = build(corpus, context)
    end = context.tokenizer.eos_token_id
    texts = grammar(40, 1).split("\n\n")
    stream = [token for text in texts for token in [*context.tokenizer(text)["input_ids"], end]]
    assert len(stream) == 40 * 61
    dev = task.splits["dev"]
    batch = task.collate(dev.take(range(len(dev))), epoch=-1)
    assert batch.keys() == {"input_ids", "labels"} and batch["input_ids"].shape == (len(dev), BLOCK)
    asked = len(dev) * BLOCK
    assert batch["input_ids"].flatten().tolist() == stream[:asked]
    assert batch["labels"].flatten().tolist() == stream[1 : asked + 1]
    assert len(stream) - 1 - asked < BLOCK and dev.lengths.tolist() == [BLOCK] * len(dev)


def test_each_epoch_cuts_at_another_place(corpus: Path, context: TaskContext) -> None:
    task = build(corpus, context)
    train = task.splits["train"]
    plain = task.collate(train.take(range(len(train))), epoch=-1)["input_ids"].flatten().tolist()
    seen = {}
    for epoch in range(6):
        batch = task.collate(train.take([5, 7]), epoch=epoch)
        first = batch["input_ids"].flatten().tolist()
        assert torch.equal(task.collate(train.take([9, 7]), epoch=epoch)["labels"][1], batch["labels"][1])
        (shift,) = [s for s in range(BLOCK) if plain[5 * BLOCK + s : 6 * BLOCK + s] == first[:BLOCK]] or [-1]
        assert shift >= 0
        seen[epoch] = shift
    assert len(set(seen.values())) > 2
    other = CausalPretrainingConfig(data=str(corpus), block_length=BLOCK).build(
        TaskContext(tokenizer=context.tokenizer, seed=4)
    )
    shifts = [task._windows(train.take([0]), epoch)[0].tolist() for epoch in range(6)]
    assert shifts != [other._windows(other.splits["train"].take([0]), epoch)[0].tolist() for epoch in range(6)]


def test_training_never_reaches_into_the_text_that_is_held_back(tmp_path: Path, context: TaskContext) -> None:
    (tmp_path / "one.txt").write_text(grammar(100, 2))
    task = build(tmp_path / "one.txt", TaskContext(tokenizer=context.tokenizer, seed=3))
    train, dev = task.splits["train"], task.splits["dev"]
    tokens = np.asarray(train.store.shards[0][0])
    border = len(train) * BLOCK
    assert np.array_equal(task._windows(dev.take([0]), -1)[0], tokens[border : border + BLOCK + 1])
    for shift in range(BLOCK):
        last = train.windows([len(train) - 1], shift=shift)[0]
        assert np.array_equal(last, tokens[border - BLOCK : border + 1])
        assert np.array_equal(train.windows([3], shift=shift)[0], tokens[3 * BLOCK + shift :][: BLOCK + 1])


def test_bits_by_hand(tmp_path: Path) -> None:
    """Text of one, two and three bytes a character; a model that gives every token 1/8."""
    (tmp_path / "train.txt").write_text("aé漢 " * 30)
    tokenizer = tokenizers.train(["aé漢 "], CHAR)
    task = build(tmp_path, TaskContext(tokenizer=tokenizer))
    batch = task.collate(task.splits["dev"].take([0]), epoch=-1)
    nll = torch.full(batch["labels"].shape, math.log(8))
    scores = task.score(task.answers("dev", task.predict(nll, batch)))
    text = tokenizer.decode(batch["labels"][0])
    assert len(text) == BLOCK and len(text.encode()) == BLOCK // 4 * 7
    assert scores["perplexity"] == pytest.approx(8)
    assert scores["bits_per_character"] == pytest.approx(3)
    assert scores["bits_per_byte"] == pytest.approx(3 * 4 / 7)


def test_sums_where_a_device_has_no_double_precision(corpus: Path, context: TaskContext) -> None:
    task = build(corpus, context)
    batch = task.collate(task.splits["dev"].take([0, 1]), epoch=-1)
    nll = torch.rand(batch["labels"].shape)
    there = {name: on_such_a_device(values) for name, values in batch.items()}
    assert task.predict(on_such_a_device(nll), there) == task.predict(nll, batch)


def test_the_end_of_a_document_costs_bits_and_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("\n\n".join(["abc"] * 100))
    task = build(tmp_path, TaskContext(tokenizer=tokenizers.train(["abc"], CHAR)))
    batch = task.collate(task.splits["dev"].take([0]), epoch=-1)
    scores = task.score(task.answers("dev", task.predict(torch.full((1, BLOCK), math.log(2)), batch)))
    assert scores["bits_per_byte"] == scores["bits_per_character"] == pytest.approx(4 / 3)


def test_what_is_unknown_or_lost_is_said(tmp_path: Path, corpus: Path) -> None:
    (tmp_path / "train.txt").write_text("abcz " * 40)
    (tmp_path / "dev.txt").write_text("abqc " * 40)
    known = TaskContext(tokenizer=tokenizers.train(["abcz "], CHAR))
    task = build(tmp_path, known)
    assert known.notes == [f"{tmp_path}, dev: 40 of 201 tokens stand for what the tokenizer does not know"]
    assert task.sizes["bytes"][known.tokenizer.unk_token_id] == 1
    lossy = tokenizers.train(["abcz abc"], TokenizerConfig(kind="bpe", style="gpt", lowercase=True, vocab_size=300))
    noted = TaskContext(tokenizer=lossy)
    build(tmp_path, noted)
    assert noted.notes == ["the tokenizer does not keep all of the text: bits are of what it keeps"]


def test_it_learns_more_than_how_often_letters_come(corpus: Path, context: TaskContext, tmp_path: Path) -> None:
    from hfcourse import model
    from hfcourse.backbones.settings import BackboneConfig
    from hfcourse.engine.fit import fit
    from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
    from hfcourse.run_folder import RunFolder

    task = build(corpus, context)
    settings = BackboneConfig(dropout=0.0, positions=BLOCK)
    net = model.build("llama-tiny", task.head, tokenizer=context.tokenizer, backbone=settings)
    assert type(net).__name__ == "LlamaForCausalLM" and net.config.max_position_embeddings == BLOCK
    config = FitConfig(
        batch=BatchConfig(examples=32),
        optim=OptimConfig(lr=3e-3),
        train=TrainConfig(steps=150, eval_every=1000, progress=False, precision="fp32"),
    )
    scores = fit(net, task, config, RunFolder.create(tmp_path / "run", {"recipe": "gpt/pretrain"}))["dev"]
    counts = Counter("".join(grammar(40, 1).split("\n\n")))
    shares = np.array([*counts.values()]) / sum(counts.values())
    unigram = float(-(shares * np.log(shares)).sum())
    assert unigram > 2.6 and scores["loss"] < 1.2  # a coin a letter is log 2
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]), rel=1e-4)


def learn_twice(corpus: Path, place: Path) -> None:
    """A GPT-2, whose output embedding is its input's, and a LLaMA, whose is not; in as many processes as there are."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from hfcourse import model
    from hfcourse.backbones.settings import BackboneConfig
    from hfcourse.engine.fit import fit
    from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig

    tokenizer = tokenizers.train(tokenizers.texts_of(str(corpus)), CHAR)
    task = build(corpus, TaskContext(tokenizer=tokenizer, seed=3, limit=60))
    gpt = model.build("gpt2-tiny", task.head, tokenizer=tokenizer, backbone=BackboneConfig(dropout=0.0))
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    llama = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), tie_word_embeddings=False, **small))
    train = TrainConfig(steps=8, log_every=1, eval_every=1000, progress=False, precision="fp32")
    config = FitConfig(batch=BatchConfig(examples=10), optim=OptimConfig(lr=3e-3), train=train)
    for name, net in (("tied", gpt), ("untied", llama)):
        inner: Any = net
        assert (inner.get_output_embeddings().weight is inner.get_input_embeddings().weight) == (name == "tied")
        if int(os.environ.get("RANK", 0)) == 0:
            run = RunFolder.create(place / name, {"recipe": "gpt/pretrain"})
        else:
            run = RunFolder.attach(place / name, resume=False)
        assert fit(net, task, config, run).metrics["processes"] == int(os.environ.get("WORLD_SIZE", 1))


TWO = """
import sys
from pathlib import Path
from tests.tasks.test_causal_pretraining import learn_twice
learn_twice(*map(Path, sys.argv[1:]))
"""


def test_two_processes_learn_what_one_does(corpus: Path, tmp_path: Path) -> None:
    """The vocabulary's projection is computed outside of the pass that DistributedDataParallel sees."""
    root = Path(__file__).resolve().parents[2]
    (tmp_path / "two.py").write_text(TWO)
    environment = {**os.environ, "PYTHONPATH": str(root), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    environment["HFCOURSE_CACHE"] = str(tmp_path / "cache")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += [str(tmp_path / "two.py"), str(corpus), str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)
    assert done.returncode == 0, done.stderr[-3000:]
    learn_twice(corpus, tmp_path / "one")
    for name in ("tied", "untied"):
        one, two = (RunFolder.open(tmp_path / place / name) for place in ("one", "two"))
        logs = [[line for line in run.read_log() if "grad_norm" in line] for run in (one, two)]
        assert len(logs[0]) == len(logs[1]) == 8
        for a, b in zip(*logs, strict=True):
            assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
            assert a["grad_norm"] == pytest.approx(b["grad_norm"], rel=1e-3)
        weights = [load_file(run.model_dir / "model.safetensors") for run in (one, two)]
        for key, value in weights[0].items():
            torch.testing.assert_close(weights[1][key], value, rtol=0, atol=2e-3)


def test_refused(tmp_path: Path, corpus: Path, context: TaskContext) -> None:
    with pytest.raises(ConfigError, match="end-of-text token"):
        build(corpus, TaskContext(tokenizer=tokenizers.train(["ab"], TokenizerConfig(vocab_size=100))))
    with pytest.raises(ConfigError, match="block_length 16 exceeds the model's 8"):
        build(corpus, TaskContext(tokenizer=context.tokenizer, max_length=8))
    with pytest.raises(ConfigError, match="block_length is 4"):
        CausalPretrainingConfig(block_length=4)
    (tmp_path / "train.txt").write_text("abc")
    with pytest.raises(DataError, match="less than one block"):
        build(tmp_path, context)
