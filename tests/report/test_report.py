"""The page and the table: what is on them, that they need nothing else, and what happens when parts are missing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from hfcourse.errors import RunFolderError
from hfcourse.report import report, tour_report

Made = Callable[..., Path]
VOID = {"meta", "br", "path", "use", "circle", "rect", "img", "hr", "link", "input"}


class Reader(HTMLParser):
    """Collects visible text, outside resources and tags that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text: list[str] = []
        self.resources: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open += [tag] * (tag not in VOID)
        self._attributes(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._attributes(tag, attrs)

    def _attributes(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"src", "href", "xlink:href", "srcset", "data"} and not str(value).startswith("#"):
                self.resources.append(str(value))
            if name == "href" and tag == "a":
                self.links.append(str(value)[1:])
            if name == "id":
                self.ids.append(str(value))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] != "style":
            self.text.append(data)


def read(place: Path) -> tuple[Reader, str]:
    reader = Reader()
    html = place.read_text(encoding="utf-8")
    reader.feed(html)
    assert not reader.open
    return reader, " ".join(" ".join(reader.text).split())


@pytest.mark.parametrize("kind", ["classification", "tagging", "span_qa", "regression", "pretraining"])
def test_one_run_of_each_kind(kind: str, made: Made) -> None:
    run = made("my-run", kind)
    table = report([run])
    score = json.loads((run / "metrics.json").read_text())["score"]
    shown = f"{score['value']:.1f}" if score["value"] > 10 else f"{score['value']:.3f}"
    row = next(line for line in table.splitlines() if f"  {score['split']}  " in line)
    assert score["name"] in row
    assert shown in row
    assert (" to " in row) == (kind != "pretraining")
    reader, text = read(run / "report.html")
    assert shown in text
    assert "Not everything is there" not in text
    assert "optim.lr" in text
    assert "0123abcd" in text
    assert ("recall" in text) == (kind in {"classification", "tagging"})
    assert reader.text.count("Loss") >= 1
    assert set(reader.links) <= set(reader.ids)


def test_the_page_needs_nothing_else(made: Made) -> None:
    runs = [made("a", "classification"), made("b", "tagging")]
    report(runs)
    reader, _ = read(runs[0].parent / "report.html")
    html = (runs[0].parent / "report.html").read_text()
    assert reader.resources == []
    assert not re.search(r"https?://|<script|@import|url\((?!#)", html)


def test_texts_are_escaped_and_cut(made: Made) -> None:
    run = made("run", "classification")
    place = run / "predictions" / "test.jsonl"
    answers = [json.loads(line) for line in place.read_text().splitlines()]
    for answer in answers:
        answer["text"] = "<script>alert('x')</script> " + "word " * 2000
    place.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    report([run])
    html = (run / "report.html").read_text()
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "word " * 100 not in html
    assert "…" in html


def test_the_surest_mistakes_come_first(made: Made) -> None:
    run = made("run", "classification")
    report([run])
    html = (run / "report.html").read_text()
    cards = html.split('<h2 id="examples">')[1].split('class="card wrong"')[1:]
    sure = [int(re.search(r"confidence (\d+)", card).group(1)) for card in cards]  # type: ignore[union-attr]
    answers = [json.loads(line) for line in (run / "predictions" / "test.jsonl").read_text().splitlines()]
    surest = max(answer["confidence"] for answer in answers if answer["prediction"] != answer["reference"])
    assert sure == sorted(sure, reverse=True)
    assert sure[0] == round(100 * surest)


@pytest.mark.parametrize("kind", ["regression", "span_qa"])
def test_without_confidence_the_worst_come_first(kind: str, made: Made) -> None:
    run = made("run", kind)
    place = run / "predictions" / "test.jsonl"
    answers = [json.loads(line) for line in place.read_text().splitlines()]
    for number, answer in enumerate(answers):
        answer.pop("confidence", None)
        if kind == "span_qa" and answer["em"] == 0:
            answer["f1"] = number / 1000
    place.write_text("".join(json.dumps(answer) + "\n" for answer in answers))
    report([run])
    html = (run / "report.html").read_text().split('<h2 id="examples">')[1].split("Drawn by chance")[0]
    notes = [float(value) for value in re.findall(r"(?:error|F1) (\d\.\d+)", html)]
    assert len(notes) == 8
    assert notes == sorted(notes, reverse=kind == "regression")
    if kind == "regression":
        assert notes[0] == pytest.approx(max(abs(a["prediction"] - a["reference"]) for a in answers), abs=5e-4)


