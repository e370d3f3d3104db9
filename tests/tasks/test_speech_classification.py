"""Labelled recordings: labels at the rate of the states, a probe that learns, and frozen states computed once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from transformers import ASTConfig, SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

from hfcourse import model as models
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.rate import shortest, state_counts, stride
from hfcourse.data import audio
from hfcourse.engine.fit import fit
from hfcourse.engine.settings import BatchConfig, FitConfig, OptimConfig, TrainConfig
from hfcourse.errors import DataError, ModelError
from hfcourse.peft_settings import PeftSettings
from hfcourse.run_folder import RunFolder
from hfcourse.tasks.sound import context_of
from hfcourse.tasks.speech_classification import SpeechClassificationConfig, SpeechFramesConfig, SpeechTask
from tests import sounds


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sounds.write(tmp_path_factory.mktemp("sounds"), {"train": 48, "dev": 15, "test": 15})


@pytest.fixture(scope="module")
def build(data: Path) -> Callable[..., SpeechTask]:
    def make(config: type[SpeechClassificationConfig], model: str = "fbank", **settings: Any) -> SpeechTask:
        return config(data=str(data), **settings).build(context_of(model, BackboneConfig()))

    return make


def run(task: SpeechTask, place: Path, *, steps: int = 60, model: str = "fbank") -> Any:
    config = FitConfig(
        batch=BatchConfig(examples=16),
        peft=PeftSettings(method="linear"),
        optim=OptimConfig(lr=0.05),
        train=TrainConfig(steps=steps, eval_every=steps, progress=False, precision="fp32"),
    )
    net = models.build(model, task.head, peft=config.peft)
    return fit(net, task, config, RunFolder.create(place, {"recipe": "test"}))


def test_labels_stand_at_the_states_that_hear_them(build: Callable[..., SpeechTask]) -> None:
    task = build(SpeechFramesConfig)
    assert task.labels.names == ("-", "hi0", "hi1", "hi2", "lo")
    rows = task.splits["train"].take([0, 1])
    batch = task.collate(rows, epoch=0)
    for row, labels, count in zip(rows, batch["labels"], batch["sample_counts"].tolist(), strict=True):
        # By hand: state s hears samples from 320 s to 320 s + 560; the phone changes in the middle of the recording.
        for state in range((count - 560) // 320 + 1):
            low = 320 * state + 280 < count / 2
            assert task.labels.names[labels[state]] == ("lo" if low else f"hi{'abc'.index(row['label'])}")
        assert (labels[(count - 560) // 320 + 1 :] == -100).all()


def test_gaps_between_phones_are_silence(build: Callable[..., SpeechTask]) -> None:
    task: Any = build(SpeechFramesConfig)
    row = {"_target": [[2.0, 0.0, 0.1], [3.0, 0.2, 0.3]]}
    assert (
        task._classes(row, 20).tolist() == [2] * 5 + [0] * 5 + [3] * 5 + [0] * 5
    )  # middles at 17.5 ms + 20 ms x state
    assert task._classes({"_target": []}, 3).tolist() == [0, 0, 0]


@pytest.mark.parametrize("config", [SpeechClassificationConfig, SpeechFramesConfig])
def test_a_probe_learns_and_hears_each_recording_once(
    config: type[SpeechClassificationConfig],
    build: Callable[..., SpeechTask],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    task, calls, true = build(config), [], audio.decode

    def counted(part: Any, rate: int, *cut: int) -> np.ndarray:
        calls.append(part.path)
        return true(part, rate, *cut)

    monkeypatch.setattr(audio, "decode", counted)
    scores = run(task, tmp_path / "run")
    assert scores["test"]["accuracy"] > 0.9  # a third, or half of the frames, by chance
    assert len(calls) == 48 + 15 + 15


@pytest.mark.parametrize("pooling", ["mean", "max"])
@pytest.mark.parametrize("layers", ["mix", "last"])
@pytest.mark.parametrize("config", [SpeechClassificationConfig, SpeechFramesConfig])
def test_states_that_were_kept_are_those_of_a_pass(
    config: type[SpeechClassificationConfig],
    layers: str,
    pooling: str,
    build: Callable[..., SpeechTask],
    tmp_path: Path,
) -> None:
    """What a model answers with its backbone is what was judged from kept states, or from the mean of each row's."""
    from hfcourse.engine.evaluate import predictions

    task = build(config, "apc-tiny", layers=layers, pooling=pooling)
    run(task, tmp_path / "run", steps=5, model="apc-tiny")
    net = models.load(tmp_path / "run")
    again = predictions(net.eval(), task, "test", batch=BatchConfig(eval_tokens=300))
    kept = RunFolder.open(tmp_path / "run").read_predictions("test")
    assert [answer["prediction"] for answer in again] == [answer["prediction"] for answer in kept]
    if config.head_kind == "sequence":
        shares = ([answer["confidence"] for answer in answers] for answers in (again, kept))
        np.testing.assert_allclose(*shares, rtol=1e-4)


