"""Language models by what a user calls them, against transformers' own loading."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from hfcourse.prompting import models
from tests.prompting import tiny


@pytest.mark.parametrize(("name", "kind"), [("llama", "bos"), ("gpt2", "eos")])
def test_16_bits_are_those_of_a_model_that_is_loaded_so(name: str, kind: str, tmp_path: Path) -> None:
    """Positions are exact in both, up to the last of 512 tokens."""
    tiny.model(name, tiny.tokenizer(kind)).save_pretrained(tmp_path)
    tiny.tokenizer(kind).save_pretrained(tmp_path)
    found, _ = models.load(str(tmp_path), dtype=torch.bfloat16)
    expected = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).to(found.device).eval()
    ids = torch.arange(512, device=found.device)[None] % 300
    with torch.no_grad():
        assert torch.equal(found(input_ids=ids).logits, expected(input_ids=ids).logits)
    assert {one.dtype for one in found.parameters()} == {torch.bfloat16}
