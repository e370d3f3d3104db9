"""Frozen matrices in bf16 change nothing that is computed under autocast, and come back as they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from hfcourse.engine.frozen_weights import frozen_in_bf16
from hfcourse.peft import BottleneckConfig, get_peft_model
from hfcourse.peft.methods import method_config
from hfcourse.peft_settings import PeftSettings
from tests.peft.tiny import TEXT, inputs, make


def step(model: Any, family: str) -> list[torch.Tensor]:
    """The loss and every gradient of one step."""
    model.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**inputs(family), labels=torch.tensor([0, 2])).loss
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("family", TEXT)
@pytest.mark.parametrize("method", ["lora", "dora", "pfeiffer", "bitfit"])
def test_the_same_loss_and_gradients(family: str, method: Any) -> None:
    if method == "bitfit" and family in {"modernbert", "llama"}:
        pytest.skip("has no biases")
    model = get_peft_model(make(family), method_config(make(family), PeftSettings(method=method), [])).eval()
    before = {name: parameter.data.clone() for name, parameter in model.named_parameters()}
    plain = step(model, family)
    with frozen_in_bf16(model):
        halved = [name for name, parameter in model.named_parameters() if parameter.dtype == torch.bfloat16]
        inside = step(model, family)
    assert all(torch.equal(one, other) for one, other in zip(plain, inside, strict=True))
    if (
        family != "gpt2" and method != "dora"
    ):  # whose projections keep their matrices transposed, in a class of their own
        assert len(halved) >= 3 * 4
    assert not any("lora_" in name or "bottleneck" in name for name in halved)
    after = dict(model.named_parameters())
    assert all(torch.equal(after[name], data) and after[name].dtype == data.dtype for name, data in before.items())


@pytest.mark.parametrize("family", TEXT)
def test_the_same_answers_where_nothing_is_trained(family: str) -> None:
    model = make(family).eval()
    before = {name: parameter.data.clone() for name, parameter in model.named_parameters()}

    def answers() -> torch.Tensor:
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            return model(**inputs(family)).logits.clone()

    plain = answers()
    with frozen_in_bf16(model, whole=True):
        halved = [name for name, parameter in model.named_parameters() if parameter.dtype == torch.bfloat16]
        assert torch.equal(answers(), plain)
    assert len(halved) >= 3 * 4 or family == "gpt2"
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_tied_and_trained_matrices_are_left_alone() -> None:
    from transformers import BertConfig, BertForMaskedLM

    small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = get_peft_model(BertForMaskedLM(BertConfig(vocab_size=40, **small)), BottleneckConfig())
    inner: Any = model.get_base_model()
    with frozen_in_bf16(model):
        assert inner.get_input_embeddings().weight.dtype == torch.float32
        assert inner.bert.encoder.layer[0].output.dense.weight.dtype == torch.bfloat16
