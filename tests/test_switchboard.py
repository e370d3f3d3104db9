"""Many tasks on one backbone: a mixed batch gets what each task's own model gives."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertTokenizerFast

from hfcourse import model as models
from hfcourse.errors import ModelError
from hfcourse.heads.spec import HeadSpec
from hfcourse.peft.wrap import save
from hfcourse.peft_settings import PeftSettings
from hfcourse.switchboard import Switchboard
from tests.peft.tiny import IDS, disturb, make

HEADS = {
    "two": HeadSpec(kind="sequence", labels=("no", "yes")),
    "five": HeadSpec(kind="sequence", labels=tuple("abcde")),
    "tags": HeadSpec(kind="frame", labels=("O", "B", "I")),
    "span": HeadSpec(kind="span"),
    "number": HeadSpec(kind="sequence", labels=("score",), problem="regression"),
    "several": HeadSpec(kind="sequence", labels=tuple("abc"), problem="multi_label_classification"),
    "mean": HeadSpec(kind="sequence", labels=("x", "y", "z"), pooling="mean", layers="mix"),
}
BATCH = {"input_ids": IDS.repeat(3, 1), "attention_mask": (IDS != 0).long().repeat(3, 1)}


@pytest.fixture
def backbone(tmp_path: Path) -> str:
    make("bert").base_model.save_pretrained(tmp_path / "backbone")
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{n}" for n in range(35))]
    BertTokenizerFast(vocab={word: n for n, word in enumerate(words)}).save_pretrained(tmp_path / "backbone")
    return str(tmp_path / "backbone")


def trained(backbone: str, folder: Path, head: str, method: str, seed: int = 0, **more: Any) -> Any:
    """A saved task, and its own model."""
    settings = PeftSettings(method=method, **more)  # type: ignore[arg-type]
    model = models.build(backbone, HEADS[head], peft=settings, seed=seed).eval()
    disturb(model, seed)
    save(model, folder)
    BertTokenizerFast.from_pretrained(backbone).save_pretrained(folder)
    return model


def expected(model: Any, row: int) -> torch.Tensor:
    with torch.no_grad():
        output = model(**{key: value[row : row + 1] for key, value in BATCH.items()})
    if getattr(output, "start_logits", None) is not None:
        return torch.stack([output.start_logits, output.end_logits], dim=-1)[0]
    return output.logits[0]  # type: ignore[no-any-return]


def count_passes(board: Switchboard) -> list[int]:
    """Rows of each pass through the first layer of any structure."""
    rows: list[int] = []

    def seen(module: Any, args: Any, kwargs: Any) -> None:
        rows.append(len(args[0] if args else kwargs["hidden_states"]))

    for structure in [board._backbone, *board._structures.values()]:
        for name, module in structure.named_modules():
            if name.endswith("encoder.layer.0"):
                module.register_forward_pre_hook(seen, with_kwargs=True)
    return rows


@pytest.mark.parametrize("methods", [("lora", "rslora", "lora"), ("pfeiffer", "pfeiffer", "linear"), ("houlsby",) * 3])
def test_a_mixed_batch_takes_one_pass(methods: tuple[str, ...], backbone: str, tmp_path: Path) -> None:
    board, own = Switchboard(), {}
    for number, (head, method) in enumerate(zip(("two", "five", "tags"), methods, strict=True)):
        own[head] = trained(backbone, tmp_path / head, head, method, seed=number)
        board.add(head, tmp_path / head)
    rows = count_passes(board)
    tasks = ["two", "tags", "five", "five", "two", "tags"]
    for row, (name, logits) in enumerate(zip(tasks, board(BATCH, tasks), strict=True)):
        assert torch.allclose(logits, expected(own[name], row), atol=1e-5), (row, name)
    assert rows == [6]


def test_every_method_and_head_beside_each_other(backbone: str, tmp_path: Path) -> None:
    """Also those that need a pass of their own: among them BitFit, whose biases must not reach the others."""
    board, own = Switchboard(), {}
    members = {"two": "bitfit", "five": "prefix", "tags": "pfeiffer", "span": "ln", "mean": "lora"}
    for number, (head, method) in enumerate(members.items()):
        own[head] = trained(backbone, tmp_path / head, head, method, seed=number)
        board.add(head, tmp_path / head)
    tasks = [*members, "two"]
    for row, (name, logits) in enumerate(zip(tasks, board(BATCH, tasks), strict=True)):
        assert torch.allclose(logits, expected(own[name], row), atol=1e-5), (row, name)
    board.remove("five")
    assert board.tasks == ("two", "tags", "span", "mean")
    assert torch.allclose(board(BATCH, ["two"] * 6)[5], expected(own["two"], 5), atol=1e-5)


def test_the_backbone_is_in_memory_once(backbone: str, tmp_path: Path) -> None:
    board = Switchboard()
    for number, method in enumerate(("lora", "pfeiffer", "prefix", "linear")):
        trained(backbone, tmp_path / method, "two", method, seed=number)
        board.add(method, tmp_path / method)
    modules = [board._backbone, *board._structures.values(), *(task.head for task in board._tasks.values())]
    unique = {id(p): p.numel() for module in modules for p in module.parameters()}
    whole = sum(p.numel() for p in board._backbone.parameters())
    assert sum(unique.values()) < 1.5 * whole


def test_answers_in_words(backbone: str, tmp_path: Path) -> None:
    board = Switchboard()
    model = trained(backbone, tmp_path / "two", "two", "lora")
    trained(backbone, tmp_path / "five", "five", "lora", seed=1)
    trained(backbone, tmp_path / "tags", "tags", "lora", seed=2)
    for name in ("two", "five", "tags"):
        board.add(name, tmp_path / name)
    answers = board.answer([("two", "w3 w4"), ("five", ("w1", "w2 w5 w6 w7")), ("two", "w9")])
    tokenizer = BertTokenizerFast.from_pretrained(backbone)
    with torch.no_grad():
        logits = model(**tokenizer("w3 w4", return_tensors="pt")).logits[0].softmax(-1)
    assert answers[0]["label"] == ("no", "yes")[int(logits.argmax())]
    assert answers[0]["confidence"] == pytest.approx(float(logits.max()), abs=1e-5)
    assert answers[1]["label"] in "abcde"
    for seed, head in enumerate(("number", "several"), start=3):
        other = trained(backbone, tmp_path / head, head, "lora", seed=seed, dropout=0.5)
        board.add(head, tmp_path / head)
        with torch.no_grad():
            logits = other(**tokenizer("w3 w4", return_tensors="pt")).logits[0]
        (answer,) = board.answer([(head, "w3 w4")])
        if head == "number":
            assert answer == {"value": pytest.approx(float(logits), abs=1e-5)}, "without dropout"
        else:
            assert answer == {"labels": [label for label, logit in zip("abc", logits, strict=True) if logit > 0]}
    with pytest.raises(ModelError, match="'tags' gives no class"):
        board.answer([("tags", "w3")])


def test_mistakes_are_named(backbone: str, tmp_path: Path) -> None:
    board = Switchboard()
    trained(backbone, tmp_path / "two", "two", "lora")
    board.add("two", tmp_path / "two")
    with pytest.raises(ModelError, match="called 'two' is here already"):
        board.add("two", tmp_path / "two")
    with pytest.raises(ModelError, match="a whole model, no adapter"):
        board.add("other", backbone)
    with pytest.raises(ModelError, match="unknown task 'tow': did you mean 'two'"):
        board(BATCH, ["tow"] * 6)
    with pytest.raises(ModelError, match="2 tasks for 6 rows"):
        board(BATCH, ["two"] * 2)
    shutil.copytree(backbone, tmp_path / "elsewhere")
    trained(str(tmp_path / "elsewhere"), tmp_path / "five", "five", "lora")
    with pytest.raises(ModelError, match="use a board of its own"):
        board.add("five", tmp_path / "five")


@pytest.mark.parametrize("methods", [("houlsby", "parallel"), ("compacter", "vera"), ("vera", "lora")])
def test_kinds_that_do_not_share_a_pass(methods: tuple[str, str], backbone: str, tmp_path: Path) -> None:
    board, own = Switchboard(), {}
    for number, (head, method) in enumerate(zip(("two", "five"), methods, strict=True)):
        own[head] = trained(backbone, tmp_path / head, head, method, seed=number)
        board.add(head, tmp_path / head)
    tasks = ["two", "five"] * 3
    for row, (name, logits) in enumerate(zip(tasks, board(BATCH, tasks), strict=True)):
        assert torch.allclose(logits, expected(own[name], row), atol=1e-5), (row, name)
