"""GLUE from files in the benchmark's own layouts, made here line by line, and from public copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pytest

from hfcourse.data.loading import labels_of, load

from .build import built, counts, failure, write

# Header and rows as the original files have them (None: no header line), and the rows they become.
LAYOUTS: dict[str, dict[str, tuple[str | None, list[str], list[dict[str, Any]]]]] = {
    "CoLA": {
        "train.tsv": (
            None,
            ["gj04\t1\t\tThe sailors rode.", "gj04\t0\t*\tRode the sailors the."],
            [{"sentence": "The sailors rode.", "label": 1}, {"sentence": "Rode the sailors the.", "label": 0}],
        ),
        "test.tsv": ("index\tsentence", ["0\tBill ran."], [{"sentence": "Bill ran.", "label": -1}]),
    },
    "SST-2": {
        "train.tsv": (
            "sentence\tlabel",
            ["hide new secretions \t0", '" charming \t1'],
            [{"sentence": "hide new secretions ", "label": 0}, {"sentence": '" charming ', "label": 1}],
        ),
        "test.tsv": ("index\tsentence", ["0\tuneasy"], [{"sentence": "uneasy", "label": -1}]),
    },
    "MRPC": {
        "msr_paraphrase_train.txt": (
            "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String",
            ['1\t70\t71\tHe said "no.\tHe said "no".'],
            [{"sentence1": 'He said "no.', "sentence2": 'He said "no".', "label": 1}],
        ),
        "test.tsv": (
            "index\t#1 ID\t#2 ID\t#1 String\t#2 String",
            ["0\t7\t8\ta\tb"],
            [{"sentence1": "a", "sentence2": "b", "label": -1}],
        ),
    },
    "QQP": {
        "train.tsv": (
            "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
            ["7\t1\t2\tHow?\tWhy?\t0", "8\t3\t4\ttorn in", "two\t1", "9\t5\t6\tWho?\tWhom?\t1"],
            [
                {"question1": "How?", "question2": "Why?", "label": 0},
                {"question1": "Who?", "question2": "Whom?", "label": 1},
            ],
        ),
        "test.tsv": ("id\tquestion1\tquestion2", ["0\ta\tb"], [{"question1": "a", "question2": "b", "label": -1}]),
    },
    "STS-B": {
        "dev.tsv": (
            "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
            ["0\tmain\tMSR\t2012\t1\tnone\tnone\tA plane.\tAn air plane.\t4.500"],
            [{"sentence1": "A plane.", "sentence2": "An air plane.", "label": 4.5}],
        ),
        "test.tsv": (
            "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2",
            ["0\tmain\tMSR\t2012\t1\tnone\tnone\ta\tb"],
            [{"sentence1": "a", "sentence2": "b", "label": -1.0}],
        ),
    },
    "MNLI": {
        "train.tsv": (
            "index\tpromptID\tpairID\tgenre\tp1\tp2\tp3\tp4\tsentence1\tsentence2\tlabel1\tgold_label",
            [
                "0\t3\t3n\tslate\t(\t(\t(\t(\tIt rains.\tIt is wet.\tneutral\tentailment",
                "1\t3\t3n\tslate\t(\t(\t(\t(\tA\tB\tneutral\tcontradiction",
                "2\t3\t3n\tslate\t(\t(\t(\t(\tC\tD\tneutral\t-",
            ],
            [
                {"premise": "It rains.", "hypothesis": "It is wet.", "label": 0},
                {"premise": "A", "hypothesis": "B", "label": 2},
                {"premise": "C", "hypothesis": "D", "label": -1},
            ],
        ),
        "dev_matched.tsv": (
            "index\tsentence1\tsentence2\tlabel1\tlabel2\tgold_label",
            ["0\ta\tb\tentailment\tentailment\tneutral"],
            [{"premise": "a", "hypothesis": "b", "label": 1}],
        ),
        "dev_mismatched.tsv": (
            "index\tsentence1\tsentence2\tlabel1\tlabel2\tgold_label",
            ["0\tc\td\tneutral\tneutral\tentailment"],
            [{"premise": "c", "hypothesis": "d", "label": 0}],
        ),
        "test_matched.tsv": (
            "index\tsentence1\tsentence2",
            ["0\te\tf"],
            [{"premise": "e", "hypothesis": "f", "label": -1}],
        ),
        "test_mismatched.tsv": (
            "index\tsentence1\tsentence2",
            ["0\tg\th"],
            [{"premise": "g", "hypothesis": "h", "label": -1}],
        ),
    },
    "QNLI": {
        "train.tsv": (
            "index\tquestion\tsentence\tlabel",
            ["0\tWhen?\tIn May.\tentailment", "1\tWho?\tIn June.\tnot_entailment"],
            [
                {"question": "When?", "sentence": "In May.", "label": 0},
                {"question": "Who?", "sentence": "In June.", "label": 1},
            ],
        ),
        "test.tsv": ("index\tquestion\tsentence", ["0\ta\tb"], [{"question": "a", "sentence": "b", "label": -1}]),
    },
    "RTE": {
        "train.tsv": (
            "index\tsentence1\tsentence2\tlabel",
            ["0\ta\tb\tnot_entailment", "1\tc\td\tentailment"],
            [{"sentence1": "a", "sentence2": "b", "label": 1}, {"sentence1": "c", "sentence2": "d", "label": 0}],
        ),
        "test.tsv": ("index\tsentence1\tsentence2", ["0\ta\tb"], [{"sentence1": "a", "sentence2": "b", "label": -1}]),
    },
    "WNLI": {
        "train.tsv": (
            "index\tsentence1\tsentence2\tlabel",
            ["0\ta\tb\t1", "1\tc\td\t0"],
            [{"sentence1": "a", "sentence2": "b", "label": 1}, {"sentence1": "c", "sentence2": "d", "label": 0}],
        ),
        "test.tsv": ("index\tsentence1\tsentence2", ["0\ta\tb"], [{"sentence1": "a", "sentence2": "b", "label": -1}]),
    },
    "AX": {
        "diagnostic.tsv": (
            "index\tsentence1\tsentence2",
            ["0\tThe cat sat.\tThe cat did not sit."],
            [{"premise": "The cat sat.", "hypothesis": "The cat did not sit.", "label": -1}],
        ),
    },
}
SPLITS = {
    "msr_paraphrase_train": "train",
    "dev_matched": "dev",
    "test_matched": "test",
    "diagnostic": "test",
}
CONFIGS = {folder: folder.lower().replace("-", "") for folder in LAYOUTS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All ten folders, as the benchmark's download script leaves them."""
    root = tmp_path_factory.mktemp("glue") / "glue_data"
    for task, found in LAYOUTS.items():
        for name, (header, lines, _) in found.items():
            write(root / task / name, "\n".join([*([header] if header else []), *lines]) + "\n")
    return root


