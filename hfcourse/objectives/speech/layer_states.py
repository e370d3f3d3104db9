"""The states of a saved model as frames that are clustered: what HuBERT foretells from its second round on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from hfcourse.backbones.load import load_config
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.rate import is_speech, shortest, stride
from hfcourse.data import extractors
from hfcourse.data.audio import normalised
from hfcourse.data.frame_features import PIECE, Frames, Mfcc, pieces, weights_hash
from hfcourse.errors import ConfigError, ModelError
from hfcourse.headed_model import HeadedConfig
from hfcourse.weights import bare_backbone


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
        settings = backbone or BackboneConfig()
        saved = load_config(name, settings, None)
        config = saved.backbone_config if isinstance(saved, HeadedConfig) else saved
        extractor = extractors.load(name, settings) if is_speech(config) else None
        if extractor is None or extractor.model_input_names[0] != "input_values":
            raise ModelError(f"{name}: it hears no samples: clusters are made of MFCC, or of a model that does")
        layers = config.num_hidden_layers
        self.name, self.layer = name, layer or -(-layers // 2)
        if not 1 <= self.layer <= layers:
            raise ConfigError(f"layer {layer} of {name}: it has the layers 1 to {layers}")
        self.rate, self.hop, self.window = int(extractor.sampling_rate), stride(config), shortest(config)
        self._normalises = bool(extractor.do_normalize)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model: Any = bare_backbone(name, saved, settings)
        self.model.eval().to(self.device)
        self._weights = weights_hash(self.model)

    @property
    def about(self) -> dict[str, Any]:
        """What decides the frames; a model is known by its weights, wherever it lies."""
        return {"feature": "layer", "layer": self.layer, "model": self.name, "weights": self._weights}

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Frames (F, H)."""
        heard = normalised(samples) if self._normalises else samples
        found = []
        with torch.no_grad():
            for piece in pieces(heard, hop=self.hop, window=self.window, longest=PIECE * self.rate):
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
