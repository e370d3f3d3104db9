"""What a CTC model answers on a recording of any length: chunk by chunk, and of the columns those that a text needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CTC_MAPPING, MODEL_FOR_CTC_MAPPING_NAMES

from hfcourse.backbones.load import load_config, locate
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.rate import shortest, state_counts, stride
from hfcourse.data import audio, extractors
from hfcourse.data.audio import Part, UnreadableAudio
from hfcourse.data.transcripts import Spelling
from hfcourse.engine.progress import bar
from hfcourse.errors import ModelError
from hfcourse.weights import from_pretrained

CHUNK, CONTEXT = 30, 5
"""Seconds whose answers are kept at once, and those that are heard before and behind them besides."""


@dataclass(frozen=True)
class Emissions:
    """Log probabilities over a recording."""

    values: np.ndarray
    """(T, 2 + tokens): of a pause (blank or the sign between words), 0 for anything, of each token; a memory map."""
    middles: np.ndarray
    """Seconds at which each frame has its middle, float64 (T,)."""
    hop: float
    """Seconds from one frame to the next."""

    @property
    def seconds(self) -> float:
        """Up to the end of the last frame."""
        return float(self.middles[-1] + self.hop / 2)


class Recognizer:
    """A model with a CTC head, and how it hears and spells."""

    def __init__(self, name: str, settings: BackboneConfig | None = None) -> None:
        """Load a folder or a Hub id.

        Raises:
            ModelError: no such model, or one without a trained CTC head or a tokenizer.
        """
        settings = settings or BackboneConfig()
        config: Any = load_config(name, settings, None)
        kinds = ", ".join(MODEL_FOR_CTC_MAPPING_NAMES.values())
        if type(config) not in MODEL_FOR_CTC_MAPPING:
            raise ModelError(f"{name}: a {config.model_type} has no CTC head: name one of {kinds}")
        if not any(architecture.endswith("ForCTC") for architecture in config.architectures or ()):
            raise ModelError(f"{name}: saved without a CTC head: name a model that learned to transcribe, of {kinds}")
        self.name, self.place, self.config = name, locate(name), config
        self.extractor = extractors.load(name, settings)
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                self.place, revision=settings.revision, cache_dir=settings.cache_dir
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{name}: no tokenizer (vocab.json), which says what its answers mean") from error
        self.spelling = Spelling(tokenizer)
        self.blank = int(config.pad_token_id)
        self.delimiter = tokenizer.convert_tokens_to_ids(self.spelling.delimiter) if self.spelling.delimiter else None
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model_class = MODEL_FOR_CTC_MAPPING[type(config)]
        net: Any = from_pretrained(model_class, name, config, settings, need_trained_head=True)
        self.net = net.eval().to(device)

    @property
    def rate(self) -> int:
        """Samples a second."""
        return int(self.extractor.sampling_rate)

    def emissions(self, recording: Path, tokens: Sequence[int], place: Path) -> Emissions:
        """The answers over a recording, written to a file.

        Args:
            recording: of any length; a chunk of it is in memory at a time.
            tokens: whose columns are kept, in this order.
            place: of the file.

        Raises:
            UnreadableAudio: a recording that cannot be read to its end, is empty, too short, or holds nan.
        """
        count, own_rate = audio.header(Part(path=str(recording)))
        seconds = count / own_rate
        if not count:
            raise UnreadableAudio("empty")
        middles: list[np.ndarray] = []
        begins = range(0, max(1, int(np.ceil(seconds))), CHUNK)
        hop = 0.0
        with place.open("wb") as file, bar(recording.name, len(begins)) as progress:
            for number, begin in enumerate(begins, start=1):
                heard_from = max(0, begin - CONTEXT)
                part = Part(path=str(recording), start=heard_from, duration=begin + CHUNK + CONTEXT - heard_from)
                values, at, hop = self._answers(audio.decode(part, self.rate), tokens)
                kept = (at + heard_from >= begin) & (at + heard_from < begin + CHUNK)
                file.write(values[kept].tobytes())
                middles.append(at[kept] + heard_from)
                progress.update(number)
        frames = sum(map(len, middles))
        if not frames:
            raise UnreadableAudio(f"too short: {seconds:.2f} s")
        shape = (frames, 2 + len(tokens))
        return Emissions(np.memmap(place, dtype=np.float32, mode="r", shape=shape), np.concatenate(middles), hop)

    @torch.inference_mode()
    def _answers(self, samples: np.ndarray, tokens: Sequence[int]) -> tuple[np.ndarray, np.ndarray, float]:
        """Columns (T, 2 + tokens), the middles of frames in seconds (T,), and their distance."""
        if not np.isfinite(samples).all():
            raise UnreadableAudio("holds nan or inf")
        nothing = np.zeros((0, 2 + len(tokens)), dtype=np.float32), np.zeros(0), 0.0
        if len(samples) < (shortest(self.config) if hasattr(self.config, "conv_kernel") else self.rate // 20):
            return nothing
        inputs = self.extractor(samples, sampling_rate=self.rate, return_tensors="pt")
        logits = self.net(**inputs.to(self.net.device)).logits[0]
        known = logits.float().log_softmax(dim=-1).cpu()
        if known.isnan().any():
            raise ModelError(f"{self.name}: its answers are nan: its weights are damaged")
        pause = known[:, self.blank]
        pause = pause if self.delimiter is None else torch.logaddexp(pause, known[:, self.delimiter])
        columns = [pause[:, None], torch.zeros(len(known), 1), known[:, list(tokens)]]
        middles, hop = self._times(len(samples), len(known))
        return torch.cat(columns, dim=1).numpy(), middles, hop

    def _times(self, samples: int, frames: int) -> tuple[np.ndarray, float]:
        """Middles of frames and their distance, in seconds: by the convolutions, or where it has others, evenly."""
        if hasattr(self.config, "conv_kernel") and state_counts(self.config, samples) == frames:
            hop, first = float(stride(self.config)), shortest(self.config) / 2
        else:
            hop = samples / frames
            first = hop / 2
        return (np.arange(frames) * hop + first) / self.rate, hop / self.rate
