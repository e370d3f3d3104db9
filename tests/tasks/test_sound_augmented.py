"""Augmented training: labels under the states that hear them, batches as long as they sound, resume bit for bit."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import pytest
import torch

from hfcourse import model as models
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.data.augment_settings import AugmentConfig
from hfcourse.engine.fit import fit
from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
from hfcourse.errors import ConfigError, Interrupted, ModelError
from hfcourse.objectives.speech.base import Draws
from hfcourse.objectives.speech.settings import HuBERT
from hfcourse.peft_settings import PeftSettings
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.sound import context_of, crops, heard, heard_lengths
from hfcourse.tasks.speech_classification import SpeechClassificationConfig, SpeechFramesConfig, SpeechTask
from hfcourse.tasks.speech_pretraining import SpeechPretrainingConfig
from tests import sounds

_TIMED = {"seconds", "audio_per_s"}
ALL = AugmentConfig(speeds=(0.9, 1.0, 1.1), time_masks=2, channel_masks=1)
SLOW = AugmentConfig(speeds=(0.5,))
TELEPHONES = AugmentConfig(narrow=0.5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sounds.write(tmp_path_factory.mktemp("sounds"), {"train": 24, "dev": 6, "test": 6})


def task_of(data: Path, augment: AugmentConfig, kind: Any = SpeechClassificationConfig, **settings: Any) -> SpeechTask:
    model = settings.pop("model", "fbank")
    return kind(data=str(data), augment=augment, **settings).build(context_of(model, BackboneConfig(), seed=5))


def test_labels_go_with_the_speed(data: Path) -> None:
    """At half the speed each half of a recording lasts twice as long; the phone changes at its middle all the same."""
    task = task_of(data, SLOW, SpeechFramesConfig, longest=0.0)
    rows = task.splits["train"].take([0, 1])
    batch = task.collate(rows, epoch=0)
    whole = task.splits["train"].whole[[0, 1]]  # type: ignore[attr-defined]
    assert (
        batch["sample_counts"].tolist() == (2 * whole).tolist() == [len(row.nonzero()) for row in batch["input_values"]]
    )
    for labels, count in zip(batch["labels"], batch["sample_counts"].tolist(), strict=True):
        states = (count - 560) // 320 + 1
        assert [int(label) == task.labels.number("lo", "") for label in labels[:states]] == [
            320 * state + 280 < count / 2 for state in range(states)
        ]
        assert (labels[states:] == -100).all()


def test_batches_are_planned_by_what_is_heard(data: Path) -> None:
    task = task_of(data, ALL, longest=0.7)
    clips: Any = task.splits["train"]
    for epoch in (0, 1):
        lengths = task.lengths("train", epoch=epoch)
        for row in range(len(clips)):
            count = int(task.collate(clips.take([row]), epoch=epoch)["sample_counts"][0])
            assert lengths[row] == -(-count // 160) <= 70
    assert (task.lengths("train", epoch=0) != task.lengths("train", epoch=1)).any()
    assert (task.lengths("train") == clips.lengths).all()
    steps = task.plan("train", examples=24, tokens=150, epoch=1)
    assert all(lengths[rows].max() * len(rows) <= 150 for rows in steps) and sum(map(len, steps)) == 24
    assert (heard_lengths(clips, AugmentConfig(time_masks=1), 0, 0) == clips.lengths).all()


def test_a_crop_holds_what_is_played_of_it() -> None:
    waves = [np.arange(1000, dtype=np.float32), np.arange(300, dtype=np.float32)]

    def cut(speed: float) -> list[np.ndarray]:
        def waveforms(rows: np.ndarray, parts: np.ndarray) -> list[np.ndarray]:
            return [waves[row][begin : begin + count] for row, (begin, count) in zip(rows, parts, strict=True)]

        clips = SimpleNamespace(whole=np.array([1000, 300]), longest=400, waveforms=waveforms)
        rows, speeds = np.arange(2), np.full(2, speed)
        return heard(clips, rows, crops(clips, rows, speeds=speeds, positions=np.array([0.5, 0.5])), speeds)

    found = cut(2.0)
    assert [len(wave) for wave in found] == [400, 150]
    # 800 samples of the first are heard, from (1000 - 800 + 1) / 2 on, every second one.
    assert found[0][50:350] == pytest.approx(100 + 2 * np.arange(50, 350), abs=3)
    whole = cut(1.0)
    assert whole[0].tolist() == list(range(300, 700)) and whole[1].tolist() == list(range(300))


@pytest.mark.parametrize("model", ["fbank", "wav2vec2-tiny"])
def test_only_training_is_augmented(model: str, data: Path) -> None:
    task, plain = (task_of(data, augment, model=model, layers="last") for augment in (ALL, AugmentConfig()))
    rows = task.splits["train"].take(range(8))
    evaluated, as_it_is = (one.collate(rows, epoch=-1) for one in (task, plain))
    assert evaluated.keys() == as_it_is.keys() and all(torch.equal(evaluated[k], as_it_is[k]) for k in evaluated)
    trained = task.collate(rows, epoch=0)
    assert trained.keys() - as_it_is.keys() == {"mask_time_indices", "mask_feature_indices"}
    again, other = (task.collate(rows, epoch=epoch) for epoch in (0, 1))
    assert all(torch.equal(trained[key], again[key]) for key in trained)
    assert not torch.equal(trained["mask_feature_indices"], other["mask_feature_indices"])
    net = models.build(model, task.head, seed=0).eval()
    with torch.no_grad():
        losses = [float(net(**batch).loss) for batch in (trained, again, as_it_is, evaluated)]
        bare = {k: v for k, v in trained.items() if not k.startswith("mask_")}
        unmasked = float(net(**bare).loss)
        bands = float(net(**bare, mask_feature_indices=trained["mask_feature_indices"]).loss)
    assert losses[0] == losses[1] and losses[2] == losses[3]
    assert len({losses[0], losses[2], unmasked, bands}) == 4  # speeds, bands and stretches: each acts


def test_a_row_is_heard_over_a_telephone(data: Path) -> None:
    """What the backbone gets has next to nothing above 4.2 kHz, of the rows that are drawn, in training alone."""
    narrow, plain = (task_of(data, augment, model="wav2vec2-tiny") for augment in (TELEPHONES, AugmentConfig()))
    assert narrow.augments and not plain.augments
    rows = narrow.splits["train"].take(range(24))

    def above(task: Any, epoch: int) -> torch.Tensor:
        """Each row's share of energy above 4.2 kHz."""
        values = task.collate(rows, epoch=epoch)["input_values"]
        energy = torch.fft.rfft(values).abs().square()
        return energy[:, round(energy.shape[1] * 4.2 / 8) :].sum(1) / energy.sum(1)

    whole, heard_now = above(plain, 0), above(narrow, 0)
    changed = heard_now < 0.01 * whole
    assert 6 <= int(changed.sum()) <= 18
    assert torch.equal(heard_now[~changed], whole[~changed]) and torch.equal(above(narrow, -1), whole)


