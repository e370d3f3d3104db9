"""What a model gets before its first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hfcourse.engine.fit import fit
from hfcourse.errors import ConfigError
from hfcourse.run_folder import RunFolder

from .toy import ToyTask, toy_config, toy_model


@pytest.mark.parametrize(("same", "bucket", "dynamic"), [(True, True, None), (False, True, True), (False, False, None)])
def test_what_has_one_length_is_compiled_for_it(
    same: bool, bucket: bool, dynamic: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels for any length are slower, and a bucket's next batch has another one."""
    asked: list[Any] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **how: asked.append((type(self).__name__, how)))
    task = ToyTask(train=16)
    if same:
        rows: Any = task.splits["train"]
        rows.ids, rows.lengths = [ids[:3] for ids in rows.ids], np.full(16, 3)
    config = toy_config(train={"compile": True, "steps": 1}, batch={"bucket": bucket})
    fit(toy_model(), task, config, RunFolder.create(tmp_path / "run", {"recipe": "toy"}))
    assert asked == [("BertModel", {"dynamic": dynamic})]


def test_flash_attention_in_32_bits_is_refused(tmp_path: Path) -> None:
    model: Any = toy_model()
    model.config._attn_implementation = "flash_attention_2"
    run = RunFolder.create(tmp_path / "run", {"recipe": "toy"})
    with pytest.raises(ConfigError, match="flash_attention_2 takes 16 bits alone"):
        fit(model, ToyTask(train=16), toy_config(), run)
