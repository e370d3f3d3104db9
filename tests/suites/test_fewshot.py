"""An evaluation by prompts: what is asked, kept, resumed and averaged, with a model whose answers are known."""

from __future__ import annotations

import json
import signal
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hfcourse import disk
from hfcourse.errors import ConfigError, DataError, Interrupted, ModelError
from hfcourse.run_folder import RunFolder
from hfcourse.suites import fewshot
from tests.prompting.fake import Parrot

CHOICE = """
task: colours
dataset_path: json
dataset_kwargs: {data_files: {train: train.jsonl, test: test.jsonl}}
output_type: multiple_choice
training_split: train
test_split: test
doc_to_text: "{{thing}} is"
doc_to_target: "{{colour}}"
doc_to_choice: [red, blue]
fewshot_delimiter: "\\n"
tag: sights
metric_list: [{metric: acc}]
"""
GENERATE = """
include: colours.yaml
task: echoes
output_type: generate_until
doc_to_choice: null
doc_to_text: "{{thing}}"
doc_to_target: "{{thing}}"
filter_list: [{name: strip, filter: [{function: remove_whitespace}]}]
metric_list: [{metric: exact_match}, {metric: chrf}]
"""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Settings as a recipe has them."""

    tasks: tuple[str, ...]
    shots: tuple[int, ...] = (0, 2)
    draws: int = 2
    seed: int = 0
    select: Any = "random"
    by_row: bool = False
    metrics: tuple[str, ...] = ()
    unconditional: str = ""
    limit: int = 0
    strict: bool = False
    trust_task_code: bool = False
    folders: Mapping[str, str] = field(default_factory=dict)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [{"thing": f"thing{n}", "colour": "red" if n % 3 else "blue"} for n in range(16)]
    for name, part in (("train", rows[:10]), ("test", rows[10:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (tmp_path / "colours.yaml").write_text(CHOICE)
    (tmp_path / "echoes.yaml").write_text(GENERATE)
    return tmp_path


@pytest.fixture
def wanted(folder: Path) -> Wanted:
    return Wanted(tasks=(str(folder / "colours.yaml"), str(folder / "echoes.yaml")))


def run(folder: Path, wanted: Wanted, **more: Any) -> RunFolder:
    settings = {"recipe": "gpt/in_context", "model": "parrot"} | asdict(wanted)
    return RunFolder.create(folder / "run", json.loads(json.dumps(settings)), **more)


def test_every_cell_is_asked_and_written_down(folder: Path, wanted: Wanted, capsys: pytest.CaptureFixture[str]) -> None:
    parrot, place = Parrot(), run(folder, wanted)
    fewshot.judge(wanted, parrot, place)
    names = [f"{task}-{draw}" for task in ("colours", "echoes") for draw in ("0shot", "2shot-seed0", "2shot-seed1")]
    assert sorted(path.stem for path in (place.path / "predictions").iterdir()) == names
    assert len(parrot.asked) == 6 * 6
    scores = place.read_json("scores.json")
    colours, echoes = scores["tasks"]["colours"], scores["tasks"]["echoes"]
    # Without examples neither colour stands in the prompt, and the first choice is taken: 4 of 6 are red.
    assert colours["shots"]["0"]["scores"] == {
        "acc": {"mean": pytest.approx(200 / 3), "sd": None, "values": [pytest.approx(200 / 3)]}
    }
    assert (colours["chance"], colours["rows"], colours["metric"]) == (50.0, 6, "acc")
    assert echoes["shots"]["2"]["scores"]["exact_match"]["mean"] == 100 and echoes["chance"] is None
    assert scores["average"]["shots"]["0"]["mean"] == pytest.approx((200 / 3 + 100) / 2)
    two = [place.read_predictions(f"colours-2shot-seed{seed}") for seed in (0, 1)]
    values = [100 * sum(row["scores"]["acc"] for row in rows) / 6 for rows in two]
    assert colours["shots"]["2"]["scores"]["acc"]["values"] == pytest.approx(values)
    assert [row["row"] for row in two[0]] == list(range(6)) and two[0][0]["prompt"].endswith("\nthing10 is")
    assert "zero-shot" in (place.path / "table.md").read_text() and "2-shot" in capsys.readouterr().out
    page = (place.path / "report.html").read_text()
    assert "<svg" in page and "thing10 is" in page
    assert place.finished


def test_two_models_are_shown_the_same_examples(folder: Path, wanted: Wanted) -> None:
    one, other = Parrot(), Parrot(max_length=500)
    fewshot.judge(wanted, one, RunFolder.create(folder / "one", {}))
    fewshot.judge(replace(wanted, tasks=wanted.tasks[::-1]), other, RunFolder.create(folder / "other", {}))
    assert set(one.asked) == set(other.asked)


def test_what_was_answered_is_not_asked_again(folder: Path, wanted: Wanted) -> None:
    whole = RunFolder.create(folder / "whole", {})
    fewshot.judge(wanted, Parrot(), whole)
    broken = Parrot(stop_after=15)
    with pytest.raises(RuntimeError, match="switched off"):
        fewshot.judge(wanted, broken, run(folder, wanted))
    kept = sorted((folder / "run" / "answers").glob("*.jsonl"))
    with kept[-1].open("ab") as file:  # a line torn by the crash
        file.write(b'{"key": "abc", "opt')
    again = Parrot()
    place = run(folder, wanted, resume=True)
    fewshot.judge(wanted, again, place)
    assert len(again.asked) == 36 - 15 and not set(again.asked) & set(broken.asked)
    for name in ("colours-2shot-seed1", "echoes-0shot"):
        assert place.read_predictions(name) == whole.read_predictions(name)
    assert place.read_json("scores.json")["tasks"] == whole.read_json("scores.json")["tasks"]
    assert len(disk.read_lines(kept[-1], may_be_torn=True)) == 6  # the torn line spoils no other
    third = Parrot()
    fewshot.judge(wanted, third, place)
    assert not third.asked


def test_no_answer_is_taken_for_that_to_another_prompt(folder: Path, wanted: Wanted) -> None:
    one = replace(wanted, tasks=wanted.tasks[:1], shots=(2,), draws=1)
    with pytest.raises(RuntimeError):
        fewshot.judge(one, Parrot(stop_after=4), run(folder, one))
    text = (folder / "train.jsonl").read_text()
    # The same questions behind other examples.
    (folder / "train.jsonl").write_text(text.replace(': "thing', ': "object'))
    again = Parrot()
    fewshot.judge(one, again, run(folder, one, resume=True))
    assert len(again.asked) == 6


def test_a_signal_stops_it_after_the_answer_at_hand(folder: Path, wanted: Wanted) -> None:
    class Signalled(Parrot):
        def _note(self, prompt: Any) -> None:
            super()._note(prompt)
            if len(self.asked) == 4:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted, match="go on with --resume"):
        fewshot.judge(wanted, Signalled(), run(folder, wanted))
    again = Parrot()
    fewshot.judge(wanted, again, run(folder, wanted, resume=True))
    assert len(again.asked) == 36 - 4


def test_the_same_prompt_is_asked_once(folder: Path, wanted: Wanted) -> None:
    """The choices by themselves and the questions about nothing are the same for all rows."""
    more = replace(wanted, tasks=wanted.tasks[:1], shots=(2,), draws=1, metrics=("acc_mutual_info", "acc_calibrated"))
    parrot, place = Parrot(), RunFolder.create(folder / "run", {})
    fewshot.judge(more, parrot, place)
    assert len(parrot.asked) == 6 + 1 + 3
    found = place.read_json("scores.json")["tasks"]["colours"]["shots"]["2"]["scores"]
    assert found.keys() == {"acc", "acc_mutual_info", "acc_calibrated"}


def test_examples_that_do_not_fit_are_counted_and_refused_under_strict(folder: Path, wanted: Wanted) -> None:
    place = RunFolder.create(folder / "run", {})
    one = replace(wanted, tasks=wanted.tasks[:1], shots=(2,), draws=1)
    fewshot.judge(one, Parrot(max_length=9), place)  # 2 + 1 words, 3 for special tokens: one example of 3 fits
    found = place.read_json("scores.json")["tasks"]["colours"]["shots"]["2"]
    assert (found["dropped"], found["too_long"]) == (6, 0)
    assert "6 examples left out" in (place.path / "report.html").read_text()
    with pytest.raises(DataError, match="colours, row 0: with 2 examples it does not fit the 9 tokens"):
        fewshot.judge(replace(one, strict=True), Parrot(max_length=9), RunFolder.create(folder / "strict", {}))


def test_rows_that_do_not_fit_at_all_are_left_out_and_said(folder: Path, wanted: Wanted) -> None:
    rows = [{"thing": "a " * n, "colour": "red"} for n in (1, 2, 30)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    place, parrot = RunFolder.create(folder / "run", {}), Parrot(max_length=12)
    fewshot.judge(replace(wanted, tasks=wanted.tasks[:1], shots=(0,)), parrot, place)
    assert len(parrot.asked) == 2
    found = place.read_json("scores.json")["tasks"]["colours"]
    assert found["shots"]["0"]["too_long"] == 1 and found["shots"]["0"]["scores"]["acc"]["mean"] == 100
    assert place.read_predictions("colours-0shot")[2]["too_long"]
    assert "1 rows do not fit" in (place.path / "report.html").read_text()


def test_a_mistake_in_the_last_task_is_known_before_the_first_question(folder: Path, wanted: Wanted) -> None:
    (folder / "echoes.yaml").write_text(GENERATE.replace('doc_to_text: "{{thing}}"', 'doc_to_text: "{{thang}}"'))
    parrot = Parrot()
    with pytest.raises(DataError, match="did you mean 'thing'"):
        fewshot.judge(wanted, parrot, RunFolder.create(folder / "run", {}))
    with pytest.raises(DataError, match="11 examples are asked for"):
        fewshot.judge(
            replace(wanted, tasks=wanted.tasks[:1], shots=(0, 11)), parrot, RunFolder.create(folder / "b", {})
        )
    assert not parrot.asked


@pytest.mark.parametrize(
    ("row", "choices", "reason"),
    [
        ({"colour": "green"}, "[red, blue]", "the target 'green' is none of the choices 'red', 'blue'"),
        ({"colour": "red", "other": "red"}, '''"{{ ['red', other] }}"''', "options ' red' and ' red' have the same"),
    ],
)
def test_an_odd_row_in_the_middle_is_known_before_the_first_question(
    row: dict[str, str], choices: str, reason: str, folder: Path, wanted: Wanted
) -> None:
    rows = [{"thing": f"stone{n}", "colour": "red", "other": "blue"} for n in range(4)]
    rows.insert(3, {"thing": "leaf", "other": "blue"} | row)
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "train.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (folder / "colours.yaml").write_text(CHOICE.replace("[red, blue]", choices))
    parrot = Parrot()
    with pytest.raises(DataError, match=f"task colours, row 3: {reason}"):
        fewshot.judge(replace(wanted, tasks=wanted.tasks[::-1], shots=(0,)), parrot, run(folder, wanted))
    assert not parrot.asked


def test_an_odd_example_that_one_row_alone_is_shown_is_known_before_the_first_question(
    folder: Path, wanted: Wanted
) -> None:
    """Rows are asked that are among the examples: the second is shown the third for itself."""
    pool = [{"thing": f"stone{n}", "colour": 2 * (n == 2)} for n in range(4)]
    for split in ("train", "test"):
        rows = pool if split == "train" else [{"thing": "leaf", "colour": 0}, pool[1]]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parrot = Parrot()
    one = replace(wanted, tasks=wanted.tasks[:1], shots=(2,), select="first")
    with pytest.raises(DataError, match="task colours, target: choice 2 of an example is none of its 2"):
        fewshot.judge(one, parrot, run(folder, wanted))
    assert not parrot.asked


@pytest.mark.parametrize("more", [{"by_row": True}, {"select": "nearest"}])
def test_an_odd_example_of_a_later_row_is_known_before_the_first_question(
    more: dict[str, Any], folder: Path, wanted: Wanted
) -> None:
    pool = [{"thing": f"stone{n}", "colour": 0} for n in range(8)] + [{"thing": "leaf", "colour": 2}]
    asked = [{"thing": "stone8", "colour": 0}] + [{"thing": "leaf", "colour": 1}] * 20
    for split, rows in (("train", pool), ("test", asked)):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    parrot = Parrot()
    one = replace(wanted, tasks=wanted.tasks[:1], shots=(0, 1), **more)
    with pytest.raises(DataError, match="task colours, target: choice 2 of an example is none of its 2"):
        fewshot.judge(one, parrot, run(folder, wanted))
    assert not parrot.asked


@pytest.mark.parametrize("select", ["first", "nearest", "balanced"])
def test_each_way_of_choosing_examples(select: str, folder: Path, wanted: Wanted) -> None:
    place = RunFolder.create(folder / "run", {})
    one = replace(wanted, tasks=wanted.tasks[:1], select=select)
    fewshot.judge(one, Parrot(), place)
    found = place.read_json("scores.json")["tasks"]["colours"]["shots"]["2"]
    assert len(found["seeds"]) == (2 if select == "balanced" else 1)
    for record in place.read_predictions(f"colours-2shot{'-seed1' if select == 'balanced' else ''}"):
        if select == "balanced":
            assert record["prompt"].count("red") == record["prompt"].count("blue") == 1
        if select == "first":
            assert record["prompt"].startswith("thing0 is blue\nthing1 is red\n")


def test_copies_of_the_question_do_not_use_up_its_neighbours(folder: Path, wanted: Wanted) -> None:
    asked = {"thing": "thing10", "colour": "red"}
    rows = [asked] * 40 + [{"thing": f"stone{n}", "colour": "blue"} for n in range(2)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "test.jsonl").write_text(json.dumps(asked) + "\n")
    place = RunFolder.create(folder / "run", {})
    fewshot.judge(replace(wanted, tasks=wanted.tasks[:1], shots=(2,), select="nearest"), Parrot(), place)
    (record,) = place.read_predictions("colours-2shot")
    assert record["prompt"].count("stone") == 2 and record["prompt"].count("thing10") == 1


def test_questions_without_text_have_no_nearest(folder: Path, wanted: Wanted) -> None:
    rows = [{"thing": " ", "colour": colour} for colour in ("red", "blue", "red")]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "colours.yaml").write_text(CHOICE.replace('"{{thing}} is"', "thing"))
    one = replace(wanted, tasks=wanted.tasks[:1], select="nearest")
    with pytest.raises(DataError, match="task colours: --select nearest compares the text of questions"):
        fewshot.judge(one, Parrot(), run(folder, wanted))


def test_a_correlation_of_words_is_refused(folder: Path, wanted: Wanted) -> None:
    for number, metrics in enumerate(("{metric: pearson}", "{metric: acc}, {metric: pearson}")):
        (folder / "odd.yaml").write_text(f"include: colours.yaml\ntask: odd\nmetric_list: [{metrics}]\n")
        place = RunFolder.create(folder / f"odd{number}", {})
        with pytest.raises(ConfigError, match="task odd: pearson needs choices that are numbers, not 'red, blue"):
            fewshot.judge(replace(wanted, tasks=(str(folder / "odd.yaml"),)), Parrot(), place)


def test_questions_of_their_own_have_no_answers_to_compare(folder: Path, wanted: Wanted) -> None:
    rows = [{"n": n % 2, "a": "the cat", "b": "the dog"} for n in range(4)]
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "own.yaml").write_text(
        "task: own\ndataset_path: json\ndataset_kwargs: {data_files: {test: own.jsonl}}\ntest_split: test\n"
        'output_type: multiple_choice\ndoc_to_text: "{{n}}"\ndoc_to_target: "is here"\n'
        'doc_to_choice: ["{{a}}", "{{b}}"]\nmetric_list: [{metric: acc}]\n'
    )
    parrot = Parrot()
    own = replace(wanted, tasks=(str(folder / "own.yaml"),), shots=(0,), metrics=("acc_calibrated",))
    with pytest.raises(ConfigError, match="task own: acc_calibrated compares answers to one question"):
        fewshot.judge(own, parrot, RunFolder.create(folder / "a", {}))
    assert not parrot.asked
    near = replace(own, shots=(1,), metrics=(), select="nearest")
    fewshot.judge(near, parrot, RunFolder.create(folder / "b", {}))
    assert parrot.asked


def test_an_added_metric_leaves_a_task_judged_by_number_alone(folder: Path, wanted: Wanted) -> None:
    rows = [{"text": f"pair {n}", "label": n / 2} for n in range(6)]
    (folder / "near.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "near.yaml").write_text(
        "task: near\ndataset_path: json\ndataset_kwargs: {data_files: {test: near.jsonl}}\ntest_split: test\n"
        'output_type: multiple_choice\ndoc_to_text: text\ndoc_to_target: "{{label}}"\n'
        'doc_to_choice: ["0", "1", "2", "3"]\nmetric_list: [{metric: pearson}]\n'
    )
    both = replace(wanted, tasks=(wanted.tasks[0], str(folder / "near.yaml")), shots=(0,), metrics=("acc_norm",))
    done = run(folder, wanted)
    fewshot.judge(both, Parrot(), done)
    tasks = done.read_json("scores.json")["tasks"]
    assert [list(tasks[name]["shots"]["0"]["scores"]) for name in ("colours", "near")] == [
        ["acc", "acc_norm"],
        ["pearson"],
    ]


def test_a_model_that_does_not_write_is_not_asked_to(folder: Path, wanted: Wanted, packages: Path) -> None:
    parrot = Parrot()
    parrot.writes = False
    with pytest.raises(ModelError, match="task echoes: its answers are generated, and the model does not write"):
        fewshot.judge(wanted, parrot, run(folder, wanted))
    assert not parrot.asked  # known before the first question
    family, done = replace(wanted, tasks=("pydocs",), shots=(0,), limit=2), run(folder, wanted, overwrite=True)
    fewshot.judge(family, parrot, done)
    assert done.read_json("scores.json")["tasks"].keys() == {"pydocs/topic", "pydocs/match"}


def test_examples_of_its_own_for_every_row(folder: Path, wanted: Wanted) -> None:
    place = RunFolder.create(folder / "run", {})
    fewshot.judge(replace(wanted, tasks=wanted.tasks[:1], shots=(2,), draws=1, by_row=True), Parrot(), place)
    shown = {record["prompt"].rpartition("\n")[0] for record in place.read_predictions("colours-2shot-seed0")}
    assert len(shown) > 2


def test_a_file_that_chooses_its_examples_is_not_overruled(folder: Path, wanted: Wanted) -> None:
    (folder / "colours.yaml").write_text(CHOICE + "fewshot_config: {sampler: first_n}\nnum_fewshot: 1\n")
    place = RunFolder.create(folder / "run", {})
    fewshot.judge(replace(wanted, tasks=wanted.tasks[:1], shots=()), Parrot(), place)
    assert list(place.read_json("scores.json")["tasks"]["colours"]["shots"]) == ["1"]
    with pytest.raises(ConfigError, match="leave out --select"):
        fewshot.judge(
            replace(wanted, tasks=wanted.tasks[:1], select="nearest"), Parrot(), RunFolder.create(folder / "b", {})
        )


def test_means_of_groups_and_their_spread_over_draws() -> None:
    from hfcourse.suites import fewshot_scores
    from hfcourse.suites.fewshot_scores import Result

    def result(task: str, shots: int, seed: int, value: float) -> Result:
        return Result(task, shots, seed, {"acc": value}, 10, 0, 0, 50.0)

    from hfcourse.prompting.judging import MetricUse
    from hfcourse.prompting.templates import Source, Template

    def template(name: str, *groups: str) -> Template:
        given: dict[str, Any] = {"text": "q", "target": "t", "choices": ("a",), "output": "multiple_choice"}
        return Template(name=name, source=Source(data="x"), metrics=(MetricUse(name="acc"),), groups=groups, **given)

    results = [result("a", 0, 0, 50.0), result("a", 4, 0, 60.0), result("a", 4, 1, 70.0)]
    results += [result("b", 0, 0, 20.0), result("b", 4, 0, 40.0), result("b", 4, 1, 20.0)]
    results += [result("c", 0, 0, 80.0)]
    found = fewshot_scores.summary(results, [template("a", "g"), template("b", "g"), template("c")])
    four = found["groups"]["g"]["shots"]["4"]
    # Of draw 0: (60 + 40) / 2, of draw 1: (70 + 20) / 2.
    assert four["values"] == [50.0, 45.0] and four["mean"] == 47.5 and four["sd"] == pytest.approx(12.5**0.5)
    assert found["groups"]["g"]["shots"]["0"] == {"mean": 35.0, "sd": None, "values": [35.0]}
    assert found["average"]["shots"].keys() == {"0"}  # c was not asked with examples
    assert found["average"]["shots"]["0"]["mean"] == 50.0


def test_a_group_is_averaged_as_its_file_says(folder: Path) -> None:
    """Rows as weights unless it says otherwise, as lm-evaluation-harness has it; other tasks of the group are out."""
    for name, rows in (("small", 2), ("large", 8)):
        labels = ["red" if n < 2 else "blue" for n in range(rows)]  # without a hint the first choice is taken: red
        lines = [json.dumps({"thing": f"thing{n}", "colour": colour}) for n, colour in enumerate(labels)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        (folder / f"{name}.yaml").write_text(
            f"include: colours.yaml\ntask: {name}\ndataset_kwargs: {{data_files: {{test: {name}.jsonl}}}}\n"
            "training_split: null\nmetric_list: [{metric: acc}, {metric: acc_norm}]\n"
        )
    (folder / "group.yaml").write_text(
        "group: sizes\ntask: [small, large, echoes]\naggregate_metric_list:\n  - metric: acc\n"
        "  - {metric: acc_norm, weight_by_size: false}\n  - {metric: chrf, filter_list: strip}\n"
    )
    place = RunFolder.create(folder / "run", {})
    fewshot.judge(Wanted(tasks=(str(folder / "group.yaml"),), shots=(0,)), Parrot(), place)
    groups = place.read_json("scores.json")["groups"]
    assert groups["sizes"]["shots"]["0"]["mean"] == pytest.approx((2 * 100 + 8 * 25) / 10)
    assert groups["sizes"]["tasks"] == ["large", "small"]
    assert groups["sizes, acc_norm"]["shots"]["0"]["mean"] == pytest.approx((0 + 75) / 2)  # blue is longer
    assert groups["sizes, chrf"]["shots"]["0"]["mean"] == pytest.approx(100)
    assert groups["sights"]["shots"]["0"]["mean"] == pytest.approx((100 + 25 + 100) / 3)  # a tag: each task alike
    table = (place.path / "table.md").read_text()
    assert "| mean of sizes | acc |" in table and "| mean of sizes, acc_norm | acc_norm |" in table