def config_of(**peft: Any) -> FitConfig:
    train = TrainConfig(epochs=3, eval_every=0, progress=False, precision="fp32", log_every=1)
    return FitConfig(batch=BatchConfig(examples=8), optim=OptimConfig(lr=0.01), train=train, peft=PeftSettings(**peft))


def test_a_frozen_backbone_hears_every_epoch_and_resume_is_bit_identical(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(method="linear")

    def learn(name: str, *, resume: bool = False) -> dict[str, torch.Tensor]:
        task = task_of(data, ALL)
        net = models.build("fbank", task.head, peft=config.peft)
        run = RunFolder.create(tmp_path / name, {"recipe": "test"}, resume=resume)
        fit(net, task, config, run)
        return {name: tensor.clone() for name, tensor in models.load(run.path).state_dict().items()}

    whole = learn("whole")
    assert "its states were computed once" not in capsys.readouterr().err
    true, left = SpeechTask.collate, [1]

    def interrupting(self: SpeechTask, rows: Any, *, epoch: int) -> Any:
        if epoch == 1 and left[0]:
            left[0] -= 1
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.05)
        return true(self, rows, epoch=epoch)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(SpeechTask, "collate", interrupting)
        learn("cut")
    resumed = learn("cut", resume=True)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    runs = (RunFolder.open(tmp_path / name).read_log() for name in ("cut", "whole"))
    cut, uncut = ([{k: v for k, v in line.items() if k not in _TIMED} for line in log] for log in runs)
    assert cut == uncut and len(cut) > 9


