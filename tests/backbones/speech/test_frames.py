"""Filterbanks against torchaudio by hand, nets on them: counts, padding, causality, saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchaudio
from transformers import AutoConfig, AutoModel

from hfcourse.backbones.speech.features import KaldiMel, LogMel, normalised, stacked
from hfcourse.backbones.speech.frames import GRULayers
from hfcourse.backbones.speech.nets import FramesConfig, FramesModel
from hfcourse.backbones.speech.rate import is_speech, shortest, state_counts, stride
from hfcourse.model import quiet

KINDS = ("transformer", "causal", "gru", "sinusoidal")


def net(kind: str, **more: object) -> FramesModel:
    torch.manual_seed(0)
    sizes = {} if kind == "none" else {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return FramesModel(FramesConfig(layers=kind, stack=2, mels=20, **sizes, **more)).eval()


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Two waves, the second 5,000 of 8,000 samples long."""
    waves = torch.randn(2, 8000, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 8000, dtype=torch.long)
    mask[1, 5000:], waves[1, 5000:] = 0, 0
    return waves, mask


def test_log_mel_by_hand() -> None:
    wave = batch()[0][:1]
    found = LogMel(sample_rate=16_000, mels=20, window=400, hop=160, cmvn=False)(wave, None)[0] * 4.0
    frames = wave[0].unfold(0, 400, 160) * torch.hann_window(400)
    power = torch.fft.rfft(frames).abs().square()
    filters = torchaudio.functional.melscale_fbanks(201, 0.0, 8000.0, 20, 16_000)
    assert torch.allclose(found, (power @ filters).clamp(min=1e-6).log(), atol=1e-4)


def test_normalised_over_what_is_there_alone() -> None:
    frames = torch.randn(2, 10, 3) * 5 + 2
    counts = torch.tensor([10, 6])
    found = normalised(frames, counts)
    assert torch.allclose(found[1, :6], normalised(frames[1:, :6], None)[0], atol=1e-5)
    assert torch.allclose(found[1, :6].mean(dim=0), torch.zeros(3), atol=1e-5) and not found[1, 6:].any()


def test_a_frame_alone_is_its_own_mean() -> None:
    """The variance of a sample of one is not known; in a padded batch as by itself it is taken for 0."""
    bank = KaldiMel(sample_rate=16_000, mels=20, window=400, hop=160, shape="povey")
    for counts in (None, torch.tensor([1])):
        assert bank(torch.randn(1, 500), counts).abs().max() == 0


def test_stacked() -> None:
    frames = torch.arange(14.0).view(1, 7, 2)
    assert stacked(frames, 3).tolist() == [[[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]]


@pytest.mark.parametrize("window", ["povey", "hamming"])
@pytest.mark.parametrize("deltas", [0, 2])
def test_frames_as_kaldi_makes_them(window: str, deltas: int) -> None:
    """torchaudio's, each recording alone."""
    waves, mask = batch()
    bank = KaldiMel(sample_rate=16_000, mels=20, window=400, hop=160, shape=window, deltas=deltas, cmvn=False)
    counts = (mask.sum(dim=1) - 400) // 160 + 1
    found = bank(waves, counts)
    for row, samples in enumerate(mask.sum(dim=1).tolist()):
        wave = waves[row : row + 1, :samples]
        parts = [torchaudio.compliance.kaldi.fbank(wave, num_mel_bins=20, window_type=window).T]
        for _ in range(deltas):
            parts.append(torchaudio.functional.compute_deltas(parts[-1]))
        expected = torch.cat(parts).T
        assert len(expected) == counts[row] and torch.allclose(found[row, : len(expected)], expected, atol=1e-4)


PADDED: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in ("none", *KINDS)),
    ("none", {"deltas": 2, "cmvn": False}),
    ("gru", {"deltas": 1, "kaldi": "povey"}),
]


@pytest.mark.parametrize(("kind", "more"), PADDED)
def test_padding_changes_nothing(kind: str, more: dict[str, Any]) -> None:
    model, (waves, mask) = net(kind, **more), batch()
    together = model(waves, mask, output_hidden_states=True)
    alone = model(waves[1:, :5000]).last_hidden_state
    count = int(state_counts(model.config, 5000))
    assert alone.shape[1] == count and together.last_hidden_state.shape[1] == int(state_counts(model.config, 8000))
    assert torch.allclose(together.last_hidden_state[1, :count], alone[0], atol=1e-5)
    assert len(together.hidden_states) == model.config.num_hidden_layers + 1


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_transformer_hears_the_future(kind: str) -> None:
    model = net(kind)
    frames = torch.randn(1, 12, model.config.feature_size)
    later = frames.clone()
    later[0, 8:] = 0
    one, other = (model(features=given).last_hidden_state[0, :8] for given in (frames, later))
    assert torch.allclose(one, other) == (kind not in {"transformer", "sinusoidal"})


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_read_again(kind: str, tmp_path: Path) -> None:
    model, (waves, mask) = net(kind), batch()
    with quiet():
        model.save_pretrained(tmp_path)
        again = AutoModel.from_pretrained(tmp_path).eval()
    assert torch.equal(again(waves, mask).last_hidden_state, model(waves, mask).last_hidden_state)


CONFIGS = {
    "wav2vec2": AutoConfig.for_model("wav2vec2"),
    "fbank": FramesConfig(stack=3),
    "whisper": AutoConfig.for_model("whisper"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_counts_of_states(name: str) -> None:
    config = CONFIGS[name]
    fewest = shortest(config)
    assert is_speech(config) and state_counts(config, fewest) == 1 and state_counts(config, fewest - 1) == 0
    samples = np.array([fewest, 16_000, 50_000])
    assert np.array_equal(state_counts(config, torch.from_numpy(samples)).numpy(), state_counts(config, samples))
    assert state_counts(config, 16_000 + stride(config)) == state_counts(config, 16_000) + 1


def test_counts_as_transformers_has_them() -> None:
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    model = Wav2Vec2Model(config)
    for samples in (400, 719, 720, 16_000):
        assert int(model._get_feat_extract_output_lengths(samples)) == state_counts(config, samples)
    assert state_counts(CONFIGS["whisper"], 40 * 16_000) == 1500  # 30 s at most


def test_text_models_hear_nothing() -> None:
    assert not is_speech(AutoConfig.for_model("bert"))
    with pytest.raises(ValueError, match="bert: no convolutions"):
        state_counts(AutoConfig.for_model("bert"), 16_000)


@pytest.mark.gpu
def test_gru_layers_take_no_fp16_under_autocast() -> None:
    """bf16 is trained without a scale for the loss, and gradients of fp16 need one."""
    torch.manual_seed(0)
    layers, states = GRULayers(16, 2, 0.0).cuda(), torch.randn(2, 9, 16, device="cuda")
    gradients = []
    for precision in (torch.float32, torch.bfloat16):
        with torch.autocast("cuda", precision, enabled=precision is torch.bfloat16):
            found = layers(states).last_hidden_state
        assert found is not None and found.dtype == torch.float32
        gradients.append(torch.autograd.grad((1e7 * found).sum(), list(layers.parameters())))
    for mine, plain in zip(*gradients, strict=True):
        assert mine.isfinite().all()
        torch.testing.assert_close(mine, plain, rtol=1e-3, atol=1e-3 * float(plain.abs().max()))
