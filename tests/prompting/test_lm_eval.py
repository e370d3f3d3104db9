"""Task files of lm-evaluation-harness: what they mean, and what is refused by its line.

The texts that are compared with were written by lm-evaluation-harness 0.4.13 from the same files and rows.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hfcourse.errors import ConfigError, DataError
from hfcourse.prompting import lm_eval, tables
from hfcourse.prompting.compose import Composer, Question
from hfcourse.prompting.draws import Draw
from hfcourse.prompting.judging import filtered
from hfcourse.prompting.templates import Group, Mean, Template
from tests.prompting.fake import Parrot

CHOICE = """
task: even
dataset_path: json
dataset_kwargs:
  data_files:
    train: train.jsonl
    test: test.jsonl
output_type: multiple_choice
training_split: train
test_split: test
fewshot_split: train
fewshot_config:
  sampler: first_n
description: "Say yes or no.\\n\\n"
doc_to_text: "Question: {{q}}\\nAnswer:"
doc_to_target: label
doc_to_choice: ["no", "yes"]
tag: [parity, numbers]
metric_list:
  - metric: acc
    aggregation: mean
    higher_is_better: true
  - metric: acc_norm
metadata:
  version: 1.0
"""
GENERATE = """
include: choice.yaml
task: even_gen
output_type: generate_until
doc_to_choice: null
doc_to_target: "{% if label %}yes{% else %}no{% endif %}"
fewshot_delimiter: "\\n###\\n"
target_delimiter: "\\n"
generation_kwargs:
  until: ["\\n"]
  max_gen_toks: 4
  do_sample: false
  temperature: 0.7
filter_list:
  - name: strict
    filter:
      - function: regex
        regex_pattern: "(yes|no)"
      - function: take_first
  - name: loose
    filter:
      - function: lowercase
      - function: remove_whitespace
metric_list:
  - metric: exact_match
    aggregation: mean
    higher_is_better: true
    ignore_case: true
    ignore_punctuation: false
"""
LIKELIHOOD = """
task: even_lik
dataset_path: json
dataset_kwargs: {data_files: {validation: test.jsonl}}
output_type: loglikelihood
validation_split: validation
test_split: null
doc_to_text: "{{q}} -"
doc_to_target: "{{ ' ' ~ ['no','yes'][label] }}"
fewshot_config:
  sampler: first_n
  samples:
    - {q: "Is 100 even?", label: 1}
    - {q: "Is 101 even?", label: 0}
