"""GPT-2's activation in one kernel: the same values and gradients, and the model as it was afterwards."""

from __future__ import annotations

import torch
from transformers import GPT2Config, GPT2Model
from transformers.activations import NewGELUActivation

from hfcourse.engine.activations import fused_gelu_in


def test_the_same_function() -> None:
    torch.manual_seed(0)
    model = (
        GPT2Model(GPT2Config(vocab_size=20, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0))
        .double()
        .eval()
    )
    ids = torch.arange(12).view(2, 6)

    def run() -> list[torch.Tensor]:
        states = model(input_ids=ids).last_hidden_state
        return [states, *torch.autograd.grad(states.square().sum(), list(model.parameters()))]

    plain = run()
    with fused_gelu_in(model):
        assert not any(type(module) is NewGELUActivation for module in model.modules())
        fused = run()
    assert sum(type(module) is NewGELUActivation for module in model.modules()) == 2
    for mine, theirs in zip(fused, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
