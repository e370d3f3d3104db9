"""The lean LoRA layer against peft's own: the same values and gradients, and the model as it was afterwards."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft.tuners.lora import Linear as LoraLinear

from hfcourse.engine.low_rank import LeanLoraLinear, lean_lora_in
from hfcourse.peft import get_peft_model
from hfcourse.peft.methods import method_config
from hfcourse.peft_settings import PeftSettings
from tests.peft.tiny import disturb, inputs, make

FAMILIES = ("bert", "distilbert", "modernbert", "llama", "bart", "t5", "wav2vec2")


def adapted(family: str, **settings: Any) -> Any:
    model = make(family)
    settings = {"method": "lora", "targets": ("all",)} | settings
    wrapped = get_peft_model(model, method_config(model, PeftSettings(**settings), []))
    disturb(wrapped)
    return wrapped.eval()


def step(model: Any, family: str) -> list[torch.Tensor]:
    """The loss and every gradient of one step."""
    model.zero_grad()
    loss = model(**inputs(family), labels=torch.tensor([0, 2])).loss
    loss.backward()
    return [loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


def lean_layers(model: Any) -> int:
    return sum(type(module) is LeanLoraLinear for module in model.modules())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_loss_and_gradients(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted(family).double()
    if family == "wav2vec2":
        float_inputs = inputs(family)["input_values"].double()
        monkeypatch.setitem(globals(), "inputs", lambda family: {"input_values": float_inputs})
    plain = step(model, family)
    layers = sum(type(module) is LoraLinear for module in model.modules())
    with lean_lora_in(model):
        assert lean_layers(model) == layers > 4
        monkeypatch.setattr(LoraLinear, "forward", None)  # nothing may fall back on it
        lean = step(model, family)
        monkeypatch.undo()
    assert lean_layers(model) == 0
    assert len(plain) == len(lean) > 2 * layers
    for mine, theirs in zip(lean, plain, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)


def test_as_exact_as_peft_under_autocast() -> None:
    """Both are compared with the step in double precision."""
    model = adapted("bert")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain = step(model, "bert")
        with lean_lora_in(model):
            lean = step(model, "bert")
    exact = step(model.double(), "bert")

    def error(found: list[torch.Tensor]) -> float:
        return max(float((one - other).norm() / other.norm()) for one, other in zip(found, exact, strict=True))

    assert 0 < error(lean) < 1.2 * error(plain)


def test_what_is_not_plain_is_left_to_peft() -> None:
    """DoRA, an adapter that is switched off, two at a time, dropout in training, one that was merged."""
    assert_same_with_lean(adapted("bert", method="dora"))
    model = adapted("bert")
    with model.disable_adapter():
        assert_same_with_lean(model)
    model.add_adapter("second", model.peft_config["default"])
    disturb(model)
    model.base_model.set_adapter(["default", "second"])
    assert_same_with_lean(model)
    model.base_model.set_adapter("default")
    model.merge_adapter()
    assert_same_with_lean(model)
    assert_same_with_lean(adapted("bert", dropout=0.5).train())


def assert_same_with_lean(model: Any) -> None:
    def logits() -> torch.Tensor:
        torch.manual_seed(0)
        return model(**inputs("bert")).logits.detach()  # type: ignore[no-any-return]

    plain = logits()
    with lean_lora_in(model):
        assert torch.equal(plain, logits())
