"""One call for builders, local files and the Hub; names that are wrong get the nearest right ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import datasets
import pytest

from hfcourse.data.loading import builders, column, conll_builder, is_builder, is_squad_file, labels_of, load, split_of
from hfcourse.errors import DataError
from tests.sounds import RATE, cell, tone


def table(path: Path, *texts: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("text,label\n" + "".join(f"{text},0\n" for text in texts))
    return path


def texts(name: Path | str, **settings: Any) -> dict[str, list[str]]:
    return {split: list(part["text"]) for split, part in load(str(name), **settings).items()}


def failure(name: Path | str, **settings: Any) -> str:
    with pytest.raises(DataError) as error:
        load(str(name), **settings)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.csv", "train"),
        ("my-train-v2.tsv", "train"),
        ("training.jsonl", "train"),
        ("valid.txt", "dev"),
        ("validation-00000-of-00001.parquet", "dev"),
        ("corpus_val.csv", "dev"),
        ("DEV.tsv.gz", "dev"),
        ("devel.csv", "dev"),
        ("dev_eval.csv", "dev"),
        ("test/part-1.csv", "test"),
        ("trainer.csv", None),
        ("latest.csv", None),
        ("train-test.csv", None),
    ],
)
def test_splits_are_told_by_words(name: str, split: str | None) -> None:
    assert split_of(name) == split


def test_a_file(tmp_path: Path) -> None:
    assert texts(table(tmp_path / "reviews.csv", "a", "b")) == {"train": ["a", "b"]}
    assert texts(table(tmp_path / "test.csv", "c")) == {"test": ["c"]}


def test_a_folder(tmp_path: Path) -> None:
    table(tmp_path / "train-2.csv", "c")
    table(tmp_path / "train-1.csv", "a", "b")
    table(tmp_path / "deep" / "test" / "part.csv", "e")
    (tmp_path / "valid.jsonl.gz").write_bytes(gzip.compress(b'{"text": "d", "label": 1}'))
    table(tmp_path / ".ipynb_checkpoints" / "train-1-checkpoint.csv", "copy")
    table(tmp_path / "._train.csv", "fork")
    (tmp_path / "README.txt").write_text("about the data")
    assert texts(tmp_path) == {"train": ["a", "b", "c"], "dev": ["d"], "test": ["e"]}


def test_a_folder_that_does_not_tell(tmp_path: Path) -> None:
    assert "no data files (csv, tsv" in failure(tmp_path)
    table(tmp_path / "a.csv", "x")
    assert texts(tmp_path) == {"train": ["x"]}
    table(tmp_path / "b.csv", "y")
    assert "cannot tell splits by file names (a.csv, b.csv)" in failure(tmp_path)


def test_a_name_of_two_splits_is_not_passed_over(tmp_path: Path) -> None:
    table(tmp_path / "train.csv", "x")
    table(tmp_path / "train-and-test.csv", "y")
    assert "cannot tell splits by file names (train-and-test.csv, train.csv)" in failure(tmp_path)


def test_parts_that_do_not_fit_together(tmp_path: Path) -> None:
    (tmp_path / "train-1.jsonl").write_text('{"text": "a", "label": 1}')
    (tmp_path / "train-2.jsonl").write_text('{"text": "b", "label": "x"}')
    assert "column 'label' is of another type in train-2.jsonl than in train-1.jsonl" in failure(tmp_path)
    (tmp_path / "train-2.jsonl").write_text('{"text": "b"}')
    assert load(str(tmp_path))["train"]["label"][:] == [1, None]


def test_a_path_from_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    table(tmp_path / "mine" / "train.csv", "x")
    assert texts("~/mine") == {"train": ["x"]}


def test_missing_paths(tmp_path: Path) -> None:
    for name in (str(tmp_path / "away"), "./away", "away.csv", "some/deep/folder", "~/away/train.tsv.gz"):
        assert failure(name) == f"{name}: no such file or folder"


def test_a_folder_named_like_a_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "glue" / "train.csv", "x")
    assert texts("glue/train.csv") == texts("./glue") == {"train": ["x"]}
    assert failure("glue/dev.csv") == "glue/dev.csv: no such file or folder"
    assert not is_builder("glue/CoLA/train.tsv") and is_builder("glue/cola") and is_builder("squad")


def test_names_of_builders_and_configs(tmp_path: Path) -> None:
    every = {"cmrc2018", "conll2003", "conllu", "drcd", "glue", "pydocs", "squad", "text_lines"}
    assert every <= set(builders()) and not {"base", "_docstrings"} & set(builders())
    assert failure("pydocs/topc") == "unknown config of pydocs 'topc': did you mean 'topic'?"
    assert failure("glue").startswith("glue needs a config, such as glue/cola: one of cola, sst2")
    assert "squad has no configs, and 'v2' is none: write 'squad' alone" in failure("squad/v2")
    assert "unknown dataset 'pydoc': did you mean 'pydocs'?" in failure("pydoc/topic")


def test_the_hub_out_of_reach() -> None:
    message = failure("someone/some_corpus")
    assert "'someone/some_corpus' is no local path, and the Hub does not give it" in message


def test_the_hubs_splits_get_our_names(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}

    def load_dataset(name: str, **settings: Any) -> datasets.DatasetDict:
        asked.update(settings, name=name)
        part = datasets.Dataset.from_dict({"text": ["a"]})
        return datasets.DatasetDict({"train": part, "validation": part, "unsupervised": part})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = load("someone/corpus", revision="v2", cache_dir="there")
    assert list(found) == ["train", "dev", "unsupervised"]
    assert asked == {"name": "someone/corpus", "revision": "v2", "cache_dir": "there", "data_dir": None}


def test_a_split_keeps_its_name_where_another_has_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(name: str, **settings: Any) -> datasets.DatasetDict:
        names = ("train", "validation", "dev", "eval", "test")
        return datasets.DatasetDict({split: datasets.Dataset.from_dict({"text": [split]}) for split in names})

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    found = {split: table["text"][0] for split, table in load("someone/corpus").items()}
    assert found == {split: split for split in ("train", "validation", "dev", "eval", "test")}


def test_builders_see_that_a_file_changed(tmp_path: Path) -> None:
    """The library's own cache key does not."""
    raw, cache = tmp_path / "raw", str(tmp_path / "cache")
    raw.mkdir()
    (raw / "train.txt").write_text("one\n")
    assert texts("text_lines", data_dir=str(raw), cache_dir=cache) == {"train": ["one"]}
    (raw / "train.txt").write_text("other\n")
    (raw / "valid.txt").write_text("new\n")
    assert texts("text_lines", data_dir=str(raw), cache_dir=cache) == {"train": ["other"], "dev": ["new"]}


