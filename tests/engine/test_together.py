"""Several tasks, one backbone: each is learnt, gradients stay with a batch's own head, resuming changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig

from hfcourse.engine.fit import fit
from hfcourse.headed_model import HeadedModel, headed_config
from hfcourse.heads.spec import HeadSpec
from hfcourse.tasks.base import Batch, Row
from hfcourse.tasks.together import Together

from .test_fit import new_run, untimed
from .toy import VOCABULARY, ToyTask, toy_config


class Parity(ToyTask):
    """Is the first token odd?"""

    head = HeadSpec(kind="sequence", labels=("even", "odd"), pooling="cls")


class High(ToyTask):
    """Is the first token in the upper half? The same kind of head, other answers to the same rows."""

    head = HeadSpec(kind="sequence", labels=("low", "high"), pooling="cls")

    def __init__(self, *sizes: int) -> None:
        super().__init__(*sizes)
        for rows in self.splits.values():
            rows.labels = [int(ids[0] >= VOCABULARY // 2) for ids in rows.ids]  # type: ignore[attr-defined]


class Tags(ToyTask):
    """Is each token odd?"""

    head = HeadSpec(kind="frame", labels=("even", "odd"))

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        batch = super().collate(rows, epoch=epoch)
        batch["labels"] = (batch["input_ids"] % 2).masked_fill(batch["attention_mask"] == 0, -100)
        return batch

    def predict(self, logits: torch.Tensor, batch: Batch) -> list[Any]:
        right = (logits.argmax(dim=-1) == batch["labels"]).sum(dim=1) / batch["attention_mask"].sum(dim=1)
        return right.tolist()

    def score(self, answers: list[dict[str, Any]]) -> dict[str, float]:
        return {"accuracy": sum(a["prediction"] for a in answers) / len(answers)}


def together() -> Together:
    return Together({"parity": Parity(160, 53), "high": High(96, 53), "tags": Tags(48, 53)}, power=0.75)


def model(task: Together, dropout: float = 0.1) -> HeadedModel:
    torch.manual_seed(0)
    inner = AutoConfig.for_model(
        "bert",
        vocab_size=VOCABULARY,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=0.0,
    )
    return HeadedModel(headed_config(inner, task.head))  # type: ignore[arg-type]


def test_every_task_is_learnt(tmp_path: Path) -> None:
    task, run = together(), new_run(tmp_path / "run")
    scores = fit(model(task, 0.0), task, toy_config(train={"epochs": 12, "log_every": 1}), run)
    losses = [record["loss"] for record in run.read_log() if "split" not in record]
    owners = [
        task.splits["train"].take(rows[:1])[0]["task"]
        for epoch in range(12)
        for rows in task.plan("train", examples=16, seed=0, epoch=epoch)
    ]
    for name, member in task.members.items():
        mine = [loss for loss, owner in zip(losses, owners, strict=True) if owner == name]
        assert sum(mine[-3:]) < 0.6 * sum(mine[:3]), name
        labels = [
            label
            for rows in member.collate(member.splits["dev"].take(range(53)), epoch=-1)["labels"].reshape(53, -1)
            for label in rows.tolist()
            if label >= 0
        ]
        majority = max(labels.count(0), labels.count(1)) / len(labels)
        assert scores["dev"][f"{name}/accuracy"] > majority + 0.2, name
    each = [scores["dev"][f"{name}/accuracy"] for name in task.members]
    assert scores.value == scores["dev"]["mean"] == pytest.approx(sum(each) / 3)
    assert scores.metrics["counts"] == {"train": 304, "dev": 159}
    answers = run.read_predictions("dev")
    assert [(a["task"], a["id"]) for a in answers[52:54]] == [("parity", "parity/toy-52"), ("high", "high/toy-0")]


def test_curves_of_each_task(tmp_path: Path) -> None:
    """A log line's loss is the mean over its steps, each task's over the steps that were its."""
    task = together()
    fine, coarse = new_run(tmp_path / "fine"), new_run(tmp_path / "coarse")
    fit(model(task), task, toy_config(train={"epochs": 1}), fine)
    fit(model(task), task, toy_config(train={"epochs": 1, "log_every": 1000}), coarse)
    steps = [r["loss"] for r in fine.read_log() if "split" not in r]
    (line,) = [r for r in coarse.read_log() if "split" not in r]
    assert line["loss"] == pytest.approx(sum(steps) / len(steps))
    plan = task.plan("train", examples=16, seed=0, epoch=0)
    owner = [task.splits["train"].take(rows)[0]["task"] for rows in plan]
    for name in task.members:
        own = [loss for loss, whose in zip(steps, owner, strict=True) if whose == name]
        assert line[f"loss/{name}"] == pytest.approx(sum(own) / len(own))


def test_a_batch_reaches_its_own_head_alone() -> None:
    task = together()
    net = model(task)
    rows = task.splits["train"].take([160 + 5, 160 + 90])
    assert [(row["task"], row["row"], row["inner"]["row"]) for row in rows] == [("high", 165, 5), ("high", 250, 90)]
    batch = task.collate(rows, epoch=0)
    assert task.objective.counts(batch) == {"high": 2}
    output = task.objective(net, batch, need_logits=True)
    assert output.losses.keys() == {"high"} and output.logits.shape == (2, 2)
    output.losses["high"].backward()
    touched = {name for name in net.heads for p in net.heads[name].parameters() if p.grad is not None}
    assert touched == {"high"}
    assert all(p.grad is not None for name, p in net.backbone.named_parameters() if "pooler" not in name)


def test_micro_batches_of_a_step_are_one_tasks(tmp_path: Path) -> None:
    whole, cut = new_run(tmp_path / "whole"), new_run(tmp_path / "cut")
    for run, batch in ((whole, {}), (cut, {"micro_tokens": 40})):
        task = together()
        fit(model(task, 0.0), task, toy_config(train={"epochs": 1}, batch=batch), run)
    for a, b in zip(whole.read_log(), cut.read_log(), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=5e-5)


class Breaks(Together):
    """Fails in the middle of its second epoch."""

    def collate(self, rows: list[Row], *, epoch: int) -> Batch:
        self.seen = getattr(self, "seen", 0) + (epoch >= 0)
        if self.seen > 30:
            raise RuntimeError("power cut")
        return super().collate(rows, epoch=epoch)


def test_interrupted_and_resumed_is_bit_identical(tmp_path: Path) -> None:
    config = toy_config(train={"epochs": 3, "save_every": 4})
    whole = new_run(tmp_path / "whole")
    fit(model(together()), together(), config, whole)
    broken = Breaks(together().members, power=0.75)
    with pytest.raises(RuntimeError, match="power cut"):
        fit(model(broken), broken, config, new_run(tmp_path / "cut"))
    resumed = new_run(tmp_path / "cut", resume=True)
    assert resumed.newest_good_checkpoint().name == "checkpoint-28"  # type: ignore[union-attr]
    fit(model(together()), together(), config, resumed)
    assert untimed(resumed) == untimed(whole)
    a, b = (load_file(run.model_dir / "model.safetensors") for run in (whole, resumed))
    assert a.keys() == b.keys() and all(torch.equal(tensor, b[name]) for name, tensor in a.items())
