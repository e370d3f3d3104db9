"""Steps of several processes and of recordings: what is decoded, what idle processes leave out of the log."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig

from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.nets import FramesConfig, FramesModel
from hfcourse.data.clips import Clips
from hfcourse.engine.fit import fit
from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
from hfcourse.headed_model import HeadedModel, headed_config
from hfcourse.objectives.speech.settings import APC, Mockingjay
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.sound import context_of
from hfcourse.tasks.speech_classification import SpeechClassificationConfig
from hfcourse.tasks.speech_pretraining import SpeechPretrainingConfig
from tests import sounds

from .toy import ToyTask, toy_config, toy_model


def pretrain(data: Path, place: Path, method: Any = None, kind: str = "transformer", **train: Any) -> RunFolder:
    """A net of two frames a state that learns from the recordings in a folder."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    net = FramesModel(FramesConfig(layers=kind, mels=12, stack=2, hidden_dropout_prob=0.0, **sizes))
    settings = SpeechPretrainingConfig(data=str(data), method=method or Mockingjay())
    task = settings.build(context_of("fbank", BackboneConfig()))
    object.__setattr__(task.context, "backbone", net.config)
    config = FitConfig(
        batch=BatchConfig(examples=train.pop("examples", 8)),
        optim=OptimConfig(lr=1e-3),
        train=TrainConfig(log_every=1, progress=False, precision="fp32", **train),
    )
    run = folder(place)
    fit(net, task, config, run)
    return run


def folder(place: Path) -> RunFolder:
    """Of several processes one makes it."""
    if int(os.environ.get("RANK", "0")) == 0:
        return RunFolder.create(place, {"recipe": "test"})
    return RunFolder.attach(place, resume=False)


def test_each_recording_is_decoded_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, decoded, true = sounds.write(tmp_path, {"train": 20, "dev": 3}), Counter[int](), Clips._decode

    def counted(self: Clips, row: int, *part: int) -> Any:
        decoded[row] += len(self) == 20
        return true(self, row, *part)

    monkeypatch.setattr(Clips, "_decode", counted)
    assert pretrain(data, tmp_path / "run", epochs=2).read_json("metrics.json")["steps"] == 6
    assert +decoded == dict.fromkeys(range(20), 2)


def probe(place: Path, *, augments: bool) -> RunFolder:
    """A frozen BERT with much dropout under a head that learns."""
    task, net, run = ToyTask(), toy_model(dropout=0.5), RunFolder.create(place, {"recipe": "test"})
    task.augments = augments
    net.base_model.requires_grad_(False)
    fit(net, task, toy_config(), run)
    return run


def test_a_frozen_backbone_gives_the_states_of_evaluation(tmp_path: Path) -> None:
    """Where it runs in every step as where its states are computed once."""
    again, once = (probe(tmp_path / name, augments=name == "again").read_log() for name in ("again", "once"))
    for x, y in zip(again, once, strict=True):
        assert x["loss"] == pytest.approx(y["loss"], abs=1e-5)


TWO = """
import sys
from datetime import timedelta
from pathlib import Path
import torch
torch.set_num_threads(1)
from tests.engine.test_step import METHODS, pretrain, tune
data, place = map(Path, sys.argv[1:])
for name in METHODS:
    pretrain(data, place / name, *METHODS[name], examples=1, steps=3)
tune(data, place / "whole")
assert torch.distributed.group.WORLD._get_backend(torch.device("cpu")).options._timeout == timedelta(days=1)
"""
METHODS: dict[str, Any] = {"mockingjay": (Mockingjay(), "transformer"), "apc": (APC(), "causal")}


def tune(data: Path, place: Path) -> None:
    """A net that leaves out every other layer learns as a whole."""
    shape = {"conv_dim": [8, 8], "conv_kernel": [20, 16], "conv_stride": [20, 16], "num_feat_extract_layers": 2}
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
    more = {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 4, "layerdrop": 0.5}
    config = AutoConfig.for_model("hubert", **shape, **sizes, **more)
    task = SpeechClassificationConfig(data=str(data), layers="last").build(context_of("fbank", BackboneConfig()))
    object.__setattr__(task.context, "backbone", config)
    net = HeadedModel(headed_config(config, (task.head,)))
    settings = FitConfig(batch=BatchConfig(examples=4), train=TrainConfig(steps=5, progress=False, precision="fp32"))
    fit(net, task, settings, folder(place))


def test_two_processes_learn_from_sound_as_one_does(tmp_path: Path) -> None:
    """Steps of one recording: the second process is idle, and counts for nothing, in the losses as in the log."""
    root = Path(__file__).resolve().parents[2]
    (data := tmp_path / "data").mkdir()
    sounds.write(data, {"train": 8, "dev": 3})
    (tmp_path / "two.py").write_text(TWO)
    environment = {**os.environ, "PYTHONPATH": str(root), "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launch = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [*launch, str(tmp_path / "two.py"), str(data), str(tmp_path / "two")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)
    assert done.returncode == 0, done.stderr[-3000:]
    for name, method in METHODS.items():
        one = pretrain(data, tmp_path / "one" / name, *method, examples=1, steps=3).read_log()
        two = RunFolder.open(tmp_path / "two" / name)
        assert two.read_json("metrics.json")["processes"] == 2
        for x, y in zip(one, two.read_log(), strict=True):
            assert x.keys() == y.keys() and x.keys() & {"frames/spread"}
            for key in x.keys() - {"seconds", "audio_per_s", "split"}:
                assert x[key] == pytest.approx(y[key], abs=1e-4), key
