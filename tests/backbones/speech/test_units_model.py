"""A BERT over units: the same states as the BERT alone gives for the same tokens, block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from transformers import AutoConfig, AutoModel, PreTrainedModel

from hfcourse import model as models
from hfcourse.backbones.speech.conv import ConvConfig, ConvModel
from hfcourse.backbones.speech.rate import state_counts
from hfcourse.backbones.speech.units import UnitsModel
from hfcourse.headed_model import HeadedModel
from hfcourse.heads.spec import HeadSpec

PAD, BEGIN, END, FIRST = 0, 2, 3, 5
"""Tokens; unit n is token n + FIRST."""


@pytest.fixture(scope="module", params=["bert", "nomic_bert"])
def parts(request: pytest.FixtureRequest) -> tuple[ConvModel, PreTrainedModel, Any]:
    """Convolutions with a codebook of 16 entries, a BERT, and both as one model that reads 6 units at once."""
    torch.manual_seed(0)
    shape: dict[str, Any] = {"conv_kernel": [10, 8], "conv_stride": [5, 4], "conv_dim": [16, 16]}
    front = ConvModel(ConvConfig(**shape, context="conv", context_kernel=[3], quantizer="kmeans", groups=2, codes=4))
    front.train()(torch.randn(2, 600))
    front.quantizer.revive()  # the codebook begins
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = AutoConfig.for_model(request.param, vocab_size=FIRST + 16, pad_token_id=PAD, **sizes)
    bert = AutoModel.from_config(config)
    tokens = torch.arange(16) + FIRST
    return front.eval(), bert.eval(), UnitsModel.joined(front, bert, tokens, block=6, special=(PAD, BEGIN, END)).eval()


def test_states_are_the_berts_block_by_block(parts: tuple[ConvModel, PreTrainedModel, Any]) -> None:
    front, bert, model = parts
    samples = torch.randn(1, 340)  # 15 units: two blocks and a half
    units = front.units(samples)[0].tolist()
    output = model(samples, output_hidden_states=True)
    found: list[list[torch.Tensor]] = [[], [], []]
    for start in range(0, len(units), 6):
        ids = [BEGIN, *(unit + FIRST for unit in units[start : start + 6]), END]
        layers = bert(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
        for layer, states in zip(found, layers, strict=True):
            layer.append(states[0, 1:-1])
    assert len(units) == state_counts(model.config, 340) == 15 and len(set(units)) > 3
    for own, expected in zip(output.hidden_states, found, strict=True):
        torch.testing.assert_close(own[0], torch.cat(expected), atol=1e-5, rtol=1e-5)
    assert torch.equal(output.last_hidden_state, output.hidden_states[-1])


@pytest.mark.parametrize("length", [125, 265])
def test_padding_changes_no_state(parts: tuple[ConvModel, PreTrainedModel, Any], length: int) -> None:
    """A row that fills a part of a block, whatever stands beside it."""
    _, _, model = parts
    samples, count = torch.randn(length), state_counts(model.config, length)
    values = torch.stack([F.pad(samples, (0, 500 - length)), torch.randn(500)])
    mask = (torch.arange(500) < torch.tensor([[length], [500]])).long()
    among = model(values, mask).last_hidden_state
    torch.testing.assert_close(among[:1, :count], model(samples[None]).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_saved_found_and_used_under_a_head(parts: tuple[ConvModel, PreTrainedModel, Any], tmp_path: Path) -> None:
    _, _, model = parts
    samples = torch.randn(2, 300)
    model.save_pretrained(tmp_path)
    again: Any = AutoModel.from_pretrained(tmp_path).eval()
    assert torch.equal(again(samples).last_hidden_state, model(samples).last_hidden_state)
    spec = HeadSpec(kind="sequence", labels=("a", "b"), pooling="mean", layers="mix")
    headed = models.build(str(tmp_path), spec)
    assert isinstance(headed, HeadedModel) and len(headed.layer_mix.scalars) == 3  # type: ignore[union-attr, arg-type]
    headed.train()
    batch = {"input_values": samples, "sample_counts": torch.tensor([300, 300]), "labels": torch.tensor([0, 1])}
    headed(**batch).loss.backward()
    learned = {name for name, parameter in headed.named_parameters() if parameter.grad is not None}
    assert learned == {name for name, parameter in headed.named_parameters() if parameter.requires_grad}
    assert not any(parameter.requires_grad for parameter in again.front.parameters())
    assert any(name.startswith("backbone.bert.") for name in learned)
    assert not any(name.startswith("backbone.front.") for name in learned), "what makes units does not learn"
    assert not headed.backbone.front.training  # type: ignore[union-attr]
