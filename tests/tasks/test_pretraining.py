"""Blocks, pairs and masks, on a small corpus whose every token is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from hfcourse.data import tokenizers
from hfcourse.data.tokenizers import TokenizerConfig
from hfcourse.errors import ConfigError, DataError
from hfcourse.tasks.base import TaskContext
from hfcourse.tasks.pretraining import Pretraining, PretrainingConfig
from tests.no_double import on_such_a_device

WORDS = [f"{a}{b}" for a in "bdfglmnprstv" for b in ("a", "e", "i", "o", "u", "an", "en", "on")]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Documents on one of eight topics, each with twelve words of its own that come in a fixed order."""
    folder = tmp_path_factory.mktemp("corpus")
    generator = np.random.default_rng(0)
    for split, count in (("train", 1500), ("dev", 60)):
        documents = []
        for _ in range(count):
            topic = 12 * generator.integers(8)
            order = np.sort(generator.integers(12, size=60))
            documents.append(" ".join(WORDS[topic + word] for word in order) + " .")
        (folder / f"{split}.txt").write_text("\n\n".join(documents))
    return folder


@pytest.fixture(scope="module")
def context(corpus: Path) -> TaskContext:
    texts = tokenizers.texts_of(str(corpus))
    return TaskContext(tokenizer=tokenizers.train(texts, TokenizerConfig(vocab_size=150)), seed=3)


def build(corpus: Path, context: TaskContext, **settings: object) -> Pretraining:
    return PretrainingConfig(data=str(corpus), block_length=32, **settings).build(context)  # type: ignore[arg-type]


def original(batch: dict[str, torch.Tensor]) -> np.ndarray:
    return torch.where(batch["labels"] == -100, batch["input_ids"], batch["labels"]).numpy()


def test_blocks_are_the_token_stream(corpus: Path, context: TaskContext) -> None:
    task = build(corpus, context, sentence_order=0.0)
    texts = list(tokenizers.texts_of(str(corpus)))
    stream = [t for ids in context.tokenizer(texts, add_special_tokens=False)["input_ids"] for t in ids]
    train = task.splits["train"]
    assert len(train) == len(stream) // 30
    batch = task.collate(train.take([5, 0, len(train) - 1]), epoch=0)
    cls, sep = context.tokenizer.cls_token_id, context.tokenizer.sep_token_id
    for row, number in zip(original(batch).tolist(), (5, 0, len(train) - 1), strict=True):
        assert row == [cls, *stream[number * 30 : (number + 1) * 30], sep]
    assert "attention_mask" not in batch


@pytest.mark.parametrize("kind", ["token", "whole_word", "span"])
def test_masks_depend_on_seed_epoch_and_row_alone(corpus: Path, context: TaskContext, kind: str) -> None:
    task = build(corpus, context, mask_kind=kind)
    train = task.splits["train"]
    alone = task.collate(train.take([7]), epoch=2)
    among = task.collate(train.take([1, 7, 3]), epoch=2)
    for name in ("input_ids", "labels", "token_type_ids", "pair_labels"):
        assert torch.equal(alone[name][0], among[name][1]), name
    assert not torch.equal(alone["labels"], task.collate(train.take([7]), epoch=3)["labels"])


def test_rate_and_eighty_ten_ten(corpus: Path, context: TaskContext) -> None:
    task = build(corpus, context, sentence_order=0.0)
    train = task.splits["train"]
    batch = task.collate(train.take(range(len(train))), epoch=0)
    chosen = batch["labels"] != -100
    assert (chosen.sum(dim=1) == round(0.15 * 30)).all()
    special = torch.tensor(context.tokenizer.all_special_ids)
    assert not torch.isin(batch["labels"][chosen], special).any()
    seen, truth = batch["input_ids"][chosen], batch["labels"][chosen]
    masked = (seen == context.tokenizer.mask_token_id).float().mean()
    kept = (seen == truth).float().mean()
    assert masked == pytest.approx(0.8, abs=0.02)
    assert kept == pytest.approx(0.1, abs=0.02)
    assert torch.equal(batch["positions"], chosen.flatten().nonzero().squeeze(1))
    assert torch.equal(batch["input_ids"][~chosen], torch.from_numpy(original(batch))[~chosen])


