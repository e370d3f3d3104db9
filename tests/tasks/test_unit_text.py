"""Recordings as text, and the whole chain from recordings to a BERT that hears."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor

from hfcourse import recipe
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.conv import ConvConfig, ConvModel
from hfcourse.data import tokenizers
from hfcourse.errors import ConfigError, DataError, ModelError
from hfcourse.run_folder import RunFolder
from hfcourse.tasks import unit_text
from hfcourse.tasks.sound import context_of
from hfcourse.tasks.speech_pretraining import SpeechPretrainingConfig
from tests import sounds


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sounds.write(tmp_path_factory.mktemp("sounds"), {"train": 20, "dev": 6})


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small net with a codebook, saved."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"conv_kernel": [10, 8, 8], "conv_stride": [5, 8, 8], "conv_dim": [16, 16, 16]}
    model = ConvModel(ConvConfig(**shape, context="conv", context_kernel=[3], quantizer="kmeans", groups=2, codes=6))
    model.train()(torch.randn(2, 9000))
    folder = tmp_path_factory.mktemp("net")
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=True, return_attention_mask=True).save_pretrained(folder)
    return folder


def test_a_line_is_what_the_net_makes_of_a_recording(data: Path, net: Path, tmp_path: Path) -> None:
    model = unit_text.net_with_codebook(str(net))
    context = context_of(str(net), BackboneConfig())
    splits: Any = SpeechPretrainingConfig(data=str(data), longest=0.8).build(context).splits
    found = unit_text.write(model, splits, context, tmp_path / "units", most=5)
    assert found.is_whole and not list(tmp_path.glob(".*"))
    words: dict[str, list[list[str]]] = {}
    for split, clips in splits.items():
        words[split] = [line.split() for line in (found.text / f"{split}.txt").read_text().split("\n\n")[:-1]]
        assert len(words[split]) == len(clips) == found.facts[split]["recordings"]
        for row in (0, len(clips) - 1):
            heard = clips.waveforms([row])[0][: clips.longest]
            heard = (heard - heard.mean()) / np.sqrt(heard.var() + 1e-7)
            units = model.units(torch.from_numpy(heard)[None])[0]
            assert words[split][row] == [str(unit) for unit in units.tolist()], "no padding, nothing beyond `longest`"
    counted: dict[str, int] = {}
    for word in (word for line in words["train"] for word in line):
        counted[word] = counted.get(word, 0) + 1
    frequent = sorted(counted, key=lambda word: (-counted[word], int(word)))
    assert found.facts["units"] == 36 and found.facts["occur"] == len(counted) > 5 and found.facts["kept"] == 5
    tokenizer = tokenizers.load(str(found.tokenizer))
    assert tokenizer.convert_ids_to_tokens(list(range(10))) == [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *frequent[:5],
    ]
    ids = tokenizer(" ".join([frequent[1], frequent[5], frequent[0]]), add_special_tokens=False)["input_ids"]
    assert ids == [6, tokenizer.unk_token_id, 5]


def test_what_is_no_net_with_a_codebook_is_refused(tmp_path: Path) -> None:
    shape: dict[str, Any] = {"conv_kernel": [10], "conv_stride": [5], "conv_dim": [8]}
    ConvModel(ConvConfig(**shape)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no codebook in this model: name a vq_wav2vec"):
        unit_text.net_with_codebook(str(tmp_path))
    with pytest.raises(DataError, match="no unit occurs"):
        unit_text.tokenizer([])
    units = recipe.find("speech/units").module
    for wrong, message in (({"longest": 0.0}, "longest is 0.0"), ({"most": 0}, "most is 0")):
        with pytest.raises(ConfigError, match=message):
            units.Config(speech=units.base().speech, **wrong)
    with pytest.raises(ConfigError, match="apc: only vq_wav2vec makes units"):
        units.Config()


def test_the_chain_in_one_command(data: Path, net: Path, tmp_path: Path) -> None:
    """From recordings to a saved model that judges take; what is done is not done again."""
    words = ["speech/units", "debug", "--model", str(net), "--speech.task.data", str(data), "--bert.limit", "8"]
    words += ["--bert.train.steps", "2", "--no-bert.train.progress", "--output_dir", str(tmp_path / "run")]
    recipe.start(*recipe.parse(words))
    run = RunFolder.open(tmp_path / "run")
    assert run.finished and (run.path / "report.html").is_file()
    metrics = run.read_json("metrics.json")
    assert metrics["units"]["train"]["recordings"] == 20 and metrics["scores"].keys() == {"bert"}
    config = json.loads((run.model_dir / "config.json").read_text())
    assert config["model_type"] == "hfcourse_units" and (run.model_dir / "preprocessor_config.json").is_file()
    judged = ["speech/finetune", "debug", "--model", str(run.path), "--task.data", str(data)]
    judged += ["--no-train.progress", "--output_dir", str(tmp_path / "judged"), "--train.steps", "2"]
    recipe.start(*recipe.parse(judged))
    assert RunFolder.open(tmp_path / "judged").finished
    # Interrupted after the BERT: the units and the BERT are taken as they are.
    (run.path / "metrics.json").unlink()
    before = [(run.path / name).stat().st_mtime_ns for name in ("units/units.json", "bert/metrics.json")]
    recipe.start(*recipe.parse([*words, "--resume"]))
    assert before == [(run.path / name).stat().st_mtime_ns for name in ("units/units.json", "bert/metrics.json")]
    assert run.finished