def test_units_go_with_the_speed(data: Path, tmp_path: Path) -> None:
    """HuBERT's clusters, made of the recordings as they are, stand at the states that hear the same moment."""
    context = context_of("hubert-tiny", BackboneConfig(), folder=tmp_path)
    config = SpeechPretrainingConfig(data=str(data), method=HuBERT(clusters=8), augment=SLOW)
    task = config.build(context)
    objective: Any = task.objective
    rows, clips = np.array([0, 3]), task.splits["train"]
    batch = task.collate(clips.take(rows), epoch=0)
    units, states = objective._units[clips], batch["states"].tolist()
    for at, (row, count) in enumerate(zip(rows, states, strict=True)):
        own = units.recording(row)
        for state in range(count):
            # In samples of the recording: a state of the tiny net hears 736, a unit of MFCC 400.
            middle = (320 * state + 368) * 0.5
            nearest = np.abs(np.arange(len(own)) * 160 + 200 - middle).argmin()
            assert int(batch["units"][at, state]) == own[nearest]
    assert (batch["sample_counts"].numpy() == 2 * clips.whole[rows]).all()  # type: ignore[attr-defined]
    assert Draws(0, 0, rows).speeds == 1.0
    assert task.lengths("train", epoch=0)[0] == -(-2 * clips.whole[0] // 160)  # type: ignore[attr-defined]


def test_masks_that_cannot_be_are_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match=r"task.augment masks and task.method is hubert.*leave out"):
        SpeechPretrainingConfig(method=HuBERT(), augment=ALL)
    with pytest.raises(ModelError, match="a hfcourse_conv net takes no masks"):
        task_of(data, ALL, model="cpc-tiny")
    assert task_of(data, SLOW, model="cpc-tiny").augments


def test_filterbanks_with_and_without_cmvn() -> None:
    """A setting of the backbone: the preset fbank has none of its own, nets on filterbanks have."""
    from hfcourse.backbones.load import load_config

    assert not load_config("fbank", BackboneConfig(), None).cmvn
    net: Any = models.build("fbank", task_head(), backbone=BackboneConfig(cmvn=True))
    frames, _ = net.backbone.features(torch.randn(1, 8000) * 3 + 1)  # two neighbours side by side
    assert torch.allclose(frames.view(48, 240).mean(dim=0), torch.zeros(240), atol=1e-4)
    assert torch.allclose(frames.view(48, 240).std(dim=0, correction=0), torch.ones(240), atol=1e-2)
    assert not load_config("apc-tiny", BackboneConfig(cmvn=False), None).cmvn
    with pytest.raises(ConfigError, match=r"backbone.cmvn is for nets on filterbanks, and cpc-tiny reads none"):
        load_config("cpc-tiny", BackboneConfig(cmvn=True), None)


def task_head() -> Any:
    from hfcourse.heads.spec import HeadSpec

    return HeadSpec(kind="sequence", labels=("a", "b"), pooling="mean", layers="mix")


@pytest.mark.parametrize("kind", [SpeechClassificationConfig, SpeechPretrainingConfig])
def test_what_is_too_short_at_the_fastest_speed_is_left_out_of_training(tmp_path: Path, kind: Any) -> None:
    """fbank needs 560 samples; at 1.1 times the speed 617 are 561, and 616 are 560."""
    folder = sounds.write(tmp_path, {"train": 6, "dev": 3})
    rows = datasets.load_dataset("parquet", data_files=str(folder / "train.parquet"), split="train").to_list()
    for row, length in zip(rows, (615, 616, 560), strict=False):
        row["audio"] = sounds.cell(sounds.tone(300, length / sounds.RATE), name=f"{length}.flac")
    datasets.Dataset.from_list(rows).to_parquet(folder / "train.parquet")
    context = context_of("fbank", BackboneConfig(), seed=5)
    task = kind(data=str(folder), augment=AugmentConfig(speeds=(0.9, 1.1))).build(context)
    assert len(task.splits["train"]) == 4 and "2 too short (615.flac, 560.flac)" in context.notes[0]
    for epoch in range(4):
        batch = task.collate(task.splits["train"].take(range(4)), epoch=epoch)
        assert batch["sample_counts"].min() >= 560
    with pytest.raises(ConfigError, match=r"task.longest is 0.03: the model needs 0.035 s"):
        kind(data=str(folder), longest=0.03).build(context)
