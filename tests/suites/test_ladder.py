"""A ladder of models: the text they share, and the page that sets them side by side."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from hfcourse import recipe
from hfcourse.data import loading
from hfcourse.errors import ConfigError
from hfcourse.report import ladder_report
from hfcourse.run_folder import RunFolder
from hfcourse.suites import ladder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """The debug variant, whole."""
    folder = tmp_path_factory.mktemp("runs") / "ladder"
    words = ["gpt/ladder", "debug", "--no-pretrain.train.progress", "--output_dir", str(folder)]
    recipe.start(*recipe.parse(words))
    return RunFolder.open(folder)


def test_each_size_is_trained_and_asked(run: RunFolder) -> None:
    found = run.read_json("ladder.json")
    assert list(found["models"]) == ["gpt2-tiny", "gpt2-nano"] and found["tasks"] == ["cldr/lexicon"]
    sizes = [one["parameters"] for one in found["models"].values()]
    assert sizes == sorted(set(sizes)) and all(one["dev"]["loss"] > 0 for one in found["models"].values())
    assert all(one["shots"].keys() == {"0", "1"} for one in found["models"].values())
    trained = (run.path / "gpt2-nano" / "metrics.json").stat().st_mtime_ns
    asked = (run.path / "gpt2-tiny-asked" / "answers" / "weights.json").stat().st_mtime_ns
    assert trained < asked  # one process asks: the others are through with training by then
    page = (run.path / "report.html").read_text()
    assert page.count("<svg") >= 2 and "gpt2-nano" in page and "zero-shot" in (run.path / "table.md").read_text()


def test_all_sizes_see_the_same_questions(run: RunFolder) -> None:
    asked = [
        [row["prompt"] for row in RunFolder.open(run.path / f"{name}-asked").read_predictions("cldr-lexicon-0shot")]
        for name in ("gpt2-tiny", "gpt2-nano")
    ]
    assert asked[0] == asked[1] and len(asked[0]) == 8


def test_resuming_a_finished_ladder_trains_nothing(run: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    before = (run.path / "gpt2-tiny" / "metrics.json").stat().st_mtime_ns
    words = ["gpt/ladder", "debug", "--no-pretrain.train.progress", "--output_dir", str(run.path), "--resume"]
    recipe.start(*recipe.parse(words))
    assert "already finished" in capsys.readouterr().out
    (run.path / "metrics.json").unlink()  # stopped before the last line: the runs inside are taken as they are
    recipe.start(*recipe.parse(words))
    assert (run.path / "gpt2-tiny" / "metrics.json").stat().st_mtime_ns == before
    assert run.finished


def test_lists_hold_pairs_of_the_training_split_alone(tmp_path: Path) -> None:
    place = RunFolder.create(tmp_path / "run", {})
    folder = Path(ladder.write_corpus(place, "cldr/lexicon", seed=0))
    texts = [json.loads(line)["text"] for line in (folder / "train.jsonl").read_text().splitlines()]
    lists = [text for text in texts if text.startswith("Translate English to French:\n")]
    table = loading.load("cldr/lexicon")
    pairs = [line for text in lists for line in text.splitlines()[1:]]
    known = {split: {f"{row['source']} => {row['target']}" for row in rows} for split, rows in table.items()}
    assert set(pairs) == known["train"] and not set(pairs) & known["test"]
    assert len(pairs) == 6 * len(table["train"]) and len(texts) > len(lists)
    assert len({frozenset(text.splitlines()) for text in lists}) == len(lists)  # every time among others


def test_a_deviation_is_an_upright_bar(tmp_path: Path) -> None:
    def model(parameters: int, sd: float | None) -> dict[str, object]:
        few = {"mean": 40.0, "sd": sd, "values": [38.0, 42.0]}
        return {
            "parameters": parameters,
            "dev": {},
            "shots": {"0": {"mean": 10.0, "sd": None, "values": [10.0]}, "8": few},
        }

    place = RunFolder.create(tmp_path / "run", {})
    place.write_json("ladder.json", {"models": {"a": model(10**6, 2.5), "b": model(10**7, None)}, "tasks": ["t"]})
    said = ladder_report(place)
    assert "40.0 ± 2.5" in said and "1.0 M" in said and "10.0 M" in said


def test_settings_of_a_ladder(tmp_path: Path) -> None:
    module = recipe.find("gpt/ladder").module
    with pytest.raises(ConfigError, match="models is empty"):
        module.Config(models=())
    with pytest.raises(ConfigError, match="translations is cldr, which is 2 tasks: name one"):
        next(ladder._lists("cldr", random.Random(0)))
    (tmp_path / "asked.yaml").write_text(
        "task: asked\ndataset_path: json\ndataset_kwargs: {data_files: {test: a.jsonl}}\ntest_split: test\n"
        "doc_to_text: q\ndoc_to_target: a\n"
    )
    with pytest.raises(ConfigError, match="has no training split: its questions would be in the text"):
        next(ladder._lists(str(tmp_path / "asked.yaml"), random.Random(0)))
    with pytest.raises(ConfigError, match="those of the ladder"):
        module.Config(ask=recipe.find("gpt/in_context").module.Config(model="gpt2"))
    for word, instead in (("pretrain.model", "name the sizes with --models"), ("ask.seed", "--seed decides all draws")):
        with pytest.raises(ConfigError, match=f"{word} is .*: {instead}"):
            recipe.parse(["gpt/ladder", "debug", f"--{word}", "1"])