def test_what_a_builder_says_is_passed_on(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_bytes(b"good\nb\xe9d\n")
    message = failure("text_lines", data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    assert f"{tmp_path}/train.txt, line 2: not UTF-8 (byte 0xe9): convert the file" in message
    assert failure("squad").startswith("squad: no data_dir: expected a file or a folder with train-v1.1.json")
    away = str(tmp_path / "away")
    assert failure("squad", data_dir=away) == f"{away}: no such file or folder (the data_dir of squad)"


def test_empty_splits(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n\n")
    assert failure(tmp_path / "a.txt") == f"{tmp_path / 'a.txt'}: split 'train' is empty"
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "train.txt").write_text("\n")
    message = failure("text_lines", data_dir=str(raw), cache_dir=str(tmp_path / "cache"))
    assert message == "text_lines: split 'train' is empty"


def test_columns_and_labels(tmp_path: Path) -> None:
    names = datasets.ClassLabel(names=["no", "yes"])
    features = datasets.Features({"label": names, "tags": datasets.List(names), "text": datasets.Value("string")})
    found = datasets.Dataset.from_dict({"label": [0], "tags": [[1]], "text": ["x"]}, features=features)
    assert labels_of(found, "label") == labels_of(found, "tags") == ["no", "yes"]
    assert labels_of(found, "text") is None
    assert column(found, "text", "here") == "text"
    with pytest.raises(DataError, match="here: unknown column 'txt': did you mean 'text'"):
        column(found, "txt", "here")


def test_layouts_are_recognised(tmp_path: Path) -> None:
    for name in ("a.conllu.gz", "b.conll", "c.txt"):
        (tmp_path / name).write_text("x")
    assert [conll_builder(str(tmp_path / name)) for name in ("a.conllu.gz", "b.conll", "c.txt", "away")] == [
        "conllu",
        "conll2003",
        None,
        None,
    ]
    squad = json.dumps({"data": [{"paragraphs": []}]})
    (tmp_path / "q.json").write_text(squad)
    (tmp_path / "r.json.gz").write_bytes(gzip.compress(squad.encode()))
    (tmp_path / "s.json").write_text('[{"text": "x"}]')
    (tmp_path / "t.json.gz").write_bytes(b"damaged")
    found = [is_squad_file(str(tmp_path / name)) for name in ("q.json", "r.json.gz", "s.json", "t.json.gz", "c.txt")]
    assert found == [True, True, False, False, False]


def test_the_call_is_in_reach_from_the_package(tmp_path: Path) -> None:
    import hfcourse.data

    assert texts(table(tmp_path / "rows.csv", "a")) == {"train": ["a"]}
    assert hfcourse.data.load is load


def test_recordings_are_kept_as_bytes(tmp_path: Path) -> None:
    """As the Hub has them, columns of the library's own kind: to decode them it would want a package of its own."""
    cells = [cell(tone(300, 0.1)), cell(tone(500, 0.1))]
    table = datasets.Dataset.from_dict({"audio": cells, "audio_pair": cells[::-1], "label": ["a", "b"]})
    for name in ("audio", "audio_pair"):
        table = table.cast_column(name, datasets.Audio(sampling_rate=RATE))
    table.to_parquet(tmp_path / "train.parquet")
    assert isinstance(datasets.Dataset.from_parquet(str(tmp_path / "train.parquet")).features["audio"], datasets.Audio)
    found = load(str(tmp_path))["train"]
    assert [row["audio"] for row in found] == [row["audio_pair"] for row in found][::-1] == cells