def test_sentence_order_swaps_half(corpus: Path, context: TaskContext) -> None:
    task = build(corpus, context)
    train = task.splits["train"]
    rows = list(range(len(train)))
    batch = task.collate(train.take(rows), epoch=0)
    assert batch["pair_labels"].float().mean() == pytest.approx(0.5, abs=0.06)
    cls, sep = context.tokenizer.cls_token_id, context.tokenizer.sep_token_id
    windows = train.windows(rows).tolist()
    lengths = set()
    for ids, types, label, window in zip(
        original(batch).tolist(), batch["token_type_ids"].tolist(), batch["pair_labels"].tolist(), windows, strict=True
    ):
        middle = types.index(1)
        assert (ids[0], ids[middle - 1], ids[-1]) == (cls, sep, sep)
        first, second = ids[1 : middle - 1], ids[middle:-1]
        assert (second + first if label else first + second) == window
        lengths.add(len(first))
    assert len(lengths) > 8  # cut anywhere in the middle half, not at a fixed place


def halves(task: Pretraining, rows: list[int]) -> Iterator[tuple[list[int], list[int], int, list[int]]]:
    """Both parts of each pair, its label, and the window of the corpus that it was made from."""
    train = task.splits["train"]
    batch = task.collate(train.take(rows), epoch=0)
    types, labels = batch["token_type_ids"].tolist(), batch["pair_labels"].tolist()
    windows = train.windows(rows).tolist()
    for ids, type_ids, label, window in zip(original(batch).tolist(), types, labels, windows, strict=True):
        middle = type_ids.index(1)
        yield ids[1 : middle - 1], ids[middle:-1], label, window


def test_next_sentence_takes_the_second_part_from_elsewhere(corpus: Path, context: TaskContext) -> None:
    task = build(corpus, context, sentence_order=0.0, next_sentence=1.0)
    rows = list(range(200))
    same: list[tuple[bool, int]] = []
    for first, second, label, window in halves(task, rows):
        assert first == window[: len(first)]
        same.append((second == window[len(first) :], label))
        assert len(first) + len(second) == len(window)
    assert all(equal for equal, label in same if label == 0)
    # The corpus repeats itself: another window may hold the same words by chance.
    foreign = [equal for equal, label in same if label == 1]
    assert len(foreign) > 70 and sum(foreign) < 0.1 * len(foreign)


def test_both_pair_objectives_share_the_wrong_pairs(corpus: Path, context: TaskContext) -> None:
    task = build(corpus, context, sentence_order=3.0, next_sentence=1.0)
    assert task.objective.weights["pair"] == 4.0
    rows = list(range(len(task.splits["train"])))
    kinds = {"right": 0, "swapped": 0, "foreign": 0}
    for first, second, label, window in halves(task, rows):
        kind = "right" if first + second == window else "swapped" if second + first == window else "foreign"
        assert (kind == "right") == (label == 0)
        kinds[kind] += 1
    total = len(rows)
    assert kinds["right"] / total == pytest.approx(0.5, abs=0.06)
    assert kinds["swapped"] / total == pytest.approx(0.375, abs=0.06)
    assert kinds["foreign"] / total == pytest.approx(0.125, abs=0.04)


@pytest.mark.parametrize("objective", ["sentence_order", "next_sentence"])
def test_word_pieces_do_not_tell_the_pair(tmp_path: Path, objective: str) -> None:
    """Every part begins and ends with a whole word, whatever the label: nothing of the answer is in the cut."""
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdefgh"), size=n)) for n in generator.integers(1, 4, size=20_000)]
    (tmp_path / "train.txt").write_text(" ".join(words))
    letters = tokenizers.train(["abcdefgh", "a b c d e f g h"], TokenizerConfig(vocab_size=100))  # nearly a piece each
    settings = {"masked_lm": 0.0, "sentence_order": 0.0} | {objective: 1.0}
    task = PretrainingConfig(data=str(tmp_path), **settings).build(TaskContext(tokenizer=letters))
    train = task.splits["train"]
    batch = task.collate(train.take(range(len(train))), epoch=0)
    assert 0.3 < batch["pair_labels"].float().mean() < 0.7
    text = f" {' '.join(words)} "
    cut = {0: 0, 1: 0}
    for ids, types, label in zip(
        *(batch[n].tolist() for n in ("input_ids", "token_type_ids", "pair_labels")), strict=True
    ):
        middle = types.index(1)
        for part in (ids[1 : middle - 1], ids[middle:-1]):
            whole = " ".join(letters.convert_ids_to_tokens(part)).replace(" ##", "").replace("##", "")
            assert whole in text
            cut[label] += f" {whole} " not in text
    assert sum(cut.values()) <= 0.02 * 2 * len(train)


