"""Nets on sound as they are built here: a padded batch gives each row the states that it has alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hfcourse import model as models
from hfcourse.backbones.load import load_config
from hfcourse.backbones.settings import BackboneConfig
from hfcourse.backbones.speech.row_norm import RowNorm
from hfcourse.heads.spec import HeadSpec
from hfcourse.peft_settings import PeftSettings
from hfcourse.tasks.base import Batch, SpeechContext
from hfcourse.tasks.sound import context_of, inputs_of
from hfcourse.weights import bare_backbone

SAMPLES = (9000, 5200, 7700)
HEAD = HeadSpec(kind="sequence", labels=("a", "b"), pooling="mean")


def waves(context: SpeechContext, rows: tuple[int, ...]) -> Batch:
    found = [np.random.default_rng(row).standard_normal(SAMPLES[row]).astype(np.float32) for row in rows]
    return inputs_of(found, context)


def states(net: Any, context: SpeechContext, rows: tuple[int, ...]) -> torch.Tensor:
    """Of a bare net, (B, S, H)."""
    batch = waves(context, rows)
    batch.pop("sample_counts")
    found: torch.Tensor = net(**batch).last_hidden_state
    return found


@pytest.mark.parametrize("training", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("preset", ["hubert-tiny", "wav2vec2-tiny", "distilhubert-tiny", "data2vec-tiny"])
def test_padding_changes_no_states(preset: str, training: bool) -> None:
    context = context_of(preset, BackboneConfig())
    net = models.build(preset, HeadSpec(kind="none")).train(training)
    net.config.apply_spec_augment = False
    with torch.set_grad_enabled(training):
        whole = states(net, context, (0, 1, 2))
        for row in range(3):
            alone = states(net, context, (row,))[0]
            torch.testing.assert_close(whole[row, : len(alone)], alone, atol=1e-4, rtol=0)


@pytest.mark.parametrize("peft", [None, PeftSettings(method="linear"), PeftSettings(method="lora")])
def test_padding_changes_no_loss_under_a_head(peft: PeftSettings | None) -> None:
    """A head takes the backbone as its own part, and methods of parameter-efficient fine-tuning stand around both."""
    context = context_of("hubert-tiny", BackboneConfig())
    net = models.build("hubert-tiny", HEAD, peft=peft).eval()
    labels = torch.tensor([0, 1, 1])
    whole = net(**waves(context, (0, 1, 2)), labels=labels).logits
    alone = torch.cat([net(**waves(context, (row,)), labels=labels[row : row + 1]).logits for row in range(3)])
    torch.testing.assert_close(whole, alone, atol=1e-5, rtol=0)


def test_what_is_loaded_is_so_too(tmp_path: Path) -> None:
    """A finished run's model, with an adapter or without, and the bare backbone that a student or a probe hears by."""
    for name, peft in (("plain", None), ("lora", PeftSettings(method="lora"))):
        models.build("hubert-tiny", HEAD).save_pretrained(tmp_path / "base")
        net = models.build(str(tmp_path / "base"), HEAD, peft=peft)
        net.save_pretrained(tmp_path / name)
        if peft:
            (tmp_path / name / "config.json").write_text((tmp_path / "base" / "config.json").read_text())
        assert [one for one in models.load(tmp_path / name).modules() if isinstance(one, RowNorm)]
    config = load_config(str(tmp_path / "plain"), BackboneConfig(), None)
    bare = bare_backbone(str(tmp_path / "plain"), config, BackboneConfig())
    assert [one for one in bare.modules() if isinstance(one, RowNorm)]
