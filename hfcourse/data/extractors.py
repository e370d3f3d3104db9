"""The feature extractor of a speech backbone: what rate it hears at, and how its input is made. Sound's tokenizer."""

from __future__ import annotations

from typing import Any

from hfcourse.backbones.load import locate
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.presets import SPEECH_PRESETS
from hfcourse.errors import ModelError


def load(name: str, settings: BackboneConfig | None = None) -> Any:
    """The extractor of a preset, a run folder, a local folder or a Hub id.

    Raises:
        ModelError: the folder or the Hub has none.
    """
    from transformers import AutoFeatureExtractor, Wav2Vec2FeatureExtractor

    if name in SPEECH_PRESETS:
        return Wav2Vec2FeatureExtractor(sampling_rate=16_000, do_normalize=True, return_attention_mask=True)
    given = settings or BackboneConfig()
    try:
        return AutoFeatureExtractor.from_pretrained(locate(name), revision=given.revision, cache_dir=given.cache_dir)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"{name}: no preprocessor_config.json, which says how the model hears: name a speech model"
        ) from error
