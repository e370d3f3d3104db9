"""The speech recipes' debug variants on speech made here: every method trains, is judged, and is read again."""

from __future__ import annotations

from pathlib import Path

import pytest

from hfcourse import model as models
from hfcourse import recipe
from hfcourse.config import to_dict
from hfcourse.errors import DataError
from hfcourse.objectives.speech.settings import METHODS
from hfcourse.run_folder import RunFolder

pytest.importorskip("espeakng_loader", reason="speech is made by espeak-ng: pip install 'hfcourse[speech]'")
FEW = {"train": 24, "dev": 12, "test": 12}


@pytest.fixture(autouse=True)
def few_recordings(monkeypatch: pytest.MonkeyPatch) -> None:
    """spoken in seconds: its cache knows the sizes."""
    from hfcourse_datasets import spoken

    monkeypatch.setattr(spoken, "SIZES", dict.fromkeys(spoken.CONFIGS, FEW))


def run(folder: Path, *words: str, quiet: tuple[str, ...] = ("train.progress",)) -> RunFolder:
    """``hfcourse run`` in this process."""
    flags = [f"--no-{name}" for name in quiet]
    recipe.start(*recipe.parse([*words, "--output_dir", str(folder), *flags]))
    return RunFolder.open(folder)


@pytest.fixture(scope="module")
def hubert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the teacher of distilhubert is left."""
    return tmp_path_factory.mktemp("runs") / "hubert"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_pretrains_and_is_judged(method: str, hubert: Path, tmp_path: Path) -> None:
    place = hubert if method == "hubert" else tmp_path / "run"
    words = ["speech/pretrain", "debug", "--method", method, "--no-train.progress"]
    words += ["--method.teacher", str(hubert)] if method == "distilhubert" else []
    found, variants, config, _ = recipe.parse([*words, "--output_dir", str(place)])
    done = RunFolder.create(place, {"recipe": found.reference, "variant": variants} | to_dict(config))
    found.module.learn(config, done)
    metrics = done.read_json("metrics.json")
    assert metrics["steps"] == 6 and metrics["scores"]["dev"]["loss"] > 0 and len(metrics["scores"]["dev"]) > 1
    assert (done.model_dir / "preprocessor_config.json").is_file()
    assert models.load(done.path).config.num_hidden_layers >= 1


@pytest.mark.parametrize("model", ["cpc-tiny", "wav2vec2-tiny"])
def test_nets_are_judged_at_every_state(model: str, tmp_path: Path) -> None:
    judged = run(tmp_path / "run", "speech/finetune", "phones", "debug", "--model", model)
    pairs = [zip(row["prediction"], row["reference"], strict=True) for row in judged.read_predictions("test")]
    right = [said == true for row in pairs for said, true in row]
    found = judged.read_json("metrics.json")["scores"]["test"]["accuracy"]
    assert len(right) > 500 and found == pytest.approx(sum(right) / len(right))


def test_unseen_speakers_are_judged(tmp_path: Path) -> None:
    done = run(tmp_path / "run", "speech/unseen", "debug", quiet=("pretrain.train.progress", "probe.train.progress"))
    assert done.read_json("folds.json")["models"].keys() == {"fbank", "hubert", "hubert, random start"}


def test_a_missing_corpus_is_known_before_pretraining(tmp_path: Path) -> None:
    words = ["speech/unseen", "--data_dir", str(tmp_path), "--output_dir", str(tmp_path / "run")]
    with pytest.raises(DataError, match="expected a folder with recordings"):
        recipe.start(*recipe.parse(words))
    assert not (tmp_path / "run" / "pretrain-hubert").exists()


def test_fbank_is_judged(tmp_path: Path) -> None:
    judged = run(tmp_path / "run", "speech/finetune", "speakers", "debug")
    metrics = judged.read_json("metrics.json")
    assert metrics["score"]["split"] == "test" and len(judged.read_predictions("test")) == 12


def test_the_whole_model_is_trained_on(tmp_path: Path) -> None:
    words = ["speech/finetune", "commands", "whole", "debug", "--model", "wav2vec2-tiny", "--train.steps", "2"]
    counts = run(tmp_path / "run", *words).read_json("metrics.json")["parameters"]
    assert counts["trained"] == counts["all"] > 10**6


def test_methods_are_compared_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quiet = ("pretrain.train.progress", "probe.train.progress")
    done = run(tmp_path / "run", "speech/methods", "debug", quiet=quiet)
    lines = (done.path / "table.md").read_text().splitlines()
    assert [line.split("|")[1].strip() for line in lines] == ["method", "---", "fbank", "mockingjay", "apc"]
    found = done.read_json("methods.json")
    assert found["scores"]["apc"].keys() == {"pretrained", "random"} and found["costs"]["apc"]["steps"] == 6
    capsys.readouterr()
    recipe.start(*recipe.parse(["speech/methods", "debug", "--output_dir", str(done.path), "--resume"]))
    assert "already finished" in capsys.readouterr().out
