"""s3prl's upstreams: DistilHuBERT's student in transformers' class; modified CPC is told from them and refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from transformers import HubertConfig, HubertModel

from hfcourse.errors import ModelError
from hfcourse.hub.fairseq import ENCODER, encoder_config
from hfcourse.hub.renaming import Found, shapes_of


def recognised(content: Mapping[str, Any], settings: Mapping[str, Any]) -> Found | None:
    """What a checkpoint of s3prl becomes; None for other files.

    Args:
        content: of the file.
        settings: of its upstream, as `settings_of` reads them or as the user gave them.

    Raises:
        ModelError: one whose weights do not carry over, or settings that are not known here.
    """
    if _is_modified_cpc(content):
        raise ModelError(
            "modified CPC does not carry over: its convolutions are padded and its norm is over each state alone, "
            "where ours hears whole windows and is normalised over the past"
        )
    if isinstance(content.get("Distiller"), Mapping):
        return _distiller(content["Distiller"], settings)
    return None


def settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """All settings in a checkpoint, as plain values."""
    places = [content.get(name) for name in ("Upstream_Config", "Config", "config")]
    # Where the upstream has a place of its own, the other is its training's.
    return next((dict(place) for place in places if isinstance(place, Mapping)), {})


def _distiller(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> Found:
    """DistilHuBERT's student: HuBERT's net without a norm in front of the projection."""
    told = dict(settings.get("distiller", settings))
    if told.get("attention_type", "original") != "original":
        raise ModelError(f"its attention is {told['attention_type']!r}, and HubertModel's sees every state")
    if "extractor_conv_feature_layers" in told:
        told["conv_feature_layers"] = told["extractor_conv_feature_layers"]
    config, notes = encoder_config("distilhubert", shapes_of(weights), told, HubertConfig)
    config.feat_proj_layer_norm = False
    return Found(
        kind="distilhubert",
        model_class=HubertModel,
        config=config,
        weights=weights,
        names=ENCODER,
        training_only=("output_layer.PATH",),
        normalize=False,
        notes=notes,
    )


def _is_modified_cpc(content: Mapping[str, Any]) -> bool:
    places = (content, *(content.get(name) for name in ("weights", "gEncoder", "model")))
    names = [str(name) for place in places if isinstance(place, Mapping) for name in place]
    return any(name.startswith(("gEncoder.", "gAR.")) for name in names)
