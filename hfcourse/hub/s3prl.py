"""s3prl's upstreams: DistilHuBERT's student in transformers' class, Mockingjay, TERA, APC and VQ-APC in our own net.

The nets on frames take Kaldi's filterbanks. What s3prl makes by its `OnlinePreprocessor` (frames centred on the edges
of a recording, one level for all recordings) is not made here, and modified CPC has no net here: both are refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import HubertConfig, HubertModel

from hfcourse.backbones.speech.frames import FramesConfig, FramesModel
from hfcourse.errors import ModelError
from hfcourse.hub.fairseq import ENCODER, encoder_config
from hfcourse.hub.renaming import Found, numbered, shape_of, shapes_of

_LAYER = (
    *("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"),
    *("attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm"),
)
_TRANSFORMER = {
    "input_representations.spec_transform.P": "project.P",
    "input_representations.LayerNorm.P": "encoder.embeddings.LayerNorm.P",
    **{f"encoder.layer.N.{part}.P": f"encoder.encoder.layer.N.{part}.P" for part in _LAYER},
}
"""Mockingjay's and TERA's layers are BERT's."""
_GRU = {
    f"rnn_layers.N.{part}_l0": f"encoder.layers.N.{part}_l0"
    for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
}
_BANK: dict[str, Any] = {"num_mel_bins": 80, "frame_length": 25.0, "frame_shift": 10.0, "use_log_fbank": True}
"""What a filterbank's settings may name, and what is taken where they do not."""


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
    if isinstance(content.get("Transformer"), Mapping):
        head = content.get("SpecHead")
        heads = {f"SpecHead.{name}": weight for name, weight in head.items()} if isinstance(head, Mapping) else {}
        return _transformer({**content["Transformer"], **heads}, settings)
    weights = content.get("model")
    if isinstance(weights, Mapping) and "rnn_layers.0.weight_ih_l0" in weights:
        return _gru(weights, settings)
    return None


def settings_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """All settings in a checkpoint, as plain values."""
    inner = content.get("Settings")
    places = [content.get(name) for name in ("Upstream_Config", "Config", "config")]
    places.append(inner.get("Config") if isinstance(inner, Mapping) else None)
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
        notes=notes,
    )