@pytest.mark.parametrize("objective", ["masked_lm", "replaced_tokens"])
def test_special_tokens_are_never_asked_for(tmp_path: Path, objective: str) -> None:
    """Neither unknown words nor what looks like a special token in the text."""
    (tmp_path / "train.txt").write_text("ab [MASK] ba [SEP] ξ ab ba " * 200)
    tokenizer = tokenizers.train(["ab ba"], TokenizerConfig(vocab_size=100))
    task = build(
        tmp_path, TaskContext(tokenizer=tokenizer), **({"masked_lm": 0.0, "sentence_order": 0.0} | {objective: 1.0})
    )
    batch = task.collate(task.splits["train"].take(range(10)), epoch=0)
    chosen = batch["labels"] != -100
    assert chosen.any() and (batch["input_ids"] == tokenizer.unk_token_id).any()
    assert not torch.isin(batch["labels"][chosen], torch.tensor(tokenizer.all_special_ids)).any()
    shown = batch["input_ids"][~chosen]
    assert not (shown == tokenizer.mask_token_id).any()
    assert (shown == tokenizer.sep_token_id).sum() == 10


def test_a_dev_split_is_cut_off_where_there_is_none(corpus: Path, context: TaskContext, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_bytes((corpus / "train.txt").read_bytes())
    own = TaskContext(tokenizer=context.tokenizer)
    whole = build(corpus, own, sentence_order=0.0).splits["train"]
    assert own.notes == []
    splits = build(tmp_path / "one.txt", own, sentence_order=0.0).splits
    assert list(splits) == ["train", "dev"] and len(splits["dev"]) == pytest.approx(0.05 * len(whole), abs=1)
    rows = [*splits["train"].windows(range(len(splits["train"]))), *splits["dev"].windows(range(len(splits["dev"])))]
    assert np.array_equal(rows, whole.windows(range(len(whole))))
    assert "no dev split" in own.notes[0]


def test_sums_where_a_device_has_no_double_precision(corpus: Path, context: TaskContext) -> None:
    task = build(corpus, context)
    batch = task.collate(task.splits["dev"].take([0, 1]), epoch=-1)
    count = len(batch["positions"])
    logits = {"nll": torch.rand(count), "best": torch.randint(0, 9, (count,)), "pair": torch.rand(2, 2)}
    logits |= {"logits": torch.rand(2, 32) - 0.5, "labels": torch.randint(0, 2, (2, 32)).float()}
    there = [{name: on_such_a_device(values) for name, values in one.items()} for one in (logits, batch)]
    found = task.predict(*there)
    assert found == task.predict(logits, batch) and sum(one["nll"] for one in found) == pytest.approx(
        float(logits["nll"].sum()), abs=1e-4
    )


@pytest.mark.parametrize("objective", ["masked_lm", "sentence_order", "next_sentence", "replaced_tokens"])
def test_every_objective_learns(corpus: Path, context: TaskContext, objective: str, tmp_path: Path) -> None:
    """On held-out documents each one beats what knows nothing. Pairs are learnt with masked words, as in BERT."""
    from hfcourse import model
    from hfcourse.backbones.settings import BackboneConfig
    from hfcourse.engine.fit import fit
    from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
    from hfcourse.run_folder import RunFolder

    weights = {"masked_lm": float("sentence" in objective), "sentence_order": 0.0} | {objective: 1.0}
    task = build(corpus, context, **weights)
    net = model.build("modernbert-tiny", task.head, tokenizer=context.tokenizer, backbone=BackboneConfig(dropout=0.0))
    config = FitConfig(
        batch=BatchConfig(examples=16),
        optim=OptimConfig(lr=1e-3, warmup=0.3),
        train=TrainConfig(steps=600 if task.pairs else 300, eval_every=600, progress=False, precision="fp32"),
    )
    scores = fit(net, task, config, RunFolder.create(tmp_path / "run", {"recipe": "bert/pretrain"}))["dev"]
    if objective == "masked_lm":
        assert scores["masked_accuracy"] > 0.3  # a guess among 96 words is right once in a hundred
    elif objective == "replaced_tokens":
        assert scores["replaced_recall"] > 0.2 and scores["replaced_accuracy"] > 0.86
    else:
        assert scores["pair_accuracy"] > 0.6


def test_contradictions_are_refused() -> None:
    with pytest.raises(ConfigError, match="replaced_tokens"):
        PretrainingConfig(replaced_tokens=1.0)
    with pytest.raises(ConfigError, match="every objective is off"):
        PretrainingConfig(masked_lm=0.0, sentence_order=0.0)
    with pytest.raises(ConfigError, match="mask_rate"):
        PretrainingConfig(mask_rate=1.5)


def test_too_little_text(tmp_path: Path, context: TaskContext) -> None:
    (tmp_path / "train.txt").write_text("ba be bi")
    with pytest.raises(DataError, match="less than one block"):
        PretrainingConfig(data=str(tmp_path), block_length=32).build(context)
