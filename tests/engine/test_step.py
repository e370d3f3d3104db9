"""Steps of several processes and of recordings: what is decoded, what idle processes leave out of the log."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.nets import FramesConfig, FramesModel
from hfcourse.data.clips import Clips
from hfcourse.engine.fit import fit
from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
from hfcourse.objectives.speech.settings import Mockingjay
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.sound import context_of
from hfcourse.tasks.speech_pretraining import SpeechPretrainingConfig
from tests import sounds


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
    run = RunFolder.create(place, {"recipe": "test"})
    fit(net, task, config, run)
    return run


def test_each_recording_is_decoded_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, decoded, true = sounds.write(tmp_path, {"train": 20, "dev": 3}), Counter[int](), Clips._decode

    def counted(self: Clips, row: int) -> Any:
        decoded[row] += len(self) == 20
        return true(self, row)

    monkeypatch.setattr(Clips, "_decode", counted)
    assert pretrain(data, tmp_path / "run", epochs=2).read_json("metrics.json")["steps"] == 6
    assert +decoded == dict.fromkeys(range(20), 2)