def test_a_head_of_means_keeps_one_state_a_row(
    build: Callable[..., SpeechTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hfcourse.engine import frozen

    kept: list[int] = []
    true = frozen._Store.__init__

    def noted(self: Any, *arguments: Any) -> None:
        true(self, *arguments)
        kept.append(self.states.nbytes)

    monkeypatch.setattr(frozen._Store, "__init__", noted)
    for pooling in ("mean", "max"):
        kept.clear()
        task = build(SpeechClassificationConfig, "apc-tiny", pooling=pooling)
        run(task, tmp_path / pooling, steps=1, model="apc-tiny")
        net: Any = models.build("apc-tiny", task.head)
        assert sum(kept) == frozen._size(net, task)
        one_each = 4 * (48 + 15 + 15) * (net.backbone.config.num_hidden_layers + 1) * net.backbone.config.hidden_size
        assert sum(kept) == one_each if pooling == "mean" else sum(kept) > 20 * one_each


def test_a_whisper_encoder_and_its_padding(build: Callable[..., SpeechTask]) -> None:
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    from hfcourse.headed_model import HeadedModel, headed_config
    from hfcourse.weights import copy_backbone

    task = build(SpeechClassificationConfig)
    sizes = {"d_model": 24, "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 16}
    config = WhisperConfig(**sizes)
    context: Any = task.context
    object.__setattr__(context, "extractor", WhisperFeatureExtractor())
    object.__setattr__(context, "backbone", config)
    net = HeadedModel(headed_config(config, (task.head,))).eval()
    copy_backbone(WhisperModel(config), net, "whisper")
    rows = task.splits["train"].take([0, 1, 2])
    batch = task.collate(rows, epoch=0)
    assert batch["input_features"].shape == (3, 80, 3000)
    states = net.encode(batch)
    assert states.mask is not None and states.mask.sum(dim=1).tolist() == [
        -(-count // 320) for count in batch["sample_counts"].tolist()
    ]
    assert torch.isfinite(net(**batch).loss)


def test_wrong_data_is_named(build: Callable[..., SpeechTask], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"unknown column 'speaker'"):
        build(SpeechClassificationConfig, label="speaker")
    with pytest.raises(ModelError, match="bert-tiny is a preset that reads text: name a speech model"):
        build(SpeechClassificationConfig, model="bert-tiny")


def test_a_net_that_hears_otherwise_is_refused(tmp_path: Path) -> None:
    """Patches of a picture of sound tell nobody here how many states so many samples have."""
    ASTConfig().save_pretrained(tmp_path / "ast")
    with pytest.raises(ModelError, match=r"is a audio-spectrogram-transformer: .* not known here: name a net with"):
        context_of(str(tmp_path / "ast"), BackboneConfig())
    Wav2Vec2BertConfig(add_adapter=True).save_pretrained(tmp_path / "adapter")
    with pytest.raises(ModelError, match=r"add_adapter in its config.json"):
        context_of(str(tmp_path / "adapter"), BackboneConfig())


@pytest.fixture(scope="module")
def wav2vec2_bert(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small one with fresh weights, as the Hub has them."""
    folder = tmp_path_factory.mktemp("w2v-bert")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    Wav2Vec2BertModel(Wav2Vec2BertConfig(**sizes, conv_depthwise_kernel_size=5)).save_pretrained(folder)
    SeamlessM4TFeatureExtractor().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("samples", [559, 560, 879, 880, 16_000, 16_123])
def test_states_of_a_net_on_filterbanks(wav2vec2_bert: str, samples: int) -> None:
    """As many as its own extractor says are real."""
    context = context_of(wav2vec2_bert, BackboneConfig())
    found = int(state_counts(context.backbone, samples))
    if samples < shortest(context.backbone):
        assert found == 0
        return
    waves = [np.random.default_rng(n).standard_normal(n).astype(np.float32) for n in (samples, 20_000)]
    mask = context.extractor(waves, sampling_rate=16_000, return_tensors="np").attention_mask
    assert found == mask[0].sum() and stride(context.backbone) == 320


def test_a_net_on_filterbanks_learns_and_does_not_hear_padding(
    wav2vec2_bert: str, build: Callable[..., SpeechTask], tmp_path: Path
) -> None:
    task = build(SpeechClassificationConfig, wav2vec2_bert)
    net: Any = models.build(wav2vec2_bert, task.head).eval()
    rows = task.splits["train"].take([0, 1, 2])
    batch = task.collate(rows, epoch=-1)
    assert len(set(batch["sample_counts"].tolist())) > 1 and not batch["attention_mask"].all()
    together = net(**batch).logits
    alone = torch.cat([net(**task.collate([row], epoch=-1)).logits for row in rows])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    net.train()
    loss = net(**task.collate(rows, epoch=0)).loss
    loss.backward()
    assert torch.isfinite(loss) and net.backbone.feature_projection.projection.weight.grad.abs().sum() > 0
    assert run(task, tmp_path, steps=2, model=wav2vec2_bert).metrics["steps"] == 2  # frozen, its states looked up


def test_cuts_that_are_no_seconds_are_refused(tmp_path: Path) -> None:
    rows = {**sounds.labelled(4, 0), "start": ["00:01:02"] * 4, "duration": [0.2] * 4}
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r", train: column 'start' holds '00:01:02': .* the seconds"):
        SpeechClassificationConfig(data=str(tmp_path)).build(context_of("fbank", BackboneConfig()))


def test_phones_out_of_order_are_refused(tmp_path: Path) -> None:
    """A state's phone is looked up by the order of their starts: another order would give wrong labels."""
    rows = sounds.labelled(4, 0)
    for name in ("phones", "starts", "ends"):
        rows[name][2].reverse()
    datasets.Dataset.from_dict(rows).to_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=r"train, row 3: its phones are not in the order in which they start"):
        SpeechFramesConfig(data=str(tmp_path)).build(context_of("fbank", BackboneConfig()))
