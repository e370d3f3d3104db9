"""Tables of a user -> batches and scores, and everything that can be wrong with a table."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from hfcourse.errors import ConfigError, DataError
from hfcourse.objectives.base import Supervised
from hfcourse.tasks.base import TaskContext
from hfcourse.tasks.classification import Classification, ClassificationConfig, encode_texts

from .conftest import byte_level, wordpiece

Write = Callable[[str, Any], Path]
Context = Callable[..., TaskContext]
TRAIN = [("who sat", "animal"), ("where sat the cat", "place"), ("the dog ran", "animal"), ("on the mat", "place")] * 10


def tsv(rows: list[tuple[Any, ...]], header: tuple[str, ...] = ("question", "kind")) -> str:
    return "\n".join("\t".join(map(str, row)) for row in [header, *rows]) + "\n"


@pytest.fixture
def folder(write: Write, tmp_path: Path) -> Path:
    write("my/train.tsv", tsv(TRAIN))
    write("my/validation.tsv", tsv(TRAIN[:3]))
    write("my/my-test.tsv", tsv(TRAIN[1:3]))
    return tmp_path / "my"


def build(path: Path, context: TaskContext, **settings: Any) -> Classification:
    return ClassificationConfig(**({"data": str(path), "text": "question", "label": "kind"} | settings)).build(context)


def test_a_users_folder_needs_no_code(folder: Path, context: Context) -> None:
    task = build(folder, context())
    assert task.head.labels == ("animal", "place")
    assert task.head.problem == "single_label_classification"
    assert {split: len(rows) for split, rows in task.splits.items()} == {"train": 40, "dev": 3, "test": 2}
    rows = task.splits["dev"].take([1, 2])
    assert [row["row"] for row in rows] == [1, 2]
    batch = task.collate(rows, epoch=0)
    # [CLS] where sat the cat [SEP] / [CLS] the dog ran [SEP] [PAD]
    assert batch["input_ids"].shape == (2, 6)
    assert batch["attention_mask"].tolist() == [[1] * 6, [1, 1, 1, 1, 1, 0]]
    assert batch["labels"].tolist() == [1, 0]
    assert "attention_mask" not in task.collate(rows[:1], epoch=0)
    assert task.splits["dev"].lengths.tolist() == [4, 6, 5]


def test_answers_and_scores(folder: Path, context: Context) -> None:
    task = build(folder, context())
    logits = torch.tensor([[2.0, 0.0], [3.0, 0.0], [1.0, 0.0]])  # animal, three times
    batch = task.collate(task.splits["dev"].take([0, 1, 2]), epoch=-1)
    answers = task.answers("dev", task.predict(logits, batch))
    assert [answer["prediction"] for answer in answers] == ["animal"] * 3
    assert [answer["reference"] for answer in answers] == ["animal", "place", "animal"]
    assert answers[0]["confidence"] == pytest.approx(torch.tensor([2.0, 0.0]).softmax(0)[0].item())
    assert answers[1]["text"] == "where sat the cat"
    # F1 of animal is 2 * 2 / (3 + 2), of place 0.
    assert task.score(answers) == pytest.approx({"accuracy": 2 / 3, "macro_f1": 0.4})
    assert task.metric == "accuracy"


def test_two_texts_and_their_token_types(write: Write, context: Context) -> None:
    rows = [("the cat", "sat", 0), ("the dog", "ran", 1)] * 4
    path = write("train.tsv", tsv(rows, ("sentence1", "sentence2", "label")))
    task = ClassificationConfig(data=str(path)).build(context())
    assert (task.text, task.text_pair, task.label) == ("sentence1", "sentence2", "label")
    batch = task.collate(task.splits["train"].take([0]), epoch=0)
    assert batch["token_type_ids"].tolist() == [[0, 0, 0, 0, 1, 1]]


def test_a_dev_split_is_cut_off_with_the_classes_shares(write: Write, context: Context) -> None:
    rows = [(f"the cat {n}", "a" if n % 10 else "b") for n in range(200)]
    path = write("train.tsv", tsv(rows))
    notes = context()
    task = build(path, notes)
    texts = {
        split: {answer["text"] for answer in task.answers(split, [(0, 1.0)] * len(rows))}
        for split, rows in task.splits.items()
    }
    assert len(texts["train"]) == 180
    assert len(texts["dev"]) == 20
    assert not texts["train"] & texts["dev"]
    references = [answer["reference"] for answer in task.answers("dev", [(0, 1.0)] * 20)]
    assert references.count("b") == 2  # one in ten, as in the table
    assert any("20 of 200" in note for note in notes.notes)
    same = build(path, context()).answers("dev", [(0, 1.0)] * 20)
    other = build(path, context(seed=1)).answers("dev", [(0, 1.0)] * 20)
    assert {answer["text"] for answer in same} == texts["dev"]
    assert {answer["text"] for answer in other} != texts["dev"]


def test_numbers_are_classes_in_their_order_and_fractions_a_regression(write: Write, context: Context) -> None:
    path = write("train.tsv", tsv([(f"cat {n}", n % 11) for n in range(22)]))
    assert build(path, context()).head.labels == tuple(map(str, range(11)))  # 2 before 10
    path = write("grades.csv", "question,kind\n" + "".join(f"cat {n},{n / 4}\n" for n in range(20)))
    task = build(path, context())
    assert task.head.problem == "regression"
    assert task.metric == "pearson"
    batch = task.collate(task.splits["train"].take([0, 1]), epoch=0)
    assert batch["labels"].dtype == torch.float32
    answers = task.answers("train", task.predict(torch.arange(18.0)[:, None], batch))
    assert isinstance(answers[0]["prediction"], float)
    assert task.score(answers)["pearson"] > 0.99
    assert build(path, context(), problem="single_label_classification").head.labels[1] == "0.25"


def test_several_labels_a_row(write: Write, context: Context) -> None:
    rows = [
        {"question": "the cat", "kind": ["b", "a"]},
        {"question": "sat", "kind": []},
        {"question": "x", "kind": ["c"]},
    ]
    task = build(write("train.jsonl", rows * 4), context(), dev_share=0.3)
    assert task.head.problem == "multi_label_classification"
    assert task.head.labels == ("a", "b", "c")
    every = {
        answer["text"]: answer["reference"]
        for answer in task.answers("train", [[0.9, 0.2, 0.6]] * len(task.splits["train"]))
    }
    assert every["the cat"] == ["a", "b"]
    assert every["sat"] == []
    assert task.answers("train", [[0.9, 0.2, 0.6]] * len(task.splits["train"]))[0]["prediction"] == ["a", "c"]
    batch = task.collate(task.splits["train"].take(range(len(task.splits["train"]))), epoch=0)
    assert batch["labels"].dtype == torch.float32
    # The same from words with a separator; an empty cell is no label at all, not a missing one.
    path = write("words.tsv", tsv([("the cat", "b|a"), ("sat", ""), ("x", "c")] * 4))
    words = build(path, context(), problem="multi_label_classification", dev_share=0.3)
    assert words.head.labels == ("a", "b", "c")
    assert torch.equal(words.collate(words.splits["train"].take(range(3)), epoch=0)["labels"], batch["labels"][:3])


def test_class_weights_make_classes_count_the_same(write: Write, context: Context) -> None:
    rows = [("the cat", "a")] * 6 + [("the dog", "b")] * 2
    write("d/train.tsv", tsv(rows))
    write("d/dev.tsv", tsv(rows))
    path = write("d/test.tsv", tsv(rows)).parent
    assert isinstance(build(path, context()).objective, Supervised)
    task = build(path, context(), class_weights=True)
    batch = task.collate(task.splits["train"].take(range(8)), epoch=0)
    logits = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))

    class Model(torch.nn.Module):
        def forward(self, **inputs: torch.Tensor) -> Any:
            assert "labels" not in inputs
            return type("Output", (), {"logits": logits[: len(inputs["input_ids"])]})()

    output = task.objective(Model(), batch, need_logits=True)
    expected = torch.nn.functional.cross_entropy(logits, batch["labels"], weight=torch.tensor([8 / 12, 8 / 4]))
    assert output.losses["loss"].item() == pytest.approx(expected.item())
    assert task.objective.counts(batch) == {"loss": 8}


def test_class_weights_need_classes(write: Write, context: Context) -> None:
    path = write("train.csv", "question,kind\n" + "".join(f"cat {n},{n / 4}\n" for n in range(20)))
    with pytest.raises(ConfigError, match="class_weights"):
        build(path, context(), class_weights=True)


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        (("PLACE", "Animal"), ("place", "animal")),  # the same names: the model's order
        (("LABEL_0", "LABEL_1"), ("animal", "place")),  # generic: by number
        (("good", "bad"), ("animal", "place")),  # others: the head is new
        (("x", "place", "animal"), ("x", "place", "animal")),  # the data has some of the model's classes
    ],
)
def test_the_models_own_label_order_is_kept(
    folder: Path, context: Context, theirs: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    given = context(model_labels=theirs)
    task = build(folder, given)
    assert task.head.labels == expected
    labels = task.collate(task.splits["dev"].take([0, 1]), epoch=0)["labels"].tolist()
    assert [expected[label] for label in labels] == ["animal", "place"]
    assert any("head is new" in note for note in given.notes) is (theirs == ("good", "bad"))


def test_limit_cuts_every_split_but_not_the_set_of_labels(write: Write, context: Context) -> None:
    rows = [(f"cat {n}", f"kind{n % 20}") for n in range(200)]
    task = build(write("train.tsv", tsv(rows)), context(limit=5))
    assert {split: len(table) for split, table in task.splits.items()} == {"train": 5, "dev": 5}
    assert len(task.head.labels) == 20


def test_fewer_training_examples_are_drawn_by_seed_small_draws_inside_large_ones(
    write: Write, context: Context
) -> None:
    path = write("d/train.tsv", tsv([(f"cat {n}", f"kind{n % 2}") for n in range(100)]))
    write("d/dev.tsv", tsv([(f"dog {n}", f"kind{n % 2}") for n in range(30)]))

    def drawn(seed: int, train_limit: int, limit: int = 0) -> set[str]:
        task = build(path.parent, context(seed=seed, limit=limit), train_limit=train_limit)
        assert len(task.splits["dev"]) == (limit or 30) and len(task.splits["train"]) == train_limit
        return {" ".join(map(str, row["input_ids"])) for row in task.splits["train"].take(range(train_limit))}

    assert drawn(0, 8) < drawn(0, 20) < drawn(0, 50)
    assert drawn(0, 20) != drawn(1, 20) and drawn(0, 20) == drawn(0, 20, limit=10)


def test_too_long_texts_are_cut_with_a_count_or_refused(write: Write, context: Context) -> None:
    rows = [("the cat " * 20, "a"), ("the cat", "b")] * 5
    path = write("d/train.tsv", tsv(rows))
    write("d/dev.tsv", tsv(rows[:2]))
    given = context(max_length=10)
    task = build(path.parent, given)
    assert int(task.splits["train"].lengths.max()) == 10
    assert any("5 of 10" in note and "10 tokens" in note for note in given.notes)
    with pytest.raises(DataError, match="longer than 10 tokens"):
        build(path.parent, context(max_length=10, strict=True))


@pytest.mark.parametrize(
    ("settings", "dev", "message"),
    [
        ({"text": "qestion"}, None, r"unknown column 'qestion': did you mean 'question'"),
        ({"label": "kinds"}, None, r"unknown column 'kinds': did you mean 'kind'"),
        ({}, [("the cat", "animal"), ("the dog", "plaec")], r"dev, row 2: label 'plaec'.*did you mean 'place'"),
        ({"problem": "regression"}, None, r"train, row 1: label 'animal' is no number, as"),
    ],
)
def test_wrong_tables_are_refused_in_one_line(
    write: Write, context: Context, settings: dict[str, Any], dev: Any, message: str
) -> None:
    path = write("d/train.tsv", tsv(TRAIN))
    write("d/dev.tsv", tsv(dev or TRAIN[:4]))
    with pytest.raises(DataError, match=message) as caught:
        build(path.parent, context(), **settings)
    assert "\n" not in str(caught.value)


def test_the_row_of_a_wrong_label_is_that_of_the_file(write: Write, context: Context) -> None:
    """Also where a limit draws some rows of it."""
    path = write("d/train.tsv", tsv(TRAIN))
    write("d/dev.tsv", tsv([*TRAIN[:29], ("the cat", "animel")]))
    with pytest.raises(DataError, match=r"dev, row 30: label 'animel'"):
        build(path.parent, context(limit=29))


def test_a_training_row_without_a_label_is_refused(write: Write, context: Context) -> None:
    path = write("train.tsv", tsv([*TRAIN[:7], ("the cat", "")]))
    with pytest.raises(DataError, match=r"train, row 8: no label"):
        build(path, context())


def test_empty_texts_have_a_token_also_where_the_tokenizer_adds_none() -> None:
    tokens = byte_level()
    encoded = encode_texts({"first": ["", None, "the"]}, tokens, 8)
    assert encoded["input_ids"] == [[tokens.eos_token_id], [tokens.eos_token_id], tokens("the")["input_ids"]]
    assert encoded["cut"] == [False] * 3
    assert encode_texts({"first": [""], "second": [""]}, tokens, 8)["input_ids"] == [[tokens.eos_token_id]]
    assert encode_texts({"first": [""]}, wordpiece(), 8)["input_ids"] == [[2, 3]]  # [CLS] [SEP] are enough


def test_lists_are_no_text(write: Write, context: Context) -> None:
    path = write("train.jsonl", [{"question": ["the", "cat"], "kind": "ab"[n % 2]} for n in range(20)])
    with pytest.raises(DataError, match="column 'question' holds lists"):
        build(path, context())


def test_one_class_cannot_be_learned(write: Write, context: Context) -> None:
    with pytest.raises(DataError, match="only 'a' in training"):
        build(write("train.tsv", tsv([("the cat", "a")] * 20)), context())


def test_new_rows_need_no_labels(folder: Path, write: Write, context: Context) -> None:
    config = ClassificationConfig(data=str(folder), text="question", label="kind")
    new = write("new.tsv", "question\tother\nthe cat\t1\nwho\t2\n")
    task = config.build(context(model_labels=("animal", "place")), new=str(new))
    batch = task.collate(task.splits["test"].take([0, 1]), epoch=-1)
    assert "labels" not in batch
    answers = task.answers("test", task.predict(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), batch))
    assert [(a["prediction"], a["reference"]) for a in answers] == [("place", None), ("animal", None)]


@pytest.mark.parametrize(
    ("name", "labels", "scores", "sizes"),
    [
        ("cola", ("unacceptable", "acceptable"), ("matthews", "accuracy"), {"train": 8551, "dev": 1043}),
        ("mrpc", ("not_equivalent", "equivalent"), ("f1", "accuracy"), {}),
        ("rte", ("entailment", "not_entailment"), ("accuracy",), {"train": 2490, "dev": 277}),
        ("stsb", ("label",), ("pearson", "spearman"), {"train": 5749, "dev": 1500}),
    ],
)
def test_glue_is_a_table_of_rows(
    shared_data: Path, tmp_path: Path, name: str, labels: Any, scores: Any, sizes: dict[str, int]
) -> None:
    given = TaskContext(tokenizer=wordpiece(), max_length=128, cache_dir=str(tmp_path))
    task = ClassificationConfig(data=f"glue/{name}", data_dir=str(shared_data / f"glue_{name}")).build(given)
    assert task.head.labels == labels
    assert task.metric == scores[0]
    assert {split: len(task.splits[split]) for split in sizes} == sizes
    answers = task.answers(
        "dev", [5.0] * len(task.splits["dev"]) if name == "stsb" else [(0, 1.0)] * len(task.splits["dev"])
    )
    right = [dict(answer, prediction=answer["reference"]) for answer in answers]
    assert task.score(right) == pytest.approx(dict.fromkeys(scores, 1.0))
    assert task.score(answers)[scores[0]] < 0.6


def test_mrpc_counts_the_equivalent_pairs(shared_data: Path, tmp_path: Path) -> None:
    """F1 is that of the class "equivalent", whatever its number in a model's order."""
    for order in (("not_equivalent", "equivalent"), ("equivalent", "not_equivalent")):
        given = TaskContext(tokenizer=wordpiece(), cache_dir=str(tmp_path), limit=400, model_labels=order)
        task = ClassificationConfig(data="glue/mrpc", data_dir=str(shared_data / "glue_mrpc")).build(given)
        answers = task.answers("dev", [(order.index("equivalent"), 1.0)] * len(task.splits["dev"]))
        share = sum(answer["reference"] == "equivalent" for answer in answers) / len(answers)
        assert task.score(answers) == pytest.approx({"f1": 2 * share / (1 + share), "accuracy": share})


def test_importing_the_settings_is_cheap() -> None:
    names = "('torch', 'transformers', 'datasets', 'numpy', 'evaluate', 'sklearn')"
    code = (
        "import sys, hfcourse.tasks.classification, hfcourse.tasks.tagging, hfcourse.tasks.span_qa, "
        f"hfcourse.tasks.multiple_choice; sys.exit(any(n in sys.modules for n in {names}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
