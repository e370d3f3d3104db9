"""Convolutions on samples: what a state may hear, what padding may change, and what is saved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel

import hfcourse.backbones.speech.nets  # noqa: F401 - the nets become known by being imported
from hfcourse.backbones.presets import preset_config
from hfcourse.backbones.speech.conv import ConvConfig, ConvModel
from hfcourse.backbones.speech.presets import SPEECH_PRESETS
from hfcourse.backbones.speech.rate import shortest, state_counts
from hfcourse.errors import ConfigError

SHAPE: dict[str, Any] = {"conv_kernel": [10, 8, 4], "conv_stride": [5, 4, 2], "conv_dim": [16, 16, 32]}
GRU: dict[str, Any] = SHAPE | {"context": "gru", "num_hidden_layers": 2}
CONV: dict[str, Any] = SHAPE | {"context": "conv", "context_kernel": [3, 4]}
CODED: dict[str, Any] = CONV | {"groups": 2, "codes": 8}
KINDS = {
    "gru": GRU,
    "conv": CONV,
    "gumbel": CODED | {"quantizer": "gumbel"},
    "kmeans": CODED | {"quantizer": "kmeans"},
    "last": CONV | {"norm": "last"},
    "whole": CONV | {"norm": "utterance", "log_compression": True},
}


def net_of(kind: str) -> Any:
    torch.manual_seed(0)
    return ConvModel(ConvConfig(**KINDS[kind])).eval()


def padded(samples: torch.Tensor, length: int) -> dict[str, torch.Tensor]:
    """A row beside a longer one, padded with zeros."""
    other = torch.randn(length)
    values = torch.stack([F.pad(samples, (0, length - len(samples))), other])
    mask = (torch.arange(length) < torch.tensor([[len(samples)], [length]])).long()
    return {"input_values": values, "attention_mask": mask}


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_no_state(kind: str) -> None:
    net, samples = net_of(kind), torch.randn(703)
    alone = net(samples[None], output_hidden_states=True)
    among = net(**padded(samples, 1200), output_hidden_states=True)
    count = state_counts(net.config, 703)
    assert len(alone.hidden_states) == net.config.num_hidden_layers + 1 == 3
    for own, beside in zip(alone.hidden_states, among.hidden_states, strict=True):
        assert own.shape == (1, count, 32)
        torch.testing.assert_close(beside[:1, :count], own, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(among.last_hidden_state[:1, :count], alone.last_hidden_state, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(among.latents[:1, :count], alone.latents, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", sorted(KINDS.keys() - {"whole"}))
def test_what_comes_later_changes_no_earlier_state(kind: str) -> None:
    net, samples = net_of(kind), torch.randn(1, 1000)
    changed = samples.clone()
    changed[:, 600:] = torch.randn(1, 400)
    before, after = (net(values, output_hidden_states=True).hidden_states for values in (samples, changed))
    heard = state_counts(net.config, 600)  # the last of these states ends before sample 600
    for own, other in zip(before, after, strict=True):
        assert torch.equal(own[:, :heard], other[:, :heard])
        assert not torch.equal(own[:, heard:], other[:, heard:])


def test_the_published_norm_is_over_the_whole_utterance_and_hears_what_comes() -> None:
    net, samples = net_of("whole"), torch.randn(1, 1000)
    changed = samples.clone()
    changed[:, 600:] *= 10
    assert not torch.allclose(net(samples).latents[:, 0], net(changed).latents[:, 0])


@pytest.mark.parametrize("norm", ["past", "last", "utterance"])
def test_against_plain_modules(norm: str) -> None:
    """The same weights in `nn.Conv1d` and a norm of one group, at each state over what came before; padding by hand."""
    torch.manual_seed(0)
    net: Any = ConvModel(ConvConfig(**CONV, norm=norm, log_compression=True)).eval()
    blocks = [*net.front, *net.context.layers]
    assert [block.norm is None for block in blocks] == [norm == "last"] * 2 + [False] * 3
    for block in blocks:
        if block.norm is not None:
            nn.init.normal_(block.norm.weight)
            nn.init.normal_(block.norm.bias)
    samples = torch.randn(2, 800)

    def plain(block: Any, states: torch.Tensor) -> torch.Tensor:
        states = F.conv1d(states, block.conv.weight, block.conv.bias, block.conv.stride)
        if block.norm is None:
            return states.relu()
        one = nn.GroupNorm(1, states.shape[1])
        one.weight, one.bias = block.norm.weight, block.norm.bias
        if norm == "utterance":
            return one(states).relu()
        return torch.stack([one(states[..., : t + 1])[..., t] for t in range(states.shape[-1])], dim=-1).relu()

    states = samples[:, None]
    for block in net.front:
        states = plain(block, states)
    states = (1 + states.abs()).log()
    output = net(samples)
    torch.testing.assert_close(output.latents, states.mT, atol=1e-4, rtol=1e-4)
    for block in net.context.layers:
        first = F.pad(states, (block.conv.kernel_size[0] - 1, 0), mode="replicate")
        states = (states + plain(block, first)) * math.sqrt(0.5)
    torch.testing.assert_close(output.last_hidden_state, states.mT, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_found_by_auto_model(kind: str, tmp_path: Path) -> None:
    net, samples = net_of(kind), torch.randn(2, 600)
    net.save_pretrained(tmp_path)
    again: Any = AutoModel.from_pretrained(tmp_path)
    assert type(again) is ConvModel and again.config.to_dict() == AutoConfig.from_pretrained(tmp_path).to_dict()
    assert torch.equal(again.eval()(samples).last_hidden_state, net(samples).last_hidden_state)


def test_units_are_the_numbers_of_the_entries() -> None:
    net, samples = net_of("kmeans"), torch.randn(2, 900)
    net.train()(samples)
    net.eval()
    units = net.units(samples)
    assert net.config.units == 64 and units.shape == net(samples).latents.shape[:2]
    first, second = units % 8, units // 8
    entries = torch.cat([net.quantizer.codebook[0][first], net.quantizer.codebook[1][second]], dim=-1)
    torch.testing.assert_close(entries, net(samples).latents)
    assert len(units.unique()) > 5
    quiet = net_of("gumbel")
    numbers = quiet.units(samples)
    found = torch.cat([quiet.quantizer.codebook[0][numbers % 8], quiet.quantizer.codebook[1][numbers // 8]], dim=-1)
    torch.testing.assert_close(found, quiet(samples).latents)


def test_presets_are_built_and_of_the_papers_sizes() -> None:
    """wav2vec: states every 10 ms that hear 30 ms; vq-wav2vec: 34 M parameters (section 5.1 of the paper)."""
    millions = {}
    for name in SPEECH_PRESETS:
        config = preset_config(name, None) if SPEECH_PRESETS[name]["model_type"] == "hfcourse_conv" else None
        if config is not None:
            assert state_counts(config, 16_000) == {"tiny": 49, "small": 98, "base": 98}[name.rpartition("-")[2]]
            with torch.device("meta"):
                millions[name] = sum(p.numel() for p in ConvModel(config).parameters()) / 1e6
    assert len(millions) == 12 and shortest(preset_config("wav2vec-base", None)) / 16 == pytest.approx(30, abs=1)
    assert all(0.9 < size < 3 for name, size in millions.items() if name.endswith("-tiny"))
    # With the projections that foretell eight steps.
    assert millions["vq_wav2vec-base"] + 8 * 512 * 513 / 1e6 == pytest.approx(34, abs=2)


def test_codebooks_that_do_not_share_the_width_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 codebooks do not share a width of 32"):
        ConvModel(ConvConfig(**CONV, quantizer="gumbel", groups=3))
