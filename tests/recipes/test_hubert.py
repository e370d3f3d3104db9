"""Rounds of HuBERT by one command: each clusters what the one before has learned; what is finished is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoModel, HubertModel

from hfcourse import recipe
from hfcourse.errors import ConfigError, DataError
from hfcourse.run_folder import RunFolder
from tests.objectives.speech import waves_clusters as waves


def run(folder: Path, *words: str) -> RunFolder:
    recipe.start(*recipe.parse(["speech/hubert", *words, "--output_dir", str(folder)]))
    return RunFolder.open(folder)


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Tones, and a net of a few thousand weights that begins anew in each round."""
    data, net = tmp_path / "data", tmp_path / "net"
    data.mkdir()
    waves.table([0.6, 0.8, 1.0, 0.7, 0.9, 0.75]).to_parquet(data / "train.parquet")
    waves.net().save_pretrained(net)
    waves.extractor().save_pretrained(net)
    settings = {"model": net, "task.data": data, "pretrain.backbone.init": "random", "steps": "2 3", "clusters": "5 7"}
    flags = [word for name, value in settings.items() for word in (f"--{name}", *str(value).split())]
    return ["debug", *flags, "--no-train.progress"]


def test_each_round_clusters_the_one_before(words: list[str], tmp_path: Path) -> None:
    done = run(tmp_path / "run", *words)
    first, second = (RunFolder.open(done.path / f"round-{number}") for number in (1, 2))
    kinds = [one.read_json("units/units.json") for one in (first, second)]
    assert [(one["frames"]["feature"], one["clusters"], one["hop"]) for one in kinds] == [
        ("mfcc", 5, 80),
        ("layer", 7, 160),
    ]
    assert kinds[1]["frames"]["model"] == str(first.model_dir) and kinds[1]["frames"]["layer"] == 1
    assert [one.read_json("metrics.json")["steps"] for one in (first, second)] == [2, 3]
    metrics = done.read_json("metrics.json")
    assert [one["steps"] for one in metrics["rounds"]] == [2, 3]
    last = AutoModel.from_pretrained(second.model_dir).state_dict()
    model = AutoModel.from_pretrained(done.model_dir)
    assert type(model) is HubertModel
    assert all((last[name] == tensor).all() for name, tensor in model.state_dict().items())
    assert (done.path / "report.html").is_file() and (done.model_dir / "README.md").is_file()
    # The second round is lost: the first is taken as it is, and the second comes out as it was.
    before = first.read_log(), second.read_log()
    for name in ("metrics.json", "round-2/metrics.json"):
        (done.path / name).unlink()
    again = run(tmp_path / "run", *words, "--resume")
    assert again.finished and first.read_log() == before[0]
    assert [record["loss"] for record in second.read_log()] == [record["loss"] for record in before[1]]
    # Units of another first model are not taken for its own.
    (done.path / "metrics.json").unlink()
    (done.path / "round-2" / "metrics.json").unlink()
    waves.net(seed=5).save_pretrained(first.model_dir)
    with pytest.raises(DataError, match="name another folder, or remove this one"):
        run(tmp_path / "run", *words, "--resume")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--method apc", "hubert or wavlm"),
        ("--train.steps 50", "train.steps is 50 and steps 200,400: give --steps"),
        ("--steps 5", "steps has 1 numbers and clusters 2"),
        ("--layers 1 2", "layers has 2 numbers"),
        ("--clusters 5 70000", "clusters is 70000"),
    ],
)
def test_rounds_that_contradict_each_other_are_refused(wrong: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe.parse(["speech/hubert", *wrong.split()])


def test_a_layer_that_is_not_there_is_refused_before_the_first_round(words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"layers has 9: .*/net has the layers 1 to"):
        run(tmp_path / "run", *words, "--layers", "9")
    assert not (tmp_path / "run" / "round-1").exists()
