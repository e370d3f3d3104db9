"""States on disk: those that the model gives, each recording once, nothing half-written, faults named."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from transformers import (
    HubertConfig,
    HubertModel,
    Wav2Vec2FeatureExtractor,
    WhisperConfig,
    WhisperFeatureExtractor,
    WhisperModel,
)

from hfcourse import cli
from hfcourse.engine import extract as module
from hfcourse.engine.extract import ExtractConfig, extract
from hfcourse.errors import ConfigError, DataError, RunFolderError
from hfcourse.model import quiet
from tests.sounds import RATE, tone

TINY = {"conv_dim": (8, 8), "conv_kernel": (10, 8), "conv_stride": (5, 64), "num_feat_extract_layers": 2}


@pytest.fixture(scope="module", params=["layer", "group"])
def model(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A net as published: without a mask where the first norm is over time, which would hear padding all the same."""
    folder = tmp_path_factory.mktemp("hubert")
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=16,
        feat_extract_norm=request.param, num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, **TINY,
    )  # fmt: skip
    with quiet():
        HubertModel(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(return_attention_mask=request.param == "layer").save_pretrained(folder)
    return folder


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Three recordings in two folders, one of them at 8 kHz, and two that are none."""
    root = tmp_path / "sounds"
    (root / "deep").mkdir(parents=True)
    soundfile.write(root / "a.wav", tone(300, 0.4), RATE)
    soundfile.write(root / "deep" / "b.flac", tone(500, 0.9), RATE)
    soundfile.write(root / "deep" / "c.wav", tone(400, 0.5, rate=8000), 8000)
    (root / "junk.wav").write_bytes(b"no sound")
    soundfile.write(root / "silent.wav", np.zeros(8000), RATE)
    (root / "notes.txt").write_text("no recording at all")
    return root


def test_states_are_the_models(model: Path, sounds: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    places = extract(ExtractConfig(model=str(model), layers=(0, -1), dtype="float32"), sounds, out)
    assert [place.relative_to(out).as_posix() for place in places] == ["a.npy", "deep/b.npy", "deep/c.npy"]
    net, extractor = HubertModel.from_pretrained(model).eval(), Wav2Vec2FeatureExtractor.from_pretrained(model)
    # The first is shorter than others of its batch: what is padded there is not heard.
    for place, name in zip(places, ("a.wav", "deep/b.flac"), strict=False):
        wave, _ = soundfile.read(sounds / name, dtype="float32")
        with torch.no_grad():
            inputs = extractor(wave, sampling_rate=RATE, return_tensors="pt").input_values
            hidden = net(inputs, output_hidden_states=True).hidden_states
        assert np.abs(np.load(place) - torch.cat([hidden[0], hidden[2]]).numpy()).max() < 1e-4
    described = json.loads((out / "features.json").read_text())
    assert described["layers"] == [0, 2] and described["rate"] == RATE and described["stride"] == 320


def test_what_is_there_is_not_computed_again(
    model: Path, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, settings = tmp_path / "out", ExtractConfig(model=str(model))
    places = extract(settings, sounds, out)
    assert np.load(places[0]).shape[0] == 3 and np.load(places[0]).dtype == np.float16
    places[1].unlink()
    written: list[Path] = []
    true: Any = module._write
    monkeypatch.setattr(module, "_write", lambda place, states: (written.append(place), true(place, states)))
    extract(settings, sounds, out)
    assert written == [places[1]] and not list(out.rglob("*.partial"))
    with pytest.raises(RunFolderError, match="holds states with other layers: give another folder"):
        extract(ExtractConfig(model=str(model), layers=(1,)), sounds, out)


def test_what_has_changed_is_computed_again_or_refused(model: Path, sounds: Path, tmp_path: Path) -> None:
    """A recording that was replaced gets its own states; a model that learned on in its folder is another one."""
    copy, out = tmp_path / "copy", tmp_path / "out"
    shutil.copytree(model, copy)
    place, other, _ = extract(ExtractConfig(model=str(copy)), sounds, out)
    before, stamp = np.load(place).shape, other.stat().st_mtime_ns
    soundfile.write(sounds / "a.wav", tone(300, 0.8), RATE)
    extract(ExtractConfig(model=str(copy)), sounds, out)
    assert np.load(place).shape[1] == 2 * before[1] and other.stat().st_mtime_ns == stamp
    net = HubertModel.from_pretrained(copy)
    net.encoder.layer_norm.weight.data += 1
    with quiet():
        net.save_pretrained(copy)
    with pytest.raises(RunFolderError, match="holds states with other weights: give another folder"):
        extract(ExtractConfig(model=str(copy)), sounds, out)


def test_filterbanks_have_no_weights(sounds: Path, tmp_path: Path) -> None:
    place = extract(ExtractConfig(model="fbank", dtype="float32"), sounds, tmp_path / "out")[0]
    assert np.load(place).shape == (1, 19, 480)  # (6400 - 400) // 160 + 1 frames, two a state


def test_what_whisper_does_not_hear_is_told(sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It hears a fixed stretch: here a second instead of 30."""
    soundfile.write(sounds / "long.wav", tone(300, 1.2), RATE)
    config = WhisperConfig(
        d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=20, max_source_positions=50, pad_token_id=0,
        bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    )  # fmt: skip
    with quiet():
        WhisperModel(config).save_pretrained(tmp_path / "whisper")
    WhisperFeatureExtractor(chunk_length=1).save_pretrained(tmp_path / "whisper")
    places = extract(ExtractConfig(model=str(tmp_path / "whisper")), sounds, tmp_path / "out")
    assert "1 of 4 recordings are longer than 1 s: no more is heard" in capsys.readouterr().err
    assert [np.load(place).shape[1] for place in places] == [20, 45, 25, 50]


def test_wrong_input_is_named(model: Path, sounds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    extract(ExtractConfig(model=str(model)), sounds, tmp_path / "out")
    assert "2 of 5 recordings: 1 not audio" in capsys.readouterr().err
    with pytest.raises(DataError, match=r"junk.wav.*leave out --strict"):
        extract(ExtractConfig(model=str(model), strict=True), sounds, tmp_path / "strict")
    with pytest.raises(DataError, match="no recordings in here"):
        extract(ExtractConfig(model=str(model)), model, tmp_path / "other")
    with pytest.raises(DataError, match="no such file or folder"):
        extract(ExtractConfig(model=str(model)), tmp_path / "none", tmp_path / "other")
    with pytest.raises(ConfigError, match="--layers 7: the model has layers 0 to 2"):
        extract(ExtractConfig(model=str(model), layers=(7,)), sounds, tmp_path / "other")
    for words, message in (
        (["--layers", "1", str(sounds), "out"], "--model is missing"),
        (["--modle", "x", str(sounds), "out"], "unknown setting '--modle': did you mean '--model'?"),
        ([str(sounds), "out"], "usage: hfcourse extract"),
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(["extract", *words])
        assert ended.value.code == 2 and message in capsys.readouterr().err