target_delimiter: ""
num_fewshot: 2
"""
EXPECTED = {
    "choice": "Say yes or no.\n\nQuestion: Is 0 even?\nAnswer: yes\n\nQuestion: Is 1 even?\nAnswer: no\n\n"
    "Question: Is 8 even?\nAnswer:",
    "generate": "Say yes or no.\n\nQuestion: Is 0 even?\nAnswer:\nyes\n###\nQuestion: Is 1 even?\nAnswer:\nno\n###\n"
    "Question: Is 8 even?\nAnswer:",
    "likelihood": "Is 100 even? - yes\n\nIs 101 even? - no\n\nIs 8 even? -",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"q": f"Is {n} even?", "label": (n + 1) % 2} for n in range(12)]
    for name, part in (("train", rows[:8]), ("test", rows[8:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    for name, text in (("choice", CHOICE), ("generate", GENERATE), ("likelihood", LIKELIHOOD)):
        (tmp_path / f"{name}.yaml").write_text(text)
    return tmp_path


def load(path: Path, **more: Any) -> Template:
    (task,) = lm_eval.load(path, **more).values()
    return task


def first(path: Path, shots: int = 2) -> Question:
    task = tables.read(load(path))
    draw = Draw(task.template.name, task.pool, task.pool_name, task.template.select or "random")
    return Composer(task.template, Parrot()).question(task.rows[0], 0, draw.shown(task.rows[0], 0, shots))


@pytest.mark.parametrize("name", EXPECTED)
def test_the_same_text_as_the_harness(name: str, folder: Path) -> None:
    (prompt,) = first(folder / f"{name}.yaml").prompts
    assert prompt.shared + prompt.query == EXPECTED[name]
    assert prompt.options == {"choice": (" no", " yes"), "generate": (), "likelihood": (" yes",)}[name]


def test_what_a_file_says_goes_before_what_it_includes(folder: Path) -> None:
    task = load(folder / "generate.yaml")
    assert (task.name, task.output, task.choices, task.groups) == (
        "even_gen",
        "generate_until",
        None,
        ("parity", "numbers"),
    )
    assert (task.generation.stop, task.generation.max_new_tokens) == (("\n",), 4)
    assert task.generation.temperature == 0  # do_sample is false
    assert [(use.name, dict(use.options)) for use in task.metrics] == [
        ("exact_match", {"ignore_case": True, "ignore_punctuation": False})
    ]
    assert filtered(" I say YES, yes. ", task.filters["strict"]) == "yes"
    assert filtered(" I say. ", task.filters["strict"]) == "[invalid]"
    assert filtered(" Yes ", task.filters["loose"]) == "yes"


def test_what_is_drawn_and_how_translations_are_judged(folder: Path) -> None:
    (folder / "draws.yaml").write_text(
        "include: generate.yaml\ntask: draws\ngeneration_kwargs: {do_sample: true, top_p: 0.9, top_k: 5}\n"
        "metric_list:\n  - {metric: ter, aggregation: ter, higher_is_better: false}\n"
        "  - {metric: exact_match, aggregation: nanmean}\n"
    )
    task = load(folder / "draws.yaml")
    assert (task.generation.temperature, task.generation.top_p, task.generation.top_k) == (1.0, 0.9, 5)
    assert [use.name for use in task.metrics] == ["ter", "exact_match"]


def test_defaults_are_the_harness_own(folder: Path) -> None:
    file = folder / "bare.yaml"
    file.write_text(
        "dataset_path: json\ntest_split: test\ndoc_to_text: q\ndoc_to_target: label\nfewshot_delimiter: ';'\n"
    )
    task = load(file)
    assert (task.name, task.output, task.generation.stop, task.generation.max_new_tokens) == (
        "bare",
        "generate_until",
        (";",),
        256,
    )
    assert (task.target_delimiter, task.source.shots, [use.name for use in task.metrics]) == (
        " ",
        "test",
        ["exact_match"],
    )
    likely = load(folder / "likelihood.yaml")
    assert [use.name for use in likely.metrics] == ["perplexity", "acc"]
    assert (likely.source.split, likely.shots, len(likely.samples)) == ("validation", 2, 2)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("doc_to_image: q", 2, "not supported: unknown key 'doc_to_image'"),
        ("doc_to_txt: q", 2, "did you mean 'doc_to_text'"),
        ("process_results: !function utils.judge", 2, "not supported"),
        ("process_docs: !function utils.prepare", 2, "say --trust_task_code"),
        ("generation_kwargs:\n  num_beams: 3", 3, "num_beams"),
        ("generation_kwargs:\n  temperature: hot", 3, "expected a number"),
        ("generation_kwargs:\n  top_p: 1.5", 3, "expected a share"),
        ("generation_kwargs:\n  until: [3]", 3, "expected text or a list of texts"),
        ("fewshot_config:\n  sampler: by_hand", 3, "'by_hand'"),
        ("fewshot_config:\n  doc_to_audio: q", 3, "doc_to_audio"),
        ("fewshot_config:\n  samples: {q: 1}", 3, "expected a list of rows"),
        ("repeats: 3", 2, "every question is asked once"),
        ("repeats: [1]", 2, "every question is asked once"),
        ("process_docs: prepare", 2, "expected !function"),
        ("generation_kwargs:\n  max_gen_toks: 0", 3, "1 token or more"),
        ("metric_list:\n  - metric: acc\n  - metric: rouge", 4, "'rouge'"),
        ("metric_list:\n  - metric: acc\n    aggregation: median", 4, "'median'"),
        ("metric_list:\n  - metric: acc\n    higher_is_better: false", 4, "that is True"),
        ("metric_list: acc", 2, "expected a list of"),
        ("filter_list:\n  - name: a\n    filter:\n      - function: majority_vote", 5, "'majority_vote'"),
        ("filter_list:\n  - name: a\n    filter:\n      - function: lowercase", 5, "for generated answers"),
        ("num_fewshot: many", 2, "expected a whole number"),
        ("output_type: loglikelihood_rolling", 2, "did you mean 'loglikelihood'"),
        ("dataset_kwargs: 3", 2, "expected `key: value` lines"),
    ],
)
def test_what_is_not_done_is_named_with_its_line(text: str, line: int, reason: str, folder: Path) -> None:
    (folder / "odd.yaml").write_text(f"include: choice.yaml\n{text}\n")
    with pytest.raises(ConfigError) as error:
        load(folder / "odd.yaml")
    message = str(error.value)
    assert f"odd.yaml, line {line}, " in message and reason in message and "\n" not in message


def test_a_filter_that_is_none(folder: Path) -> None:
    steps = "filter_list:\n  - name: a\n    filter:\n      - function: regex\n        regex_pattern: '('\n"
    (folder / "odd.yaml").write_text(f"include: generate.yaml\n{steps}")
    with pytest.raises(ConfigError, match=r"odd.yaml, line 5, .*regex cannot take"):
        load(folder / "odd.yaml")


def test_patterns_to_ignore_are_checked(folder: Path) -> None:
    text = "include: generate.yaml\nmetric_list:\n  - metric: exact_match\n    regexes_to_ignore: "
    (folder / "odd.yaml").write_text(text + "'['\n")
    with pytest.raises(ConfigError, match=r"odd.yaml, line 4, .*regexes_to_ignore: '\[' is no regular expression"):
        load(folder / "odd.yaml")
    (folder / "odd.yaml").write_text(text + "'x+'\n")  # one, which is no list of its letters
    assert load(folder / "odd.yaml").metrics[0].options == {"regexes_to_ignore": ["x+"]}


def test_a_line_of_an_included_file_is_named_with_that_file(folder: Path) -> None:
    (folder / "choice.yaml").write_text(CHOICE + "doc_to_audio: q\n")
    with pytest.raises(ConfigError, match=r"choice.yaml, line 26, doc_to_audio"):
        load(folder / "generate.yaml")


def test_files_that_are_none(folder: Path) -> None:
    (folder / "circle.yaml").write_text("include: circle.yaml\n")
    (folder / "self.yaml").write_text("metadata: &a [*a]\n")
    (folder / "torn.yaml").write_text("task: a\ndoc_to_text: 'x\n")
    (folder / "list.yaml").write_text("- a\n")
    (folder / "short.yaml").write_text("task: a\ndataset_path: json\n")
    (folder / "bad.yaml").write_text(CHOICE.replace("{{q}}", "{{q"))
    for name, reason in {
        "circle": "it includes itself",
        "torn": "torn.yaml, line 3: not YAML",
        "list": "expected `key: value` lines",
        "short": "doc_to_text is missing",
        "bad": "not a Jinja template",
        "none": "cannot read the task",
        "self": "a value holds itself",
    }.items():
        with pytest.raises(ConfigError, match=reason):
            load(folder / f"{name}.yaml")


def test_python_of_a_file_runs_only_when_it_is_trusted(folder: Path) -> None:
    (folder / "utils.py").write_text(
        "def prepare(table):\n    return table.filter(lambda row: row['label'] == 1)\n"
        "def text(row):\n    return 'Even? ' + row['q']\n"
        "def broken(row):\n    return row['nothing']\n"
    )
    text = CHOICE + "process_docs: !function utils.prepare\n"
    text = text.replace('doc_to_text: "Question: {{q}}\\nAnswer:"', "doc_to_text: !function utils.text")
    (folder / "code.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"code.yaml, line 15, doc_to_text: it runs Python .*--trust_task_code"):
        load(folder / "code.yaml")
    task = tables.read(load(folder / "code.yaml", trust=True))
    assert {row["label"] for row in [*task.rows, *task.pool]} == {1}
    assert task.template.ask(task.rows[0]) == "Even? Is 8 even?"
    for name, reason in (("utils.nobody", "no function nobody"), ("others.text", "there is no")):
        (folder / "code.yaml").write_text(text.replace("utils.text", name))
        with pytest.raises(ConfigError, match=reason):
            load(folder / "code.yaml", trust=True)
    (folder / "code.yaml").write_text(text.replace("utils.text", "utils.broken"))
    broken = load(folder / "code.yaml", trust=True)
    with pytest.raises(DataError, match=r"line 15, doc_to_text: the task's own function broken failed \(KeyError"):
        broken.ask(task.rows[0])


def test_tables_that_cannot_be_read(folder: Path) -> None:
    def read(old: str, new: str) -> Any:
        (folder / "odd.yaml").write_text(CHOICE.replace(old, new))
        return tables.read(load(folder / "odd.yaml"))

    with pytest.raises(DataError, match="unknown split 'dev'"):
        read("test_split: test", "test_split: dev")
    with pytest.raises(DataError, match="json: the table cannot be read"):
        read("test: test.jsonl", "test: nowhere.jsonl")
    (folder / "test.jsonl").write_text('{"q": "a", "label": 1}\n{"q": \n')
    with pytest.raises(DataError, match="json: the table cannot be read") as error:
        read("x", "x")
    assert "\n" not in str(error.value)
    with pytest.raises(DataError, match="it has no choices, and its target 'label' is no column of classes"):
        folder.joinpath("test.jsonl").write_text('{"q": "a", "label": 1}\n')
        read('doc_to_choice: ["no", "yes"]', "")


def test_csv_and_parquet(folder: Path) -> None:
    import datasets

    table = datasets.Dataset.from_list([{"q": f"Is {n} even?", "label": (n + 1) % 2} for n in range(4)])
    table.to_csv(folder / "test.csv")
    table.to_parquet(folder / "test.parquet")
    for kind in ("csv", "parquet"):
        text = CHOICE.replace("dataset_path: json", f"dataset_path: {kind}").replace(".jsonl", f".{kind}")
        (folder / "other.yaml").write_text(text.replace("train: train", "train: test"))
        assert first(folder / "other.yaml", 0).gold == 1


@pytest.mark.parametrize(
    ("body", "reason"), [("return docs.filter(lambda row: False)", "no row"), ("pass", "NoneType")]
)
def test_a_process_that_leaves_nothing(body: str, reason: str, folder: Path) -> None:
    (folder / "prepare.py").write_text(f"def rows(docs):\n    {body}\n")
    (folder / "odd.yaml").write_text("include: choice.yaml\nprocess_docs: !function prepare.rows\n")
    with pytest.raises(DataError, match=rf"process_docs .*{reason}"):
        tables.read(load(folder / "odd.yaml", trust=True))


def test_a_group_names_its_tasks(folder: Path) -> None:
    (folder / "group.yaml").write_text("group: both\ntask: [even_gen, inner]\nmetadata: {version: 1}\n")
    (folder / "inner.yaml").write_text("group: inner\ntask:\n  - even_lik\n")
    found = lm_eval.load(folder / "group.yaml")
    assert [(file.name, one.groups) for file, one in found.items()] == [
        ("generate.yaml", ("parity", "numbers", "both")),
        ("likelihood.yaml", ("inner", "both")),
    ]
    said = "aggregate_metric_list:\n"
    said += "  - {metric: exact_match, filter_list: none}\n  - {metric: acc, weight_by_size: no}\n"
    (folder / "inner.yaml").write_text(f"group: inner\ntask: [even_lik, even_gen]\n{said}")
    means = (Mean(metric="exact_match", filters=("none",)), Mean(metric="acc", by_size=False))
    for one in lm_eval.load(folder / "inner.yaml").values():
        assert one.groups[-1] == Group(name="inner", means=means)
    for wrong, reason in {
        "{metric: acc, aggregation: median}": "aggregation: not supported",
        "{metric: accc}": "did you mean 'acc'",
        "{weight_by_size: true}": "metric: it must be named",
        "{metric: acc, filter_list: [strict]}": "unknown filter 'strict'",
        "{metric: acc, mean: yes}": "unknown key of aggregate_metric_list 'mean'",
    }.items():
        (folder / "inner.yaml").write_text(f"group: inner\ntask: [even_lik]\naggregate_metric_list: [{wrong}]\n")
        with pytest.raises(ConfigError, match=rf"inner.yaml, .*{reason}"):
            lm_eval.load(folder / "inner.yaml")
    (folder / "inner.yaml").write_text("group: inner\ntask:\n  - even_lik\n")
    (folder / "group.yaml").write_text("group: tagged\ntask: [numbers]\n")
    assert [one.name for one in lm_eval.load(folder / "group.yaml").values()] == ["even", "even_gen"]
    (folder / "inner.yaml").write_text("group: inner\ntask:\n  - even_lyk\n")
    with pytest.raises(ConfigError, match=r"inner.yaml, line 3, .*did you mean 'even_lik'"):
        lm_eval.load(folder / "inner.yaml")
    (folder / "inner.yaml").write_text("group: inner\ntask:\n  - inner\n")
    with pytest.raises(ConfigError, match="the group is in itself"):
        lm_eval.load(folder / "inner.yaml")
    (folder / "inner.yaml").write_text("group: inner\ntask:\n  - {task: even_lik, num_fewshot: 3}\n")
    with pytest.raises(ConfigError, match=r"inner.yaml, line 3, .*unknown task"):
        lm_eval.load(folder / "inner.yaml")