def test_the_answer_is_marked_where_there_is_no_doubt(made: Made) -> None:
    run = made("run", "span_qa")
    report([run])
    assert "<mark>30 seconds</mark>" in (run / "report.html").read_text()
    place = run / "predictions" / "test.jsonl"
    place.write_text(place.read_text().replace("The default is", "30 seconds. The default is"))
    report([run])
    assert "<mark>30 seconds</mark>" not in (run / "report.html").read_text()


def test_examples_are_counted_not_windows(made: Made) -> None:
    run = made("run", "span_qa")
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["counts"]["test"] = 999
    (run / "metrics.json").write_text(json.dumps(metrics))
    assert re.search(r"test +300 ", report([run]))


def test_the_confusion_matrix_counts(made: Made) -> None:
    run = made("run", "classification")
    report([run])
    answers = [json.loads(line) for line in (run / "predictions" / "test.jsonl").read_text().splitlines()]
    right = sum(answer["prediction"] == answer["reference"] == "json" for answer in answers)
    missed = sum(answer["prediction"] == "email" and answer["reference"] == "json" for answer in answers)
    html = (run / "report.html").read_text()
    assert f'title="json answered as json: {right}">{right}<' in html
    assert f'title="json answered as email: {missed}"' in html


def test_two_runs_side_by_side(made: Made) -> None:
    good = made("good", "classification", skill=0.9, optim={"lr": 1e-3})
    bad = made("bad", "classification", skill=0.6)
    table = report([good, bad], good.parent / "pages" / "both.html")
    assert "good − bad" in table
    assert "good is better" in table
    _, text = read(good.parent / "pages" / "both.html")
    assert "good against bad" in text
    differing = text.split("What differs")[1].split("All ")[0]
    assert "optim.lr" in differing
    assert "0.001 0.0003" in differing
    assert "train.epochs" not in differing


def test_runs_on_different_examples_are_not_subtracted(made: Made) -> None:
    one, other = made("one", "classification"), made("other", "classification")
    place = other / "predictions" / "test.jsonl"
    place.write_text(place.read_text().replace('"id": 7,', '"id": "seven",'))
    table = report([one, other])
    compared = [line for line in table.splitlines() if line.startswith("one − other")]
    assert [line.split()[3] for line in compared] == ["dev"]


def test_the_same_folders_give_the_same_page(made: Made, tmp_path: Path) -> None:
    runs = [made("a", "classification"), made("b", "classification", skill=0.7)]
    pages = [(report(runs, tmp_path / "page.html"), (tmp_path / "page.html").read_text()) for _ in range(2)]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        (["metrics.json"], "has not finished"),
        (["log.jsonl"], "no curves"),
        (["predictions/dev.jsonl", "predictions/test.jsonl"], "no intervals"),
        (["metrics.json", "log.jsonl", "predictions/dev.jsonl", "predictions/test.jsonl"], "has not finished"),
    ],
)
def test_a_run_with_missing_parts_still_gives_a_page(gone: list[str], said: str, made: Made) -> None:
    run = made("run", "tagging")
    for name in gone:
        (run / name).unlink()
    assert said in report([run])
    _, text = read(run / "report.html")
    assert "Not everything is there" in text
    assert said in text


def test_an_empty_log_and_empty_predictions(made: Made) -> None:
    run = made("run", "span_qa")
    (run / "log.jsonl").write_text("")
    (run / "predictions" / "test.jsonl").write_text("")
    _, text = read(Path(report([run]).rsplit("report: ", 1)[1]))
    assert "No curves" in text
    assert "test.jsonl is empty" in text


