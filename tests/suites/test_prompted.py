"""The rows that come with the package: each one reads its data and writes a prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfcourse.errors import ConfigError, DataError
from hfcourse.prompting import tables
from hfcourse.prompting.compose import Composer, Question
from hfcourse.prompting.draws import Draw
from hfcourse.suites import prompted
from hfcourse.suites.rows import GLUE
from tests.prompting.fake import Parrot


def ask(name: str, folder: str | None, shots: int = 2) -> Question:
    ((template,), _) = prompted.choose([name], {} if folder is None else {"": folder})
    task = tables.read(
        template, data_dir=prompted.folder_for(template, {} if folder is None else {"": folder}), limit=5
    )
    draw = Draw(template.name, task.pool, task.pool_name)
    return Composer(task.template, Parrot()).question(task.rows[0], 0, draw.shown(task.rows[0], 0, shots))


def test_every_task_of_glue_is_there() -> None:
    assert {f"glue/{row.name}" for row in GLUE.rows} | {"glue/mnli_mismatched"} == {
        name for name in prompted.ROWS if name.startswith("glue/")
    }


@pytest.mark.parametrize("task", ["cola", "sst2", "mrpc", "rte", "wnli"])
def test_glue_on_its_files(task: str, shared_data: Path) -> None:
    question = ask(f"glue/{task}", str(shared_data / f"glue_{task}"))
    (prompt,) = question.prompts
    assert prompt.shared.count("\nAnswer:") == 2 and prompt.query.endswith("\nAnswer:")
    assert question.gold in (0, 1) and all(option.startswith(" ") for option in prompt.options)


def test_words_of_glue_fit_their_labels(shared_data: Path) -> None:
    """Label 0 of WNLI is not_entailment, of RTE entailment."""
    assert prompted.ROWS["glue/wnli"].choices == ("False", "True") and prompted.ROWS["glue/rte"].choices == (
        "True",
        "False",
    )
    import datasets

    from hfcourse.data import loading

    for task, words in (("wnli", ["not_entailment", "entailment"]), ("rte", ["entailment", "not_entailment"])):
        table: datasets.Dataset = loading.load(f"glue/{task}", data_dir=str(shared_data / f"glue_{task}"))["dev"]
        assert loading.labels_of(table, "label") == words


def test_similarity_is_judged_by_its_number(shared_data: Path) -> None:
    question = ask("glue/stsb", str(shared_data / "glue_stsb"))
    assert float(question.target) == pytest.approx(5.0, abs=5) and question.choices == ("0", "1", "2", "3", "4", "5")
    answers = [part.split("\n")[0] for part in question.prompts[0].shared.split("Answer:")[1:]]
    assert all(answer.strip() in question.choices for answer in answers)


def test_arithmetic_and_scrambled_words(shared_data: Path) -> None:
    folder = str(shared_data / "gpt3_synthetic_tasks")
    templates, members = prompted.choose(["gpt3_tasks"], {"gpt3_tasks": folder})
    assert {one.name for one in templates} >= {"gpt3_tasks/two_digit_addition", "gpt3_tasks/reversed_words"}
    assert {one.name for one in templates} == members
    (prompt,) = ask("gpt3_tasks/two_digit_addition", folder).prompts
    assert prompt.query.startswith("Q: What is ") and prompt.query.endswith("?\n\nA:")
    assert prompt.shared.count("A: ") == 2 and prompt.shared.endswith("\n")


def test_pairs_of_words(shared_data: Path) -> None:
    (prompt,) = ask("word_pairs/country-capital", str(shared_data / "icl_word_tasks")).prompts
    assert prompt.query.endswith(" =>") and prompt.shared.count(" => ") == 2


def test_translation_names_its_languages() -> None:
    question = ask("cldr/lexicon_en_fr", "/nowhere", 3)  # a folder that is meant for others
    (prompt,) = question.prompts
    first, *pairs = prompt.shared.removesuffix("\n").split("\n")
    assert first == "Translate English to French:" and all(" => " in pair for pair in pairs) and len(pairs) == 3
    assert prompt.query.endswith(" =>") and question.gold == [question.target]
    templates, _ = prompted.choose(["cldr"], {})
    assert [one.name for one in templates] == ["cldr/phrases", "cldr/lexicon"]


@pytest.mark.parametrize("name", ["topic", "match", "answer"])
def test_pydocs(name: str, packages: Path) -> None:
    ((template,), _) = prompted.choose([f"pydocs/{name}"], {})
    task = tables.read(template, data_dir=str(packages), limit=3)
    question = Composer(task.template, Parrot()).question(task.rows[0], 0, [task.pool[0]])
    assert question.prompts[0].query.endswith("\nAnswer:") and "\nAnswer: " in question.prompts[0].shared
    if name == "answer":
        assert question.gold == task.rows[0]["answers"]["text"]
    else:
        assert isinstance(question.gold, int) and question.gold == task.rows[0]["label"]


def test_labels_that_nobody_is_told_are_refused(tmp_path: Path) -> None:
    from hfcourse.prompting import tables

    rows = '{"q": "x", "label": -1}\n' * 3
    (tmp_path / "test.jsonl").write_text(rows)
    (tmp_path / "hidden.yaml").write_text(
        "task: hidden\ndataset_path: json\ndataset_kwargs: {data_files: {test: test.jsonl}}\ntest_split: test\n"
        "output_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_target: label\ndoc_to_choice: ['no', 'yes']\n"
    )
    ((template,), _) = prompted.choose([str(tmp_path / "hidden.yaml")], {})
    with pytest.raises(DataError, match="task hidden: the labels of split 'test' are hidden"):
        tables.read(template, need_examples=False)


def test_unknown_tasks_and_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="unknown task 'glue/rtee': did you mean 'glue/rte'"):
        prompted.choose(["glue/rtee"], {})
    with pytest.raises(ConfigError, match="data_dir: unknown builder 'gleu': did you mean 'glue'"):
        prompted.choose(["glue/rte"], {"gleu": str(tmp_path)})
    with pytest.raises(ConfigError, match="cannot read the task"):
        prompted.choose([str(tmp_path / "none.yaml")], {})
    with pytest.raises(ConfigError, match="no task files"):
        prompted.choose([str(tmp_path)], {})
    with pytest.raises(DataError, match="word_pairs reads files that you have: give --data_dir word_pairs=FOLDER"):
        prompted.choose(["word_pairs"], {})
    text = "task: same\ndataset_path: json\ntest_split: test\ndoc_to_text: q\ndoc_to_target: a\n"
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"a.yaml and .*b.yaml are two tasks of the name same"):
        prompted.choose([str(tmp_path)], {})
    (tmp_path / "b.yaml").write_text("group: g\ntask: [same]\n")
    assert prompted.choose([str(tmp_path)], {})[0][0].groups == ("g",)  # the task once, in its group
    (tmp_path / "b.yaml").rename(tmp_path / "_b.yaml").rename(tmp_path / "0.yaml")
    assert prompted.choose([str(tmp_path)], {})[0][0].groups == ("g",)  # whichever of the two is read first
    (tmp_path / "0.yaml").unlink()
    (tmp_path / "_base.yaml").write_text("doc_to_text: q\n")  # what others include is no task
    assert [one.name for one in prompted.choose([str(tmp_path), str(tmp_path / "a.yaml")], {})[0]] == ["same"]