@pytest.mark.parametrize("task", LAYOUTS)
def test_original_layouts(folder: Path, task: str) -> None:
    wanted = {}
    for name, (_, _, rows) in LAYOUTS[task].items():
        stem = name.partition(".")[0]
        wanted[SPLITS.get(stem, stem)] = [row | {"idx": number} for number, row in enumerate(rows)]
    assert built(f"glue/{CONFIGS[task]}", folder) == wanted
    assert built(f"glue/{CONFIGS[task]}", folder / task) == wanted


def test_classes(folder: Path) -> None:
    found = load("glue/mnli", data_dir=str(folder), cache_dir=str(folder.parent / "cache"))["train"]
    assert labels_of(found, "label") == ["entailment", "neutral", "contradiction"]
    assert found.features["idx"] == datasets.Value("int32")


def test_a_folder_with_some_tasks(tmp_path: Path) -> None:
    write(tmp_path / "g" / "RTE" / "train.tsv.gz", "index\tsentence1\tsentence2\tlabel\r\n0\ta\tb\tentailment\r\n")
    assert [row["label"] for row in built("glue/rte", tmp_path / "g")["train"]] == [0]
    assert "no folder of GLUE's cola: give --task.data_dir a folder that holds CoLA/train.tsv" in failure(
        "glue/cola", tmp_path / "g"
    )
    (tmp_path / "g" / "WNLI").mkdir()
    assert "WNLI: no train.tsv, dev.tsv or test.tsv of GLUE's wnli here" in failure("glue/wnli", tmp_path / "g")


@pytest.mark.parametrize(
    ("config", "text", "message"),
    [
        ("rte", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tmaybe\n", "line 2: label 'maybe' is none of entailment,"),
        ("rte", "index\tsentence1\tsentence2\tlabel\n\n0\ta\n", "line 3: 2 cells under 4 column names"),
        ("wnli", "index\tsentence1\tsentence2\tlabel\n0\ta\tb\t2\n", "line 2: label '2' is none of"),
        ("stsb", "sentence1\tsentence2\tscore\na\tb\thigh\n", "line 2: score 'high' is no number"),
        ("rte", "index\tsentence1\tsentence2\n0\ta\tb\n", "line 1: expected a column label"),
        ("rte", "index\tpremise\tconclusion\tlabel\n0\ta\tb\t1\n", "line 1: expected columns sentence1, sentence2"),
        ("cola", "gj04\t1\tThree cells.\n", "line 1: expected columns sentence"),
        ("rte", " \n", "train.tsv: the file is empty"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, config: str, text: str, message: str) -> None:
    write(tmp_path / "g" / "train.tsv", text)
    assert message in failure(f"glue/{config}", tmp_path / "g")


def test_not_utf8(tmp_path: Path) -> None:
    path = write(tmp_path / "g" / "train.tsv", "sentence\tlabel\nfine\t1\n")
    path.write_bytes(path.read_bytes() + b"caf\xe9\t1\n")
    assert f"{path}, line 3: not UTF-8 (byte 0xe9): convert the file" in failure("glue/sst2", tmp_path / "g")
    path = write(tmp_path / "g" / "train.tsv.gz", "")
    path.write_bytes(b"no archive")
    (tmp_path / "g" / "train.tsv").unlink()
    assert f"{path}: damaged gzip file" in failure("glue/sst2", tmp_path / "g")


@pytest.mark.parametrize(
    ("config", "expected", "positive"),
    [
        ("cola", {"train": 8551, "dev": 1043}, 719),
        ("sst2", {"train": 67349, "dev": 872}, 444),
        ("mrpc", {"train": 3576, "dev": 500, "test": 1725}, None),
        ("rte", {"train": 2490, "dev": 277}, 131),
        ("stsb", {"train": 5749, "dev": 1500, "test": 1379}, None),
        ("wnli", {"train": 635, "dev": 71}, 31),
    ],
)
def test_public_files(
    shared_data: Path, tmp_path_factory: pytest.TempPathFactory, config: str, expected: dict[str, int], positive: Any
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    assert counts(f"glue/{config}", shared_data, cache) == expected
    dev = load(f"glue/{config}", data_dir=str(shared_data), cache_dir=str(cache))["dev"]
    assert dev["idx"][:] == list(range(expected["dev"]))
    if positive is not None:
        assert sum(dev["label"]) == positive
    if config == "stsb":
        assert 0 <= min(dev["label"]) < max(dev["label"]) == 5