def test_scores_and_losses_that_are_no_numbers(made: Made) -> None:
    run = made("run", "classification")
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["scores"]["test"]["mcc"] = float("nan")
    metrics["score"]["value"] = metrics["scores"]["test"]["accuracy"] = float("nan")
    (run / "metrics.json").write_text(json.dumps(metrics))
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps({"step": 401, "loss": float("nan"), "lr": None}) + "\n")
    assert "accuracy      –" in report([run])
    read(run / "report.html")


def test_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="holds no run"):
        report([tmp_path])
    with pytest.raises(RunFolderError, match="no run folder was given"):
        report([])


def test_a_place_that_cannot_be_written_is_named(made: Made) -> None:
    run = made("run", "regression")
    with pytest.raises(RunFolderError, match="cannot be written"):
        report([run], run / "config.yaml" / "report.html")


class TestTour:
    def page(self, made: Made, tmp_path: Path, better: float, worse: float) -> tuple[str, str]:
        groups = {
            name: {
                "pretrained": made(f"{name}/pretrained", kind, skill=better, model="runs/pretrain"),
                "random": made(f"{name}/random", kind, skill=worse, model="bert-mini"),
            }
            for name, kind in [("topic", "classification"), ("terms", "tagging"), ("answer", "span_qa")]
        }
        table = tour_report(groups, tmp_path / "tour.html", pretrain=made("pretrain", "pretraining"))
        reader, text = read(tmp_path / "tour.html")
        assert reader.resources == []
        assert set(reader.links) <= set(reader.ids)
        return table, text

    def test_it_says_so_where_the_pretrained_start_wins(self, made: Made, tmp_path: Path) -> None:
        table, text = self.page(made, tmp_path, 0.95, 0.5)
        assert "scores better on 3 of 3 tasks; on 3 of them" in table
        assert "it generalises better to text it has not seen" in text
        assert [line.split()[-1] for line in table.splitlines()[2:5]] == ["pretrained"] * 3
        assert "settings of the two runs differ in: model." in text
        assert "perplexity on dev: 14.2" in text

    def test_it_says_so_where_the_random_start_wins(self, made: Made, tmp_path: Path) -> None:
        table, text = self.page(made, tmp_path, 0.5, 0.95)
        assert "scores better on 0 of 3 tasks" in table
        assert "Here pretraining did not help" in text
        assert "so the random start is better" in text
        assert "generalises better" not in text

    def test_how_much_faster_the_training_loss_falls(self, made: Made, tmp_path: Path) -> None:
        """Means of two logged losses: the random start's lowest is 1.0 at step 45, the other's as low at step 20."""
        groups = {}
        for start, losses in {
            "pretrained": [1.5, 1.3, 1.1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.5],
            "random": [2.0, 2.0, 1.9, 0.8, 1.6, 1.4, 1.2, 1.0, 1.0, 1.1],  # 0.8: one lucky batch
        }.items():
            groups[start] = made(f"topic/{start}", "classification", skill=0.9 if start == "pretrained" else 0.5)
            lines = [{"step": 5 * number, "loss": loss} for number, loss in enumerate(losses, 1)]
            (groups[start] / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        table = tour_report({"topic": groups}, tmp_path / "tour.html")
        assert "On 1 of 1 its training loss is as low" in table
        assert "44 % of the steps" in table
        assert "step 45; smoothed) at step 20 already" in read(tmp_path / "tour.html")[1]

    def test_an_unfinished_start(self, made: Made, tmp_path: Path) -> None:
        ours, other = made("t/pretrained", "classification"), made("t/random", "classification")
        for name in ("metrics.json", "predictions/dev.jsonl", "predictions/test.jsonl"):
            (other / name).unlink()
        table = tour_report({"topic": {"pretrained": ours, "random": other}}, tmp_path / "tour.html")
        assert "No task has scores from both starts yet" in table
        assert "has not finished" in read(tmp_path / "tour.html")[1]
