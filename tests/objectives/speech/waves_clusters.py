"""Recordings of tones that follow each other, as a table, and a HuBERT of a few thousand weights that hears them."""

from __future__ import annotations

import io
from typing import Any

import datasets
import numpy as np
import soundfile
import torch
from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor

from hfcourse.backbones.speech.rate import shortest
from hfcourse.data.clips import Clips, Survey
from hfcourse.tasks.base import SpeechContext

RATE = 8000
PITCHES = (300, 700, 1300, 2300)


def tones(row: int, seconds: float) -> np.ndarray:
    """Every tenth of a second another of four tones, with a little noise."""
    generator = np.random.default_rng(row)
    samples = round(seconds * RATE)
    pitch = np.repeat(generator.choice(PITCHES, samples // 800 + 1), 800)[:samples]
    wave = 0.3 * np.sin(np.cumsum(2 * np.pi * pitch / RATE)) + 0.01 * generator.standard_normal(samples)
    return wave.astype(np.float32)


def table(seconds: list[float], first: int = 0) -> datasets.Dataset:
    rows = []
    for row, length in enumerate(seconds, start=first):
        content = io.BytesIO()
        soundfile.write(content, tones(row, length), RATE, format="WAV")
        rows.append({"id": str(row), "audio": {"bytes": content.getvalue(), "path": f"{row}.wav"}})
    return datasets.Dataset.from_list(rows)


def clips(seconds: list[float], *, longest: float = 0.0, first: int = 0) -> Clips:
    there = table(seconds, first)
    return Clips(there, Survey(there, rate=RATE, shortest=80), rate=RATE, longest=longest)


def settings(**changes: Any) -> dict[str, Any]:
    """A state every 160 samples (20 ms), made of 220."""
    return {
        "conv_dim": [16, 16, 16],
        "conv_kernel": [20, 5, 3],
        "conv_stride": [10, 8, 2],
        "feat_extract_norm": "layer",
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 48,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 4,
        "hidden_dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "layerdrop": 0.0,
        **changes,
    }


def net(model_type: str = "hubert", seed: int = 0, **changes: Any) -> Any:
    torch.manual_seed(seed)
    return AutoModel.from_config(AutoConfig.for_model(model_type, **settings(**changes)))


def extractor() -> Any:
    return Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=True, return_attention_mask=True)


def context(config: Any, **more: Any) -> SpeechContext:
    assert shortest(config) == 220
    return SpeechContext(extractor=extractor(), backbone=config, **more)
