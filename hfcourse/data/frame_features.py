"""What the frames of a recording are like: MFCC, or a layer of a saved model. What clusters are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from hfcourse.backbones.load import load_config, locate
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.rate import is_speech, shortest, stride
from hfcourse.data import extractors
from hfcourse.data.audio import normalised
from hfcourse.errors import ConfigError, ModelError

_PIECE = 60
"""Seconds; longer recordings are worked on in pieces of that many, each frame within one."""


class Frames(Protocol):
    """Samples -> frames. Frame i is made of the samples from ``i x hop`` on, `window` of them."""

    rate: int
    """Samples a second that it hears at."""
    hop: int
    window: int

    @property
    def about(self) -> dict[str, Any]:
        """What decides the frames, as plain values."""

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Frames, float32 (F, D), of samples (T,): one at least."""


class Mfcc:
    """13 cepstral coefficients of Kaldi's kind, their first and second differences: (F, 39), every 10 ms.

    With `cmvn` each of them has mean 0 and variance 1 over a recording: its microphone and level no longer show.
    """

    def __init__(self, rate: int, *, cmvn: bool = False) -> None:
        self.rate, self.hop, self.window, self.cmvn = rate, rate // 100, rate * 25 // 1000, cmvn

    @property
    def about(self) -> dict[str, Any]:
        """What decides the frames."""
        return {"feature": "mfcc"} | ({"cmvn": True} if self.cmvn else {})

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Frames (F, 39)."""
        import torch
        import torchaudio.compliance.kaldi
        import torchaudio.functional

        found = []
        for piece in pieces(samples, hop=self.hop, window=self.window, longest=_PIECE * self.rate):
            still = torchaudio.compliance.kaldi.mfcc(
                torch.from_numpy(piece)[None], sample_frequency=self.rate, use_energy=False
            ).T
            first = torchaudio.functional.compute_deltas(still)
            found.append(torch.cat([still, first, torchaudio.functional.compute_deltas(first)]).T.numpy())
        if self.cmvn:
            whole = np.concatenate(found)
            found = [(whole - whole.mean(axis=0)) / (whole.std(axis=0) + 1e-5)]
        return np.ascontiguousarray(np.concatenate(found), dtype=np.float32)


class LayerStates:
    """The states of one layer of a saved model, as it hears each recording alone: (F, H)."""

    def __init__(self, name: str, layer: int, backbone: BackboneConfig | None = None) -> None:
        """Load the model.

        Args:
            name: a run folder, a folder or a Hub id.
            layer: from 1; 0 for the one in the middle.
            backbone: where its weights come from.

        Raises:
            ModelError: no such model, or none that hears samples. ConfigError: no such layer.
        """
        import torch
        from transformers import AutoModel

        settings = backbone or BackboneConfig()
        config = load_config(name, settings, None)
        extractor = extractors.load(name, settings) if is_speech(config) else None
        if extractor is None or extractor.model_input_names[0] != "input_values":
            raise ModelError(f"{name}: it hears no samples: clusters are made of MFCC, or of a model that does")
        layers = config.num_hidden_layers
        self.name, self.layer = name, layer or -(-layers // 2)
        if not 1 <= self.layer <= layers:
            raise ConfigError(f"layer {layer} of {name}: it has the layers 1 to {layers}")
        self.rate, self.hop, self.window = int(extractor.sampling_rate), stride(config), shortest(config)
        self._normalises = bool(extractor.do_normalize)
        place = locate(name)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model: Any = AutoModel.from_pretrained(
            place, revision=settings.revision, cache_dir=settings.cache_dir, dtype=torch.float32
        )
        self.model.eval().to(self.device)
        self._weights = weights_hash(self.model)

    @property
    def about(self) -> dict[str, Any]:
        """What decides the frames; a model is known by its weights, wherever it lies."""
        return {"feature": "layer", "layer": self.layer, "model": self.name, "weights": self._weights}

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Frames (F, H)."""
        import torch

        heard = normalised(samples) if self._normalises else samples
        found = []
        with torch.no_grad():
            for piece in pieces(heard, hop=self.hop, window=self.window, longest=_PIECE * self.rate):
                values = torch.from_numpy(piece)[None].to(self.device)
                output = self.model(values, output_hidden_states=True)
                found.append(output.hidden_states[self.layer][0].float().cpu().numpy())
        return np.ascontiguousarray(np.concatenate(found), dtype=np.float32)


def frames_of(
    model: str, layer: int, rate: int, backbone: BackboneConfig | None = None, *, cmvn: bool = False
) -> Frames:
    """The layer of a model, or without one MFCC, normalised over each recording under `cmvn`.

    Raises:
        ModelError: the model hears at another rate than the sound has.
    """
    if not model:
        return Mfcc(rate, cmvn=cmvn)
    states = LayerStates(model, layer, backbone)
    if states.rate != rate:
        raise ModelError(
            f"{model} hears {states.rate} samples a second, and what is trained {rate}: take one that fits"
        )
    return states


def pieces(samples: np.ndarray, *, hop: int, window: int, longest: int) -> Iterator[np.ndarray]:
    """Stretches of samples (T,) of which each whole frame lies in exactly one; too few are filled up with zeros."""
    if len(samples) < window:
        yield np.pad(samples, (0, window - len(samples)))
        return
    frames, most = (len(samples) - window) // hop + 1, max(1, longest // hop)
    for first in range(0, frames, most):
        last = min(first + most, frames) - 1
        yield samples[first * hop : last * hop + window]


def weights_hash(model: Any) -> str:
    """A hash of a model's weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensor.detach().float().cpu().numpy()).tobytes())
    return digest.hexdigest()[:32]


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two descriptions tell of the same frames; where the model lies is no matter."""
    return {**one, "model": ""} == {**other, "model": ""}


def shown(about: dict[str, Any]) -> str:
    """What frames are made of, in a few words."""
    if about.get("feature") != "layer":
        return f"{about.get('feature')}{' with cmvn' if about.get('cmvn') else ''}"
    return f"layer {about['layer']} of {about['model']} (weights {str(about['weights'])[:8]})"
