"""A fresh data2vec net tells loud sound from quiet; nothing else is touched."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel

from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.loudness import hear_loudness
from hfcourse.heads.spec import HeadSpec
from hfcourse.model import build

SOUND = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
HEADS = [HeadSpec(kind="none"), HeadSpec(kind="sequence", labels=("a", "b"), pooling="mean")]


def heard(model: torch.nn.Module, scale: float) -> torch.Tensor:
    """What the convolutions make of a sound."""
    (encoder,) = (m.feature_extractor for m in model.modules() if hasattr(m, "feature_extractor"))
    with torch.no_grad():
        found: torch.Tensor = encoder(scale * SOUND)
    return found


@pytest.mark.parametrize("head", HEADS)
def test_a_fresh_net_hears_loudness(head: HeadSpec) -> None:
    """Between a sound and the same twice as loud lies three times what transformers' own start gives."""
    torch.manual_seed(0)
    model = build("data2vec-tiny", head, backbone=BackboneConfig())
    plain = AutoModel.from_config(AutoConfig.for_model("data2vec-audio", **dict(conv_settings(model))))
    ours, theirs = (
        float((heard(net, 1.0) - heard(net, 2.0)).norm() / heard(net, 1.0).norm()) for net in (model, plain)
    )
    assert ours > 3 * theirs


def conv_settings(model: torch.nn.Module) -> dict[str, object]:
    """The convolutions of a built net, for transformers alone."""
    (config,) = {id(m.config): m.config for m in model.modules() if type(m).__name__ == "Data2VecAudioModel"}.values()
    names = ("conv_dim", "conv_kernel", "conv_stride", "conv_bias", "hidden_size", "num_hidden_layers")
    return {name: getattr(config, name) for name in (*names, "num_attention_heads", "feat_extract_activation")}


def test_what_was_trained_stays(tmp_path: Path) -> None:
    model = build("data2vec-tiny", HeadSpec(kind="none"), backbone=BackboneConfig())
    before = model.feature_extractor.conv_layers[0].conv.bias.detach().clone()
    assert 1.3 < float(before.std()) < 2.7
    model.save_pretrained(tmp_path)
    again = build(str(tmp_path), HEADS[1], backbone=BackboneConfig())
    assert torch.equal(again.base_model.feature_extractor.conv_layers[0].conv.bias, before)
    other = build(str(tmp_path), HEADS[0], backbone=BackboneConfig(init="random"), seed=1)
    bias = other.feature_extractor.conv_layers[0].conv.bias.detach()
    assert not torch.equal(bias, before) and 1.3 < float(bias.std()) < 2.7


def test_other_nets_and_nets_without_biases_are_left_alone() -> None:
    own = build("data2vec-small", HeadSpec(kind="none"), backbone=BackboneConfig())  # no biases
    small = {"conv_dim": [8, 8], "conv_kernel": [10, 8], "conv_stride": [8, 8], "hidden_size": 32}
    other = AutoConfig.for_model(
        "hubert", **small, num_attention_heads=2, num_hidden_layers=1, conv_bias=True, feat_extract_norm="layer"
    )
    for model in (own, AutoModel.from_config(other)):
        before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
        hear_loudness(model)
        assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
