"""A row of a padded batch gets the states that transformers gives it alone, and its gradients."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from hfcourse.backbones.speech.row_norm import RowNorm, listen_by_row, tell_lengths
from tests.objectives.speech import waves_clusters as waves

LENGTHS = (4000, 6400, 3111)


def padded() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    counts = torch.tensor(LENGTHS)
    values = torch.zeros(len(LENGTHS), max(LENGTHS))
    for row, length in enumerate(LENGTHS):
        values[row, :length] = torch.from_numpy(waves.tones(row, length / waves.RATE))
    return values, (torch.arange(max(LENGTHS)) < counts[:, None]).long(), counts


@pytest.mark.parametrize("kind", ["hubert", "wav2vec2"])
def test_padding_changes_no_state_and_no_gradient(kind: str) -> None:
    model = waves.net(kind, feat_extract_norm="group").eval()
    theirs: Any = copy.deepcopy(model)
    listen_by_row(model)
    values, mask, counts = padded()
    tell_lengths(model, counts)
    states = model(values, attention_mask=mask).last_hidden_state
    total, alone_total = torch.zeros(()), torch.zeros(())
    for row, length in enumerate(LENGTHS):
        alone = theirs(values[row : row + 1, :length]).last_hidden_state[0]
        torch.testing.assert_close(states[row, : len(alone)], alone, atol=2e-5, rtol=1e-4)
        weights = torch.randn(alone.shape, generator=torch.Generator().manual_seed(row))
        total = total + (states[row, : len(alone)] * weights).sum()
        alone_total = alone_total + (alone * weights).sum()
    total.backward()
    alone_total.backward()
    for (name, mine), plain in zip(model.named_parameters(), theirs.parameters(), strict=True):
        if plain.grad is not None:
            torch.testing.assert_close(mine.grad, plain.grad, atol=1e-3, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}")
    # Without being told, it is transformers' own.
    tell_lengths(model, None)
    with torch.no_grad():
        one, two = (net(values, attention_mask=mask).last_hidden_state for net in (model, theirs))
    assert torch.equal(one, two) and (one[2] - states[2]).abs().max() > 1e-2
    assert model.state_dict().keys() == theirs.state_dict().keys()


def test_nets_without_such_a_norm_stay_as_they_are() -> None:
    model = waves.net(feat_extract_norm="layer")
    listen_by_row(model)
    tell_lengths(model, torch.tensor([1000]))
    assert not any(isinstance(module, RowNorm) for module in model.modules())
    listen_by_row(nn.Linear(2, 2))
