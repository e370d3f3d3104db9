"""Masks inside nets: what is masked holds the mean, channels as transformers masks them, nets without masks named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModel

from hfcourse.backbones.presets import preset_config
from hfcourse.backbones.speech import nets  # noqa: F401 - its configs become known
from hfcourse.backbones.speech.frames import FramesConfig, FramesModel
from hfcourse.backbones.speech.spec_augment import channels_silent, maskable_channels, masked
from hfcourse.errors import ModelError
from tests.objectives.speech import waves_clusters as waves


def test_masked_places_hold_the_mean_of_what_is_heard() -> None:
    features = torch.randn(2, 6, 8) + 3  # two orders of two stacked frames of two channels
    counts, time = torch.tensor([6, 4]), torch.zeros(2, 6, dtype=torch.bool)
    time[0, 1:3] = True
    channels = torch.tensor([[False, False], [True, False]])
    found = masked(features, counts, time, channels, mels=2)
    by_hand = features.clone()
    for place in range(8):
        pair = slice(place - place % 2, place - place % 2 + 2)  # both channels of its frame and order
        by_hand[0, 1:3, place] = features[0, :, pair].mean()
        if place % 2 == 0:
            by_hand[1, :4, place] = features[1, :4, pair].mean()
    assert torch.allclose(found, by_hand, atol=1e-6)
    assert masked(features, counts, None, None, mels=2) is features


def test_a_net_on_filterbanks_hears_what_is_left() -> None:
    model = FramesModel(FramesConfig(layers="none", mels=10, stack=1)).eval()
    wave = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    plain = model(wave).last_hidden_state
    time = torch.zeros(1, plain.shape[1], dtype=torch.bool)
    time[0, 2:5] = True
    found = model(wave, mask_time_indices=time).last_hidden_state
    assert found[0, 2:5].abs().max() < 1e-5  # under CMVN the mean is 0
    assert torch.equal(found[~time], plain[~time])


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert", "wavlm", "data2vec-audio"])
def test_channels_are_masked_as_transformers_does(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own draws of channels, given to ours, leave the same states."""
    theirs: Any = waves.net(kind, mask_feature_prob=0.5, mask_feature_length=4, mask_feature_min_masks=0).train()
    mine: Any = waves.net(kind, mask_feature_prob=0.0).train()
    mine.load_state_dict(theirs.state_dict())
    drawn = np.zeros((2, 32), dtype=bool)
    drawn[0, 3:9], drawn[1, 20:] = True, True
    monkeypatch.setitem(type(theirs)._mask_hidden_states.__globals__, "_compute_mask_indices", lambda *_, **__: drawn)
    sound, time = torch.randn(2, 4000), torch.zeros(2, 24, dtype=torch.bool)
    time[0, 4:9] = True
    expected = theirs(sound, mask_time_indices=time).last_hidden_state
    plain = mine(sound, mask_time_indices=time).last_hidden_state
    with channels_silent(mine, torch.from_numpy(drawn)):
        found = mine(sound, mask_time_indices=time).last_hidden_state
    assert torch.allclose(found, expected, atol=1e-6) and not torch.allclose(found, plain, atol=1e-3)
    assert torch.equal(mine(sound, mask_time_indices=time).last_hidden_state, plain)  # nothing stays behind


def test_nets_that_take_no_masks_are_named() -> None:
    assert maskable_channels(preset_config("fbank", None)) == 80
    assert maskable_channels(preset_config("wav2vec2-tiny", None)) == 192
    with pytest.raises(ModelError, match=r"a hfcourse_conv net takes no masks: leave out augment.time_masks"):
        maskable_channels(preset_config("cpc-tiny", None))
    with pytest.raises(ModelError, match="a whisper net takes no masks"):
        maskable_channels(AutoConfig.for_model("whisper"))
    for settings in ({"mask_time_prob": 0.0}, {"apply_spec_augment": False}):
        with pytest.raises(ModelError, match="this hubert net has no embedding for masked states"):
            maskable_channels(AutoConfig.for_model("hubert", **settings))
    # By hand: the weight of that name is what such a net lacks.
    assert not hasattr(waves.net("hubert", mask_time_prob=0.0), "masked_spec_embed")
    assert hasattr(AutoModel.from_config(waves.net("hubert").config), "masked_spec_embed")