def _transformer(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> Found:
    """Mockingjay or TERA: BERT's layers over projected frames and sinusoids."""
    told, shapes = _part(settings, "transformer"), shapes_of(weights)
    _same(told, {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "pre_layer_norm": False, "downsample_rate": 1})
    hidden, _ = shape_of(shapes, "input_representations.spec_transform.weight")
    config = FramesConfig(
        **_features(_part(settings, "audio")),
        layers="sinusoidal",
        hidden_size=hidden,
        num_hidden_layers=len(numbered(shapes, "encoder.layer.N.intermediate.dense.weight")),
        num_attention_heads=int(_told(told, "num_attention_heads")),
        intermediate_size=shape_of(shapes, "encoder.layer.0.intermediate.dense.weight")[0],
        hidden_dropout_prob=float(told.get("hidden_dropout_prob", 0.1)),
    )
    longest = _part(settings, "task", {}).get("sequence_length", 0)
    cut = f"s3prl cuts what is longer than {longest} frames into equal pieces; here it is heard as a whole."
    return Found(
        kind="mockingjay",
        model_class=FramesModel,
        config=config,
        weights=weights,
        names=_TRANSFORMER,
        training_only=("SpecHead.PATH",),
        finish=lambda found: found | _tables(hidden),
        notes=(cut,) if longest else (),
    )


def _tables(hidden: int) -> dict[str, Tensor]:
    """BERT's tables, which add nothing here: of positions and segments, a row each."""
    names = ("position", "token_type")
    return {f"encoder.embeddings.{name}_embeddings.weight": torch.zeros(1, hidden) for name in names}


def _gru(weights: Mapping[str, Any], settings: Mapping[str, Any]) -> Found:
    """APC, or VQ-APC, whose codebook stands above the states that it is used for."""
    shapes, paras = shapes_of(weights), _part(_part(settings, "model"), "paras")
    _same(paras, {"residual": True})
    (gates, channels), count = shapes["rnn_layers.0.weight_ih_l0"], len(numbered(shapes, "rnn_layers.N.weight_hh_l0"))
    hidden = gates // 3
    audio = dict(_part(_part(settings, "data"), "audio"))
    cmvn, bank = audio.pop("cmvn", True), {"num_mel_bins": audio.pop("feat_dim", channels)}
    if audio.pop("feat_type", "fbank") != "fbank" or (audio.pop("decode_wav", False) and not cmvn):
        raise ModelError("its features are no filterbanks of samples from -1 to 1: they are not made here")
    if channels > hidden:
        raise ModelError(f"its {channels} channels do not pass a projection to {hidden}: weights do not carry over")
    features = _features({"kaldi": {"fbank": bank | audio}, "delta": {"order": 0}, "cmvn": {"use_cmvn": cmvn}})
    config = FramesConfig(
        **features | {"kaldi": "hamming"},
        layers="gru",
        hidden_size=hidden,
        num_hidden_layers=count,
        hidden_dropout_prob=float(paras.get("dropout", 0.0)),
    )
    return Found(
        kind="vq_apc" if any(name.startswith("vq_layers.") for name in shapes) else "apc",
        model_class=FramesModel,
        config=config,
        weights=weights,
        names=_GRU,
        training_only=("postnet.P", "vq_layers.PATH"),
        finish=_projected,
    )


def _projected(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our lowest GRU layer takes projected frames: here the frames themselves, followed by zeros."""
    first = "encoder.layers.0.weight_ih_l0"
    gates, channels = weights[first].shape
    return weights | {
        "project.weight": torch.eye(gates // 3, channels),
        "project.bias": torch.zeros(gates // 3),
        first: F.pad(weights[first], (0, gates // 3 - channels)),
    }


def _features(audio: Mapping[str, Any]) -> dict[str, Any]:
    """Of a config on frames, from s3prl's settings of Kaldi's filterbanks.

    Raises:
        ModelError: other features.
    """
    from torchaudio.compliance.kaldi import fbank

    kaldi = _part(audio, "kaldi", {})
    bank = _part(kaldi, "fbank", {})
    if not bank or kaldi.get("feat_type", "fbank") != "fbank":
        raise ModelError("its features are not Kaldi's filterbanks: they are not made here")
    usual = {name: one.default for name, one in inspect.signature(fbank).parameters.items()}
    others = [name for name, value in bank.items() if name not in _BANK and usual.get(name, name) != value]
    if "window_type" in others and bank["window_type"] == "hamming":
        others.remove("window_type")
    if not bank.get("use_log_fbank", True):
        others.append("use_log_fbank")
    if others:
        raise ModelError(f"its filterbanks have {others[0]} {bank[others[0]]!r}: they are not made so here")
    if _part(audio, "delta", {}).get("win_length", 5) != 5:
        raise ModelError("its differences are not over five frames: they are not made so here")
    told = {**_BANK, **bank}
    return {
        "mels": int(told["num_mel_bins"]),
        "window": round(16 * float(told["frame_length"])),
        "hop": round(16 * float(told["frame_shift"])),
        "deltas": int(_part(audio, "delta", {}).get("order", 2)),
        "cmvn": bool(_part(audio, "cmvn", {}).get("use_cmvn", True)),
        "kaldi": bank.get("window_type", "povey"),
    }


def _part(settings: Mapping[str, Any], name: str, default: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
    found = settings.get(name, default)
    if not isinstance(found, Mapping):
        raise ModelError(f"nothing tells its {name} settings: give the upstream's settings with --config")
    return found


def _told(settings: Mapping[str, Any], name: str) -> Any:
    if name not in settings:
        raise ModelError(f"nothing tells its {name}: give the upstream's settings with --config")
    return settings[name]


def _same(settings: Mapping[str, Any], ours: Mapping[str, Any]) -> None:
    """Raises ModelError for settings that our net does not have. Numbers may be written as words."""
    for name, value in ours.items():
        theirs = settings.get(name, value)
        if (float(theirs) if isinstance(value, float) else theirs) != value:
            raise ModelError(f"its {name} is {theirs!r}, and our net has {value!r}: weights do not carry over")


def _is_modified_cpc(content: Mapping[str, Any]) -> bool:
    places = (content, *(content.get(name) for name in ("weights", "gEncoder", "model")))
    names = [str(name) for place in places if isinstance(place, Mapping) for name in place]
    return any(name.startswith(("gEncoder.", "gAR.")) for name in names)
