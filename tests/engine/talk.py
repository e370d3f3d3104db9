"""Talk in tones: each letter has a pitch, and a stand-in for a CTC model hears them; all that is said is known."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2CTCTokenizer, Wav2Vec2FeatureExtractor

from tests.sounds import RATE

LETTERS = "abcde\u8ab2\u6211"
PITCHES = {letter: 500.0 * (number + 1) for number, letter in enumerate(LETTERS + "z")}
"""The last is no letter that the model knows."""
LETTER, GAP, WORD_GAP = 0.12, 0.06, 0.2
"""Seconds of a letter, of the pause behind it, and of that behind a word besides."""


class ToneModel(nn.Module):
    """Hears which pitch is loudest in each window of a wav2vec 2.0; knows no context. Logits (B, S, entries)."""

    def __init__(self, entries: int) -> None:
        super().__init__()
        self.entries = entries
        self.device = torch.device("cpu")

    def forward(self, input_values: Tensor) -> Any:
        frames = input_values.unfold(1, 400, 320)
        at = torch.arange(400) / RATE
        pitches = torch.tensor([PITCHES[letter] for letter in LETTERS])
        waves = torch.exp(2j * torch.pi * pitches[:, None] * at)
        loud = (frames.to(waves.dtype) @ waves.T).abs() / 400
        logits = torch.full((*frames.shape[:2], self.entries), -4.0)
        logits[..., 4 : 4 + len(LETTERS)] = 80 * loud
        logits[..., 0] = 4.0
        return SimpleNamespace(logits=logits)


def save(folder: Path) -> Path:
    """A folder with all that is read of a CTC model, but weights."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {"<pad>": 0, "<unk>": 1, "|": 2, "'": 3, **{letter: 4 + n for n, letter in enumerate(LETTERS)}}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    tokenizer = Wav2Vec2CTCTokenizer(
        str(folder / "vocab.json"), pad_token="<pad>", unk_token="<unk>", bos_token=None, eos_token=None
    )
    tokenizer.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(folder)
    config = Wav2Vec2Config(vocab_size=len(vocabulary), pad_token_id=0, architectures=["Wav2Vec2ForCTC"])
    config.save_pretrained(folder)
    return folder


def spoken(lines: list[str], *, pause: float = 0.8, seed: int = 0) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """Samples, and seconds at which each line begins and ends; other signs than letters are not spoken."""
    parts: list[np.ndarray] = [silence(pause)]
    times = []
    for line in lines:
        begin = sum(map(len, parts)) / RATE
        for word in line.split():
            for letter in word:
                if letter.lower() in PITCHES:
                    at = np.arange(round(LETTER * RATE)) / RATE
                    parts += [0.5 * np.sin(2 * np.pi * PITCHES[letter.lower()] * at), silence(GAP)]
            parts.append(silence(WORD_GAP))
        times.append((begin, sum(map(len, parts)) / RATE - WORD_GAP - GAP))
        parts.append(silence(pause))
    samples = np.concatenate(parts)
    noise = 0.003 * np.random.default_rng(seed).standard_normal(len(samples))
    return (samples + noise).astype(np.float32), times


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE))


def record(place: Path, lines: list[str], **how: float) -> list[tuple[float, float]]:
    """Write what is said in lines; where each begins and ends."""
    place.parent.mkdir(parents=True, exist_ok=True)
    samples, times = spoken(lines, **how)  # type: ignore[arg-type]
    soundfile.write(place, samples, RATE)
    return times
